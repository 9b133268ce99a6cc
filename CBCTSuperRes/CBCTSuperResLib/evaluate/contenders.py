"""What is compared with the truth: cubic interpolation, models that compute now, and results from files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..apply.run import super_resolve
from ..core.errors import InputError, OptionError
from ..core.options import Options
from ..io.formats import stem_of
from ..io.volume import Volume
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

    @staticmethod
    def load(given: str, device: str, ensemble: int) -> ModelContender:
        """A model by name or file, or NAME=FILE."""
        name, _, file = given.rpartition("=")
        model = Model.load(file)
        return ModelContender(name or model.name, model, device, ensemble)

    def super_resolve(self, scan: Volume, **options) -> Volume:
        """The result, with its report."""
        return super_resolve(scan, self.model, Options(device=self.device, ensemble=self.ensemble, **options))


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


def matched(references: Sequence[Path], found: Sequence[Path], said: str) -> tuple[Path, ...]:
    """The file of each reference: the one that is there, or those whose names begin alike, or all by their order.

    Parameters
    ----------
    found : sequence of Path
        What was found where the user pointed.
    said : str
        Where that was, for the message.

    Raises
    ------
    InputError
        If there are not as many as references.
    """
    if len(found) != len(references):
        raise InputError(
            f"There are {len(references)} references and {len(found)} files in {said}.",
            "Give one for each, in folders of the same order or with names that begin alike.",
        )
    if len(found) > 1:
        by_name = [[path for path in found if path.name.startswith(stem_of(reference))] for reference in references]
        if all(len(paths) == 1 for paths in by_name):
            return tuple(paths[0] for paths in by_name)
    return tuple(found)


def check_names(contenders: Sequence[ModelContender | FileContender]) -> None:
    """Refuse names that occur twice, or that of cubic interpolation.

    Raises
    ------
    OptionError
    """
    names = [CUBIC, *(c.name for c in contenders)]
    for name in names:
        if names.count(name) > 1:
            if name == CUBIC:
                raise OptionError(
                    f"A result is called {name!r}, as is the interpolation that all are compared with.",
                    "Give it another name: NAME=FILE.",
                )
            raise OptionError(f"Two results are called {name!r}.", "Give one of them another name: NAME=FILE.")
