"""The few windows that the panels open, all of them only after a click.

Call them as `dialogs.chooseFile(...)`, so that a test can put another in place.
"""

from __future__ import annotations

from collections.abc import Sequence

import qt
import slicer
from slicer.i18n import tr as _

from ..scene import installation


def chooseFile(title: str, filters: str, folder: str = "") -> str:
    """The path of an existing file; "" if the user has cancelled.

    Parameters
    ----------
    title, filters : str
        For instance "Import a model" and "Model files (*.safetensors);;All files (*)".
    folder : str
        Where to begin.
    """
    return qt.QFileDialog.getOpenFileName(slicer.util.mainWindow(), title, folder, filters)


def chooseFiles(title: str, filters: str) -> list[str]:
    """The paths of existing files; none if the user has cancelled."""
    return list(qt.QFileDialog.getOpenFileNames(slicer.util.mainWindow(), title, "", filters))


def chooseNewFile(title: str, filters: str, folder: str = "") -> str:
    """The path of a file to write, which the user agrees to replace if it exists; "" if cancelled."""
    return qt.QFileDialog.getSaveFileName(slicer.util.mainWindow(), title, folder, filters)


def chooseFolder(title: str, folder: str = "") -> str:
    """The path of a folder; "" if the user has cancelled."""
    return qt.QFileDialog.getExistingDirectory(slicer.util.mainWindow(), title, folder)


def confirm(title: str, question: str, action: str = "") -> bool:
    """Whether the user agrees; `action` is what the agreeing button says."""
    return choose(title, question, [action or _("OK")]) == 0


def choose(title: str, question: str, actions: Sequence[str]) -> int:
    """The number of the button that the user has clicked, of those named in `actions`; -1 if cancelled."""
    box = qt.QMessageBox(slicer.util.mainWindow())
    box.setIcon(qt.QMessageBox.Question)
    box.setWindowTitle(title)
    box.setTextFormat(qt.Qt.PlainText)  # questions hold names and paths
    box.setText(question)
    buttons = [box.addButton(action, qt.QMessageBox.AcceptRole) for action in actions]
    box.addButton(_("Cancel"), qt.QMessageBox.RejectRole)
    box.exec_()
    clicked = box.clickedButton()
    box.deleteLater()
    return buttons.index(clicked) if clicked in buttons else -1


def askTexts(title: str, question: str, labels: dict[str, str]) -> dict[str, str]:
    """What the user writes into some lines, by their names; {} if cancelled. All of them have to be filled.

    Parameters
    ----------
    labels : dict
        What stands before each line.
    """
    window = qt.QDialog(slicer.util.mainWindow())
    window.setWindowTitle(title)
    told = qt.QLabel(question)
    told.wordWrap = True
    buttons = qt.QDialogButtonBox()
    buttons.setStandardButtons(qt.QDialogButtonBox.Ok | qt.QDialogButtonBox.Cancel)
    buttons.connect("accepted()", window.accept)
    buttons.connect("rejected()", window.reject)
    lines = {name: qt.QLineEdit() for name in labels}
    layout, form = qt.QVBoxLayout(window), qt.QFormLayout()
    layout.addWidget(told)
    layout.addLayout(form)
    layout.addWidget(buttons)

    def allow(*_) -> None:
        buttons.button(qt.QDialogButtonBox.Ok).enabled = all(line.text.strip() for line in lines.values())

    for name, line in lines.items():
        form.addRow(labels[name], line)
        line.connect("textChanged(QString)", allow)
    allow()
    isAgreed = window.exec_() == qt.QDialog.Accepted
    found = {name: line.text.strip() for name, line in lines.items()} if isAgreed else {}
    window.deleteLater()
    return found


def showDetails(title: str, html: str) -> None:
    """Show a text that can be read, searched and copied, until the user closes it."""
    window = qt.QDialog(slicer.util.mainWindow())
    window.setWindowTitle(title)
    window.resize(560, 520)
    text = qt.QTextBrowser()
    text.setOpenExternalLinks(True)
    text.setHtml(html)
    text.setToolTip(_("Select text to copy it."))
    buttons = qt.QDialogButtonBox()
    buttons.setStandardButtons(qt.QDialogButtonBox.Close)
    buttons.connect("rejected()", window.reject)
    layout = qt.QVBoxLayout(window)
    layout.addWidget(text)
    layout.addWidget(buttons)
    window.exec_()
    window.deleteLater()


def openFolder(folder: str) -> None:
    """Show a folder in the system's file browser."""
    qt.QDesktopServices.openUrl(qt.QUrl.fromLocalFile(folder))


def openFile(path: str) -> None:
    """Show a file in the program that is meant for it."""
    qt.QDesktopServices.openUrl(qt.QUrl.fromLocalFile(path))


def openAddress(address: str) -> None:
    """Show a page in the web browser."""
    qt.QDesktopServices.openUrl(qt.QUrl(address))


def ensurePackages(needsTorch: bool = True, engine: str = "auto") -> None:
    """Install what computing needs and is missing, if the user agrees; PyTorch only where it is of use.

    Raises
    ------
    DependencyError
        If something is still missing.
    """
    question = _(
        "Computing needs these Python packages, which are not installed yet:\n\n{packages}\n\nThey are downloaded from "
        "the internet and installed into this Slicer, which may take some minutes. Nothing of your data leaves this "
        "computer."
    )
    installation.ensurePackages(lambda missing: _confirmInstallation(question, missing), needsTorch, engine)


def offerTrainingExtras() -> list[str]:
    """Install what shows curves of a training, if the user agrees; returns what is still missing."""
    question = _(
        "These Python packages show the curves of a training in the web browser and as a picture file:\n\n{packages}"
        "\n\nA training works without them. Install them into this Slicer?"
    )
    return installation.offerTrainingExtras(ask=lambda missing: _confirmInstallation(question, missing))


def _confirmInstallation(question: str, missing: Sequence[str]) -> bool:
    question = question.format(packages="\n".join(missing))
    return confirm(_("Install Python packages"), question, _("Install"))
