"""The events of a run: `events.jsonl` in its folder, from which everybody who watches learns how it goes.

A panel, a terminal, another Slicer and the process that started torchrun read the same file; whoever comes late reads
it from its beginning. Each sitting (a start or a resumption) begins the file anew. A bare Slicer can read it.

- "run": what `RunFacts` says (name, folder, step, niter, device, processes, options, data, notes)
- "progress": fraction, message, remaining_s, step, seconds_per_step; see `EventWriter.send_in_time`
- "scalars": step, values (losses and learning rate by name), seconds_per_step, remaining_s
- "validated": step, values (measures by name), pictures (folder or None), picture (the newest file or None)
- "saved": step, path
- "warning": message
- "ended": folder, step, finished, results
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from ..core.events import EventWriter
from .observer import Observer, RunFacts, RunResult
from .run_folder import EVENTS, newest_picture


class RunEvents(Observer):
    """Writes the events file of a run."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._events: EventWriter | None = None
        self._niter = 1

    def started(self, run: RunFacts) -> None:
        self._niter = run.niter
        self._events = EventWriter(run.folder / EVENTS, clock=self._clock)
        self._events.begin("run", **asdict(run))

    def progress(self, number: int, seconds_per_step: float, remaining_s: float) -> None:
        send = self._events.send if number == self._niter else self._events.send_in_time
        send(
            "progress",
            fraction=number / self._niter,
            message=f"Step {number:,d} of {self._niter:,d}",
            remaining_s=remaining_s,
            step=number,
            seconds_per_step=seconds_per_step,
        )

    def step(self, number: int, logs: dict[str, float], seconds_per_step: float, remaining_s: float) -> None:
        send = self._events.send if number == self._niter else self._events.send_in_time
        pace = {"seconds_per_step": seconds_per_step, "remaining_s": remaining_s}
        send("scalars", step=number, values=dict(logs), **pace)

    def note(self, text: str) -> None:
        self._events.send("warning", message=text)

    def validated(self, number: int, results: dict, pictures: Path | None) -> None:
        values = {name: value for name, value in results.items() if name != "step"}
        self._events.send("validated", step=number, values=values, pictures=pictures, picture=newest_picture(pictures))

    def saved(self, number: int, path: Path) -> None:
        self._events.send("saved", step=number, path=path)

    def ended(self, result: RunResult) -> None:
        self._events.send("ended", **asdict(result))


def tell(observer: Observer, event: dict) -> None:
    """Call an observer in this process with an event that another process wrote."""
    event = dict(event)
    kind = event.pop("event")
    if kind == "run":
        observer.started(RunFacts(**{**event, "folder": Path(event["folder"]), "notes": tuple(event["notes"])}))
    elif kind == "progress":
        observer.progress(event["step"], event["seconds_per_step"], event["remaining_s"])
    elif kind == "scalars":
        observer.step(event["step"], event["values"], event["seconds_per_step"], event["remaining_s"])
    elif kind == "validated":
        observer.validated(event["step"], event["values"], event["pictures"] and Path(event["pictures"]))
    elif kind == "saved":
        observer.saved(event["step"], Path(event["path"]))
    elif kind == "warning":
        observer.note(event["message"])
    elif kind == "ended":
        observer.ended(RunResult(**{**event, "folder": Path(event["folder"])}))
