"""The part of section Data that puts scans into the table."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from slicer.i18n import tr as _

from ...core.errors import InputError, SuperResError
from ...scene.nodes import volumeFromNode
from ...scene.training_volumes import Scan
from .. import dialogs
from .data_rows import USES, DataRow, makeRow
from .tasks import tell

VOLUMES, FILES = range(2)


class ScanAdder:
    """Loaded volumes, or files and folders: a fine scan and, if there is one, the coarse scan of the same object.

    Parameters
    ----------
    ui
    add : callable (row)
        Puts a row into the table; may raise SuperResError.
    """

    def __init__(self, ui, add: Callable[[DataRow], None]) -> None:
        self.ui = ui
        self._add = add
        for text in (_("Loaded volumes"), _("Files or folders")):
            ui.sourceSelector.addItem(text)
        for text in (_("Training"), _("Validation")):
            ui.useSelector.addItem(text)
        ui.sourceSelector.connect("currentIndexChanged(int)", self.onSource)
        ui.addButton.connect("clicked(bool)", self.onAdd)
        ui.fineFileButton.connect("clicked(bool)", self.onFineFile)
        ui.fineFolderButton.connect("clicked(bool)", self.onFineFolder)
        ui.coarseFileButton.connect("clicked(bool)", self.onCoarseFile)
        ui.coarseFolderButton.connect("clicked(bool)", self.onCoarseFolder)
        self.onSource()

    def bind(self) -> None:
        tell(self.ui.addLabel, "")

    def refresh(self, enabled: bool) -> None:
        self.ui.addButton.enabled = enabled

    def onSource(self, index: int = 0) -> None:
        areFiles = self.ui.sourceSelector.currentIndex == FILES
        for widget in (self.ui.fineSelector, self.ui.coarseSelector):
            widget.visible = not areFiles
        for widget in (self.ui.finePathWidget, self.ui.coarsePathWidget):
            widget.visible = areFiles

    def onAdd(self, checked: bool = False) -> None:
        tell(self.ui.addLabel, "")
        try:
            self._add(self._row())
        except SuperResError as error:
            tell(self.ui.addLabel, str(error))
            return
        for widget in (self.ui.finePathEdit, self.ui.coarsePathEdit):
            widget.text = ""
        for selector in (self.ui.fineSelector, self.ui.coarseSelector):
            selector.setCurrentNode(None)

    def onFineFile(self, checked: bool = False) -> None:
        self._choose(self.ui.finePathEdit, _file)

    def onFineFolder(self, checked: bool = False) -> None:
        self._choose(self.ui.finePathEdit, _folder)

    def onCoarseFile(self, checked: bool = False) -> None:
        self._choose(self.ui.coarsePathEdit, _file)

    def onCoarseFolder(self, checked: bool = False) -> None:
        self._choose(self.ui.coarsePathEdit, _folder)

    def _choose(self, edit, ask: Callable[[str], str]) -> None:
        path = ask(edit.text)
        if path:
            edit.text = path

    def _row(self) -> DataRow:
        if self.ui.sourceSelector.currentIndex == FILES:
            fine, coarse = (_pathOf(edit.text) for edit in (self.ui.finePathEdit, self.ui.coarsePathEdit))
        else:
            fine, coarse = (_volumeOf(s.currentNode()) for s in (self.ui.fineSelector, self.ui.coarseSelector))
        if fine is None:
            raise InputError(_("No fine scan is chosen."), _("Choose the scan with the smaller voxels."))
        if fine == coarse:
            raise InputError(_("The coarse and the fine scan are the same."), _("Choose two different ones."))
        return makeRow(fine, coarse, USES[self.ui.useSelector.currentIndex])


def _volumeOf(node) -> Scan | None:
    """A node that holds a scan; InputError if it does not."""
    if node is not None:
        volumeFromNode(node)
    return node


def _pathOf(text: str) -> str | None:
    """A file or folder that is there; InputError if it is not."""
    text = text.strip()
    if not text:
        return None
    path = Path(text).expanduser().absolute()
    if not path.exists():
        raise InputError(_("There is no {path}.").format(path=path), _("Choose another file or folder."))
    if path.is_dir() and not any(path.iterdir()):
        raise InputError(_("The folder {path} is empty.").format(path=path), _("Choose another one."))
    return str(path)


def _file(before: str) -> str:
    filters = _("Scans (*.nrrd *.nhdr *.mha *.mhd *.nii *.nii.gz *.tif *.tiff *.png);;All files (*)")
    return dialogs.chooseFile(_("Choose a scan"), filters, before)


def _folder(before: str) -> str:
    return dialogs.chooseFolder(_("Choose a folder of slices or scans"), before)
