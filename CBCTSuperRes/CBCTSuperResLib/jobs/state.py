"""What is known of a job from the files in its folder: the worker's events, its log and its signs of life."""

from __future__ import annotations

import json
import time
from collections import deque
from contextlib import suppress
from pathlib import Path

from ..errors import Cancelled, SuperResError

LOG_LINES = 50


class WorkerError(SuperResError):
    """A job failed; as the worker told it, or because the worker fell silent.

    Attributes
    ----------
    detail : str
        Traceback and the last lines of the log, for people who report problems.
    """

    def __init__(self, what: str, advice: str = "", exit_code: int = 1, detail: str = "") -> None:
        super().__init__(what, advice)
        self.exit_code = exit_code
        self.detail = detail


class JobState:
    """How far a job is, as its worker told it.

    Attributes
    ----------
    fraction, message, remaining_s : float, str, float or None
        Progress from 0 to 1, the stage in words, and the seconds to go if they are known.
    warnings : list of str
    result : dict or None
        The report of a job that was done.
    error : SuperResError or None
        Why there is no report.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.fraction = 0.0
        self.message = ""
        self.remaining_s: float | None = None
        self.warnings: list[str] = []
        self.result: dict | None = None
        self.error: SuperResError | None = None
        self._read = 0
        self._rest = b""

    def log_tail(self) -> str:
        """The last lines that the worker printed."""
        with suppress(OSError), open(self.folder / "log.txt", encoding="utf-8", errors="replace") as log:
            return "".join(deque(log, LOG_LINES))
        return ""

    def read_events(self) -> list[dict]:
        """Take in what was told since the last call; the beginning of a line is kept for the next."""
        events = [json.loads(line) for line in self._new_lines() if line]
        for event in events:
            self._take(event)
        return events

    def _new_lines(self) -> list[bytes]:
        with suppress(FileNotFoundError), open(self.folder / "events.jsonl", "rb") as file:
            file.seek(self._read)
            appended = file.read()
            self._read += len(appended)
            *lines, self._rest = (self._rest + appended).split(b"\n")
            return lines
        return []

    def _take(self, event: dict) -> None:
        kind = event["event"]
        if kind == "progress":
            self.fraction, self.message = event["fraction"], event["message"]
            self.remaining_s = event["remaining_s"]
        elif kind == "warning":
            self.warnings.append(event["message"])
        elif kind == "done":
            self.fraction, self.remaining_s, self.result = 1.0, 0.0, event["report"]
        elif kind == "error":
            self.error = self._as_error(event)

    def _as_error(self, event: dict) -> SuperResError:
        if event["exit_code"] == Cancelled.exit_code:
            return Cancelled(event["what"], event["advice"])
        detail = "\n".join(text for text in (event["detail"], self.log_tail()) if text)
        return WorkerError(event["what"], event["advice"], event["exit_code"], detail)


class LifeSigns:
    """Notices that the heartbeat has stood still for too long.

    Silence is counted in steps of at most a second between two looks, so that a computer that slept, or a timer that
    was late, does not count as silence of the worker.
    """

    def __init__(self, path: Path, limit_s: float) -> None:
        self._path, self._limit = path, limit_s
        self._last, self._silence = b"", 0.0
        self._looked = time.monotonic()

    def have_ceased(self) -> bool:
        now = time.monotonic()
        step, self._looked = min(1.0, now - self._looked), now
        beat = self._last
        with suppress(OSError):
            beat = self._path.read_bytes()
        self._silence = self._silence + step if beat == self._last else 0.0
        self._last = beat
        return self._silence > self._limit
