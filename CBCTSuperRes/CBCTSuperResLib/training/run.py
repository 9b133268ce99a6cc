"""A training, from options to a run folder with models and checkpoints: who computes, and how it ends."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from ..errors import Cancelled, InputError
from .loop.failure import NonFinite
from .loop.observer import Observer, RunResult
from .loop.place import own_device, processes_wanted, share_of, under_torchrun
from .loop.precision import repeatable
from .loop.processes import Processes
from .loop.resume import Accept
from .loop.stopping import StopRequest
from .options import TrainingOptions, missing
from .process import TrainingProcess


def train(
    options: TrainingOptions,
    *,
    resume: str | Path | None = None,
    accept_changes: Accept = False,
    device: str | None = None,
    processes: int | None = None,
    observers: Sequence[Observer] = (),
    cancelled: Callable[[], bool] | None = None,
) -> RunResult:
    """Train a model, from the beginning or from a checkpoint.

    The run folder then holds models/ (latest, best and the last ones, for Apply), training_state/ (complete
    checkpoints), curves, log and pictures. Under torchrun this process joins the others; otherwise several `gpu_ids`,
    or `processes`, start them.

    Parameters
    ----------
    options : TrainingOptions
    resume : str or Path, optional
        "auto" goes on from the run's newest checkpoint, if there is one; otherwise a checkpoint's file or a run's
        folder. Default: `options.path.resume_state`. Without it, an existing run of this name is archived.
    accept_changes : bool or callable
        Whether to resume although options differ; a callable is given the list of differences.
    device : str, optional
        "cpu" or "cuda" in place of `options.device`.
    processes : int, optional
        On the CPU.
    observers : sequence of Observer
        Beside those that every run has.
    cancelled : callable, optional
        Asked before every iteration.

    Returns
    -------
    RunResult

    Raises
    ------
    Cancelled
        After Ctrl-C, SIGTERM or `cancelled`: the iteration was finished and everything is saved.
    SuperResError
        Of any kind, with what to do.
    """
    resume = resume or options.path.resume_state
    _refuse_to_begin_without(missing(replace(options, path=replace(options.path, resume_state=None))))
    count = 1 if under_torchrun() else processes_wanted(options, device, processes)
    if count > 1:
        share_of(options.datasets["train"].batch_size, count)
        from .launch import train_in_processes

        return train_in_processes(options, count, resume, accept_changes, device, observers, cancelled)
    own = own_device(options, device)
    with (
        Processes.join(own) as together,
        repeatable(options.train.deterministic, options.train.precision, own),
    ):
        stop = StopRequest(cancelled, alone=together.count == 1)
        try:
            return TrainingProcess(options, own, together, observers, stop).train(resume, accept_changes)
        except (Cancelled, NonFinite) as error:  # all processes end so, and the first speaks for them
            if together.first:
                raise
            raise SystemExit(error.exit_code) from None


def _refuse_to_begin_without(absent: list[str]) -> None:
    if absent:
        listed = "\n".join(f"  {sentence}" for sentence in absent)
        raise InputError(f"The training cannot begin:\n{listed}")
