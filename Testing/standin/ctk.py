"""Stand-ins for the CTK widgets that the panels use."""

import qt  # noqa: F401  installs the conventions of PythonQt
from ctkvalues import ctkPathLineEdit, ctkRangeWidget, ctkSliderWidget  # noqa: F401
from PySide6 import QtCore, QtGui, QtWidgets
from PySide6.QtCore import Qt, Signal
from stored import stored


class ctkCollapsibleButton(QtWidgets.QWidget):
    contentsCollapsed = Signal(bool)
    clicked = Signal(bool)
    toggled = Signal(bool)
    text = stored(str, "text", "")
    collapsed = stored(bool, "collapsed", False, "contentsCollapsed")
    checkable = stored(bool, "checkable", False)
    flat = stored(bool, "flat", False)
    contentsFrameShape = stored(int, "contentsFrameShape", 0)
    contentsLineWidth = stored(int, "contentsLineWidth", 1)
    collapsedHeight = stored(int, "collapsedHeight", 14)
    HEADER = 24

    def __init__(self, *args):
        args = list(args)
        text = args.pop(0) if args and isinstance(args[0], str) else ""
        super().__init__(*[a for a in args if a is not None])
        self.__dict__["_isCollapsing"] = False
        self.setContentsMargins(0, self.HEADER, 0, 0)
        self.setSizePolicy(QtWidgets.QSizePolicy.Minimum, QtWidgets.QSizePolicy.Preferred)  # never below its size hint
        self.text = text

    def childEvent(self, event):
        super().childEvent(event)
        if event.added() and event.child().isWidgetType():
            event.child().installEventFilter(self)
            if self.collapsed:
                self._showChild(event.child())

    def eventFilter(self, child, event):
        """Remember what was hidden or shown on purpose, apart from collapsing."""
        isOnPurpose = not self.__dict__.get("_isCollapsing", True)
        if isOnPurpose and event.type() in (QtCore.QEvent.ShowToParent, QtCore.QEvent.HideToParent):
            child.setProperty("visibilityToParent", event.type() == QtCore.QEvent.ShowToParent)
            if self.collapsed:
                self._showChild(child)
        return False

    def _showChild(self, child):
        self.__dict__["_isCollapsing"] = True
        child.setVisible(not self.collapsed and child.property("visibilityToParent") is not False)
        child.setAttribute(Qt.WA_WState_ExplicitShowHide, False)  # or the same, on purpose, would go unnoticed
        self.__dict__["_isCollapsing"] = False

    def _update(self, name):
        if name == "collapsed":
            for child in self.children():
                if child.isWidgetType():
                    self._showChild(child)
            self.setMaximumHeight(self._buttonSize().height() + self.collapsedHeight if self.collapsed else 16777215)
            self.updateGeometry()
        self.update()

    def showEvent(self, event):
        self._update("collapsed")
        super().showEvent(event)

    def setText(self, text):
        self.text = text

    def setCollapsed(self, collapsed):
        self.collapsed = collapsed

    def mousePressEvent(self, event):
        if event.position().y() < self.HEADER:
            self.collapsed = not self.collapsed
            self.clicked.emit(not self.collapsed)

    def _buttonSize(self):
        return QtCore.QSize(self.fontMetrics().horizontalAdvance(self.text) + 32, self.HEADER)

    def sizeHint(self):
        button = self._buttonSize()
        button.setHeight(button.height() + self.collapsedHeight)
        return button if self.collapsed else super().sizeHint().expandedTo(button)

    def minimumSizeHint(self):
        return self.sizeHint() if self.collapsed else super().minimumSizeHint().expandedTo(self._buttonSize())

    def paintEvent(self, event):
        p = QtGui.QPainter(self)
        r = QtCore.QRect(0, 0, self.width - 1, self.HEADER - 4)
        p.setPen(self.palette.color(QtGui.QPalette.Mid))
        p.setBrush(self.palette.color(QtGui.QPalette.Button))
        p.drawRoundedRect(r, 3, 3)
        p.setPen(self.palette.color(QtGui.QPalette.ButtonText))
        p.drawText(r.adjusted(22, 0, 0, 0), int(Qt.AlignVCenter | Qt.AlignLeft), self.text)
        x, y = 7, self.HEADER // 2 - 2
        right, down = [(x, y - 4), (x, y + 4), (x + 6, y)], [(x - 1, y - 3), (x + 7, y - 3), (x + 3, y + 3)]
        p.setBrush(self.palette.color(QtGui.QPalette.ButtonText))
        p.drawPolygon([QtCore.QPoint(*t) for t in (right if self.collapsed else down)])
        p.end()
