"""What may go beside a result: where the model disagrees with itself, and a mask of where it does so much.

From a file to a file: the one function that command line, batch and worker all call.
"""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .. import __version__
from ..core.atomic import FileLock
from ..core.errors import Cancelled, OutputError
from ..core.options import Options
from ..core.progress import Report, part_of
from ..core.volume import Grid
from ..io.exchange import ExchangeOutput, is_exchange, remove_exchange
from ..io.images import allocate
from ..io.volume import Volume
from ..io.write import check_output
from ..models.folder import DEFAULT_MODEL
from .plan import Estimate, check_resources

if TYPE_CHECKING:
    from ..models.model import Model
    from .run import Result


DISAGREEMENT = "model disagreement"
MASK = "model disagreement mask"


def beside_path(output_path: str | Path, words: str) -> Path:
    """`result.nii.gz` -> `result model disagreement.nii.gz`."""
    path = Path(output_path)
    suffix = path.name[-len(".nii.gz") :] if path.name.lower().endswith(".nii.gz") else path.suffix
    return path.with_name(f"{path.name.removesuffix(suffix)} {words}{suffix}")


class FileOutput:
    """A volume that is computed in memory and then written; the counterpart of `ExchangeOutput`."""

    def __init__(self, path: Path, compress: bool) -> None:
        self._path, self._compress = path, compress
        self.allocate = allocate

    def __enter__(self) -> FileOutput:
        return self

    def __exit__(self, *_) -> None:
        """Nothing is open: `write_volume` writes whole files."""

    def publish(self, volume: Volume) -> None:
        volume.write(self._path, compress=self._compress)


def output_to(path: Path, compress: bool) -> FileOutput | ExchangeOutput:
    """What allocates and publishes a volume in this file."""
    return ExchangeOutput(path) if is_exchange(path) else FileOutput(path, compress)


class Outputs:
    """A result and what goes beside it: all published, or none.

    >>> with outputs(path, options, compress=False) as out:
    ...     result = super_resolve(volume, model, options, **out.memory)
    ...     out.publish(result)

    Attributes
    ----------
    memory : dict
        Arguments of `super_resolve`.
    files : dict of str to Path
        What goes beside the result, by `DISAGREEMENT` and `MASK`.
    """

    def __init__(self, path: Path, options: Options, compress: bool, stack: ExitStack) -> None:
        self._options, self._compress = options, compress
        self._result = stack.enter_context(output_to(path, compress))
        self.memory: dict[str, Callable] = {"allocate": self._result.allocate}
        self.files: dict[str, Path] = {}
        if not options.uncertainty:
            return
        self.files[DISAGREEMENT] = beside_path(path, DISAGREEMENT)
        self._disagreement = stack.enter_context(output_to(self.files[DISAGREEMENT], compress))
        self.memory["allocate_disagreement"] = self._disagreement.allocate
        if options.disagreement_above is not None and not is_exchange(path):
            self.files[MASK] = beside_path(path, MASK)

    def publish(self, result: Result) -> None:
        """Write everything; if something fails, nothing of it stays."""
        try:
            if DISAGREEMENT in self.files:
                self._disagreement.publish(result.disagreement)
            if MASK in self.files:
                FileOutput(self.files[MASK], True).publish(
                    mask_of(result.disagreement, self._options.disagreement_above)
                )
            self._result.publish(result)
        except BaseException:
            for path in self.files.values():
                remove_exchange(path)
            raise


@contextmanager
def outputs(path: Path, options: Options, compress: bool) -> Iterator[Outputs]:
    """Where a result and what goes beside it are to be written."""
    with ExitStack() as stack:
        yield Outputs(path, options, compress, stack)


def check_outputs(path: Path, options: Options, need: Estimate, source: Path) -> None:
    """Refuse files that cannot be written, before anything is computed.

    Raises
    ------
    OutputError, ResourceError
    """
    if is_exchange(path):
        return
    check_output(path, need.grid, need.dtype, source=source)
    if options.uncertainty:
        check_output(beside_path(path, DISAGREEMENT), need.grid, np.dtype(np.float32), source=source)


def mask_of(disagreement: Volume, above: float) -> Volume:
    """1 where the disagreement is larger than `above` grey values, 0 elsewhere."""
    return Volume((disagreement.voxels > above).astype(np.uint8), disagreement.grid)


