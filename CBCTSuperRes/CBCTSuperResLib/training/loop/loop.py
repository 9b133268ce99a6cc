"""The loop: iterations one after the other, and between them the schedule, the mean, validation and checkpoints."""

from __future__ import annotations

import gc
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import torch
from torch import Tensor, nn

from ...devices import is_out_of_memory
from ...errors import Cancelled
from .checkpoints import Checkpoints
from .failure import out_of_memory
from .feed import Feed
from .folder import RunFolder
from .observer import Observer, RunResult
from .processes import Processes
from .schedule import Schedule
from .state import TrainingState
from .step import Steps

MEASURED_STEPS = 50
RUNNING, STOPPED, FINISHED = "running", "stopped", "finished"


@dataclass(frozen=True)
class Intervals:
    """After how many iterations something happens, and how many there are."""

    niter: int
    log: int
    validate: int
    save: int


@dataclass(frozen=True)
class Desk:
    """What the first process writes with; the others have none.

    Attributes
    ----------
    folder : RunFolder
    checkpoints : Checkpoints
    observers : Observer
    validate : callable or None
        Measures a network after a step: (network, step) -> results.
    write_model : callable
        Writes a network as a model's file: (network, path, step, results).
    """

    folder: RunFolder
    checkpoints: Checkpoints
    observers: Observer
    validate: Callable[[nn.Module, int], dict] | None
    write_model: Callable[[nn.Module, Path, int, Mapping], None]


