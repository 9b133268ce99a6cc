"""What the first process of a run writes and tells: options, status, models, checkpoints, and the observers' calls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress

from ..core.errors import OutputError
from .checkpoints import Checkpoints
from .data.source import TrainingSource
from .export import levels_of_source, save_run_model
from .observer import Observer, RunFacts, RunResult
from .options import TrainingOptions
from .recipes.recipe import Validation
from .run_folder import RunFolder
from .state import TrainingState


class RunWriter:
    """Begins a run in its folder, or goes on there, and writes whatever it comes to.

    Parameters
    ----------
    options : TrainingOptions
        With the seed that was drawn.
    folder : RunFolder
    state : TrainingState
    source : TrainingSource
    observer : Observer
    validation : Validation or None
    anew : bool
        Whether the run begins a course of its own; an older run of its name is then archived.
    """

    def __init__(
        self,
        options: TrainingOptions,
        folder: RunFolder,
        state: TrainingState,
        source: TrainingSource,
        observer: Observer,
        validation: Validation | None,
        anew: bool,
    ) -> None:
        self._options, self.folder, self._observer, self._validation = options, folder, observer, validation
        self.checkpoints = Checkpoints(folder.states, options.logger.keep_last)
        self._role = state.recipe.exported
        self._facts = {
            "data": source.describe(),
            "window": (source.window.lo, source.window.hi),
            "output_window": source.output_window and (source.output_window.lo, source.output_window.hi),
            "levels": levels_of_source(source),
            "clipped_share": source.clipped_share,
            **state.recipe.card_facts(),
        }
        folder.begin(anew)
        self.checkpoints.abandon_after(state.step)
        if anew:
            state.best, state.latest = {}, {}
        for name, step in (("latest", state.step), ("best", state.best.get("step"))):
            model = folder.models / f"{step}_{self._role}.safetensors"
            if model.is_file():
                folder.keep_model(model, f"{name}_{self._role}.safetensors")
        folder.write_options(state.options)
        folder.write_status(state="running", step=state.step, niter=options.train.niter, best=state.best, message="")

    def start(self, step: int, device: str, processes: int, notes: Sequence[str]) -> None:
        """Tell that the run begins, or goes on after a step."""
        options = self._options
        self._observer.started(
            RunFacts(
                name=options.name,
                folder=self.folder.path,
                step=step,
                niter=options.train.niter,
                device=device,
                processes=processes,
                options=options.to_json(),
                data=self._facts["data"],
                notes=tuple(notes),
            )
        )

    def progress(self, number: int, seconds_per_step: float, remaining_s: float) -> None:
        """An iteration is done."""
        self._observer.progress(number, seconds_per_step, remaining_s)
        self.folder.write_status(hurry=False, state="running", step=number)

    def losses(self, number: int, logs: dict[str, float], seconds_per_step: float, remaining_s: float) -> None:
        """The losses of an iteration that is to be logged."""
        self._observer.step(number, logs, seconds_per_step, remaining_s)

    def note(self, text: str) -> None:
        """Something that the user should know."""
        self._observer.note(text)

    def validate(self, state: TrainingState, number: int) -> dict[str, float] | None:
        """Measure the networks after an iteration; None if nothing measures them."""
        if self._validation is None:
            return None
        networks = {**state.networks, self._role: state.exported}
        results = self._validation.run(networks, number, self.folder.pictures)
        self._observer.validated(number, results, self.folder.pictures)
        return results

    def save(self, state: TrainingState, payload: Mapping) -> None:
        """Write the models, then the checkpoint: whatever is interrupted is made again."""
        step, models, role = state.step, self.folder.models, self._role
        path = models / f"{step}_{role}.safetensors"
        results = state.latest if state.latest.get("step") == step else {}
        save_run_model(state.exported, self._options, {**self._facts, "step": step}, results, path)
        self.folder.keep_model(path, f"latest_{role}.safetensors")
        if state.best.get("step") == step:
            self.folder.keep_model(path, f"best_{role}.safetensors")
        checkpoint = self.checkpoints.write(step, payload, state.best.get("step"))
        kept = {f"{step}_{role}.safetensors" for step in self.checkpoints.steps()}
        for path in models.glob(f"[0-9]*_{role}.safetensors"):
            if path.name not in kept:
                path.unlink(missing_ok=True)
        self.folder.write_status(state="running", step=step, best=state.best)
        self._observer.saved(step, checkpoint)

    def end(self, result: RunResult, how: str) -> None:
        """The run is "finished", or "stopped" and saved."""
        self.folder.write_status(state=how, step=result.step, best=result.results["best"], message="")
        self._observer.ended(result)

    def fail(self, how: str, step: int, why: object) -> None:
        """The run "failed", or was "stopped" at once; nobody but the status is told."""
        with suppress(OutputError):  # the disk may be what failed
            self.folder.write_status(state=how, step=step, message=str(why))
