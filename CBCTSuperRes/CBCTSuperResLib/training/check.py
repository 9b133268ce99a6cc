"""What a training would find if it started now: all images of training and validation, read and checked."""

from __future__ import annotations

from collections.abc import Callable

from ..errors import Cancelled
from ..progress import Report, part_of
from .data import Images, TrainingSource, open_images, open_source
from .options import TrainingOptions


def check_data(
    options: TrainingOptions, progress: Report | None = None, cancelled: Callable[[], bool] | None = None
) -> dict:
    """Open the images of a training as its first step would, and tell what they are.

    Returns
    -------
    dict
        "train": what the source says of itself, and "count", the number of images. "val": "count" and "size" (rows
        and columns of the first HR image), or None without validation. "warnings": sentences for the user.

    Raises
    ------
    InputError, OptionError, ResourceError
        If the training would refuse to start.
    """
    report = part_of(progress, 0, 0.8)
    report(0, "Reading the training images")
    source = open_source(options.dataset("train"), options)
    try:
        told = {"train": _of_training(source), "val": None, "warnings": list(source.warnings)}
    finally:
        source.close()
    report(1, "Reading the validation images")
    if cancelled and cancelled():
        raise Cancelled()
    if options.dataset("val"):
        images = open_images(options.dataset("val"), options)
        try:
            told["val"] = _of_validation(images)
            told["warnings"] += images.warnings
        finally:
            images.close()
    part_of(progress, 0, 1)(1, "Done")
    return told


def _of_training(source: TrainingSource) -> dict:
    return {**source.describe(), "count": len(source)}


def _of_validation(images: Images) -> dict:
    truth = images[0].HR
    return {"count": len(images), "size": None if truth is None else list(truth.shape[-2:])}