class Loop:
    """Runs a training from its state's step to its end, or until it is asked to stop.

    Parameters
    ----------
    state : TrainingState
    steps : Steps
    feed : Feed
    schedule : Schedule
    intervals : Intervals
    processes : Processes
    desk : Desk or None
        In the first process alone.
    stop : callable
        Whether to stop; asked before every iteration.
    images : int
        Of the source, for the number of the epoch.
    may_shrink : bool
        Whether the micro-batch may be chosen anew when the memory is too small.
    """

    def __init__(
        self,
        state: TrainingState,
        steps: Steps,
        feed: Feed,
        schedule: Schedule,
        intervals: Intervals,
        processes: Processes,
        desk: Desk | None,
        stop: Callable[[], bool],
        images: int,
        may_shrink: bool,
    ) -> None:
        self.state, self._steps, self._feed, self._schedule = state, steps, feed, schedule
        self._intervals, self._processes, self._desk, self._stop = intervals, processes, desk, stop
        self._images, self._may_shrink = images, may_shrink
        self._durations: deque[float] = deque(maxlen=MEASURED_STEPS)
        self._first = state.step + 1
        self._saved_step = state.step
        self.logged: dict[str, float] = {}

    @property
    def images(self) -> list[int]:
        """Numbers of the images in this process's last batch."""
        return self._feed.images

    def run(self) -> RunResult:
        """Train.

        Raises
        ------
        Cancelled
            After a stop; the state is saved.
        NonFinite
            If a loss or gradient is not finite; nothing was saved since.
        ResourceError
            If the memory is too small.
        """
        self._feed.start(self._first)
        try:
            while self.state.step < self._intervals.niter:
                if self._processes.any(self._stop()):
                    self._stop_here()
                self._iterate()
        finally:
            self._feed.close()
        return self._end(FINISHED)

    def _iterate(self) -> None:
        number, began = self.state.step + 1, time.monotonic()
        self._schedule.set(number)
        logs = self._made(number)
        self.state.step = number
        if self.state.average:
            self.state.average.follow(self.state.networks[self.state.exported], number)
        self._durations.append(time.monotonic() - began)
        self._tell(number, logs)
        last = number == self._intervals.niter
        improved = (last or number % self._intervals.validate == 0) and self._validate(number)
        if last or improved or number % self._intervals.save == 0:
            self._save()

    def _made(self, number: int) -> dict[str, Tensor]:
        """Make an iteration; where the memory is too small, again with smaller parts."""
        while True:
            try:
                with self._steps.undone_unless_stepped():
                    return self._steps.make(number, self._feed.next())
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                tried, stepped = self._feed.micro_batch, bool(self._steps.stepped)
            self._clear_memory()
            if tried == 1 or stepped or not self._may_shrink:
                raise out_of_memory(self._feed.share, tried, number, self._saved_step > 0)
            self._feed.shrink(number)
            self.state.micro_batch = self._feed.micro_batch
            self._note(
                f"The memory is too small for {tried} images at a time; from step {number} on there are "
                f"{self.state.micro_batch}, which gives the same result more slowly."
            )

    def _tell(self, number: int, logs: Mapping[str, Tensor]) -> None:
        pace = median(self._durations)
        remaining = pace * (self._intervals.niter - number)
        if self._desk:
            self._desk.observers.progress(number, pace, remaining)
            self._desk.folder.write_status(hurry=False, state=RUNNING, step=number)
        if number % self._intervals.log and number not in (self._first, self._intervals.niter):
            return
        values = torch.stack([value.detach().double().to(self._feed.device) for value in logs.values()])
        losses = dict(zip(logs, self._processes.mean(values).tolist(), strict=True))
        epoch = (number - 1) * self.state.batch_size // self._images
        self.logged = {"epoch": epoch, "lr": self._schedule.rate(self.state.exported), **losses}
        if self._desk:
            self._desk.observers.step(number, dict(self.logged), pace, remaining)

    def _validate(self, number: int) -> bool:
        """Measure what would be exported; True if it is the best so far, in all processes."""
        improved = False
        if self._desk and self._desk.validate:
            self.state.latest = {"step": number, **self._desk.validate(self._exported(), number)}
            best = self.state.best.get("psnr")
            improved = "psnr" in self.state.latest and (best is None or self.state.latest["psnr"] > best)
            if improved:
                self.state.best = dict(self.state.latest)
            measures = {name: value for name, value in self.state.latest.items() if name != "step"}
            self._desk.observers.validated(number, measures, self._desk.folder.pictures)
        return self._processes.any(improved)

    def _save(self) -> None:
        """Write the models, then the checkpoint: whatever is interrupted is made again."""
        step = self.state.step
        payload = self.state.payload(self._processes)
        if self._desk:
            self._write_models(step)
            path = self._desk.checkpoints.write(step, payload, self.state.best.get("step"))
            self._remove_old_models()
            self._desk.folder.write_status(state=RUNNING, step=step, best=self.state.best)
            self._desk.observers.saved(step, path)
        self._saved_step = step
        self._processes.wait_for_all()

    def _write_models(self, step: int) -> None:
        role, folder = self.state.exported, self._desk.folder
        path = folder.models / f"{step}_{role}.safetensors"
        results = self.state.latest if self.state.latest.get("step") == step else {}
        self._desk.write_model(self._exported(), path, step, results)
        folder.keep_model(path, f"latest_{role}.safetensors")
        if self.state.best.get("step") == step:
            folder.keep_model(path, f"best_{role}.safetensors")

    def _remove_old_models(self) -> None:
        kept = {f"{step}_" for step in self._desk.checkpoints.steps()}
        for path in self._desk.folder.models.glob(f"[0-9]*_{self.state.exported}.safetensors"):
            if path.name.partition("_")[0] + "_" not in kept:
                path.unlink(missing_ok=True)

    def _stop_here(self) -> None:
        if self._saved_step != self.state.step:
            self._save()
        self._end(STOPPED)
        raise Cancelled(
            f"The training was stopped after step {self.state.step} of {self._intervals.niter}; everything is saved.",
            "Go on with --resume auto.",
        )

    def _end(self, state: str) -> RunResult:
        result = RunResult(
            folder=self._desk.folder.path if self._desk else Path(),
            step=self.state.step,
            finished=state == FINISHED,
            results={"best": self.state.best, "latest": self.state.latest},
        )
        if self._desk:
            self._desk.folder.write_status(state=state, step=self.state.step, best=self.state.best, message="")
            self._desk.observers.ended(result)
        return result

    def _exported(self) -> nn.Module:
        return self.state.average.network if self.state.average else self.state.networks[self.state.exported]

    def _note(self, text: str) -> None:
        if self._desk:
            self._desk.observers.note(text)

    def _clear_memory(self) -> None:
        gc.collect()
        with suppress(RuntimeError):
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
