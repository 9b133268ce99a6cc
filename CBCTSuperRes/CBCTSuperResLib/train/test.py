"""The model that a test is of.

What a test set consists of: volumes, which are enlarged whole, and single slices.

`cbct-superres test`: a model on the test sets of an options file, its results as 16-bit files and its measures.

Volumes take the same way as with `cbct-superres apply`; single slices, and LR that is simulated, are enlarged one by
one. Whatever has a true image is measured on float data beside cubic interpolation of the same LR.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..apply.file import apply_to_file
from ..core.atomic import replacing
from ..core.devices import choose_device
from ..core.errors import Cancelled, InputError, ModelError
from ..core.options import Options
from ..core.progress import Report, part_of
from ..importers import import_checkpoint
from ..io.images import read_voxels
from ..io.pictures import distinct, file_name, write_picture
from ..io.read import probe
from ..measure.fidelity import psnr_8bit
from ..models.folder import SUFFIX
from ..models.model import Model
from .checks import training_device
from .data.files import Entry, planes_of
from .data.pictures import entries_of, has_files
from .data.source import ImagePair, Images, open_images
from .export import find_run_model
from .validation import MEASURES, Enlarger, as_results, border_of, compared, enlarge_cubic, means, measure, write_rows

if TYPE_CHECKING:
    from .options import DatasetOptions, TrainingOptions


CHECKPOINTS = (".pth", ".pt", ".ckpt")


def model_to_test(options: TrainingOptions, device: str) -> tuple[Model, list[str]]:
    """The model of `path.pretrain_model_G`, and notes for the user.

    A model of ours by file or name, or a generator of SPSR or UNetSPSR (.pth). Without one, the best model of the run
    of the options' name.

    Raises
    ------
    ModelError
        If there is none, it cannot be read, or its scale or input channels are not those of the options.
    """
    given = options.path.pretrain_model_G
    if given is None:
        path = _of_the_run(options)
        model, notes = Model.load(path, device), [f"path.pretrain_model_G is null: {path} is tested."]
    elif Path(given).suffix.lower() in CHECKPOINTS:
        model, notes = _imported(Path(given), options, device), []
    else:
        model, notes = Model.load(given, device), []
    _check(model, options)
    return model, notes + _differences(model, options)


def _of_the_run(options: TrainingOptions) -> Path:
    try:
        return find_run_model(options.run_folder)
    except InputError as error:
        raise ModelError(
            f"path.pretrain_model_G is null, and there is no trained run {options.name}: {error.what}",
            f"Name a model ({SUFFIX} or .pth) in path.pretrain_model_G.",
        ) from error


def _imported(path: Path, options: TrainingOptions, device: str) -> Model:
    taps = getattr(options.network_G.options, "taps", None)
    model = import_checkpoint(path, options.name, scale=options.scale, taps=taps)
    return Model(model.network.to(choose_device(device)), model.card)


def _check(model: Model, options: TrainingOptions) -> None:
    wanted = {"scale": options.scale, "in_nc": getattr(options.network_G.options, "in_nc", 1)}
    found = {"scale": (model.spec.scale or (None,))[-1], "in_nc": model.spec.input_channels}
    wrong = [f"its {name} is {found[name]}, not {wanted[name]}" for name in wanted if found[name] != wanted[name]]
    if wrong:
        raise ModelError(f"The model {model.name} does not fit the options: {', '.join(wrong)}.", "Correct either.")


def _differences(model: Model, options: TrainingOptions) -> list[str]:
    """A model says itself what it consists of; where the options say otherwise, the user is told."""
    own = options.network_G.options
    said = {name: getattr(own, name) for name in ("nf", "nb", "gc") if hasattr(own, name)}
    real = {name: model.spec.options.get(name, value) for name, value in said.items()}
    wrong = [f"{name} {real[name]}, where network_G says {said[name]}" for name in said if real[name] != said[name]]
    return [f"The model has {'; '.join(wrong)}."] if wrong else []


@dataclass(frozen=True)
class SliceOfTest:
    """A slice: image number `first` of the set."""

    first: int

    @property
    def stop(self) -> int:
        return self.first + 1


@dataclass(frozen=True)
class VolumeOfTest:
    """A volume whose axial slices are the images first <= n < stop of the set.

    Attributes
    ----------
    entry : Entry
    roi : ((i0, i1), (j0, j1), (k0, k1))
        The part of it that the set takes.
    """

    entry: Entry
    first: int
    stop: int
    roi: tuple[tuple[int, int], tuple[int, int], tuple[int, int]]


def tested_items(dataset: DatasetOptions, images: int) -> Iterator[SliceOfTest | VolumeOfTest]:
    """The items of a set of so many images, in the order of `open_images`.

    Volumes of LR that are used along the axial direction stay whole; everything else is a slice.
    """
    number = 0
    for low, high in entries_of(dataset) if has_files(dataset) else ():
        count = len(planes_of(low or high, dataset.axis, dataset.slices))
        if low and low.is_volume and dataset.axis == "axial":
            yield VolumeOfTest(low, number, number + count, _part(low, dataset.slices))
        else:
            yield from map(SliceOfTest, range(number, number + count))
        number += count
    yield from map(SliceOfTest, range(number, images))


def _part(entry: Entry, slices: tuple[int, int] | None) -> tuple:
    columns, rows, depth = probe(entry.path).size
    first, last = slices or (0, depth)
    return (0, columns), (0, rows), (first, min(last, depth))


PUBLISHED = "psnr_8bit"  # the figure that the published code would state
SMALLEST_WINDOW = 255  # narrower ones would lose grey values as whole numbers


def test(
    options: TrainingOptions,
    *,
    device: str | None = None,
    progress: Report | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> dict:
    """Super-resolve all test sets and measure where there is a truth.

    Writes path.root/results/NAME/<data set>/: the results (TIFF, or NRRD for volumes), `measures.csv`,
    `comparisons/*.png` of the first `logger.val_images` images; and results.json beside the data sets' folders.

    Parameters
    ----------
    options : TrainingOptions
        Read with is_train=False.
    device : str, optional
        "cpu" or "cuda" in place of what the options say.
    progress : callable (fraction, message), optional
    cancelled : callable, optional
        Asked again and again; True ends the test with `Cancelled`.

    Returns
    -------
    dict
        What results.json holds: "name", "model", "notes", "folder" and, in "datasets", for each data set "folder",
        "images", "measured", "means" and "results".

    Raises
    ------
    SuperResError
        One of its subclasses.
    """
    chosen = str(training_device(options, device)).split(",")[0]
    model, notes = model_to_test(options, chosen)
    folder, keys, datasets = options.results_folder, options.tests, {}
    for number, key in enumerate(keys):
        dataset = options.dataset(key)
        name = dataset.name or key
        part = part_of(progress, number / len(keys), (number + 1) / len(keys))
        datasets[name] = _SetTest(options, dataset, model, folder / file_name(name), chosen, part, cancelled).run()
    report = {
        "name": options.name,
        "model": {"name": model.name, "sha256": model.card.weights_sha256, "file": str(model.card.path or "")},
        "notes": notes,
        "folder": str(folder),
        "datasets": datasets,
    }
    with replacing(folder / "results.json") as scratch:
        scratch.write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return report


def report_text(report: Mapping) -> str:
    """The report for a terminal."""
    lines = [f"Model {report['model']['name']}", *report["notes"]]
    for name, found in report["datasets"].items():
        lines += ["", f"{name}: {found['images']} images, {found['measured']} of them measured, in {found['folder']}"]
        lines += [f"  {warning}" for warning in found["warnings"]]
        if found["measured"]:
            lines.append(f"  {'':16}{'model':>12}{'cubic':>12}")
        lines += [f"  {row['metric']:16}{row['model']:>12}{row['cubic']:>12}" for row in found["results"]]
        if found["measured"]:
            lines.append(f"  PSNR after rounding to 8 bits, as published figures are: {found['means'][PUBLISHED]:.2f}")
    return "\n".join(lines)


class _SetTest:
    """One test set: results, measures and pictures into one folder."""

    def __init__(
        self,
        options: TrainingOptions,
        dataset: DatasetOptions,
        model: Model,
        folder: Path,
        device: str,
        progress: Report,
        cancelled: Callable[[], bool] | None,
    ) -> None:
        self._options, self._dataset, self._model, self._folder = options, dataset, model, folder
        self._device, self._progress, self._cancelled = device, progress, cancelled or (lambda: False)
        self._rows: dict[str, dict[str, float]] = {}
        self._written: set[str] = set()

    def run(self) -> dict:
        images = open_images(self._dataset, self._options)
        try:
            for pair, sr in self._enlarged(images):
                if pair.HR is not None:
                    self._measure(pair, sr)
        finally:
            images.close()
        if self._rows:
            write_rows(self._rows, self._folder / "measures.csv")
        found = means([*self._rows.values()])
        return {
            "folder": str(self._folder),
            "images": len(images),
            "measured": len(self._rows),
            "means": found,
            "results": as_results(self._folder.name, found),
            "warnings": images.warnings,
        }

    def _enlarged(self, images: Images) -> Iterator[tuple[ImagePair, np.ndarray]]:
        """Each image with its enlargement in units of the window; the files are written on the way."""
        enlarge = Enlarger(self._model.network, self._device, self._model.spec.context, self._cancelled)
        for item in tested_items(self._dataset, len(images)):
            if self._cancelled():
                raise Cancelled
            part = part_of(self._progress, item.first / len(images), item.stop / len(images))
            if isinstance(item, VolumeOfTest):
                yield from self._volume(item, images, part)
            else:
                pair = images[item.first]
                sr = enlarge(pair.input)
                write_grey_values(sr, pair.window, self._place(pair.name, ".tif"))
                part(1, pair.name)
                yield pair, sr

    def _volume(self, item: VolumeOfTest, images: Images, progress: Report) -> Iterator[tuple[ImagePair, np.ndarray]]:
        """A volume, by `apply`; its slices are measured as they were written."""
        path = self._place(item.entry.name, ".nrrd")
        path.parent.mkdir(parents=True, exist_ok=True)
        window = (images.window.lo, images.window.hi)
        options = Options(window=window, roi=item.roi, device=self._device)
        apply_to_file(item.entry.path, path, self._model, options, progress, self._cancelled)
        if not self._dataset.dataroot_HR:
            return
        voxels = read_voxels(path)
        for number in range(item.first, item.stop):
            yield images[number], images.window.to_unit(voxels[number - item.first])

    def _measure(self, pair: ImagePair, sr: np.ndarray) -> None:
        scale = self._options.scale
        border = border_of(pair.HR, scale)
        found = measure(sr, pair.HR, border)
        cubic = measure(enlarge_cubic(pair.LR, scale), pair.HR, border)
        row = {f"{name}{kind}": values[name] for name in MEASURES for kind, values in (("", found), ("_cubic", cubic))}
        name = distinct(pair.name, self._rows)
        self._rows[name] = {**row, PUBLISHED: psnr_8bit(sr, pair.HR, border)}
        if len(self._rows) <= self._options.logger.val_images:
            picture = compared(pair.LR, sr, pair.HR, scale, row)
            write_picture(picture, self._folder / "comparisons" / f"{file_name(name)}.png")

    def _place(self, name: str, kind: str) -> Path:
        """Where the result of an image goes; folders within its name become folders."""
        name = distinct(name, self._written)
        self._written.add(name)
        *folders, last = (file_name(part) for part in name.split("/"))
        return self._folder.joinpath(*folders, f"{last}{self._options.suffix or ''}{kind}")


def write_grey_values(sr: np.ndarray, window, path: Path) -> Path:
    """Write an image in units of the window as the grey values that it stands for.

    uint16, rounded, where the window fits that type; float32 where it does not: negative grey values, and images of
    real numbers.
    """
    grey = window.from_unit(np.clip(sr, 0, 1))
    fits = window.lo >= 0 and window.hi <= np.iinfo(np.uint16).max and window.width >= SMALLEST_WINDOW
    grey = np.rint(grey).astype(np.uint16) if fits else grey.astype(np.float32)
    if grey.ndim == 3:  # OpenCV wants blue first
        grey = np.ascontiguousarray(np.moveaxis(grey, 0, -1)[..., ::-1])
    return write_picture(grey, path)
