"""Checkpoints: the whole state of a run in one file, complete or not there; and which of them a run goes on from."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from ..core.atomic import replacing
from ..core.errors import InputError, OptionError, OutputError, ResourceError
from ..io.write import free_disk_bytes
from .options_file import read_options
from .state import VERSION

if TYPE_CHECKING:
    from .options import TrainingOptions

SUFFIX = ".state"
DAMAGED, ABANDONED = ".damaged", ".abandoned"
SMALL_DISK = 64 * 2**20
AUTO = "auto"

Note = Callable[[str], None]
Accept = bool | Callable[[list[str]], bool]


class Checkpoints:
    """The folder training_state/ of a run, with files named by their step.

    >>> checkpoints = Checkpoints(run / "training_state", keep_last=3)
    >>> checkpoints.write(5000, state.payload(processes), best=5000)
    >>> path, payload = checkpoints.newest()

    Parameters
    ----------
    folder : Path
    keep_last : int
        How many are kept, beside that of the best validation.
    """

    def __init__(self, folder: Path, keep_last: int = 3) -> None:
        self.folder, self._keep_last = Path(folder), keep_last

    def clean(self) -> None:
        """Remove what a process that was killed while saving has left: hidden files, also those of version 0.1.0."""
        for path in self.folder.glob(f".*{SUFFIX}*"):
            path.unlink(missing_ok=True)

    def steps(self) -> list[int]:
        """The steps whose checkpoints are there, in order."""
        return sorted(int(path.stem) for path in self.folder.glob(f"*{SUFFIX}") if path.stem.isdigit())

    def path(self, step: int) -> Path:
        return self.folder / f"{step}{SUFFIX}"

    def last(self) -> Path | None:
        steps = self.steps()
        return self.path(steps[-1]) if steps else None

    def write(self, step: int, payload: dict, best: int | None = None) -> Path:
        """Save a checkpoint, then remove those that are neither among the last nor the best.

        Raises
        ------
        ResourceError, OutputError
            If it cannot be written; the former ones are intact then.
        """
        path = self.path(step)
        try:
            with replacing(path) as scratch:
                _write(payload, scratch)
        except OutputError as error:
            last = self.last()
            kept = f"The checkpoint {last.name} is intact" if last else "There is no earlier checkpoint"
            if free_disk_bytes(self.folder) < SMALL_DISK:
                raise ResourceError(
                    f"The disk of {self.folder} is full; the checkpoint could not be saved. {kept}.",
                    "Free some space and go on with --resume auto.",
                ) from error
            raise OutputError(f"{error.what} {kept}.", "Look after the disk and go on with --resume auto.") from error
        if os.name != "nt":  # have the file system keep the new name, too; where folders cannot be opened, it does
            descriptor = os.open(self.folder, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        for old in self.steps()[: -self._keep_last]:
            if old not in (best, step):
                self.path(old).unlink(missing_ok=True)
        return path

    def newest(self, note: Note, below: int | None = None) -> tuple[Path, dict] | None:
        """The newest checkpoint that can be read; damaged ones are told of and set aside.

        Parameters
        ----------
        note : callable
            Is told what was wrong, in words.
        below : int, optional
            Only checkpoints of earlier steps.
        """
        for step in reversed(self.steps()):
            if below is not None and step >= below:
                continue
            path = self.path(step)
            try:
                return path, read_checkpoint(path)
            except InputError as error:
                os.replace(path, path.with_name(path.name + DAMAGED))
                note(f"{error.what} It was set aside; the run goes on from the one before.")
        return None

    def abandon_after(self, step: int) -> list[Path]:
        """Set aside the checkpoints of later steps: the run goes another way from here."""
        later = [self.path(number) for number in self.steps() if number > step]
        for path in later:
            os.replace(path, path.with_name(path.name + ABANDONED))
        return later


def _write(payload: dict, path: Path) -> None:
    with path.open("wb") as file:
        torch.save(payload, file)


def read_checkpoint(path: Path) -> dict:
    """Read a checkpoint; nothing in it is executed.

    Raises
    ------
    InputError
        If it is missing, damaged, or of another version.
    """
    if not path.is_file():
        raise InputError(f"There is no checkpoint {path}.", "Choose a file of training_state/, or --resume auto.")
    try:
        with zipfile.ZipFile(path) as archive:  # torch does not compare the checksums that it writes
            if bad := archive.testzip():
                raise ValueError(f"{bad} is damaged")
        payload = torch.load(path, map_location="cpu", weights_only=True)
        version = payload["version"]
    except Exception as error:  # whatever a damaged file makes a reader do
        raise InputError(
            f"The checkpoint {path.name} is damaged ({type(error).__name__}).", "Choose another one."
        ) from error
    if version != VERSION:
        raise InputError(f"The checkpoint {path.name} is of version {version}, which this program does not know.")
    return payload


class ChangedOptions(OptionError):
    """The options differ from those of the checkpoint.

    Attributes
    ----------
    changes : list of str
        Such as "train.lr_G: 0.0001 -> 0.0002".
    """

    def __init__(self, what: str, advice: str, changes: list[str]) -> None:
        super().__init__(what, advice)
        self.changes = changes


@dataclass(frozen=True)
class Resumed:
    """A checkpoint to go on from: its file and what it holds."""

    path: Path
    payload: Mapping


def begins_anew(resume: str | Path | None, run: Path) -> bool:
    """Whether the run begins a course of its own, even if from the checkpoint of another."""
    if resume is None or str(resume) == AUTO:
        return resume is None
    return not Path(resume).expanduser().resolve().is_relative_to(run.resolve())


def find_checkpoint(resume: str | Path | None, states: Path, note: Note) -> Resumed | None:
    """The checkpoint that is meant; None begins from the beginning.

    Parameters
    ----------
    resume : str, Path or None
        "auto": the newest of the run's own, if it has any; a file; or the folder of a run.
    states : Path
        The run's own folder of checkpoints.
    note : callable
        Is told of damaged ones: these are set aside, and the one before is taken.

    Raises
    ------
    InputError
        If a checkpoint was named and there is none, or all are damaged.
    """
    if resume is None:
        return None
    path = states if str(resume) == AUTO else Path(resume).expanduser()
    if str(resume) == AUTO and not Checkpoints(states).steps():
        return None
    if path.is_dir():
        folder = path / "training_state" if (path / "training_state").is_dir() else path
        found = Checkpoints(folder).newest(note)
        if found is None:
            raise InputError(f"No checkpoint in {folder} can be read.", "Begin anew, without --resume.")
        return Resumed(*found)
    try:
        return Resumed(path, read_checkpoint(path))
    except InputError as error:
        if path.suffix != SUFFIX or not path.stem.isdigit() or not path.parent.is_dir():
            raise
        before = Checkpoints(path.parent).newest(note, below=int(path.stem))
        if before is None:
            raise
        note(f"{error.what} The run goes on from {before[0].name}.")
        return Resumed(*before)


def refuse_changes(resumed: Resumed, options: TrainingOptions, accept: Accept) -> list[str]:
    """Compare the options with the checkpoint's; returns the changes that were accepted, a sentence each.

    Raises
    ------
    ChangedOptions
        With all differences, if they are not accepted.
    """
    changes = read_options(resumed.payload["options"]).differences(options)
    if not changes or (accept(changes) if callable(accept) else accept):
        return [f"Changed since the checkpoint: {change}." for change in changes]
    listed = "\n".join(f"  {change}" for change in changes)
    raise ChangedOptions(
        f"The options differ from those of the checkpoint {resumed.path.name}:\n{listed}\n",
        "Go on with the old ones, accept the new ones with --accept-changes, or begin a run of another name.",
        changes,
    )
