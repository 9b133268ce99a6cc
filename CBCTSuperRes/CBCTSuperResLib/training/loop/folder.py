"""The folder of a run: whose it is, what lies where, and its status for whoever looks on."""

from __future__ import annotations

import json
import os
import shutil
import socket
import time
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from ...errors import OutputError
from ...locks import FileLock
from ...models.safetensors_file import replacing

LOCK, STATUS, OPTIONS = "lock", "status.json", "options.json"
TRIES, PAUSE_S = 5, 0.1
STATUS_INTERVAL_S = 1.0


class RunFolder:
    """path.root/experiments/NAME, held by one process at a time.

    >>> with RunFolder(options.run_folder) as folder:
    ...     folder.begin(anew=True)
    ...     folder.write_status(state="running", step=0)

    Parameters
    ----------
    path : Path

    Raises
    ------
    OutputError
        On entering, if another process trains in the folder or nothing can be written there.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        self.models, self.states = self.path / "models", self.path / "training_state"
        self.pictures = self.path / "val_images"
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
        with replacing(self.path / OPTIONS) as scratch:
            scratch.write_text(json.dumps(options, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")

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
        with replacing(self.path / STATUS) as scratch:
            scratch.write_text(json.dumps({**facts, **self._status}, ensure_ascii=False) + "\n", encoding="utf-8")

    def keep_model(self, source: Path, name: str) -> Path:
        """A copy of a model's file under another name."""
        path = self.models / name
        with replacing(path) as scratch:
            shutil.copyfile(source, scratch)
        return path

    def _hold(self) -> None:
        self.path.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.path / LOCK)
        for _ in range(TRIES):  # whoever lists the runs takes it for a moment
            if lock.acquire():
                self._lock = lock
                return
            time.sleep(PAUSE_S)
        raise OutputError(
            f"Another process trains in {self.path}.", "Wait for it or stop it, or choose another name for the run."
        )

    def _archive(self) -> None:
        self._release()
        archived = _free_name(self.path.with_name(f"{self.path.name}_archived_{datetime.now():%y%m%d-%H%M%S}"))
        os.replace(self.path, archived)

    def _unwritable(self, error: OSError) -> OutputError:
        return OutputError(f"Nothing can be written into {self.path}: {error.strerror}.", "Choose another path.root.")

    def _release(self) -> None:
        if self._lock:
            self._lock.release()
            self._lock = None


def _free_name(path: Path) -> Path:
    number, free = 1, path
    while free.exists():
        number += 1
        free = path.with_name(f"{path.name}-{number}")
    return free
