"""Who is told how a run goes: the console, the curves, TensorBoard, a panel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class RunFacts:
    """What is known when a run begins or goes on.

    Attributes
    ----------
    name : str
    folder : Path
        Of the run.
    step : int
        The last iteration that is done: 0 for a new run. Whatever was recorded of later ones is no longer true.
    niter : int
        The last iteration of the run.
    device : str
        For people.
    processes : int
    options : dict
        As `TrainingOptions.to_json` gives them, the seed that was drawn included.
    data : dict
        What the source says of itself, for the model's card.
    notes : tuple of str
        What the user should know of how the run was set up, one sentence each.
    """

    name: str
    folder: Path
    step: int
    niter: int
    device: str = "cpu"
    processes: int = 1
    options: Mapping = field(default_factory=dict)
    data: Mapping = field(default_factory=dict)
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class RunResult:
    """What a run has come to.

    Attributes
    ----------
    folder : Path
    step : int
        The last iteration that is done.
    finished : bool
        Whether that was the last one of the run.
    results : dict
        "best" and "latest": what validation measured, with "step"; empty without validation.
    """

    folder: Path
    step: int
    finished: bool
    results: Mapping = field(default_factory=dict)


class Observer:
    """Overload what you need. Called by the first process alone, one after the other, in order."""

    def started(self, run: RunFacts) -> None:
        """The run begins, or goes on after `run.step`."""

    def progress(self, number: int, seconds_per_step: float, remaining_s: float) -> None:
        """Iteration `number` is done; called after every one, before `step`."""

    def step(self, number: int, logs: dict[str, float], seconds_per_step: float, remaining_s: float) -> None:
        """The losses and measures of one iteration, averaged over the processes; every `logger.print_freq`-th one,
        the first of this sitting and the last."""

    def note(self, text: str) -> None:
        """Something happened that the user should know: one or two sentences."""

    def validated(self, number: int, results: dict, pictures: Path | None) -> None:
        """The network was measured after iteration `number`."""

    def saved(self, number: int, path: Path) -> None:
        """The checkpoint of iteration `number` is complete on the disk."""

    def ended(self, result: RunResult) -> None:
        """The run is done or was stopped; not called if it failed."""


class Observers(Observer):
    """Many observers as one."""

    def __init__(self, observers: Sequence[Observer]) -> None:
        self._observers = tuple(observers)

    def started(self, run: RunFacts) -> None:
        self._call("started", run)

    def progress(self, number: int, seconds_per_step: float, remaining_s: float) -> None:
        self._call("progress", number, seconds_per_step, remaining_s)

    def step(self, number: int, logs: dict[str, float], seconds_per_step: float, remaining_s: float) -> None:
        self._call("step", number, logs, seconds_per_step, remaining_s)

    def note(self, text: str) -> None:
        self._call("note", text)

    def validated(self, number: int, results: dict, pictures: Path | None) -> None:
        self._call("validated", number, results, pictures)

    def saved(self, number: int, path: Path) -> None:
        self._call("saved", number, path)

    def ended(self, result: RunResult) -> None:
        self._call("ended", result)

    def _call(self, name: str, *values) -> None:
        for observer in self._observers:
            getattr(observer, name)(*values)
