"""A registered pair as one volume for the slice views: cubes of the fine and of the coarse scan by turns.

Registering a pair of scans and writing it for a training: where to, with which options, and what comes of it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import slicer
from slicer.i18n import tr as _

from ...core.errors import InputError, OptionError
from ...io.raw_nrrd import map_raw_nrrd
from ...io.volume import Volume
from ...prepare.options import PrepareOptions
from ...scene.nodes import fillNode
from ...scene.training_logic import TrainingLogic
from ...scene.training_volumes import fileName
from ...train.options_file import value_at as valueAt
from .. import dialogs
from .choices import RANGE, TrainingChoices
from .data_rows import DATASETS, DataRow, nameOf
from .option_values import PREPARED_WINDOW
from .parameters import WindowChoice
from .tasks import WrittenTask

TICK_S = 0.04
TILES = 7  # across the shorter edge of a slice
MARK = "CBCTSuperRes.checkerboard"
LAYERS = ("Background", "Foreground", "Label")


class Checkerboard:
    """Shows a pair in all slice views, and afterwards what was there before. Neither saved nor listed.

    >>> board = Checkerboard()
    >>> board.show(coarsePath, finePath)
    >>> while board.isBusy:
    ...     board.poll()                   # a part of the copying, from a timer
    >>> board.remove()
    """

    def __init__(self) -> None:
        self._node: slicer.vtkMRMLScalarVolumeNode | None = None
        self._filling: Iterator[float] | None = None
        self._before: dict[str, tuple[str | None, ...]] = {}

    @property
    def isBusy(self) -> bool:
        return self._filling is not None

    @property
    def isShown(self) -> bool:
        return self._node is not None

    def show(self, coarse: str | Path, fine: str | Path) -> None:
        """Begin to fill a node with a prepared pair, which is read as it is copied.

        Raises
        ------
        InputError
            If a file cannot be read, or the two do not cover the same extent.
        """
        self.remove()
        low, high = map_raw_nrrd(coarse), map_raw_nrrd(fine)
        factors = _factors(low, high)
        name = slicer.mrmlScene.GenerateUniqueName(_("Checkerboard of fine and coarse scan"))
        self._node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", name)
        self._node.SetSaveWithScene(False)
        self._node.SetHideFromEditors(True)
        self._node.SetAttribute(MARK, "1")
        self._filling = _filled(self._node, low, high, factors)

    def poll(self) -> None:
        end = time.monotonic() + TICK_S
        while time.monotonic() < end:
            if next(self._filling, None) is None:
                self._filling = None
                self._showNode()
                return

    def remove(self) -> None:
        """Show again what was shown before."""
        self._filling = None
        if self._node is None:
            return
        node, self._node = self._node, None
        for view in _views():
            if view.GetBackgroundVolumeID() == node.GetID():
                for layer, volume in zip(LAYERS, self._before.get(view.GetID(), (None,) * 3), strict=True):
                    getattr(view, f"Set{layer}VolumeID")(volume)
        if node.GetScene() is not None:
            if node.GetDisplayNode():
                slicer.mrmlScene.RemoveNode(node.GetDisplayNode())
            slicer.mrmlScene.RemoveNode(node)

    def _showNode(self) -> None:
        self._node.CreateDefaultDisplayNodes()
        display = self._node.GetDisplayNode()
        display.SetSaveWithScene(False)
        display.SetAutoWindowLevel(False)
        display.SetWindowLevelMinMax(0, 65535)
        self._before = {
            view.GetID(): tuple(getattr(view, f"Get{layer}VolumeID")() for layer in LAYERS) for view in _views()
        }
        for view in _views():
            view.SetBackgroundVolumeID(self._node.GetID())
            view.SetForegroundVolumeID(None)
            view.SetLabelVolumeID(None)
        if slicer.app.layoutManager() is not None:
            slicer.util.resetSliceViews()


def checkered(coarse: Volume, fine: Volume, factors: Sequence[int]) -> Iterator[np.ndarray]:
    """Slices of the fine volume with every second cube of the coarse one, whose voxels are repeated.

    Parameters
    ----------
    coarse, fine : Volume
    factors : sequence of int
        How many voxels of `fine` lie along one of `coarse`, along (k, j, i).
    """
    edge = max(1, min(fine.voxels.shape[1:]) // TILES)
    edges = [max(1, round(edge * fine.spacing[0] / step)) for step in fine.spacing[::-1]]
    k, j, i = (np.arange(n) // e for n, e in zip(fine.voxels.shape, edges, strict=True))
    board = (j[:, None] + i) % 2
    for number, turn in enumerate(k):
        low = coarse.voxels[number // factors[0]].repeat(factors[1], 0).repeat(factors[2], 1)
        yield np.where((board + turn) % 2 == 1, low, fine.voxels[number])


def _factors(coarse: Volume, fine: Volume) -> list[int]:
    shapes = list(zip(fine.voxels.shape, coarse.voxels.shape, strict=True))
    if any(a % b for a, b in shapes):
        raise InputError(_("The coarse and the fine scan do not cover the same region."), _("Prepare them again."))
    return [a // b for a, b in shapes]


def _filled(node, coarse: Volume, fine: Volume, factors: Sequence[int]) -> Iterator[float]:
    """Fill a node in small steps."""
    voxels = np.empty_like(fine.voxels)
    for number, part in enumerate(checkered(coarse, fine, factors)):
        voxels[number] = part
        yield number / len(voxels)
    yield from fillNode(node, Volume(voxels, fine.grid))


def _views() -> list:
    return slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode")


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
