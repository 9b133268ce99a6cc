"""Section Models: which models are installed, and where one puts others."""

from __future__ import annotations

from pathlib import Path

from slicer.i18n import tr as _

from ...models import ModelEntry, list_models, user_models_folder
from .. import dialogs
from ..section import Section


class ModelsSection(Section):
    """Lists the models on this computer and shows the card of the chosen one."""

    def __init__(self, ui) -> None:
        super().__init__(ui)
        self._entries: list[ModelEntry] = []
        self.ui.modelList.connect("currentRowChanged(int)", self.onModelChosen)
        self.ui.openFolderButton.connect("clicked(bool)", self.onOpenFolder)

    def bind(self, parameters) -> None:
        super().bind(parameters)
        self.listModels()

    def listModels(self) -> None:
        """Look for models again."""
        self._entries = list_models()
        self.ui.modelList.clear()
        for entry in self._entries:
            self.ui.modelList.addItem(entry.name if entry.card else _("{name} (unusable)").format(name=entry.name))
        self.ui.modelList.setCurrentRow(0 if self._entries else -1)
        if not self._entries:
            self.ui.cardText.setPlainText(_("No models are installed."))

    def choose(self, path: str) -> None:
        """Look for models again and show the card of this one."""
        self.listModels()
        rows = [row for row, entry in enumerate(self._entries) if entry.path == Path(path)]
        self.ui.modelList.setCurrentRow(rows[0] if rows else -1)

    def onModelChosen(self, row: int) -> None:
        if 0 <= row < len(self._entries):
            self.ui.cardText.setPlainText(entryText(self._entries[row]))

    def onOpenFolder(self, checked: bool = False) -> None:
        folder = user_models_folder()
        folder.mkdir(parents=True, exist_ok=True)
        dialogs.openFolder(str(folder))


def entryText(entry: ModelEntry) -> str:
    """What is known of a model, for people."""
    if entry.card is None:
        return entry.problem
    card = entry.card
    parts = [card.line, card.summary, card.limits and _("Limits: {limits}").format(limits=card.limits), str(entry.path)]
    return "\n\n".join(part for part in parts if part)
