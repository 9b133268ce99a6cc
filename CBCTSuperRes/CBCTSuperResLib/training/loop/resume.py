"""Which checkpoint a run goes on from, and whether its options still are those of the run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ...errors import InputError, OptionError
from ..options import read_options
from .checkpoints import SUFFIX, Checkpoints, Note, read_checkpoint

if TYPE_CHECKING:
    from ..options import TrainingOptions

AUTO = "auto"

Accept = bool | Callable[[list[str]], bool]


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
    if str(resume) == AUTO:
        return _newest(states, note) if Checkpoints(states).steps() else None
    path = Path(resume).expanduser()
    if path.is_dir():
        inner = path / "training_state"
        return _newest(inner if inner.is_dir() else path, note)
    try:
        return Resumed(path, read_checkpoint(path))
    except InputError as error:
        return _one_before(path, error, note)


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


def _newest(folder: Path, note: Note) -> Resumed:
    found = Checkpoints(folder).newest(note)
    if found is None:
        raise InputError(f"No checkpoint in {folder} can be read.", "Begin anew, without --resume.")
    return Resumed(*found)


def _one_before(path: Path, error: InputError, note: Note) -> Resumed:
    """In place of a checkpoint that is missing or damaged."""
    if path.suffix == SUFFIX and path.stem.isdigit() and path.parent.is_dir():
        found = Checkpoints(path.parent).newest(note, below=int(path.stem))
        if found:
            note(f"{error.what} The run goes on from {found[0].name}.")
            return Resumed(*found)
    raise error
