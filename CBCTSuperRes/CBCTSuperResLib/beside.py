"""What may go beside a result: where the model disagrees with itself, and a mask of where it does so much."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .estimate import Estimate
from .files import check_output
from .files.exchange import ExchangeOutput, is_exchange, remove_exchange
from .files.images import allocate
from .options import Options
from .volume import Volume

if TYPE_CHECKING:
    from .resolve import Result

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
