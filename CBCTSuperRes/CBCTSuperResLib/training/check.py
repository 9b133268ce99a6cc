"""What a training would find if it started now: all images of training and validation, read and checked."""

from __future__ import annotations

from collections.abc import Callable

from ..errors import Cancelled
from ..progress import Report, part_of
from .data import Images, TrainingSource, open_images, open_source
from .data.look import ALARM_PIXELS, displacement_of, patients_of, shared_files, sizes_of
from .options import DatasetOptions, TrainingOptions


def check_data(
    options: TrainingOptions, progress: Report | None = None, cancelled: Callable[[], bool] | None = None
) -> dict:
    """Open the images of a training as its first step would, and tell what they are.

    Returns
    -------
    dict
        "train": what the source says of itself, and "count", the number of images. "val": "count" and "size" (rows
        and columns of the first HR image), or None without validation. Both also have "sizes", "patients" and
        "displacement", see `data.look`. "warnings": sentences for the user.

    Raises
    ------
    InputError, OptionError, ResourceError
        If the training would refuse to start.
    """
    train, val = options.dataset("train"), options.dataset("val")
    report = part_of(progress, 0, 0.8)
    report(0, "Reading the training images")
    source = open_source(train, options)
    try:
        report(0.8, "Comparing the training images")
        told = {"train": _of_training(source, train, options.scale), "val": None, "warnings": list(source.warnings)}
    finally:
        source.close()
    report(1, "Reading the validation images")
    if cancelled and cancelled():
        raise Cancelled()
    if val:
        images = open_images(val, options)
        try:
            told["val"] = _of_validation(images, val, options.scale)
            told["warnings"] += [*images.warnings, *_shared(train, val)]
        finally:
            images.close()
    told["warnings"] += _displaced(told)
    part_of(progress, 0, 1)(1, "Done")
    return told


def _of_training(source: TrainingSource, dataset: DatasetOptions, scale: int) -> dict:
    return {**source.describe(), "count": len(source), **_look(source.pairs, dataset, scale)}


def _of_validation(images: Images, dataset: DatasetOptions, scale: int) -> dict:
    truth = images[0].HR
    size = None if truth is None else list(truth.shape[-2:])
    return {"count": len(images), "size": size, **_look(images.pairs, dataset, scale)}


def _look(pairs: list, dataset: DatasetOptions, scale: int) -> dict:
    return {
        "sizes": sizes_of(pairs),
        "patients": patients_of(dataset),
        "displacement": displacement_of(pairs, scale),
    }


def _shared(train: DatasetOptions, val: DatasetOptions) -> list[str]:
    shared = shared_files(train, val)
    if not shared:
        return []
    more = f" and {len(shared) - 1} more" if len(shared) > 1 else ""
    return [f"{shared[0].name}{more} is for training and for validation: the measures will be too good."]


def _displaced(told: dict) -> list[str]:
    return [
        f"The images of {title} pairs are displaced by {found['median']:.1f} HR pixels (median of {found['checked']}; "
        f"{found['worst']:.1f} in {found['worst_name']}): register and prepare the scans first."
        for title, found in (
            (title, (told[key] or {}).get("displacement"))
            for key, title in (("train", "training"), ("val", "validation"))
        )
        if found and found["median"] > ALARM_PIXELS
    ]
