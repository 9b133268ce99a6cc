"""Checkpoints: the whole state of a run in one file, complete or not there."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import torch

from ...errors import InputError, OutputError, ResourceError
from ...files.disk import free_disk_bytes
from ...models.safetensors_file import replacing
from .state import VERSION

SUFFIX = ".state"
DAMAGED, ABANDONED = ".damaged", ".abandoned"
SMALL_DISK = 64 * 2**20

Note = Callable[[str], None]


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
        """Remove what a process that was killed while saving has left."""
        for path in self.folder.glob(f".*{SUFFIX}.*.tmp"):
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
            raise self._told(error) from error
        _settle(self.folder)
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

    def _told(self, error: OutputError) -> OutputError | ResourceError:
        last = self.last()
        kept = f"The checkpoint {last.name} is intact" if last else "There is no earlier checkpoint"
        if free_disk_bytes(self.folder) < SMALL_DISK:
            return ResourceError(
                f"The disk of {self.folder} is full; the checkpoint could not be saved. {kept}.",
                "Free some space and go on with --resume auto.",
            )
        return OutputError(f"{error.what} {kept}.", "Look after the disk and go on with --resume auto.")


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
        _check_sums(path)
        payload = torch.load(path, map_location="cpu", weights_only=True)
        version = payload["version"]
    except Exception as error:  # whatever a damaged file makes a reader do
        raise InputError(
            f"The checkpoint {path.name} is damaged ({type(error).__name__}).", "Choose another one."
        ) from error
    if version != VERSION:
        raise InputError(f"The checkpoint {path.name} is of version {version}, which this program does not know.")
    return payload


def _check_sums(path: Path) -> None:
    """torch does not compare the checksums that it writes."""
    with zipfile.ZipFile(path) as archive:
        bad = archive.testzip()
    if bad:
        raise ValueError(f"{bad} is damaged")


def _write(payload: dict, path: Path) -> None:
    with path.open("wb") as file:
        torch.save(payload, file)
        file.flush()
        os.fsync(file.fileno())


def _settle(folder: Path) -> None:
    """Have the file system keep the new name too; where folders cannot be opened, it does so by itself."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
