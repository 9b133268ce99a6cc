"""From a file to a file: the one function that command line, batch and worker all call.

The result, what is asked for beside it (the model's disagreement with itself, and a mask of where it disagrees much)
and the report appear together or not at all.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..core.atomic import FileLock, flush_file, json_text, replacing_all
from ..core.errors import Cancelled, OutputError
from ..core.memory import memory_for
from ..core.options import Options
from ..core.progress import Report, part_of
from ..core.volume import Grid
from ..io.exchange import ExchangeOutput, is_exchange
from ..io.folders import report_path
from ..io.formats import stem_of
from ..io.images import allocate
from ..io.volume import Volume
from ..io.write import check_output, write_into
from ..models.folder import default_model
from ..scan.window import Window
from .factors import chosen_because
from .memory_and_disk import check_disk, check_memory
from .plan import DISAGREEMENT, MASK, WARNING_MASK, Plan, make_plan
from .report import facts_of, reading_facts, versions
from .sharing import RESULT, Sharing
from .suited_model import with_suited_model

if TYPE_CHECKING:
    from ..models.card import ModelCard
    from ..models.model import Model
    from .run import Result

READ, WRITE = 0.04, 0.96  # shares of the progress at which computing and writing begin
CROP_FIRST = "Close other programs, or crop the volume first."
LIGHTER = "Close other programs, or choose a lighter model."


def apply_to_file(
    input_path: str | Path,
    output_path: str | Path,
    model: str | Path | Model | None = None,
    options: Options | None = None,
    progress: Report | None = None,
    cancelled: Callable[[], bool] | None = None,
    *,
    compress: bool = False,
    spacing: Sequence[float] | None = None,
    series: str | None = None,
    override: bool = False,
    as_dicom: bool = False,
    patient_name: str | None = None,
    patient_id: str | None = None,
    seen: Callable[[Volume, Volume], None] | None = None,
    sharing: Sharing | None = None,
) -> dict:
    """Super-resolve a scan on disk; the result and its report appear together or not at all.

    Parameters
    ----------
    input_path : path
        Whatever `read_volume` reads, or a volume in exchange format (.npy).
    output_path : path
        File to write; its extension chooses the format. With `as_dicom` a folder to be made. The report is written
        beside it as `<output>.json`, and what else is asked for as `<output> model disagreement` and `<output> model
        disagreement mask`, or of a model with error bars as `<output> predictive deviation`, `<output> intrinsic
        deviation`, `<output> parameter deviation` and `<output> warning mask`.
    model : Model, path, name or None
        The model, its file, the name of an installed one; None takes the default for what is asked of
        the scan, or where that does not know such a blur the one that is told it.
    progress : callable (fraction, message), optional
    cancelled : callable, optional
        Asked between tiles; True ends the work with `Cancelled` and leaves nothing behind.
    spacing, series, override : optional
        For inputs that do not say: see `read_volume`.
    as_dicom : bool
        Write a derived DICOM series: of the patient, study and frame of reference of a DICOM input, of a new study
        otherwise.
    patient_name, patient_id : str, optional
        For DICOM, where the input does not tell them.
    seen : callable (scan, result), optional
        Shown both before they are written; what it raises costs a warning.
    sharing : Sharing, optional
        Several devices, or a cluster, that compute the parts of the volume; see `super_resolve`.

    Returns
    -------
    dict
        The report: what was computed from what, how, with which versions, how long each stage took, and what
        the result says of itself (see `quality`).

    Raises
    ------
    SuperResError
        One of its subclasses; no file is left or changed then.
    """
    from .run import super_resolve  # not in a bare Slicer, which loads the rest of this file

    input_path, output_path, options = Path(input_path), Path(output_path), options or Options()
    dicom_folder, is_named = output_path if as_dicom else None, model is not None
    _check_places(input_path, output_path, dicom_folder)
    stages = Stages(cancelled)
    with _sole_writer(output_path), ExitStack() as stack:
        with stages.stage("reading"), memory_for(f"reading {input_path}", CROP_FIRST):
            part_of(progress, 0, READ)(0, "Reading")
            volume = Volume.read(input_path, spacing=spacing, series=series, override=override)
        with stages.stage("loading the model"), memory_for("the model", LIGHTER):
            part_of(progress, 0, READ)(0.5, "Loading the model")
            model, reason = _model_for(volume, model, options)
        with stages.stage("looking"):
            part_of(progress, READ, WRITE)(0, "Looking at the scan")
            plan = make_plan(volume.grid, volume.voxels.dtype, model.card, options, sharing and sharing.workers)
            check_memory(plan)
            check_disk(plan, output_path)
            paths = _paths_of(plan, output_path, as_dicom)
            for name, path in paths.items():
                _check_output(path, plan.grid, _type_of(name, plan), input_path, path == dicom_folder)
            if as_dicom:
                from ..io.dicom_write import patient_of, source_of
                from .dicom_result import DicomOutput

                source = source_of(input_path, series, spacing)
                patient = patient_of(source, patient_name, patient_id)
                dicom = DicomOutput(output_path, source, patient, part_of(progress, WRITE, 1), cancelled)
            plan = plan.with_scan(volume, is_checked=True)
            if not is_named:
                plan, scanner_reason = with_suited_model(plan, volume, sharing and sharing.workers)
                model, reason = (_loaded(plan.card), scanner_reason) if scanner_reason else (model, reason)
        with stages.stage("computing"):
            outputs = {}
            for name, path in paths.items():
                output = ExchangeOutput(path) if is_exchange(path) else FileOutput(path, compress)
                outputs[name] = stack.enter_context(dicom if path == dicom_folder else output)
            result = super_resolve(
                volume,
                model,
                options,
                part_of(progress, READ, WRITE),
                cancelled=cancelled,
                allocate=outputs[RESULT].allocate,
                allocate_maps={name: output.allocate for name, output in outputs.items() if name != RESULT},
                plan=plan,
                sharing=sharing,
            )
        result.report["notes"] += [reason] if reason else []
        if seen:
            try:
                seen(volume, result)
            except Exception as error:
                result.report["warnings"].append(f"There is no picture of the result: {type(error).__name__} {error}.")
        announced = [report_path(output_path), *(output.announcement for output in outputs.values())]
        with replacing_all(announced, [dicom_folder] if dicom_folder else []) as scratches:
            fresh = dict(zip(announced, scratches, strict=True))
            with stages.stage("writing"), memory_for("writing the result", "Close other programs, or choose an ROI."):
                part_of(progress, WRITE, 1)(0, "Writing")
                volumes = _volumes_of(result, paths, options, model.card)
                for name, output in outputs.items():
                    output.write(volumes[name], fresh[output.announcement])
            beside = {name: str(path) for name, path in paths.items() if name != RESULT}
            written = facts_of(fresh.get(output_path, output_path), result)
            report = {
                "input": facts_of(input_path, volume),
                "output": {**written, "path": str(output_path.absolute())},
                **({"beside": beside} if beside else {}),
                **({"dicom": outputs[RESULT].written} if as_dicom else {}),
                "options": options.to_json(),
                "reading": reading_facts(spacing, series, override),
                "versions": versions(),
                "seconds": stages.seconds,
                "warnings": list(result.report["warnings"]),
                "super_resolution": result.report,
            }
            scratches[0].write_text(json_text(report), encoding="utf-8")
        for output in outputs.values():
            output.keep()
    part_of(progress, WRITE, 1)(1, "Done")
    return report


class Stages:
    """What a run does one after the other: how long each took, and whether the next may begin.

    Parameters
    ----------
    cancelled : callable or None

    Attributes
    ----------
    seconds : dict of str to float
        By the names of the stages that have ended.
    """

    def __init__(self, cancelled: Callable[[], bool] | None) -> None:
        self.seconds: dict[str, float] = {}
        self._cancelled = cancelled

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """
        Raises
        ------
        Cancelled
            If the user has asked for it before.
        """
        if self._cancelled and self._cancelled():
            raise Cancelled()
        start = time.perf_counter()
        yield
        self.seconds[name] = round(time.perf_counter() - start, 3)


def _check_places(input_path: Path, output_path: Path, dicom_folder: Path | None) -> None:
    """Refuse, before anything is read, an output that cannot be written where it is asked for."""
    folder, report_file = output_path.absolute().parent, report_path(output_path)
    if input_path.is_dir() and folder.is_dir() and folder.samefile(input_path):
        raise OutputError("The output would lie among the input slices.", "Choose another folder.")
    _check_output(output_path, Grid((1, 1, 1)), np.dtype(np.uint8), input_path, output_path == dicom_folder)
    if report_file.is_dir():
        raise OutputError(f"The report cannot be written: {report_file} is a folder.", "Choose another name.")


def _model_for(volume: Volume, model: str | Path | Model | None, options: Options) -> tuple[Model, str]:
    """The model that was asked for, or the default for what is asked of the scan; and why that one was taken."""
    from ..models.model import Model
    from .engines.choice import GRAPH_ENGINES, keep_graph

    reason = ""
    if model is None:
        card = default_model(options, volume.spacing)
        model, reason = _loaded(card), chosen_because(card, options, volume.spacing)
    elif not isinstance(model, Model):
        model = Model.load(model)
    if options.engine in GRAPH_ENGINES:
        keep_graph(model)
    return model, reason


def _paths_of(plan: Plan, output_path: Path, as_dicom: bool) -> dict[str, Path]:
    """Where everything that a run writes goes, by its name: maps and masks, and last the result."""
    masks = [WARNING_MASK] if plan.has_error_bars else [MASK] if plan.options.disagreement_above is not None else []
    masks = [] if is_exchange(output_path) else masks
    beside_of = output_path.with_name(output_path.name + ".nrrd") if as_dicom else output_path
    return {**{name: path_beside(beside_of, name) for name in (*plan.maps, *masks)}, RESULT: output_path}


def _type_of(name: str, plan: Plan) -> np.dtype:
    """Of the voxels of what a run writes."""
    types = {RESULT: plan.dtype, **dict.fromkeys((MASK, WARNING_MASK), np.dtype(np.uint8))}
    return types.get(name, np.dtype(np.float32))


def _volumes_of(result: Result, names: Iterable[str], options: Options, card: ModelCard) -> dict[str, Volume]:
    """What is written, by its name: the result, its maps, and masks of where they are large."""
    from .error_bars import marked_of

    volumes = {RESULT: result, DISAGREEMENT: result.disagreement, **result.error_bars}
    if MASK in names:
        volumes[MASK] = mask_of(result.disagreement, options.disagreement_above)
    if WARNING_MASK in names:
        width = Window(*(card.output_window or result.report["window"])).width
        voxels = {name: volume.voxels for name, volume in result.error_bars.items()}
        marked, above = marked_of(voxels, options.warning_above, width)
        volumes[WARNING_MASK] = mask_of(result.error_bars[marked], above)
    return volumes


@lru_cache(maxsize=2)
def _loaded_file(path: Path, changed_ns: int) -> Model:
    from ..models.model import Model

    return Model.load(path)


def _loaded(card: ModelCard) -> Model:
    """A model that nobody named, kept for the next scan of a process that stays."""
    return _loaded_file(card.path, card.path.stat().st_mtime_ns)


def save_result(
    result: Volume,
    output_path: str | Path,
    report: dict,
    scan: str | Path | None = None,
    progress: Report | None = None,
) -> Path:
    """Write a result that is there already, and its report, which appear together or not at all.

    Parameters
    ----------
    output_path : path
        Its extension chooses the format; the report is written beside it as `<output>.json`.
    report : dict
        Of the run.
    scan : path, optional
        What it was made of, which is never overwritten.

    Returns
    -------
    Path
        The report's file.

    Raises
    ------
    OutputError, ResourceError
        No file is left or changed then.
    """
    path = Path(output_path)
    report_file = report_path(path)
    check_output(path, result.grid, result.voxels.dtype, source=scan)
    if report_file.is_dir():
        raise OutputError(f"The report cannot be written: {report_file} is a folder.", "Choose another name.")
    part_of(progress, 0, 1)(0, "Writing")
    with _sole_writer(path), replacing_all([report_file, path]) as (told, scratch):
        with memory_for("writing the result", "Close other programs, or save as NRRD."):
            write_into(scratch, result, compress=False, name=path)
        report = {**report, "output": {**facts_of(scratch, result), "path": str(path.absolute())}}
        told.write_text(json_text(report), encoding="utf-8")
    part_of(progress, 0, 1)(1, "Done")
    return report_file


class FileOutput:
    """A volume that is computed in memory and then written; the counterpart of `ExchangeOutput`."""

    def __init__(self, path: Path, compress: bool) -> None:
        self.announcement, self._compress = path, compress
        self.allocate = allocate

    def __enter__(self) -> FileOutput:
        return self

    def __exit__(self, *_) -> None:
        """Nothing is open, and nothing of the file is there before it is whole."""

    def write(self, volume: Volume, scratch: Path) -> None:
        """Write what will be renamed to `announcement`."""
        write_into(scratch, volume, self._compress, name=self.announcement)
        flush_file(scratch)

    def keep(self) -> None:
        """Nothing of it would be removed."""


def mask_of(found: Volume, above: float) -> Volume:
    """1 where a map is larger than `above`, 0 elsewhere."""
    return Volume((found.voxels > above).astype(np.uint8), found.grid)


def path_beside(output_path: str | Path, words: str) -> Path:
    """`result.nii.gz` -> `result model disagreement.nii.gz`."""
    path = Path(output_path)
    stem = stem_of(path)
    return path.with_name(f"{stem} {words}{path.name[len(stem) :]}")


def _check_output(path: Path, grid: Grid, dtype: np.dtype, source: Path, as_dicom: bool = False) -> None:
    """Refuse a file that cannot be written; one in exchange format says so itself, when it is allocated."""
    if as_dicom:
        from .dicom_result import check_place

        check_place(path, grid, source)
    elif not is_exchange(path):
        check_output(path, grid, dtype, source=source)


def output_lock(output_path: Path) -> FileLock:
    """What whoever writes an output holds."""
    return FileLock(output_path.with_name(f".{output_path.name}.lock"))


@contextmanager
def _sole_writer(output_path: Path) -> Iterator[None]:
    """Hold the output's lock, which also proves that its folder can be written."""
    lock = output_lock(output_path)
    try:
        free = lock.acquire()
    except OSError as error:
        raise OutputError(
            f"The folder {output_path.absolute().parent} cannot be written: {error.strerror}.", "Choose another folder."
        ) from error
    if not free:
        raise OutputError(f"Another run is writing {output_path}.", "Wait for it to end or choose another name.")
    try:
        yield
    finally:
        lock.release()
