"""Log: what was done, for those who report problems."""

from __future__ import annotations

import time

import slicer

from ..section import Section


class LogSection(Section):
    """Keeps what the other sections tell; newest at the end."""

    def __init__(self, ui) -> None:
        super().__init__(ui)
        self.ui.copyLogButton.connect("clicked(bool)", self.onCopy)

    def add(self, text: str) -> None:
        """Append a text with the time of day."""
        self.ui.logText.appendPlainText(f"{time.strftime('%H:%M:%S')}  {text}")

    def refresh(self) -> None:
        self.ui.copyLogButton.enabled = bool(self.ui.logText.plainText)

    def onCopy(self, checked: bool = False) -> None:
        slicer.app.clipboard().setText(self.ui.logText.plainText)
