"""Which of the runs is shown."""

from __future__ import annotations

from ...training.runs import RunInfo, read_run
from .choices import TrainingChoices


def shownRun(choices: TrainingChoices) -> RunInfo | None:
    """The run that is chosen in the list, as it is now."""
    if choices.parameters is None or not choices.parameters.shownRun:
        return None
    return read_run(choices.resultsFolder / "experiments" / choices.parameters.shownRun)
