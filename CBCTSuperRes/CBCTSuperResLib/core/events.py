"""The events file: what a process tells while it works, one JSON object a line; one writer, any number of readers.

Whoever watches a job or a training, in this program or another, now or later, reads the file from its beginning and
then what is added. A line that a crash or a full disk has cut is left out, and hurts no other. Standard library only.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from .atomic import replacing
from .progress import ProgressMeter

FIRST_PACE_S = {"progress": 0.5, "scalars": 0.0}
LAST_PACE_S = 10.0
EVENTS_BEFORE_SLOWING = 2000


class EventWriter:
    """Appends events to a file; each is on the disk's side when `send` returns.

    Parameters
    ----------
    path : path
        A file that is there is continued.
    paced_from : float
        See `ProgressMeter`.
    clock : callable, optional
        Seconds.
    """

    def __init__(self, path: str | Path, paced_from: float = 0.0, clock: Callable[[], float] = time.monotonic) -> None:
        self.path = Path(path)
        self._meter = ProgressMeter(paced_from, clock)
        self._clock, self._began = clock, clock()
        self._last_sent: dict[str, float] = {}
        self._message = ""
        self._is_cut = False

    def begin(self, event: str, **values) -> None:
        """Let the file begin anew with this event; it takes the place of an older one at once and whole.

        Raises
        ------
        OutputError
        """
        with replacing(self.path) as scratch:
            scratch.write_bytes(_line(event, values))
        self._began, self._last_sent = self._clock(), {}

    def send(self, event: str, **values) -> None:
        """Append an event.

        Raises
        ------
        OSError
        """
        line = b"\n" * self._is_cut + _line(event, values)
        self._is_cut = True  # unless all of it could be written
        descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o666)
        try:
            self._is_cut = os.write(descriptor, line) < len(line)
        finally:
            os.close(descriptor)

    def send_in_time(self, event: str, **values) -> None:
        """Append a frequent event if it is time for one of its kind.

        Progress passes twice a second; in a run of hours ever more rarely, at last every ten seconds, so that the file
        of days stays small. A pause of at most that is not worth an error of the disk either.
        """
        now = self._clock()
        pace = min(LAST_PACE_S, max(FIRST_PACE_S.get(event, 0.0), (now - self._began) / EVENTS_BEFORE_SLOWING))
        if now - self._last_sent.get(event, -LAST_PACE_S) < pace:
            return
        self._last_sent[event] = now
        self._send_if_possible(event, values)

    def progress(self, fraction: float, message: str = "") -> None:
        """Tell how far the work is, never backwards, with the seconds that it will still take; for `Report` arguments.

        A new message and the end are told at once, the rest in time.
        """
        self._meter.update(fraction)
        values = {"fraction": self._meter.fraction, "message": message, "remaining_s": self._meter.remaining_s}
        if message == self._message and fraction < 1:
            self.send_in_time("progress", **values)
        else:
            self._message, self._last_sent["progress"] = message, self._clock()
            self._send_if_possible("progress", values)

    def _send_if_possible(self, event: str, values: dict) -> None:
        with suppress(OSError):  # the next one tells more
            self.send(event, **values)


def _line(event: str, values: dict) -> bytes:
    return json.dumps({"event": event, **values}, default=str).encode() + b"\n"


class EventReader:
    """Reads what was added to an events file since the last time; a file that begins anew is read from its beginning.

    Parameters
    ----------
    path : path
        It need not exist yet.
    only_new : bool
        Whether a file that is there already belongs to the past; what takes its place is read.

    Attributes
    ----------
    damaged : int
        Lines that were no events.
    """

    def __init__(self, path: str | Path, only_new: bool = False) -> None:
        self.path = Path(path)
        self.damaged = 0
        self._file: tuple[int, int] | None = None
        self._read, self._rest = 0, b""
        self._past = self._identity_of(self.path) if only_new else None

    def read(self) -> list[dict]:
        """The new events, each with its kind as "event"; none while the file cannot be read."""
        try:
            if self._past is not None and self._identity_of(self.path) == self._past:
                return []
            with open(self.path, "rb") as file:
                status = os.fstat(file.fileno())
                if (status.st_dev, status.st_ino) != self._file or status.st_size < self._read:
                    self._file, self._read, self._rest = (status.st_dev, status.st_ino), 0, b""
                file.seek(self._read)
                added = file.read()
        except OSError:
            return []
        self._read += len(added)
        *lines, self._rest = (self._rest + added).split(b"\n")
        events = [self._event(line) for line in lines if line]
        return [event for event in events if event is not None]

    def _event(self, line: bytes) -> dict | None:
        try:
            event = json.loads(line)
        except (ValueError, RecursionError):
            event = None
        if not isinstance(event, dict) or not isinstance(event.get("event"), str):
            self.damaged += 1
            return None
        return event

    @staticmethod
    def _identity_of(path: Path) -> tuple[int, int] | None:
        try:
            status = path.stat()
        except OSError:
            return None
        return status.st_dev, status.st_ino
