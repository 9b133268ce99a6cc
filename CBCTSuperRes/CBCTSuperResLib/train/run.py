"""A training, from options to a run folder with models and checkpoints: who computes, and how it ends."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from ..core.atomic import no_locks_warning, write_json
from ..core.devices import describe_device
from ..core.errors import Cancelled, InputError, OutputError, SuperResError
from .checkpoints import Accept, Checkpoints, Resumed, begins_anew, find_checkpoint, refuse_changes
from .checks import missing
from .curves import CurvesCsv, CurvesPicture
from .launch import train_in_processes
from .logs import TensorBoard, TrainLog
from .loop import Loop, StopRequest, channels_last
from .observer import Observer, Observers, RunResult
from .options import TrainingOptions
from .plan import plan
from .ranks import Processes, own_device, processes_wanted, share_of, under_torchrun
from .recipes.recipe import Recipe, build_recipe
from .run_events import RunEvents
from .run_folder import RunFolder
from .starting_weights import starting_weights
from .state import Average, TrainingState, restore_random, seed_everything
from .step import NonFinite, Precision, Steps, repeatable
from .writer import RunWriter

LARGEST_SEED = 10_000  # of those that are drawn, as in the public code
REPORT = "failure.json"
NOT_MEASURED = "There is no val set: nothing is measured, and no model is the best."


def standard_observers(options: TrainingOptions) -> list[Observer]:
    """The log, the curves as CSV and PNG, the events and, with `use_tb_logger`, TensorBoard.

    For the terminal add `logs.Console`.
    """
    observers: list[Observer] = [TrainLog(), CurvesCsv(), CurvesPicture(), RunEvents()]
    if options.use_tb_logger:
        observers.append(TensorBoard(options.path.root, folder=options.path.log_dir))
    return observers


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
    absent = missing(replace(options, path=replace(options.path, resume_state=None)))
    if absent:
        listed = "\n".join(f"  {sentence}" for sentence in absent)
        raise InputError(f"The training cannot begin:\n{listed}")
    count = 1 if under_torchrun() else processes_wanted(options, device, processes)
    if count > 1:
        share_of(options.datasets["train"].batch_size, count)
        return train_in_processes(options, count, resume, accept_changes, device, observers, cancelled)
    own = own_device(options, device)
    with (
        Processes.join(own) as together,
        repeatable(options.train.deterministic, options.train.precision, own),
    ):
        stop = StopRequest(cancelled, alone=together.count == 1)
        observer = Observers([*standard_observers(options), *observers])
        try:
            return _train(options, own, together, observer, stop, resume, accept_changes)
        except (Cancelled, NonFinite) as error:  # all processes end so, and the first speaks for them
            if together.first:
                raise
            raise SystemExit(error.exit_code) from None


def _train(
    options: TrainingOptions,
    device: torch.device,
    together: Processes,
    observer: Observer,
    stop: StopRequest,
    resume: str | Path | None,
    accept: Accept,
) -> RunResult:
    """One process's part: put everything together, from the beginning or a checkpoint, and let the loop go."""
    recipe, path = build_recipe(options), options.run_folder
    precision = Precision(options.train.precision, device)
    dataset, notes = options.dataset("train"), list(options.notes)
    share = share_of(dataset.batch_size, together.count)
    with ExitStack() as opened:
        folder = opened.enter_context(RunFolder(path)) if together.first else None
        if folder and not folder.has_locks:
            notes.append(no_locks_warning(path))
        resumed = _checkpoint(resume, folder, together, notes)
        if options.train.manual_seed is None:
            drawn = resumed.payload["options"]["train"]["manual_seed"] if resumed else _random_seed()
            options = replace(options, train=replace(options.train, manual_seed=together.share(drawn)))
        if resumed and folder:
            notes += refuse_changes(resumed, options, accept)
        micro_batch = _micro_batch(options, share, device, together, resumed, notes)
        recipe.check(together.count, device.type, share // micro_batch)
        source = opened.enter_context(closing(recipe.open_source()))

        seed_everything(options.train.manual_seed)
        networks = _networks(recipe, options, device, together, None if resumed else notes)
        optimizers = recipe.optimizers(networks)
        steps = Steps(recipe.step, networks, optimizers, precision, together, options.train.grad_clip)
        state = TrainingState(
            recipe,
            networks,
            optimizers,
            steps.scalers,
            Average(networks[recipe.exported], options.train.ema_decay) if options.train.ema_decay else None,
            options.to_json(),
            dataset.batch_size,
            micro_batch,
        )
        if resumed:
            state.restore(resumed.payload, together.rank)
        together.share_state(networks)

        writer = None
        if folder:
            validation = recipe.open_validation()
            if validation:
                opened.enter_context(closing(validation))
            writer = RunWriter(options, folder, state, source, observer, validation, begins_anew(resume, path))
            notes += source.warnings
            notes += validation.warnings if validation else [NOT_MEASURED]
            writer.start(state.step, describe_device(device), together.count, notes)
        if resumed:
            restore_random(resumed.payload, together.rank)
        loop = Loop(options, source, state, steps, together, device, writer, stop)
        return _run_to_its_end(loop, writer, together, source.names, stop)


def _random_seed() -> int:
    return secrets.randbelow(LARGEST_SEED) + 1


def _checkpoint(
    resume: str | Path | None, folder: RunFolder | None, together: Processes, notes: list[str]
) -> Resumed | None:
    """The checkpoint to go on from; the first process chooses it, and all read it."""
    found = None
    if folder:
        Checkpoints(folder.states).clean()
        found = find_checkpoint(resume, folder.states, notes.append)
    path = together.share(found and str(found.path))
    if path is None or folder:
        return found
    return find_checkpoint(path, Path(path).parent, notes.append)


def _micro_batch(
    options: TrainingOptions,
    share: int,
    device: torch.device,
    together: Processes,
    resumed: Resumed | None,
    notes: list[str],
) -> int:
    """Images at a time: as the options say, as before, or as many as are planned to fit."""
    chosen = options.dataset("train").micro_batch
    if chosen:
        return min(chosen, share)
    if resumed and share % resumed.payload["micro_batch"] == 0:
        return resumed.payload["micro_batch"]
    planned = plan(options, str(device), processes=together.count)
    micro_batch = together.share(planned.micro_batch)
    notes += planned.problems
    if micro_batch < share:
        notes.append(f"A process's {share} images of a step are computed {micro_batch} at a time.")
    return micro_batch


def _networks(
    recipe: Recipe, options: TrainingOptions, device: torch.device, together: Processes, notes: list[str] | None
) -> dict[str, nn.Module]:
    """New networks on the device; the exported one begins with given weights, unless the run is resumed (no notes)."""
    networks = recipe.build()
    if options.path.pretrain_model_G and notes is not None:
        notes.append(str(starting_weights(networks[recipe.exported], options.path.pretrain_model_G)))
    for role, network in networks.items():
        if together.count > 1 and device.type == "cuda":
            network = nn.SyncBatchNorm.convert_sync_batchnorm(network)
        networks[role] = channels_last(network.to(device)).train()
    for network in recipe.frozen.values():
        channels_last(network.to(device)).eval().requires_grad_(False)
    return networks


def _run_to_its_end(
    loop: Loop, writer: RunWriter | None, together: Processes, names: Sequence[str], stop: StopRequest
) -> RunResult:
    """Let the loop run; a failure is told in the status and, where numbers ceased to be finite, in a report."""
    last = writer.checkpoints.last if writer else lambda: None

    def kept() -> str:
        return f"The checkpoint {last().name} is intact. " if last() else ""

    try:
        with stop:  # until here, a Ctrl-C ends at once: there is nothing to save
            return loop.run()
    except Cancelled:
        raise
    except NonFinite as error:
        step = loop.state.step + 1
        images = [number for numbers in together.gather(loop.batches.images(step)) for number in numbers]
        if writer is None:
            raise
        report = writer.folder.path / REPORT
        write_json(
            report,
            {
                "step": step,
                "network": error.role,
                "loss": str(error.loss),
                "gradient_norm": str(error.norm),
                "images": [names[number] for number in images],
                "last_logged": {name: str(value) for name, value in loop.logged.items()},
            },
        )
        told = SuperResError(
            f"{error.what[:-1]} in step {step}; the training was stopped.",
            f"{kept()}Look at the images named in {report}, then lower the learning rates, set train.grad_clip, "
            "or use float32, and go on with --resume auto.",
        )
        writer.fail("failed", loop.state.step, told)
        raise told from error
    except OSError as error:
        told = OutputError(
            f"The run cannot write its files: {error.strerror or error}. {kept()}".rstrip(),
            "Look after the disk and go on with --resume auto.",
        )
        if writer:
            writer.fail("failed", loop.state.step, told)
        raise told from error
    except (Exception, KeyboardInterrupt) as error:
        if writer:
            interrupted = isinstance(error, KeyboardInterrupt)
            how, why = ("stopped", "Interrupted.") if interrupted else ("failed", error)
            writer.fail(how, loop.state.step, why)
        raise
