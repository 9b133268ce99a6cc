"""Hosts a module's widget as the application does: a scroll area in a dock beside the views of a window.

>>> window = hosting.show(widget)          # of `slicerapp.showWidget`
>>> window.narrow()                        # drag the edge of the dock as far to the left as it goes
>>> window.openSections()
>>> window.visit()                         # choose another module, and this one again
>>> window.faults()                        # what is crushed, cut off or drawn over something else
>>> window.release()                       # the widget lives on

What the application's module panel does is done here: the module may not be narrower than its size hint, the panel not
narrower than that and a scroll bar, and nothing is scrolled sideways. So a size hint that grows pushes the views away.
"""

import itertools

import pythonqt  # noqa: F401  installs the conventions of PythonQt
from PySide6 import QtCore, QtWidgets
from PySide6.QtCore import Qt

SIZE = 1600, 1000  # pixels
CONTROLS = (
    QtWidgets.QAbstractButton,
    QtWidgets.QAbstractItemView,
    QtWidgets.QAbstractSpinBox,
    QtWidgets.QComboBox,
    QtWidgets.QLabel,
    QtWidgets.QLineEdit,
    QtWidgets.QPlainTextEdit,
    QtWidgets.QProgressBar,
    QtWidgets.QSlider,
)


def settle(turns=10):
    """Let layouts and timers that are due do what they have to."""
    for _ in range(turns):
        QtWidgets.QApplication.sendPostedEvents()
        QtWidgets.QApplication.processEvents()


def show(widget):
    """A window with the widget of a scripted module in it, laid out and shown."""
    window = HostWindow()
    window.host(widget.parent)
    window.show()
    settle()
    return window


class ModulePanel(QtWidgets.QWidget):
    """Scrolls what is in it, and is never narrower than that."""

    def __init__(self):
        super().__init__()
        self._area, contents = QtWidgets.QScrollArea(), QtWidgets.QWidget()
        self._area.setFrameShape(QtWidgets.QFrame.NoFrame)
        self._area.setHorizontalScrollBarPolicy(Qt.ScrollBarAlwaysOff)
        self._area.setWidgetResizable(True)
        rows = QtWidgets.QVBoxLayout(contents)
        rows.addItem(QtWidgets.QSpacerItem(0, 0, QtWidgets.QSizePolicy.Minimum, QtWidgets.QSizePolicy.MinimumExpanding))
        self._area.setWidget(contents)
        around = QtWidgets.QGridLayout(self)
        around.setContentsMargins(0, 0, 0, 0)
        around.addWidget(self._area)

    def host(self, module):
        module.layout().setContentsMargins(0, 0, 0, 0)
        self.contents().layout().insertWidget(0, module, 1)
        module.installEventFilter(self)
        module.setSizePolicy(QtWidgets.QSizePolicy.Minimum, module.sizePolicy.verticalPolicy())
        module.setVisible(True)

    def eventFilter(self, module, event):
        if event.type() == QtCore.QEvent.Resize:
            self.updateGeometry()
        return False

    def minimumSizeHint(self):
        contents, bar = self.contents().minimumSizeHint(), self._area.horizontalScrollBar().sizeHint()
        return QtCore.QSize(contents.width() + bar.width(), super().minimumSizeHint().height())

    def release(self, module):
        module.removeEventFilter(self)
        self.contents().layout().removeWidget(module)
        module.setVisible(False)
        module.setParent(None)

    def contents(self):
        return self._area.widget()


class HostWindow(QtWidgets.QMainWindow):
    """The application's window: the module's dock on the left, views on the right."""

    def __init__(self):
        super().__init__()
        self.resize(*SIZE)
        self.module = None
        self.panel = ModulePanel()
        self._dock = QtWidgets.QDockWidget()
        self._dock.setWidget(self.panel)
        self.addDockWidget(Qt.LeftDockWidgetArea, self._dock)
        self.views = QtWidgets.QFrame()
        self.views.setSizePolicy(QtWidgets.QSizePolicy.Expanding, QtWidgets.QSizePolicy.Expanding)
        self.setCentralWidget(self.views)

    def host(self, module):
        self.module = module
        self.panel.host(module)

    def visit(self):
        """Choose another module, and this one again."""
        getattr(self.module.self(), "exit", lambda: None)()
        self.panel.release(self.module)
        settle()
        self.panel.host(self.module)
        getattr(self.module.self(), "enter", lambda: None)()
        settle()

    def release(self):
        """Take the module out, and close the window."""
        self.panel.release(self.module)
        self.close()
        self.deleteLater()
        settle()

    def dockWidth(self):
        """Of the whole panel, in pixels."""
        settle()
        return self._dock.width

    def drag(self, width):
        """Drag the edge between the panel and the views; the panel may not become as narrow as is wished."""
        self.resizeDocks([self._dock], [width], Qt.Horizontal)
        settle()

    def narrow(self):
        self.drag(1)

    def sections(self):
        return [w for w in self.module.findChildren(QtWidgets.QWidget) if w.className() == "ctkCollapsibleButton"]

    def openSections(self):
        for section in self.sections():
            section.collapsed = False
        settle()

    def faults(self):
        """What a person would see to be wrong with the layout, in words; none if all is well."""
        settle()
        shown = [w for w in self.module.findChildren(QtWidgets.QWidget) if w.isVisible() and isinstance(w, CONTROLS)]
        shown = [w for w in shown if not _isPartOfControl(w)]
        found = [f"{_named(w)}: {fault}" for w in shown for fault in _cutOff(w, self.panel.contents())]
        return found + [f"{_named(a)} is drawn over {_named(b)}" for a, b in self._overlaps()]

    def _overlaps(self):
        for parent in [self.module, *self.module.findChildren(QtWidgets.QWidget)]:
            if isinstance(parent, CONTROLS):
                continue
            children = [w for w in parent.findChildren(QtWidgets.QWidget, options=Qt.FindDirectChildrenOnly)]
            children = [w for w in children if w.isVisible() and not w.isWindow()]
            for a, b in itertools.combinations(children, 2):
                if a.geometry.intersects(b.geometry):
                    yield a, b


def _isPartOfControl(widget):
    """Whether it is a piece of a control (a spin box's line, a table's viewport), which Qt itself places."""
    parent = widget.parent()
    while isinstance(parent, QtWidgets.QWidget):
        if isinstance(parent, CONTROLS):
            return True
        parent = parent.parent()
    return False


def _cutOff(widget, contents):
    least = widget.minimumSizeHint().expandedTo(widget.minimumSize).boundedTo(widget.maximumSize)
    if widget.height < least.height():
        yield f"is {widget.height} pixels high and needs {least.height()}"
    if isinstance(widget, QtWidgets.QLabel) and widget.wordWrap and widget.text:
        needed = widget.heightForWidth(widget.width)
        if widget.height < needed:
            yield f"is {widget.height} pixels high, and its text needs {needed}"
    isElastic = widget.sizePolicy.horizontalPolicy() == QtWidgets.QSizePolicy.Ignored
    isShortened = isinstance(widget, QtWidgets.QComboBox)  # it ends what does not fit with three dots
    if not (isElastic or isShortened) and widget.width < least.width():
        yield f"is {widget.width} pixels wide and needs {least.width()}"
    right = widget.mapTo(contents, QtCore.QPoint(widget.width, 0)).x()
    if right > contents.width:
        yield f"ends {right - contents.width} pixels outside"


def _named(widget):
    return widget.objectName or f"{widget.className()} in {_named(widget.parent())}"
