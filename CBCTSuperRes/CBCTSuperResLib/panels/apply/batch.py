"""Batch: several volumes or files, one after the other."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import slicer
from slicer.i18n import tr as _

from ...core.errors import SuperResError
from ...io.folders import find_scans, told
from ...io.formats import VOLUME_FORMATS
from ...jobs.queue import Item, State
from ...scene.logic import SuperResLogic
from ...scene.queue import BatchQueue, Recipe
from .. import dialogs
from ..error_text import errorText
from ..section import Section, Signal, fitColumns, offer, showCell
from .choices import ApplyChoices
from .scan_choices import SCALAR_VOLUME, isScan
from .texts import batchItemText, batchText

Source = slicer.vtkMRMLScalarVolumeNode | Path


class BatchSection(Section):
    """A queue that is worked through with what is chosen in the other sections, ROI apart.

    Attributes
    ----------
    queue : BatchQueue
        Of what the parameters name.
    started : Signal ()
    logged : Signal (text)
        Details for the log.
    """

    def __init__(self, ui, choices: ApplyChoices, logic: SuperResLogic) -> None:
        super().__init__(ui, choices)
        self.queue = BatchQueue(logic)
        self.started, self.logged = Signal(), Signal()
        self._countLogged = 0
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
        if self.parameters is not None:
            if not self.isBusy:
                self.queue.setSources(self._sources())
            if self.ui.batchFolderEdit.currentPath != self.parameters.batchFolder:
                self.ui.batchFolderEdit.currentPath = self.parameters.batchFolder
        self._showItems()
        self.onRowsChosen()
        running, reason = self.isBusy, self.problem()
        for button in (self.ui.batchVolumesButton, self.ui.batchFilesButton, self.ui.batchFolderButton):
            button.enabled = not running
        self.ui.batchFolderEdit.enabled = not running
        self.ui.batchProgressBar.visible = running
        self.ui.batchRetryButton.enabled = bool(self.queue.failed) and not running and not reason
        if running:
            self.ui.batchStartButton.text = _("Cancel batch")
            offer(self.ui.batchStartButton, "", _("Stop; what is done stays."))
        else:
            self.ui.batchStartButton.text = _("Start batch")
            hint = _("Compute all that have no result yet, one after the other, with the choices made above.")
            offer(self.ui.batchStartButton, reason, hint)

    def poll(self) -> None:
        self.queue.poll()
        self._showProgress()
        if not self.isBusy:
            self.ui.batchLabel.text = batchText(self.queue.started)
            self.changed.emit()

    def close(self) -> None:
        self.queue.close()
        self.queue.setSources([])
        self.ui.batchLabel.text = ""

    def problem(self) -> str:
        """Why the batch cannot start; "" if it can."""
        if self.parameters is None:
            return _("No scene is open.")
        if self.choices.isLocked:
            return _("Something else is being computed.")
        if not self.queue.items:
            return _("Add volumes or files first.")
        if not self.choices.isAutomatic and self.choices.card() is None:
            return _("Choose a model that is installed.")
        if any(item.isFile for item in self.queue.items) and not self.parameters.batchFolder.strip():
            return _("Choose a folder for the results of the files.")
        return ""

    def onAddVolumes(self, checked: bool = False) -> None:
        volumes = slicer.util.getNodesByClass(SCALAR_VOLUME)
        self._add([volume for volume in volumes if isScan(volume)])

    def onAddFiles(self, checked: bool = False) -> None:
        patterns = " ".join(f"*{suffix}" for suffix in VOLUME_FORMATS)
        filters = _("Volumes ({patterns})").format(patterns=patterns) + ";;" + _("All files (*)")
        self._add([Path(file).absolute() for file in dialogs.chooseFiles(_("Add files to the batch"), filters)])

    def onAddFolder(self, checked: bool = False) -> None:
        folder = dialogs.chooseFolder(_("Add a folder of scans, or of slices, to the batch"))
        if not folder:
            return
        try:
            scans, leftOut = find_scans(folder)
            self._add([file.absolute() for file in scans])
            self.ui.batchLabel.text = "\n".join(told(leftOut, Path(folder)))
        except (SuperResError, OSError) as error:
            self.ui.batchLabel.text = errorText(error)

    def onRowsChosen(self) -> None:
        self.ui.batchRemoveButton.enabled = not self.isBusy and bool(self._chosenRows())

    def onRemove(self, checked: bool = False) -> None:
        removed = {self.queue.items[row].source for row in self._chosenRows()}
        self._store([source for source in self._sources() if source not in removed])

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
        folder = self.parameters.batchFolder.strip()
        try:
            dialogs.ensurePackages(self.choices.needsTorch(), self.choices.options().engine)
            options, skip = self.choices.options(), self.parameters.batchSkip
            card = None if self.choices.isAutomatic else self.choices.installedCard()
            self.queue.start(Recipe(card, options, Path(folder) if folder else None, skip), items)
        except SuperResError as error:
            self.ui.batchLabel.text = errorText(error)
            return
        self._countLogged = 0
        self.started.emit()
        self._showProgress()
        self.changed.emit()

    def _sources(self) -> list[Source]:
        volumes = [volume for volume in self.parameters.batchVolumes if volume is not None]
        return [*volumes, *self.parameters.batchFiles]

    def _add(self, sources: Sequence[Source]) -> None:
        if self.parameters is not None:
            self.ui.batchLabel.text = ""
            self._store([*self._sources(), *sources])

    def _store(self, sources: Sequence[Source]) -> None:
        sources = list(dict.fromkeys(sources))
        self.parameters.batchVolumes = [source for source in sources if not isinstance(source, Path)]
        self.parameters.batchFiles = [source for source in sources if isinstance(source, Path)]
        self.changed.emit()

    def _chosenRows(self) -> list[int]:
        return sorted({index.row() for index in self.ui.batchTable.selectionModel().selectedRows()})

    def _showItems(self) -> None:
        table, items = self.ui.batchTable, self.queue.items
        if table.rowCount != len(items):
            table.clearSelection()
            table.setRowCount(len(items))
        for row, item in enumerate(items):
            text = batchItemText(item)
            showCell(table, row, 0, item.name, str(item.source) if item.isFile else item.name)
            showCell(table, row, 1, text, "\n".join([text, *item.warnings]))

    def _showProgress(self) -> None:
        self._showItems()
        started = self.queue.started
        ended = [item for item in started if item.state not in (State.WAITING, State.RUNNING)]
        self.ui.batchProgressBar.value = round(100 * self.queue.fraction)
        if self.queue.isBusy and not self.queue.isCancelling:
            self.ui.batchLabel.text = _("{done} of {count} done").format(done=len(ended), count=len(started))
        for item in ended[self._countLogged :]:
            self.logged.emit(f"{item.name}: {batchItemText(item)}")
        self._countLogged = len(ended)
