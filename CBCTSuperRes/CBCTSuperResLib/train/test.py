"""`cbct-superres test`: a model on the test sets of an options file, its results as 16-bit files and its measures.

Volumes take the same way as with `cbct-superres apply`; single slices, and LR that is simulated, are enlarged one by
one. Whatever has a true image is measured on float data beside cubic interpolation of the same LR.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..apply.file import apply_to_file
from ..core.atomic import write_json
from ..core.devices import choose_device
from ..core.errors import Cancelled, InputError, ModelError
from ..core.options import Options
from ..core.progress import Report, part_of
from ..importers import import_checkpoint
from ..io.formats import file_name
from ..io.pictures import distinct, write_picture
from ..io.read import probe
from ..io.volume_files import read_header, read_voxels
from ..measure.fidelity import psnr_8bit
from ..models.folder import SUFFIX
from ..models.model import Model
from ..networks.spec import NetworkSpec
from .checks import tested_run, training_device
from .data.files import planes_of
from .data.pictures import entries_of, has_files
from .data.source import ImagePair, Images, open_images
from .export import find_run_model
from .validation import MEASURES, Enlarger, as_results, border_of, compared, enlarge_cubic, means, measure, write_rows
from .volumes import VolumeTest, statistics_of, statistics_text, write_statistics

if TYPE_CHECKING:
    from .dataset_options import DatasetOptions
    from .options import TrainingOptions

CHECKPOINTS = (".pth", ".pt", ".ckpt", ".pkl")
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
        place = folder / file_name(name)
        datasets[name] = _tested(options, dataset, model, place, chosen, part, cancelled or (lambda: False))
    report = {
        "name": options.name,
        "model": {"name": model.name, "sha256": model.card.weights_sha256, "file": str(model.card.path or "")},
        "notes": notes,
        "folder": str(folder),
        "datasets": datasets,
    }
    write_json(folder / "results.json", report)
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
        if PUBLISHED in found["means"]:
            lines.append(f"  PSNR after rounding to 8 bits, as published figures are: {found['means'][PUBLISHED]:.2f}")
        lines += statistics_text(found["statistics"])
    return "\n".join(lines)


def model_to_test(options: TrainingOptions, device: str) -> tuple[Model, list[str]]:
    """The model of `path.pretrain_model_G`, and notes for the user.

    A model of ours by file or name, a generator of SPSR or UNetSPSR (.pth), or an ArSSR (.pkl); or the best model of
    a run that is named by its folder. Without one, that of the run of the options' name.

    Raises
    ------
    ModelError
        If there is none, it cannot be read, or its scale or input channels are not those of the options.
    """
    given, own, notes = options.path.pretrain_model_G, options.network_G.options, []
    if run := tested_run(options):
        said = f"path.pretrain_model_G is {given or 'null'}"
        try:
            path = find_run_model(run)
        except InputError as error:
            raise ModelError(
                f"{said}, and there is no trained run {run.name}: {error.what}",
                f"Name a model ({SUFFIX} or .pth) in path.pretrain_model_G.",
            ) from error
        model = Model.load(path, device)
        notes.append(f"{said}: {path} is tested.")
    elif Path(given).suffix.lower() in CHECKPOINTS:
        taps = getattr(own, "taps", None)
        scale = None if getattr(own, "kind", "slices") == "any factor" else options.scale
        model = import_checkpoint(Path(given), options.name, scale=scale, taps=taps)
        model = Model(model.network.to(choose_device(device)), model.card)
    else:
        model = Model.load(given, device)
    spec = model.spec
    facts = {
        "scale": (options.scale, _offered(spec, options.scale)),
        "in_nc": (getattr(own, "in_nc", 1), spec.input_channels),
    }
    wrong = [f"its {name} is {found}, not {wanted}" for name, (wanted, found) in facts.items() if found != wanted]
    if wrong:
        raise ModelError(f"The model {model.name} does not fit the options: {', '.join(wrong)}.", "Correct either.")
    sizes = {name: getattr(own, name) for name in ("nf", "nb", "gc") if hasattr(own, name)}
    other = [
        f"{name} {spec.options[name]}, where network_G says {size}"
        for name, size in sizes.items()
        if spec.options.get(name, size) != size
    ]
    if other:  # a model says itself what it consists of
        notes.append(f"The model has {'; '.join(other)}.")
    return model, notes


def _offered(spec: NetworkSpec, scale: int) -> int | str:
    """The factor that is asked for, if a model of any factor offers it; otherwise what the model offers."""
    if spec.scale:
        return int(spec.scale[-1])
    return scale if all(low <= scale <= high for low, high in spec.scale_range) else spec.scale_text


def _tested(
    options: TrainingOptions,
    dataset: DatasetOptions,
    model: Model,
    folder: Path,
    device: str,
    progress: Report,
    cancelled: Callable[[], bool],
) -> dict:
    """One test set: results, measures and pictures into its folder."""
    scale, rows = options.scale, {}
    if model.spec.dimensions == 3:
        volumes = VolumeTest(options, dataset, model, folder, device)
        rows = dict(volumes.rows(progress, cancelled))
        return _reported(folder, rows, len(volumes), volumes.warnings)
    with closing(open_images(dataset, options)) as images:
        for pair, sr in _enlarged(options, dataset, model, images, folder, device, progress, cancelled):
            if pair.HR is None:
                continue
            border = border_of(pair.HR, scale)
            values = {
                "": measure(sr, pair.HR, border),
                "_cubic": measure(enlarge_cubic(pair.LR, scale), pair.HR, border),
            }
            row = {f"{name}{way}": values[way][name] for name in MEASURES for way in values}
            name = distinct(pair.name, rows)
            rows[name] = {**row, PUBLISHED: psnr_8bit(sr, pair.HR, border)}
            if len(rows) <= options.logger.val_images:
                picture = compared(pair.LR, sr, pair.HR, scale, row)
                write_picture(picture, folder / "comparisons" / f"{file_name(name)}.png")
        return _reported(folder, rows, len(images), images.warnings)


def _reported(folder: Path, rows: Mapping[str, Mapping[str, float]], images: int, warnings: list[str]) -> dict:
    """Measures by image as a table, their statistics as another, and what results.json says of a test set."""
    found, statistics = means([*rows.values()]), statistics_of([*rows.values()])
    if rows:
        write_rows(rows, folder / "measures.csv")
        write_statistics(statistics, folder / "statistics.csv")
    return {
        "folder": str(folder),
        "images": images,
        "measured": len(rows),
        "means": found,
        "statistics": statistics,
        "results": as_results(folder.name, found),
        "warnings": warnings,
    }


def _enlarged(
    options: TrainingOptions,
    dataset: DatasetOptions,
    model: Model,
    images: Images,
    folder: Path,
    device: str,
    progress: Report,
    cancelled: Callable[[], bool],
) -> Iterator[tuple[ImagePair, np.ndarray]]:
    """Each image with its enlargement in units of the window; the files are written on the way.

    Volumes of LR that are used along the axial direction are enlarged whole, by `apply`, and their slices measured as
    they were written; everything else is a slice.
    """
    enlarge, written = Enlarger(model.network, device, model.spec.context, cancelled), set()

    def place(name: str, kind: str) -> Path:
        """Where the result of an image goes; folders within its name become folders."""
        written.add(name := distinct(name, written))
        *parents, last = (file_name(part) for part in name.split("/"))
        return folder.joinpath(*parents, f"{last}{options.suffix or ''}{kind}")

    def slices(first: int, stop: int) -> Iterator[tuple[ImagePair, np.ndarray]]:
        for number in range(first, stop):
            if cancelled():
                raise Cancelled
            pair = images[number]
            sr = enlarge(pair.input, blur=pair.blur, noise=pair.noise)
            write_grey_values(sr, pair.window, place(pair.name, ".tif"))
            progress((number + 1) / len(images), pair.name)
            yield pair, sr

    number = 0
    for low, high in entries_of(dataset) if has_files(dataset) else ():
        first, number = number, number + len(planes_of(low or high, dataset.axis, dataset.slices))
        if not (low and low.is_volume and dataset.axis == "axial"):
            yield from slices(first, number)
            continue
        if cancelled():
            raise Cancelled
        path = place(low.name, ".nrrd")
        path.parent.mkdir(parents=True, exist_ok=True)
        columns, rows, depth = probe(low.path).size
        start, stop = dataset.slices or (0, depth)
        roi = (0, columns), (0, rows), (start, min(stop, depth))
        own = Options(window=(images.window.lo, images.window.hi), roi=roi, device=device)
        part = part_of(progress, first / len(images), number / len(images))
        apply_to_file(low.path, path, model, own, part, cancelled)
        if dataset.dataroot_HR:
            voxels = read_voxels(read_header(path))
            for n in range(first, number):
                yield images[n], images.window.to_unit(voxels[n - first])
    yield from slices(number, len(images))


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
