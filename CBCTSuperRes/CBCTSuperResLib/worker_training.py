"""What a worker does for training, and what it tells meanwhile.

Jobs, beside what `worker` says of all jobs:

- "train": ``options`` (JSON of `TrainingOptions`, or a path), ``resume`` (None, "auto", or a checkpoint),
  ``accept_changes``, ``device``;
- "plan": ``options``, ``device``, ``measure``;
- "check": ``options``;
- "prepare": ``lr``, ``hr`` (scans, or folders of scans), ``out``, ``options`` (see `PrepareOptions`);
- "export": ``run``, ``out``, ``which`` ("best", "latest" or a step), ``texts`` (entries of the card).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

from .errors import Cancelled
from .install import require_packages
from .training.runs import newest_picture

FIRST_PACE_S = 0.5
LAST_PACE_S = 10.0
EVENTS_BEFORE_SLOWING = 2000
FREQUENT = ("progress", "scalars")


class Sender(Protocol):
    """Where events go, see `worker.Events`."""

    def send(self, event: str, **values) -> None: ...

    def progress(self, fraction: float, message: str = "") -> None: ...


Stop = Callable[[], bool]


def train(job: dict, events: Sender, stop: Stop) -> dict:
    """Run a training until it is done, or until it was asked to stop and its checkpoint is saved.

    Returns
    -------
    dict
        "folder", "step", "results" as of `RunResult`.

    Raises
    ------
    Cancelled
        If it was asked to stop; the run can be resumed.
    """
    require_packages()
    from .training.options import read_options
    from .training.run import train as run_training
    from .training.watch.events import Events

    _say(events, "Preparing the data")
    try:
        result = run_training(
            read_options(job["options"]),
            resume=job.get("resume"),
            accept_changes=job.get("accept_changes", False),
            device=job.get("device"),
            observers=[Events(Told(events))],
            cancelled=stop,
        )
    except Cancelled as stopped:
        raise Cancelled(stopped.what, "Resume the run to go on from there.") from stopped
    return {"folder": str(result.folder), "step": result.step, "results": dict(result.results)}


def plan(job: dict, events: Sender, stop: Stop) -> dict:
    """Tell what a training will take.

    Returns
    -------
    dict
        "text" for people, "seconds" in all, and the facts of `Plan` by their names.
    """
    from .training.options import read_options
    from .training.plan import plan as plan_training

    _say(events, "Planning")
    found = plan_training(read_options(job["options"]), job.get("device"), measure=job.get("measure", False))
    names = ("missing", "problems", "micro_batch", "memory_bytes", "free_bytes", "seconds_per_step", "seconds")
    return {
        "text": found.text(),
        "device": str(found.device),
        **{name: getattr(found, name) for name in (*names, "measured")},
    }


def check(job: dict, events: Sender, stop: Stop) -> dict:
    """Look at the data of a training, as its first step would.

    Returns
    -------
    dict
        See `check_data`.
    """
    require_packages()
    from .training.check import check_data
    from .training.options import read_options

    return check_data(read_options(job["options"]), events.progress, stop)


def prepare(job: dict, events: Sender, stop: Stop) -> dict:
    """Register scans and write aligned pairs; the report is that of `training.prepare.prepare`."""
    require_packages()
    from .training.prepare import PrepareOptions
    from .training.prepare import prepare as prepare_pairs

    options = PrepareOptions.from_json(job.get("options", {}))
    return prepare_pairs(job["lr"], job["hr"], job["out"], options, events.progress, stop)


def export(job: dict, events: Sender, stop: Stop) -> dict:
    """Write the model file of a run.

    Returns
    -------
    dict
        "model", the file that was written.
    """
    require_packages()
    from .training.export import export_run

    texts = job.get("texts")
    path = export_run(job["run"], job["out"], job.get("which", "best"), texts=texts, progress=events.progress)
    return {"model": str(path)}


class Told:
    """Passes on what `watch.events.Events` tells: progress and scalars twice a second at first and later, so that the
    file of a run of days stays small, every ten seconds; of a validation's pictures the newest one.

    All scalars are in the run's curves.
    """

    def __init__(self, events: Sender, clock: Callable[[], float] = time.monotonic) -> None:
        self._events, self._clock = events, clock
        self._began = clock()
        self._told: dict[str, float] = {}

    def __call__(self, event: str, **values) -> None:
        if event == "ended" or (event in FREQUENT and values.get("fraction") != 1 and not self._is_time(event)):
            return
        if event == "validated":
            picture = newest_picture(values.pop("pictures"))
            values["picture"] = str(picture) if picture else None
        self._events.send(event, **values)

    def _is_time(self, event: str) -> bool:
        now = self._clock()
        pace = min(LAST_PACE_S, max(FIRST_PACE_S, (now - self._began) / EVENTS_BEFORE_SLOWING))
        if now - self._told.get(event, -LAST_PACE_S) < pace:
            return False
        self._told[event] = now
        return True


def _say(events: Sender, message: str) -> None:
    events.send("progress", fraction=0.0, message=message, remaining_s=None)