READ, WRITE = 0.04, 0.96


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
) -> dict:
    """Super-resolve a scan on disk; the result and its report appear whole or not at all.

    Parameters
    ----------
    input_path : path
        Whatever `read_volume` reads, or a volume in exchange format (.npy).
    output_path : path
        File to write; its extension chooses the format. The report is written beside it as `<output>.json`, and what
        else is asked for as `<output> model disagreement` and `<output> model disagreement mask`.
    model : Model, path, name or None
        The model, its file, the name of an installed one; None takes the default model.
    progress : callable (fraction, message), optional
    cancelled : callable, optional
        Asked between tiles; True ends the work with `Cancelled` and leaves nothing behind.
    spacing, series : optional
        For inputs that do not say: see `read_volume`.

    Returns
    -------
    dict
        The report: what was computed from what, how, with which versions, how long each stage took, and what
        the result says of itself (see `quality`).

    Raises
    ------
    SuperResError
        One of its subclasses, before anything is written.
    """
    input_path, output_path, options = Path(input_path), Path(output_path), options or Options()
    _check_names(input_path, output_path)
    stages = _Stages(cancelled)
    with _sole_writer(output_path):
        with stages.named("reading"):
            part_of(progress, 0, READ)(0, "Reading")
            volume = Volume.read(input_path, spacing=spacing, series=series)
        with stages.named("loading the model"):
            part_of(progress, 0, READ)(0.5, "Loading the model")
            model = _load(model)
            need = check_resources(volume, model.card, options, output_path)
            check_outputs(output_path, options, need, input_path)
        with outputs(output_path, options, compress) as output:
            with stages.named("computing"):
                result = _super_resolve(volume, model, options, part_of(progress, READ, WRITE), cancelled, output)
            with stages.named("writing"):
                part_of(progress, WRITE, 1)(0, "Writing")
                output.publish(result)
        report = {
            "input": _facts(input_path, volume),
            "output": _facts(output_path, result),
            **({"beside": {words: str(path) for words, path in output.files.items()}} if output.files else {}),
            "options": options.to_json(),
            "reading": {"spacing": spacing and list(spacing), "series": series},
            "versions": versions(),
            "seconds": stages.seconds,
            "warnings": list(result.report.get("warnings", ())),
            "super_resolution": result.report,
        }
        write_report(report, output_path)
    part_of(progress, WRITE, 1)(1, "Done")
    return report


def report_path(output_path: str | Path) -> Path:
    """Where the report of an output lies."""
    return Path(f"{output_path}.json")


def write_report(report: dict, output_path: str | Path) -> Path:
    """Write the report beside the output, whole or not at all."""
    path = report_path(output_path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(json.dumps(report, indent=2, ensure_ascii=False, default=str), encoding="utf-8")
    os.replace(temporary, path)
    return path


def identity(path: str | Path) -> dict:
    """What tells whether a file, or a folder of slices, is still the one that a report speaks of."""
    path = Path(path)
    files = sorted(p for p in path.iterdir() if p.is_file()) if path.is_dir() else [path]
    facts = [p.stat() for p in files]
    return {
        "path": str(path.absolute()),
        "files": len(files),
        "bytes": sum(f.st_size for f in facts),
        "modified": max((f.st_mtime for f in facts), default=0.0),
    }


def versions() -> dict[str, str]:
    """Versions of this library, of Python and of the packages that shape the result."""
    found = {"CBCTSuperResLib": __version__, "python": platform.python_version(), "platform": platform.platform()}
    for package in ("torch", "numpy", "SimpleITK", "safetensors"):
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


class _Stages:
    """Times each stage and stops between two of them when the user asked to."""

    def __init__(self, cancelled: Callable[[], bool] | None) -> None:
        self.seconds: dict[str, float] = {}
        self._cancelled = cancelled

    @contextmanager
    def named(self, name: str) -> Iterator[None]:
        if self._cancelled and self._cancelled():
            raise Cancelled()
        start = time.perf_counter()
        yield
        self.seconds[name] = round(time.perf_counter() - start, 3)


def _check_names(input_path: Path, output_path: Path) -> None:
    """What can be said of the output before anything is read."""
    folder = output_path.absolute().parent
    if input_path.is_dir() and folder.is_dir() and folder.samefile(input_path):
        raise OutputError("The output would lie among the input slices.", "Choose another folder.")
    if not is_exchange(output_path):
        check_output(output_path, Grid((1, 1, 1)), np.uint8, source=input_path)


@contextmanager
def _sole_writer(output_path: Path) -> Iterator[None]:
    """Hold the output's lock, which also proves that its folder can be written."""
    lock = FileLock(output_path.with_name(f".{output_path.name}.lock"))
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


def _load(model: str | Path | Model | None) -> Model:
    from ..models.model import Model

    if isinstance(model, Model):
        return model
    return Model.load(DEFAULT_MODEL if model is None else model)


def _super_resolve(volume: Volume, model: Model, options: Options, progress: Report, cancelled, output) -> Volume:
    from .run import super_resolve

    return super_resolve(volume, model, options, progress, cancelled=cancelled, **output.memory)


def _facts(path: Path, volume: Volume) -> dict:
    facts = identity(path)
    grid = volume.grid
    facts.update(size=grid.size, spacing_mm=grid.spacing, type=str(volume.voxels.dtype))
    return facts
