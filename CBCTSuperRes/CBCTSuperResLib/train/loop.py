"""The learning rate of every iteration: a pure function of its number, so there is nothing to store and to restore.

How a run is asked to stop: by Ctrl-C, by a signal, or by whoever started it.

A process's share of the batches, on its device, in parts that fit into the memory.

The loop: iterations one after the other, and between them the schedule, the mean, validation and checkpoints.
"""

from __future__ import annotations

import gc
import math
import signal
import threading
import time
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ..core.devices import is_out_of_memory
from ..core.errors import Cancelled
from .observer import Observer, RunResult
from .ranks import Processes
from .recipes.recipe import Batch
from .run_folder import RunFolder
from .state import Checkpoints, TrainingState
from .step import Steps, next_smaller, out_of_memory

if TYPE_CHECKING:
    import numpy as np

    from .data.patches import Source
    from .options import TrainOptions


Factor = Callable[[int], float]


def make_factor(train: TrainOptions) -> Factor:
    """The factor on the initial learning rates, by iteration (from 1).

    "MultiStepLR": gamma to the number of milestones that have passed; as in SPSR, the iteration that follows a
    milestone is the first with the smaller rate. "Cosine": along half a cosine, to 0 after the last iteration. During
    `lr_warmup_iters` both also rise linearly from zero.

    Parameters
    ----------
    train : TrainOptions
    """
    steps, warmup = sorted(train.lr_steps), train.lr_warmup_iters

    def multi_step(number: int) -> float:
        return train.lr_gamma ** bisect_right(steps, number - 1)

    def cosine(number: int) -> float:
        done = min(1.0, max(0.0, (number - 1 - warmup) / max(1, train.niter - warmup)))
        return 0.5 * (1 + math.cos(math.pi * done))

    shape = cosine if train.lr_scheme == "Cosine" else multi_step
    return lambda number: shape(number) * min(1.0, number / warmup if warmup else 1.0)


class Schedule:
    """Sets the learning rates of all optimisers, each parameter group from its own initial rate."""

    def __init__(self, optimizers: Mapping[str, Optimizer], factor: Factor) -> None:
        self._factor = factor
        self._groups = [(group, group["lr"]) for optimizer in optimizers.values() for group in optimizer.param_groups]
        self._optimizers = optimizers

    def set(self, number: int) -> None:
        """Set the rates of iteration `number`."""
        factor = self._factor(number)
        for group, initial in self._groups:
            group["lr"] = initial * factor

    def rate(self, role: str) -> float:
        """The present rate of a role's first group, for the log."""
        return self._optimizers[role].param_groups[0]["lr"]


Stop = Callable[[], bool]


class StopRequest:
    """While it is entered, the first Ctrl-C or SIGTERM asks for a stop; a second Ctrl-C interrupts at once.

    Parameters
    ----------
    cancelled : callable, optional
        Asked as well, once an iteration.
    alone : bool
        Whether this is the only process. Among others a second Ctrl-C asks only again: a launcher passes on the one
        that the terminal has sent already.
    """

    def __init__(self, cancelled: Stop | None = None, alone: bool = True) -> None:
        self._cancelled, self._alone = cancelled, alone
        self._asked = False
        self._before: dict[int, object] = {}

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():  # others must not set handlers
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._ask)
        return self

    def __exit__(self, *_) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def __call__(self) -> bool:
        self._asked = self._asked or bool(self._cancelled and self._cancelled())
        return self._asked

    def _ask(self, number: int, frame) -> None:
        if self._asked and self._alone and number == signal.SIGINT:
            raise KeyboardInterrupt
        self._asked = True


IMAGES = "images"


class Batches(Protocol):
    """Endless batches, as `data.Batches` makes them."""

    def start(self, from_step: int) -> None: ...

    def __next__(self) -> list[Batch]: ...

    def close(self) -> None: ...


class Labelled:
    """A source whose batches also hold the numbers of their images, so that a failure can be traced to them."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self.names = source.names

    def __len__(self) -> int:
        return len(self._source)

    def batch(self, images: Sequence[int], draws: Sequence[np.random.Generator]) -> dict[str, Tensor]:
        return {**self._source.batch(images, draws), IMAGES: torch.as_tensor(images)}


class Feed:
    """Batches one after the other, from any step on.

    Parameters
    ----------
    make : callable
        Makes the batches, given the size of a micro-batch.
    share : int
        Images of a step in this process.
    micro_batch : int
        Images at a time; divides `share`.
    device : torch.device

    Attributes
    ----------
    images : list of int
        Numbers of the images in the batch that came last, as `Labelled` tells them.
    """

    def __init__(self, make: Callable[[int], Batches], share: int, micro_batch: int, device: torch.device) -> None:
        self._make, self.share, self.device = make, share, device
        self.micro_batch = micro_batch
        self.images: list[int] = []
        self._batches: Batches | None = None

    def start(self, step: int) -> None:
        """Begin with the batch of this step."""
        self.close()
        self._batches = self._make(self.micro_batch)
        self._batches.start(step)

    def next(self) -> list[Batch]:
        batches = next(self._batches)
        self.images = [int(number) for batch in batches for number in batch[IMAGES]]
        return [{name: self._moved(tensor) for name, tensor in batch.items() if name != IMAGES} for batch in batches]

    def shrink(self, step: int) -> None:
        """Go on from this step with at most half as many images at a time."""
        self.micro_batch = next_smaller(self.share, self.micro_batch)
        self.start(step)

    def close(self) -> None:
        if self._batches is not None:
            self._batches.close()
            self._batches = None

    def _moved(self, tensor: Tensor) -> Tensor:
        tensor = tensor.to(self.device, non_blocking=True)
        return tensor.contiguous(memory_format=torch.channels_last) if tensor.dim() == 4 else tensor


def channels_last(network: torch.nn.Module) -> torch.nn.Module:
    """Lay the weights of 2-D convolutions out as the fast kernels want them; values stay the same."""
    for parameter in network.parameters():
        if parameter.dim() == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
    return network


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
