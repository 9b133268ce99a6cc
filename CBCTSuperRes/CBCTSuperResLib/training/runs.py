"""The runs in a folder: how far each has come, and whether it still goes on. A bare Slicer can look, too."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ..locks import FileLock

LOCK, STATUS = "lock", "status.json"  # as loop/folder.py names them
STATES = ("running", "stopped", "finished", "failed")
FRESH_S = 600.0


@dataclass(frozen=True)
class RunInfo:
    """What a run's folder says.

    Attributes
    ----------
    name : str
    folder : Path
    step, niter : int
        Iterations that are done, and all.
    state : str
        "running", "stopped", "finished", "failed", or "interrupted": its process vanished and did not say so.
    best : dict
        What validation measured of the best model, with "step"; empty without validation.
    updated : float
        When the status was written, in seconds since 1970.
    message : str
        Why it stopped or failed.
    """

    name: str
    folder: Path
    step: int
    niter: int
    state: str
    best: dict = field(default_factory=dict)
    updated: float = 0.0
    message: str = ""

    @property
    def can_resume(self) -> bool:
        """Whether it can go on from its newest checkpoint."""
        states = self.folder / "training_state"
        return self.state in ("stopped", "failed", "interrupted") and any(states.glob("*.state"))


def list_runs(root: str | Path) -> list[RunInfo]:
    """The runs below path.root, the one that was last active first.

    Parameters
    ----------
    root : str or Path
        The folder that holds experiments/; it need not exist.
    """
    found = [info for path in _folders(Path(root) / "experiments") if (info := read_run(path))]
    return sorted(found, key=lambda info: (-info.updated, info.name))


def read_run(folder: str | Path) -> RunInfo | None:
    """One run by its folder; None if that holds no run. A status that cannot be read counts as an interrupted run."""
    folder = Path(folder)
    if not (folder / STATUS).is_file():
        return None
    status = _status(folder / STATUS)
    state = status.get("state")
    if state not in STATES or (state == "running" and not _goes_on(folder, status)):
        state = "interrupted"
    best = status.get("best")
    return RunInfo(
        name=folder.name,
        folder=folder,
        step=int(_number(status, "step")),
        niter=int(_number(status, "niter")),
        state=state,
        best=dict(best) if isinstance(best, Mapping) else {},
        updated=_number(status, "updated"),
        message=str(status.get("message") or ""),
    )


def _folders(parent: Path) -> list[Path]:
    try:
        return [path for path in parent.iterdir() if path.is_dir()]
    except OSError:
        return []


def _status(path: Path) -> dict:
    try:
        status = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return status if isinstance(status, dict) else {}


def _number(status: Mapping, key: str) -> float:
    value = status.get(key)
    return value if isinstance(value, int | float) else 0


def _goes_on(folder: Path, status: Mapping) -> bool:
    """Whether somebody holds the run's lock. Of another computer on a shared disk, locks may tell nothing: there a
    status that was just written counts as well."""
    if status.get("host") != socket.gethostname() and time.time() - _number(status, "updated") < FRESH_S:
        return True
    if not (folder / LOCK).exists():
        return False
    lock = FileLock(folder / LOCK)
    try:
        free = lock.acquire()
    except OSError:  # somebody else's file: nothing speaks against what the status says
        return True
    lock.release()
    return not free


def newest_picture(folder: str | Path | None) -> Path | None:
    """The picture that was written last below a folder of folders."""
    pictures = Path(folder).glob("*/*.png") if folder else ()
    return max(pictures, key=lambda path: path.stat().st_mtime, default=None)
