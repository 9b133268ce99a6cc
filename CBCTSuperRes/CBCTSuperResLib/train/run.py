"""Who watches every run.

One process's part in a training.

A training, from options to a run folder with models and checkpoints: who computes, and how it ends.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from ..core.atomic import no_locks_warning
from ..core.devices import describe_device
from ..core.errors import Cancelled, InputError, OutputError
from .checks import missing
from .curves import CurvesCsv, CurvesPicture
from .data.batches import Batches
from .data.source import TrainingSource, open_images, open_source
from .export import levels_of_source, save_run_model
from .launch import train_in_processes
from .logs import TensorBoard, TrainLog
from .loop import Desk, Feed, Intervals, Labelled, Loop, Schedule, StopRequest, channels_last, make_factor
from .observer import Observer, Observers, RunFacts, RunResult
from .options import TrainingOptions
from .plan import plan
from .ranks import Processes, own_device, processes_wanted, share_of, under_torchrun
from .recipes import build_recipe
from .recipes.recipe import Recipe
from .run_events import RunEvents
from .run_folder import RunFolder
from .starting_weights import starting_weights
from .state import (
    Accept,
    Average,
    Checkpoints,
    Resumed,
    TrainingState,
    begins_anew,
    find_checkpoint,
    refuse_changes,
    restore_random,
    seed_everything,
)
from .step import NonFinite, Precision, Steps, repeatable, unwritten, write_report
from .validation import Validator


def standard_observers(options: TrainingOptions) -> list[Observer]:
    """The log, the curves as CSV and PNG, the events and, with `use_tb_logger`, TensorBoard.

    For the terminal add `logs.Console`.
    """
    observers: list[Observer] = [TrainLog(), CurvesCsv(), CurvesPicture(), RunEvents()]
    if options.use_tb_logger:
        observers.append(TensorBoard(Path(options.path.root)))
    return observers


LARGEST_SEED = 10_000  # of those that are drawn, as in the public code


class TrainingProcess:
    """Puts the loop together from options, checkpoint, recipe and data, and lets it go.

    Parameters
    ----------
    options : TrainingOptions
    device : torch.device
    together : Processes
        All of the training, this one among them.
    observers : sequence of Observer
        Beside those that every run has.
    stop : StopRequest
    """

    def __init__(
        self,
        options: TrainingOptions,
        device: torch.device,
        together: Processes,
        observers: Sequence[Observer],
        stop: StopRequest,
    ) -> None:
        self.options, self.device, self.together, self.stop = options, device, together, stop
        self.dataset = options.dataset("train")
        self.share = share_of(self.dataset.batch_size, together.count)
        self.precision = Precision(options.train.precision, device)
        self.observers = Observers([*standard_observers(options), *observers])
        self.notes = list(options.notes)
        self._opened = ExitStack()

    def train(self, resume: str | Path | None, accept: Accept) -> RunResult:
        """See `run.train`."""
        recipe, path = build_recipe(self.options), self.options.run_folder
        with self._opened:
            folder = self._opened.enter_context(RunFolder(path)) if self.together.first else None
            if folder and not folder.has_locks:
                self.notes.append(no_locks_warning(path))
            resumed = self._resumed(resume, folder)
            self._settle_seed(resumed)
            if resumed and folder:
                self.notes += refuse_changes(resumed, self.options, accept)
            micro_batch = self._micro_batch(resumed)
            recipe.check(self.together.count, self.device.type, self.share // micro_batch)
            source = self._opened.enter_context(closing(open_source(self.dataset, self.options)))
            state, steps = self._state(recipe, micro_batch, resumed)
            desk = None
            if folder:
                self._open(folder, state, anew=begins_anew(resume, path))
                desk = self._desk(folder, source, state)
            if resumed:
                restore_random(resumed.payload, self.together.rank)
            loop = Loop(
                state,
                steps,
                self._feed(source, micro_batch),
                Schedule(state.optimizers, make_factor(self.options.train)),
                self._intervals(),
                self.together,
                desk,
                self.stop,
                images=len(source),
                may_shrink=self.dataset.micro_batch is None and self.together.count == 1,
            )
            return self._guarded(loop, desk, source)

    @staticmethod
    def _open(folder: RunFolder, state: TrainingState, anew: bool) -> None:
        """Begin a course of its own, or make the folder what it was at the state's step."""
        folder.begin(anew)
        Checkpoints(folder.states).abandon_after(state.step)
        if anew:
            state.best, state.latest = {}, {}
        for name, step in (("latest", state.step), ("best", state.best.get("step"))):
            model = folder.models / f"{step}_{state.exported}.safetensors"
            if model.is_file():
                folder.keep_model(model, f"{name}_{state.exported}.safetensors")

    def _resumed(self, resume: str | Path | None, folder: RunFolder | None) -> Resumed | None:
        """The checkpoint to go on from; the first process chooses it, and all read it."""
        found = None
        if folder:
            Checkpoints(folder.states).clean()
            found = find_checkpoint(resume, folder.states, self.notes.append)
        path = self.together.share(found and str(found.path))
        if path is None or folder:
            return found
        return find_checkpoint(path, Path(path).parent, self.notes.append)

    def _settle_seed(self, resumed: Resumed | None) -> None:
        """Where the options leave the seed open, take the checkpoint's, or draw one."""
        if self.options.train.manual_seed is not None:
            return
        drawn = resumed.payload["options"]["train"]["manual_seed"] if resumed else secrets.randbelow(LARGEST_SEED) + 1
        settled = replace(self.options.train, manual_seed=self.together.share(drawn))
        self.options = replace(self.options, train=settled)

    def _micro_batch(self, resumed: Resumed | None) -> int:
        """Images at a time: as the options say, as before, or as many as are planned to fit."""
        if self.dataset.micro_batch:
            return min(self.dataset.micro_batch, self.share)
        if resumed and self.share % resumed.payload["micro_batch"] == 0:
            return resumed.payload["micro_batch"]
        planned = plan(self.options, str(self.device), processes=self.together.count)
        micro_batch = self.together.share(planned.micro_batch)
        self.notes += planned.problems
        if micro_batch < self.share:
            self.notes.append(f"A process's {self.share} images of a step are computed {micro_batch} at a time.")
        return micro_batch

    def _state(self, recipe: Recipe, micro_batch: int, resumed: Resumed | None) -> tuple[TrainingState, Steps]:
        """Networks and optimisers, new or as the checkpoint left them."""
        seed_everything(self.options.train.manual_seed)
        networks = recipe.build()
        start = self.options.path.pretrain_model_G
        if start and not resumed:
            self.notes.append(str(starting_weights(networks[recipe.exported], start)))
        networks = {role: self._placed(network).train() for role, network in networks.items()}
        for network in recipe.frozen.values():
            channels_last(network.to(self.device)).eval().requires_grad_(False)
        optimizers = recipe.optimizers(networks)
        steps = Steps(recipe, networks, optimizers, self.precision, self.together, self.options.train.grad_clip)
        decay = self.options.train.ema_decay
        state = TrainingState(
            networks,
            optimizers,
            steps.scalers,
            recipe.exported,
            Average(networks[recipe.exported], decay) if decay else None,
            self.options.to_json(),
            self.dataset.batch_size,
            micro_batch,
        )
        if resumed:
            state.restore(resumed.payload)
        self.together.share_state(networks)
        return state, steps

    def _placed(self, network: nn.Module) -> nn.Module:
        if self.together.count > 1 and self.device.type == "cuda":
            network = nn.SyncBatchNorm.convert_sync_batchnorm(network)
        return channels_last(network.to(self.device))

    def _feed(self, source: TrainingSource, micro_batch: int) -> Feed:
        labelled, together = Labelled(source), self.together

        def make(micro_batch: int) -> Batches:
            return Batches(
                labelled,
                self.dataset.batch_size,
                self.options.train.manual_seed,
                rank=together.rank,
                processes=together.count,
                micro_batch=micro_batch,
                workers=self.dataset.n_workers,
                shuffle=self.dataset.use_shuffle,
            )

        return Feed(make, self.share, micro_batch, self.device)

    def _intervals(self) -> Intervals:
        options = self.options
        return Intervals(
            niter=options.train.niter,
            log=options.logger.print_freq,
            validate=options.train.val_freq,
            save=options.logger.save_checkpoint_freq,
        )

    def _desk(self, folder: RunFolder, source: TrainingSource, state: TrainingState) -> Desk:
        """What the first process writes with; everybody who watches is told that the run begins."""
        options = self.options
        folder.write_options(state.options)
        folder.write_status(state="running", step=state.step, niter=options.train.niter, best=state.best, message="")
        self.notes += source.warnings
        validate = self._validation(folder)
        facts = {
            "data": source.describe(),
            "window": (source.window.lo, source.window.hi),
            "levels": levels_of_source(source),
            "clipped_share": source.clipped_share,
        }
        self.observers.started(
            RunFacts(
                name=options.name,
                folder=folder.path,
                step=state.step,
                niter=options.train.niter,
                device=describe_device(self.device),
                processes=self.together.count,
                options=state.options,
                data=facts["data"],
                notes=tuple(self.notes),
            )
        )

        def write_model(network: nn.Module, path: Path, step: int, results: Mapping) -> None:
            save_run_model(network, options, {**facts, "step": step}, results, path)

        return Desk(
            folder,
            Checkpoints(folder.states, options.logger.keep_last),
            self.observers,
            validate,
            write_model,
        )

    def _validation(self, folder: RunFolder) -> Callable[[nn.Module, int], dict] | None:
        dataset = self.options.dataset("val")
        if dataset is None:
            self.notes.append("There is no val set: nothing is measured, and no model is the best.")
            return None
        images = self._opened.enter_context(closing(open_images(dataset, self.options)))
        self.notes += images.warnings
        validator = Validator(self.options, images)
        return lambda network, step: validator.run(network, step, folder.pictures)

    def _guarded(self, loop: Loop, desk: Desk | None, source: TrainingSource) -> RunResult:
        """Let the loop run; a failure is told in the status and, where numbers ceased to be finite, in a report."""
        try:
            with self.stop:  # until here, a Ctrl-C ends at once: there is nothing to save
                return loop.run()
        except Cancelled:
            raise
        except NonFinite as error:
            images = [number for numbers in self.together.gather(loop.images) for number in numbers]
            if desk is None:
                raise
            step, folder = loop.state.step + 1, desk.folder.path
            write_report(folder, step, error, [source.names[number] for number in images], loop.logged)
            told = error.told(step, folder, desk.checkpoints.last())
            self._tell_end(desk, "failed", loop, told)
            raise told from error
        except OSError as error:
            told = unwritten(error, desk and desk.checkpoints.last())
            self._tell_end(desk, "failed", loop, told)
            raise told from error
        except Exception as error:
            self._tell_end(desk, "failed", loop, error)
            raise
        except KeyboardInterrupt:
            self._tell_end(desk, "stopped", loop, "Interrupted.")
            raise

    @staticmethod
    def _tell_end(desk: Desk | None, state: str, loop: Loop, why: object) -> None:
        if desk:
            with suppress(OutputError):  # the disk may be what failed
                desk.folder.write_status(state=state, step=loop.state.step, message=str(why))


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
