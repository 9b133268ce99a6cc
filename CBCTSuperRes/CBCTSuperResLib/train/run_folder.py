"""The folder of a run: whose it is, what lies where, its status, and what it has recorded; for whoever trains in it,
and for whoever looks on, a bare Slicer among them.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from ..core.atomic import FileLock, locks_work, replacing, write_json
from ..core.errors import OutputError
from ..core.processes import process_exists
from ..io.formats import free_path
from .curves import CSV, SECONDS, STEP, VALIDATION, Row, read_curves

LOCK, STATUS, OPTIONS, EVENTS = "lock", "status.json", "options.json", "events.jsonl"
PICTURES = "val_images"
STATES = ("running", "stopped", "finished", "failed")
FRESH_S = 600.0
TRIES, PAUSE_S = 5, 0.1
STATUS_INTERVAL_S = 1.0
TAIL_BYTES = 1 << 16


class RunFolder:
    """path.root/experiments/NAME, held by one process at a time.

    >>> with RunFolder(options.run_folder) as folder:
    ...     folder.begin(anew=True)
    ...     folder.write_status(state="running", step=0)

    Parameters
    ----------
    path : Path

    Attributes
    ----------
    has_locks : bool
        Whether its file system keeps others out; otherwise the status tells whether somebody trains there.

    Raises
    ------
    OutputError
        On entering, if another process trains in the folder or nothing can be written there.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        self.models, self.states = self.path / "models", self.path / "training_state"
        self.pictures = self.path / PICTURES
        self.has_locks = True
        self._lock: FileLock | None = None
        self._status: dict = {}
        self._written = -STATUS_INTERVAL_S

    def __enter__(self) -> RunFolder:
        try:
            self._hold()
        except OSError as error:
            raise self._unwritable(error) from error
        return self

    def __exit__(self, *_) -> None:
        self._release()
        with suppress(OSError):
            self.path.rmdir()  # if nothing began

    def begin(self, anew: bool) -> None:
        """Make the folders; with `anew`, an older run is first renamed NAME_archived_yymmdd-HHMMSS, as the public code
        does."""
        try:
            if anew and any(item.name != LOCK for item in self.path.iterdir()):
                self._archive()
                self._hold()
            for folder in (self.models, self.states):
                folder.mkdir(exist_ok=True)
        except OSError as error:
            raise self._unwritable(error) from error

    def write_options(self, options: Mapping) -> None:
        write_json(self.path / OPTIONS, options)

    def write_status(self, *, hurry: bool = True, **values) -> None:
        """Change the status; the file is written at most once a second unless there is a hurry.

        Its fields are name, state ("running", "stopped", "finished", "failed"), step, niter, updated (seconds since
        1970), pid, host, best and message.
        """
        self._status |= values
        now = time.monotonic()
        if not hurry and now - self._written < STATUS_INTERVAL_S:
            return
        self._written = now
        facts = {"name": self.path.name, "updated": time.time(), "pid": os.getpid(), "host": socket.gethostname()}
        write_json(self.path / STATUS, {**facts, **self._status}, indent=None)

    def keep_model(self, source: Path, name: str) -> Path:
        """A copy of a model's file under another name."""
        path = self.models / name
        with replacing(path) as scratch:
            shutil.copyfile(source, scratch)
        return path

    def _hold(self) -> None:
        self.path.mkdir(parents=True, exist_ok=True)
        lock, self.has_locks = FileLock(self.path / LOCK), locks_work(self.path)
        for _ in range(TRIES):  # whoever lists the runs takes it for a moment
            if lock.acquire():
                self._lock = lock
                break
            time.sleep(PAUSE_S)
        status = {} if self.has_locks else _status(self.path / STATUS)
        is_of_others = status.get("state") == "running" and status.get("pid") != os.getpid()
        if self._lock and not (is_of_others and _goes_on(self.path, status)):
            return
        self._release()
        raise OutputError(
            f"Another process trains in {self.path}.", "Wait for it or stop it, or choose another name for the run."
        )

    def _archive(self) -> None:
        self._release()
        archived = free_path(self.path.parent, f"{self.path.name}_archived_{datetime.now():%y%m%d-%H%M%S}", between="-")
        os.replace(self.path, archived)

    def _unwritable(self, error: OSError) -> OutputError:
        return OutputError(f"Nothing can be written into {self.path}: {error.strerror}.", "Choose another path.root.")

    def _release(self) -> None:
        if self._lock:
            self._lock.release()
            self._lock = None


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
    except (OSError, ValueError, RecursionError):
        return {}
    return status if isinstance(status, dict) else {}


def _number(status: Mapping, key: str) -> float:
    value = status.get(key)
    return value if isinstance(value, int | float) else 0


def _goes_on(folder: Path, status: Mapping) -> bool:
    """Whether somebody holds the run's lock. Of another computer on a shared disk, locks may tell nothing: there a
    status that was just written counts as well. Without locks, that or the process number tells."""
    is_here, is_fresh = status.get("host") == socket.gethostname(), time.time() - _number(status, "updated") < FRESH_S
    if not is_here and is_fresh:
        return True
    with suppress(OSError):  # nothing may be written there
        if not locks_work(folder):
            return is_here and process_exists(int(_number(status, "pid")))
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


@dataclass(frozen=True)
class RunRecord:
    """The curves of a run and its newest picture.

    Attributes
    ----------
    history : list of dict
        Rows with "step" and the losses, oldest first; the newest that were told are there, whatever the interval of
        the curves.
    validations : list of dict
        Rows with "step" and what was measured ("psnr", "psnr_cubic", ...), oldest first.
    picture : Path or None
        The newest picture of a validation.
    """

    history: list[Row] = field(default_factory=list)
    validations: list[Row] = field(default_factory=list)
    picture: Path | None = None

    @classmethod
    def of(cls, run: str | Path, until: float = float("inf")) -> RunRecord:
        """What the folder of a run holds, up to a step; a folder that is no run holds nothing."""
        try:
            rows, picture = read_curves(Path(run) / CSV), newest_picture(Path(run) / PICTURES)
            newest = _newest_losses(Path(run) / EVENTS)
        except OSError:  # a disk that is away, or a file that is being replaced: it is there at the next look
            return cls()
        parts = [(row[STEP], *parts_of(row)) for row in rows if row[STEP] <= until]
        history = [{STEP: step, **losses} for step, losses, _ in parts if losses]
        if newest and (history[-1][STEP] if history else 0) < newest[STEP] <= until:
            history.append(newest)
        return cls(history, [{STEP: step, **measures} for step, _, measures in parts if measures], picture)


def _newest_losses(events: Path) -> Row | None:
    """The losses that the newest sitting of a run told last: the curves have a row for every so many steps only."""
    if not events.is_file():
        return None
    with events.open("rb") as file:
        file.seek(max(0, events.stat().st_size - TAIL_BYTES))
        lines = file.read().splitlines()
    for line in reversed(lines):
        with suppress(ValueError, KeyError, TypeError, RecursionError):  # the first and the last line may be cut off
            event = json.loads(line)
            if event["event"] == "scalars":
                return {STEP: event["step"], **event["values"]}
    return None


def parts_of(row: Row) -> tuple[dict[str, float], dict[str, float]]:
    """What a row of a run's curves says of the losses, and what of a validation."""
    losses, measures = {}, {}
    for name, value in row.items():
        if name.startswith(VALIDATION):
            measures[name.removeprefix(VALIDATION)] = value
        elif name not in (STEP, SECONDS):
            losses[name] = value
    return losses, measures
