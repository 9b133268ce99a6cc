"""Batch: several volumes or files, one after the other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import slicer
from slicer.i18n import tr as _

from ...core.errors import SuperResError
from ...core.memory import readable
from ...core.progress import duration_text
from ...io.formats import VOLUME_FORMATS
from ...jobs.queue import Item, State, find_scans
from ...scene.logic import SuperResLogic
from ...scene.nodes import inputOf
from ...scene.queue import BatchQueue, Recipe
from .. import dialogs
from ..widgets import Section, fitColumns, showCell
from .choices import Choices


class BatchSection(Section):
    """A queue that is worked through with what is chosen in the other sections, ROI apart.

    Attributes
    ----------
    queue : BatchQueue
        Of what the parameters name.
    tell : callable (text)
        Set by the panel; for the log.
    whenStarted : callable ()
        Set by the panel; a batch begins.
    """

    def __init__(self, ui, choices: Choices, logic: SuperResLogic, ensurePackages: Callable[[], None]) -> None:
        super().__init__(ui)
        self.choices, self.ensurePackages = choices, ensurePackages
        self.queue = BatchQueue(logic)
        self.tell: Callable[[str], None] = lambda text: None
        self.whenStarted: Callable[[], None] = lambda: None
        self._told = 0
        fitColumns(ui.batchTable)
        ui.batchVolumesButton.connect("clicked(bool)", self.onAddVolumes)
        ui.batchFilesButton.connect("clicked(bool)", self.onAddFiles)
        ui.batchFolderButton.connect("clicked(bool)", self.onAddFolder)
        ui.batchRemoveButton.connect("clicked(bool)", self.onRemove)
        ui.batchFolderEdit.connect("currentPathChanged(QString)", self.onFolderChosen)
        ui.batchTable.connect("itemSelectionChanged()", self.onRowsChosen)
        ui.batchStartButton.connect("clicked(bool)", self.onStartOrCancel)
        ui.batchRetryButton.connect("clicked(bool)", self.onRetry)

    @property
    def isBusy(self) -> bool:
        return self.queue.isBusy

    def refresh(self) -> None:
        if self.parameters is not None and not self.isBusy:
            self.queue.setSources(self._sources())
        if self.parameters is not None and self.ui.batchFolderEdit.currentPath != self.parameters.batchFolder:
            self.ui.batchFolderEdit.currentPath = self.parameters.batchFolder
        self._showItems()
        self.ui.batchFolderEdit.enabled = not self.isBusy
        running, reason = self.isBusy, self._whyNot()
        self.ui.batchStartButton.text = _("Cancel batch") if running else _("Start batch")
        self.ui.batchStartButton.enabled = running or not reason
        hint = _("Compute all that have no result yet, one after the other, with the choices made above.")
        self.ui.batchStartButton.toolTip = _("Stop; what is done stays.") if running else reason or hint
        failed = self.queue.failed
        self.ui.batchRetryButton.enabled = bool(failed) and not running and not reason
        self.ui.batchProgressBar.visible = running
        for button in (self.ui.batchVolumesButton, self.ui.batchFilesButton, self.ui.batchFolderButton):
            button.enabled = not running
        self.onRowsChosen()

    def poll(self) -> None:
        self.queue.poll()
        self._showProgress()
        if not self.isBusy:
            self._end()

    def close(self) -> None:
        self.queue.close()
        self.queue.setSources([])
        self.ui.batchLabel.text = ""

    def onAddVolumes(self, checked: bool = False) -> None:
        volumes = slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")
        found = [v for v in volumes if not v.IsA("vtkMRMLLabelMapVolumeNode") and inputOf(v) is None]
        self._add(volumes=found)

    def onAddFiles(self, checked: bool = False) -> None:
        patterns = " ".join(f"*{suffix}" for suffix in VOLUME_FORMATS)
        filters = _("Volumes ({patterns})").format(patterns=patterns) + ";;" + _("All files (*)")
        self._add(files=[Path(file) for file in dialogs.chooseFiles(_("Add files to the batch"), filters)])

    def onAddFolder(self, checked: bool = False) -> None:
        folder = dialogs.chooseFolder(_("Add a folder of scans, or of slices, to the batch"))
        if not folder:
            return
        try:
            self._add(files=find_scans(folder))
        except (SuperResError, OSError) as error:
            self.ui.batchLabel.text = str(error)

    def onRowsChosen(self) -> None:
        self.ui.batchRemoveButton.enabled = not self.isBusy and bool(self._chosenRows())

    def onRemove(self, checked: bool = False) -> None:
        gone = {self.queue.items[row].source for row in self._chosenRows()}
        left = [source for source in self._sources() if source not in gone]
        self._store(left)

    def onFolderChosen(self, folder: str) -> None:
        if self.parameters is not None:
            self.parameters.batchFolder = folder

    def onStartOrCancel(self, checked: bool = False) -> None:
        if self.isBusy:
            self.queue.cancel()
            self.ui.batchLabel.text = _("Cancelling")
        else:
            self._start(self.queue.unfinished or self.queue.items)

    def onRetry(self, checked: bool = False) -> None:
        self._start(self.queue.failed)

    def _start(self, items: Sequence[Item]) -> None:
        try:
            self.ensurePackages()
            self.queue.start(self._recipe(), items)
        except SuperResError as error:
            self.ui.batchLabel.text = str(error)
            return
        self._told = 0
        self.whenStarted()
        self._showProgress()
        self.whenChanged()

    def _recipe(self) -> Recipe:
        folder = self.parameters.batchFolder.strip()
        return Recipe(
            self.choices.card(), self.choices.options(), Path(folder) if folder else None, self.parameters.batchSkip
        )

    def _whyNot(self) -> str:
        if self.parameters is None:
            return _("No scene is open.")
        if self.choices.isLocked:
            return _("Something else is being computed.")
        if not self.queue.items:
            return _("Add volumes or files first.")
        if self.choices.card() is None:
            return _("Choose a model that is installed.")
        if any(item.isFile for item in self.queue.items) and not self.parameters.batchFolder.strip():
            return _("Choose a folder for the results of the files.")
        return ""

    def _sources(self) -> list[slicer.vtkMRMLScalarVolumeNode | Path]:
        volumes = [volume for volume in self.parameters.batchVolumes if volume is not None]
        return [*volumes, *self.parameters.batchFiles]

    def _add(self, volumes: Sequence[slicer.vtkMRMLScalarVolumeNode] = (), files: Sequence[Path] = ()) -> None:
        if self.parameters is not None:
            self.ui.batchLabel.text = ""
            self._store([*self._sources(), *volumes, *(file.absolute() for file in files)])

    def _store(self, sources: Sequence[slicer.vtkMRMLScalarVolumeNode | Path]) -> None:
        sources = list(dict.fromkeys(sources))
        self.parameters.batchVolumes = [source for source in sources if not isinstance(source, Path)]
        self.parameters.batchFiles = [source for source in sources if isinstance(source, Path)]
        self.whenChanged()

    def _chosenRows(self) -> list[int]:
        return sorted({index.row() for index in self.ui.batchTable.selectionModel().selectedRows()})

    def _showItems(self) -> None:
        table, items = self.ui.batchTable, self.queue.items
        if table.rowCount != len(items):
            table.clearSelection()
            table.setRowCount(len(items))
        for row, item in enumerate(items):
            showCell(table, row, 0, item.name, str(item.source) if item.isFile else item.name)
            showCell(table, row, 1, stateText(item), "\n".join([stateText(item), *item.warnings]))

    def _showProgress(self) -> None:
        self._showItems()
        started = self.queue.started
        ended = [item for item in started if item.state not in (State.WAITING, State.RUNNING)]
        self.ui.batchProgressBar.value = round(100 * self.queue.fraction)
        if self.queue.isBusy and not self.queue.isCancelling:
            self.ui.batchLabel.text = _("{done} of {count} done").format(done=len(ended), count=len(started))
        for item in ended[self._told :]:
            self.tell(f"{item.name}: {stateText(item)}")
        self._told = len(ended)

    def _end(self) -> None:
        states = [item.state for item in self.queue.started]
        counts = (f"{states.count(state)} {words}" for state, words in summaryWords().items() if state in states)
        self.ui.batchLabel.text = ", ".join(counts)
        self.whenChanged()


def stateText(item: Item) -> str:
    """What became of an item, in a line."""
    if item.state is State.WAITING:
        return _("Waiting")
    if item.state is State.RUNNING:
        return _("{percent} %, {stage}").format(percent=round(100 * item.fraction), stage=item.message or _("Starting"))
    if item.state is State.DONE:
        return ", ".join([_("Done"), sizeText(item.result), duration_text(item.seconds)])
    if item.state is State.SKIPPED:
        return _("Up to date, skipped")
    if item.state is State.CANCELLED:
        return _("Cancelled")
    return _("Failed: {reason}").format(reason=item.error)


def sizeText(result: slicer.vtkMRMLScalarVolumeNode | Path | None) -> str:
    """Name of a result and how large it is."""
    if result is None:
        return _("removed since")
    if isinstance(result, Path):
        return f"{result.name}, {readable(result.stat().st_size)}" if result.exists() else result.name
    if result.GetImageData() is None:
        return result.GetName()
    return f"{result.GetName()}, {' x '.join(str(n) for n in result.GetImageData().GetDimensions())}"


def summaryWords() -> dict[State, str]:
    return {
        State.DONE: _("done"),
        State.SKIPPED: _("skipped"),
        State.FAILED: _("failed"),
        State.CANCELLED: _("cancelled"),
    }
