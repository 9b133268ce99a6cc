"""The loop: iterations one after the other, and between them learning rates, the mean, validation and checkpoints."""

from __future__ import annotations

import gc
import math
import signal
import threading
import time
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Mapping
from statistics import median

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ..core.devices import CHANNELS_LAST, is_out_of_memory
from ..core.errors import Cancelled, ResourceError
from .data.batches import Batches, Source
from .observer import RunResult
from .options import TrainingOptions, TrainOptions
from .ranks import Processes
from .state import TrainingState
from .step import Steps
from .writer import RunWriter

MEASURED_STEPS = 50


class Loop:
    """Runs a training from its state's step to its end, or until it is asked to stop.

    Parameters
    ----------
    options : TrainingOptions
    source : Source
    state : TrainingState
    steps : Steps
    processes : Processes
    device : torch.device
    writer : RunWriter or None
        In the first process alone.
    stop : callable
        Whether to stop; asked before every iteration.

    Attributes
    ----------
    batches : Batches
    logged : dict
        The losses that were logged last.
    """

    def __init__(
        self,
        options: TrainingOptions,
        source: Source,
        state: TrainingState,
        steps: Steps,
        processes: Processes,
        device: torch.device,
        writer: RunWriter | None,
        stop: Callable[[], bool],
    ) -> None:
        self.state, self.logged = state, {}
        self._options, self._source, self._steps, self._device = options, source, steps, device
        self._processes, self._writer, self._stop = processes, writer, stop
        self._schedule = Schedule(state.optimizers, options.train)
        self._durations: deque[float] = deque(maxlen=MEASURED_STEPS)
        self._first = state.step + 1
        self._saved_step = state.step
        self.batches = self._new_batches()

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
        train, logger, state = self._options.train, self._options.logger, self.state
        self.batches.start(self._first)
        try:
            while state.step < train.niter:
                if self._processes.any(self._stop()):
                    if self._saved_step != state.step:
                        self._save()
                    self._end("stopped")
                    raise Cancelled(
                        f"The training was stopped after step {state.step} of {train.niter}; everything is saved.",
                        "Go on with --resume auto.",
                    )
                number, began = state.step + 1, time.monotonic()
                self._schedule.set(number)
                logs = self._made(number)
                state.step = number
                if state.average:
                    state.average.follow(state.networks[state.recipe.exported], number)
                self._durations.append(time.monotonic() - began)
                self._tell(number, logs)
                is_last = number == train.niter
                is_best = (is_last or number % train.val_freq == 0) and self._is_best(number)
                if is_last or is_best or number % logger.save_checkpoint_freq == 0:
                    self._save()
        finally:
            self.batches.close()
        return self._end("finished")

    def _new_batches(self) -> Batches:
        dataset = self._options.dataset("train")
        return Batches(
            self._source,
            dataset.batch_size,
            self._options.train.manual_seed,
            rank=self._processes.rank,
            processes=self._processes.count,
            micro_batch=self.state.micro_batch,
            workers=dataset.n_workers,
            shuffle=dataset.use_shuffle,
        )

    def _made(self, number: int) -> dict[str, Tensor]:
        """Make an iteration; where the memory is too small, again with smaller parts."""
        share, chosen = self.batches.share, self._options.dataset("train").micro_batch
        while True:
            try:
                batches = next(self.batches)
                return self._steps.make(number, [{n: self._moved(t) for n, t in batch.items()} for batch in batches])
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                tried = self.state.micro_batch
                may_shrink = chosen is None and self._processes.count == 1 and not self._steps.stepped
                if tried == 1 or not may_shrink:
                    raise out_of_memory(share, tried, number, self._saved_step > 0) from error
            gc.collect()
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            self.batches.close()
            self.state.micro_batch = next_smaller(share, tried)
            self.batches = self._new_batches()
            self.batches.start(number)
            if self._writer:
                self._writer.note(
                    f"The memory is too small for {tried} images at a time; from step {number} on there are "
                    f"{self.state.micro_batch}, which gives the same result more slowly."
                )

    def _moved(self, tensor: Tensor) -> Tensor:
        tensor = tensor.to(self._device, non_blocking=True)
        layout = CHANNELS_LAST.get(tensor.dim())
        return tensor.contiguous(memory_format=layout) if layout else tensor

    def _tell(self, number: int, logs: Mapping[str, Tensor]) -> None:
        niter, pace = self._options.train.niter, median(self._durations)
        remaining = pace * (niter - number)
        if self._writer:
            self._writer.progress(number, pace, remaining)
        if number % self._options.logger.print_freq and number not in (self._first, niter):
            return
        values = torch.stack([value.detach().double().to(self._device) for value in logs.values()])
        losses = dict(zip(logs, self._processes.mean(values).tolist(), strict=True))
        epoch = (number - 1) * self.state.batch_size // len(self._source)
        self.logged = {"epoch": epoch, "lr": self._schedule.rate(self.state.recipe.exported), **losses}
        if self._writer:
            self._writer.losses(number, dict(self.logged), pace, remaining)

    def _is_best(self, number: int) -> bool:
        """Measure what would be exported; True if it is the best so far, in all processes."""
        is_best, state = False, self.state
        if self._writer:
            results = self._writer.validate(state, number)
            if results is not None:
                state.latest = {"step": number, **results}
                is_best = state.recipe.is_better(results, state.best)
                if is_best:
                    state.best = dict(state.latest)
        return self._processes.any(is_best)

    def _save(self) -> None:
        payload = self.state.payload(self._processes)
        if self._writer:
            self._writer.save(self.state, payload)
        self._saved_step = self.state.step
        self._processes.wait_for_all()

    def _end(self, how: str) -> RunResult:
        state = self.state
        results = {"best": state.best, "latest": state.latest}
        result = RunResult(self._options.run_folder, state.step, finished=how == "finished", results=results)
        if self._writer:
            self._writer.end(result, how)
        return result


