"""What is shown outside of Slicer: folders in the system's file browser, pages in the web browser."""

from __future__ import annotations

import qt


def openInFileBrowser(folder: str) -> None:
    qt.QDesktopServices.openUrl(qt.QUrl.fromLocalFile(folder))


def openInWebBrowser(address: str) -> None:
    qt.QDesktopServices.openUrl(qt.QUrl(address))
