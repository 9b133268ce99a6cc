"""What is compared with the truth: cubic interpolation, models that compute now, and results from files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..core.errors import InputError, OptionError
from ..core.interpolate import cubic
from ..core.options import Options
from ..core.volume import scaled_size
from ..io.volume import Volume
from ..jobs.queue import find_scans

if TYPE_CHECKING:
    from ..models.model import Model

CUBIC = "cubic"


@dataclass(frozen=True)
class ModelContender:
    """A model that super-resolves the coarse scan.

    Attributes
    ----------
    name : str
    model : Model
    device : str
    ensemble : int
    """

    name: str
    model: Model
    device: str = "auto"
    ensemble: int = 1

    def enlarge(self, scan: Volume, planes: str, **options) -> Volume:
        """The result, with its report."""
        from ..apply.run import super_resolve

        return super_resolve(
            scan, self.model, Options(planes=planes, device=self.device, ensemble=self.ensemble, **options)
        )


@dataclass(frozen=True)
class FileContender:
    """Results that lie in files, one for each reference.

    Attributes
    ----------
    name : str
    files : tuple of Path
        In the order of the references.
    """

    name: str
    files: tuple[Path, ...]


def load_model(given: str, device: str, ensemble: int) -> ModelContender:
    """A model by name or file, or NAME=FILE."""
    from ..models.model import Model

    name, _, file = given.rpartition("=")
    model = Model.load(file)
    return ModelContender(name or model.name, model, device, ensemble)


def files_for(references: Sequence[Path], given: str, what: str) -> tuple[Path, ...]:
    """The file of each reference: the one that is given, or those of a folder, by name or else by order.

    Raises
    ------
    InputError
        If there are not as many as references.
    """
    found = find_scans(given)
    if len(found) != len(references):
        raise InputError(
            f"There are {len(references)} references and {len(found)} files in {given} ({what}).",
            "Give one for each, in folders of the same order or with names that begin alike.",
        )
    if len(found) == 1:
        return tuple(found)
    by_name = [[path for path in found if path.name.startswith(_stem(reference))] for reference in references]
    if all(len(paths) == 1 for paths in by_name):
        return tuple(paths[0] for paths in by_name)
    return tuple(found)


def file_contender(references: Sequence[Path], given: str) -> FileContender:
    """Results from a file or folder, which may be named: NAME=FILE."""
    name, _, place = given.rpartition("=")
    return FileContender(name or _stem(Path(place)), files_for(references, place, "--sr"))


def check_names(contenders: Sequence[ModelContender | FileContender]) -> None:
    """Refuse names that occur twice.

    Raises
    ------
    OptionError
    """
    names = [CUBIC, *(c.name for c in contenders)]
    for name in names:
        if names.count(name) > 1:
            raise OptionError(f"Two results are called {name!r}.", "Give one of them another name: NAME=FILE.")


def cubic_volume(scan: Volume, factors: Sequence[float]) -> Volume:
    """Cubic interpolation of a scan; `factors` along (i, j, k)."""
    size = scaled_size(scan.grid.size, factors)
    along = [
        None if n == m else (np.arange(m) + 0.5) * n / m - 0.5 for n, m in zip(scan.grid.shape, size[::-1], strict=True)
    ]
    return Volume(cubic(scan.voxels.astype(np.float32), along), scan.grid.resampled(size))


def _stem(path: Path) -> str:
    name = path.name
    for suffix in (".nii.gz", path.suffix):
        if suffix and name.lower().endswith(suffix):
            return name[: -len(suffix)]
    return name
