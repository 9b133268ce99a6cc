"""Registering a pair of scans and writing it for a training: where to, with which options, and what comes of it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from slicer.i18n import tr as _

from ...errors import InputError, OptionError
from ...scene.training_volumes import fileName
from ...training.prepare.options import PrepareOptions
from ...training_logic import TrainingLogic
from .. import dialogs
from .choices import RANGE, TrainingChoices
from .data_rows import DATASETS, DataRow, nameOf
from .option_values import PREPARED_WINDOW, valueAt
from .parameters import WindowChoice
from .written_task import WrittenTask


@dataclass(frozen=True)
class Preparing:
    """One row on its way to an aligned pair.

    Attributes
    ----------
    row : DataRow
    folder : Path
        To be made.
    options : PrepareOptions
    """

    row: DataRow
    folder: Path
    options: PrepareOptions

    @staticmethod
    def ask(row: DataRow, choices: TrainingChoices) -> Preparing | None:
        """Let the user choose a folder; None if they do not.

        Raises
        ------
        SuperResError
            If the settings do not allow it.
        """
        options = _optionsFrom(choices)
        parent = dialogs.chooseFolder(_("Choose where to write the pair"), str(choices.resultsFolder))
        return Preparing(row, _freeFolder(Path(parent), nameOf(row.fine)), options) if parent else None

    def start(self, logic: TrainingLogic) -> WrittenTask:
        steps = logic.preparing(self.row.coarse, self.row.fine, self.folder, **self.options.to_json())
        return WrittenTask(steps, lambda task: task)

    def datasets(self) -> Mapping[str, Mapping]:
        """What was written, as `datasets` of a training's options.

        Raises
        ------
        InputError
            If it has vanished.
        """
        try:
            return json.loads((self.folder / DATASETS).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise InputError(
                _("The prepared pair in {folder} cannot be read.").format(folder=self.folder), _("Prepare it again.")
            ) from error

    def rows(self, written: Sequence[DataRow]) -> list[DataRow]:
        """Those for the table: a single pair is used as its row was; many are split by patient."""
        return [replace(one, use=self.row.use) for one in written] if len(written) == 1 else list(written)

    def worstRow(self, rows: Sequence[DataRow], report: Mapping) -> DataRow:
        """The row to look at: the one with the largest misalignment."""
        pairs = report.get("pairs", ())
        worst = max(pairs, key=lambda pair: pair["median_mm"])["name"] if pairs else ""
        return next((row for row in rows if Path(row.fine).stem == worst), rows[0])


def _optionsFrom(choices: TrainingChoices) -> PrepareOptions:
    problems = choices.optionProblems()
    if problems:
        raise OptionError(problems[0][1], _("Correct the settings first."))
    values = choices.values()
    window = valueAt(values, RANGE) if choices.parameters.window is WindowChoice.custom else None
    window = None if window == PREPARED_WINDOW else window
    scale, edge = valueAt(values, "scale"), valueAt(values, "datasets.train.HR_size")
    if scale == 1:
        raise InputError(_("A pair is prepared for a scale of 2 or more."), _("Change the scale in the settings."))
    return PrepareOptions(
        scale=scale,
        format="nrrd",
        min_size=edge,
        window=tuple(window) if window else None,
        patient_pattern=valueAt(values, "datasets.train.patient_pattern"),
    )


def _freeFolder(parent: Path, name: str) -> Path:
    """A folder that does not exist yet."""
    base = fileName(_("{name} pair").format(name=name))
    names = [base, *(f"{base} {number}" for number in range(2, 1000))]
    return next(parent / one for one in names if not (parent / one).exists())
