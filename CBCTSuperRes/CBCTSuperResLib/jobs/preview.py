"""The process that computes previews, seen from Slicer: handed a scan, asked, polled. Needs no torch and no Qt."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ..apply.preview_request import PreviewRequest
from ..core.atomic import write_json
from ..core.errors import OutputError, SuperResError
from ..io.exchange import read_exchange, write_slabs
from ..io.volume import Volume
from .job import Job, WorkerError
from .liveness import make_job_folder

HAND_OVER_BUDGET_S = 0.03
SILENCE_LIMIT_S = 30.0


def request_file(folder: Path, number: int) -> Path:
    """Where a request is put for the process that computes previews."""
    return folder / f"request-{number}.json"


@dataclass(frozen=True)
class Asked:
    """What was asked for last."""

    volume: Volume
    version: Hashable
    request: PreviewRequest


class PreviewSession:
    """Asks for previews; only the newest request counts. The process starts with the first and is kept.

    >>> session = PreviewSession()
    >>> session.ask(volume, node.GetMTime(), request)
    >>> while session.is_busy:
    ...     for event in session.poll():      # ten times a second
    ...         print(event["event"])         # "canvas" with a `Volume` as "canvas", "block", "complete"
    >>> session.rest()                        # nothing to compute; the process stays warm for two minutes
    >>> session.close()

    Parameters
    ----------
    parent : path, optional
        Where temporary files go.
    make_job : callable (task, files), optional
        Returns a `Job` that is not started.

    Attributes
    ----------
    error : SuperResError or None
        Why there is no preview of what was asked for last.
    """

    def __init__(
        self,
        parent: str | Path | None = None,
        make_job: Callable[[dict, Path], Job] | None = None,
    ) -> None:
        self.error: SuperResError | None = None
        self._parent, self._make_job = parent, make_job or partial(Job, silence_limit_s=SILENCE_LIMIT_S)
        self._worker: Job | None = None
        self._asked: Asked | None = None
        self._has_told = False
        self._requests = self._volumes = 0
        self._handing_over: Iterator[float] | None = None
        self._volume_file: Path | None = None
        self._version: Hashable = None

    @property
    def is_busy(self) -> bool:
        """Whether something that was asked for is still to come."""
        return self._asked is not None

    @property
    def is_starting(self) -> bool:
        """Whether the process has not said anything yet; the first time it may take some seconds."""
        return not self._has_told

    def ask(self, volume: Volume, version: Hashable, request: PreviewRequest) -> None:
        """Ask for a preview; what was asked for before is given up.

        Parameters
        ----------
        volume : Volume
            Handed over, a moment at a time, if it is not there yet.
        version : hashable
            Changes whenever the voxels or the grid do.

        Raises
        ------
        SuperResError
            If the process cannot be started, or its files cannot be written.
        """
        self._forget_a_worker_that_ended()
        self.error, self._asked = None, Asked(volume, version, request)
        if self._worker is None:
            self._start()
        if version != self._version:
            self._begin_to_hand_over()
        elif self._handing_over is None:
            self._send_request()

    def rest(self) -> None:
        """Give up what was asked for; the process stays warm."""
        if self._asked is None:
            return
        self._asked = None
        if self._handing_over is not None:
            self._handing_over = self._version = None
        elif self._worker is not None:
            self._send({})

    def poll(self) -> list[dict]:
        """What came for the newest request since the last call; takes at most about 50 ms. May set `error`."""
        if self._worker is None or self._asked is None:
            return []
        try:
            self._hand_over()
            return self._new_events()
        except SuperResError as error:
            self._fail(error)
        except OSError as error:
            self._fail(OutputError(f"The preview's files are not accessible: {error}.", "Switch the preview on again."))
        return []

    def tidy_up(self) -> bool:
        """Remove the files of a process that has left after two idle minutes; whether there still is a process."""
        if self._asked is None:
            self._forget_a_worker_that_ended()
        return self._worker is not None

    def close(self) -> None:
        """End the process and remove its files. Safe at any time, and more than once."""
        self._asked = self._handing_over = self._version = None
        if self._worker is not None:
            self._worker.close()
            self._worker = None

    def _start(self) -> None:
        task = {"kind": "preview", "model": self._asked.request.model}
        self._worker = self._make_job(task, make_job_folder(self._parent))
        self._requests, self._has_told = 0, False
        try:
            self._worker.start()
        except SuperResError:
            self.close()
            raise

    def _forget_a_worker_that_ended(self) -> None:
        """Two idle minutes may have passed since the last request."""
        if self._worker is not None:
            self._worker.poll()
            if self._worker.isFinished:
                self.close()

    def _begin_to_hand_over(self) -> None:
        if self._requests:
            self._send({})
        self._volumes += 1
        self._volume_file = self._worker.files / f"volume-{self._volumes}.npy"
        self._version = self._asked.version
        self._handing_over = write_slabs(self._asked.volume, self._volume_file)

    def _hand_over(self) -> None:
        """Write a few slabs; the request follows when the volume is whole."""
        if self._handing_over is None:
            return
        end = time.perf_counter() + HAND_OVER_BUDGET_S
        for _ in self._handing_over:
            if time.perf_counter() > end:
                return
        self._handing_over = None
        self._send_request()

    def _send_request(self) -> None:
        self._send({**self._asked.request.to_json(), "volume": str(self._volume_file)})

    def _send(self, message: dict) -> None:
        """Put the next request into the worker's folder; it appears there whole."""
        self._requests += 1
        write_json(request_file(self._worker.files, self._requests), message, indent=None)

    def _new_events(self) -> list[dict]:
        events = self._worker.poll()
        self._has_told = self._has_told or bool(events)
        ours = [event for event in events if event.get("number") == self._requests]
        for event in ours:
            self._take(event)
        if self._worker is not None and self._worker.isFinished and self._asked:
            self._go_on_after_the_end()
        return ours

    def _take(self, event: dict) -> None:
        if event["event"] == "canvas":
            event["canvas"] = read_exchange(event["path"])
        elif event["event"] == "complete":
            self._asked = None
        elif event["event"] == "refused":
            self._asked, self.error = None, WorkerError(event["what"], event["advice"], detail=event["detail"])

    def _go_on_after_the_end(self) -> None:
        """A process that was just about to leave, because nobody had asked for long, is replaced."""
        if self._worker.error:
            self._fail(self._worker.error)
            return
        asked = self._asked
        self.close()
        self.ask(asked.volume, asked.version, asked.request)

    def _fail(self, error: SuperResError) -> None:
        self.close()
        self.error = error