class Schedule:
    """The learning rate of every iteration: a function of its number, so there is nothing to store and to restore.

    "MultiStepLR": each group's own rate times gamma to the number of milestones that have passed; as in SPSR, the
    iteration that follows a milestone is the first with the smaller rate. "Cosine": along half a cosine, to 0 after
    the last iteration. "Linear": constant for half of the iterations, then along a line to 0 after the last. During
    `lr_warmup_iters` all also rise linearly from zero.
    """

    def __init__(self, optimizers: Mapping[str, Optimizer], train: TrainOptions) -> None:
        self._optimizers, self._train = optimizers, train
        self._groups = [(group, group["lr"]) for optimizer in optimizers.values() for group in optimizer.param_groups]

    def set(self, number: int) -> None:
        """Set the rates of iteration `number`, from 1."""
        train, warmup = self._train, self._train.lr_warmup_iters
        if train.lr_scheme == "Cosine":
            done = min(1.0, max(0.0, (number - 1 - warmup) / max(1, train.niter - warmup)))
            factor = 0.5 * (1 + math.cos(math.pi * done))
        elif train.lr_scheme == "Linear":
            factor = min(1.0, 2 * (1 - (number - 1) / train.niter))
        else:
            factor = train.lr_gamma ** bisect_right(sorted(train.lr_steps), number - 1)
        factor *= min(1.0, number / warmup if warmup else 1.0)
        for group, initial in self._groups:
            group["lr"] = initial * factor

    def rate(self, role: str) -> float:
        """The present rate of a role's first group, for the log."""
        return self._optimizers[role].param_groups[0]["lr"]


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

    def __init__(self, cancelled: Callable[[], bool] | None = None, alone: bool = True) -> None:
        self._cancelled, self._alone = cancelled, alone
        self._is_asked = False
        self._before: dict[int, object] = {}

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():  # others must not set handlers
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._ask)
        return self

    def __exit__(self, *_) -> None:
        for number, handler in self._before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)  # None: it was not set by Python

    def __call__(self) -> bool:
        self._is_asked = self._is_asked or bool(self._cancelled and self._cancelled())
        return self._is_asked

    def _ask(self, number: int, frame) -> None:
        if self._is_asked and self._alone and number == signal.SIGINT:
            raise KeyboardInterrupt
        self._is_asked = True


def channels_last(network: nn.Module) -> nn.Module:
    """Lay the weights of convolutions out as the fast kernels want them; values stay the same."""
    for parameter in network.parameters():
        if layout := CHANNELS_LAST.get(parameter.dim()):
            parameter.data = parameter.data.contiguous(memory_format=layout)
    return network


def next_smaller(share: int, tried: int) -> int:
    """The largest number of images, at most half of what was tried, that divides a process's share of the batch."""
    return next(size for size in range(max(1, tried // 2), 0, -1) if share % size == 0)


def out_of_memory(share: int, tried: int, step: int, may_resume: bool) -> ResourceError:
    """The error for a device whose memory is too small.

    Parameters
    ----------
    share : int
        Images of a step in one process.
    tried : int
        Images at a time that did not fit.
    step : int
    may_resume : bool
        Whether there is a checkpoint to go on from.
    """
    if tried == 1:
        advice = "Choose a smaller datasets.train.HR_size or smaller networks."
    else:
        on = " and go on with --resume auto" if may_resume else ""
        advice = f"Set datasets.train.micro_batch to {next_smaller(share, tried)}{on}: the result is the same."
    return ResourceError(f"The memory is too small for {tried} images at a time (step {step}).", advice)
