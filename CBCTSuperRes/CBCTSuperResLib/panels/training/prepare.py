"""Registering a pair of scans and writing it for a training: where to, with which options, and what comes of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from slicer.i18n import tr as _

from ...core.atomic import json_of
from ...core.errors import InputError, OptionError
from ...io.formats import free_path
from ...prepare.options import PrepareOptions
from ...scene.training_logic import TrainingLogic
from ...scene.training_volumes import Steps, fileName
from ...train.options_file import value_at
from .choices import RANGE, TrainingChoices
from .data_rows import DATASETS, DataRow, nameOf
from .option_values import PREPARED_WINDOW
from .parameters import WindowChoice


@dataclass(frozen=True)
class Preparation:
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

    def steps(self, logic: TrainingLogic) -> Steps:
        """Hands the volumes over in small steps; the generator returns the task."""
        return logic.preparing(self.row.coarse, self.row.fine, self.folder, **self.options.to_json())

    def datasets(self) -> Mapping[str, Mapping]:
        """What was written, as `datasets` of a training's options.

        Raises
        ------
        InputError
            If it has vanished.
        """
        try:
            return json_of((self.folder / DATASETS).read_text(encoding="utf-8"))
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


def prepareOptions(choices: TrainingChoices) -> PrepareOptions:
    """How a pair is prepared for the training that is chosen.

    Raises
    ------
    SuperResError
        If the settings do not allow it.
    """
    problems = choices.optionProblems()
    if problems:
        raise OptionError(problems[0][1], _("Correct the settings first."))
    values = choices.values()
    window = value_at(values, RANGE) if choices.parameters.window is WindowChoice.custom else None
    scale = value_at(values, "scale")
    if scale == 1:
        raise InputError(_("A pair is prepared for a scale of 2 or more."), _("Change the scale in the settings."))
    return PrepareOptions(
        scale=scale,
        format="nrrd",
        min_size=value_at(values, "datasets.train.HR_size"),
        window=tuple(window) if window and window != PREPARED_WINDOW else None,
        patient_pattern=value_at(values, "datasets.train.patient_pattern"),
    )


def freeFolder(parent: str | Path, row: DataRow) -> Path:
    """A folder for the pair of a row that does not exist yet."""
    return free_path(Path(parent), fileName(_("{name} pair").format(name=nameOf(row.fine))))
