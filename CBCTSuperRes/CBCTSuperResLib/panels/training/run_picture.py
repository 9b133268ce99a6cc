"""A picture in a label, as wide as the panel."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import qt

NARROWEST = 40


class RunPicture(qt.QObject):
    """Shows a picture file in a label, scaled down to its width, also when that changes.

    The label's horizontal size policy must be Ignored, so that the picture does not hold the panel wide.

    Parameters
    ----------
    label : QLabel
    """

    def __init__(self, label) -> None:
        qt.QObject.__init__(self)
        self._label = label
        self._shown: tuple[Path, float] | None = None
        self._pixmap = None
        self._width = 0
        label.installEventFilter(self)

    def show(self, path: Path | None) -> None:
        """Show this picture, or none; a file that has not changed is not read again."""
        stamp = _stamp(path)
        if stamp == self._shown:
            return
        self._shown = stamp
        pixmap = qt.QPixmap(str(path)) if stamp else None
        self._pixmap = None if pixmap is None or pixmap.isNull() else pixmap
        self._width = 0
        self._label.visible = self._pixmap is not None
        self._fit()

    def eventFilter(self, label, event) -> bool:
        if event.type() == qt.QEvent.Resize:
            self._fit()
        return False

    def _fit(self) -> None:
        width = max(NARROWEST, self._label.width)
        if self._pixmap is None or width == self._width:
            return
        self._width = width
        picture = self._pixmap
        if picture.width() > width:
            picture = picture.scaledToWidth(width, qt.Qt.SmoothTransformation)
        self._label.setPixmap(picture)


def _stamp(path: Path | None) -> tuple[Path, float] | None:
    with suppress(OSError):
        return (path, path.stat().st_mtime) if path else None
    return None
