"""Stand-ins for the CTK widgets that hold a value: a number, a range, a path."""

import pythonqt  # noqa: F401  installs the conventions of PythonQt
from PySide6 import QtCore, QtGui, QtWidgets
from PySide6.QtCore import Property, Qt, Signal
from stored import stored


def _row(widget):
    layout = QtWidgets.QHBoxLayout(widget)
    layout.setContentsMargins(0, 0, 0, 0)
    return layout


def _checkStep(step, low, high):
    """CTK only warns, and goes on with the step from before."""
    if low != high and not 0 < step <= high - low:
        raise ValueError(f"a step of {step} does not fit into the range from {low} to {high}")


def _widgets(args):
    return [a for a in args if isinstance(a, QtWidgets.QWidget)]


class ctkSliderWidget(QtWidgets.QWidget):
    """A slider beside a spin box; from 0 to 99 until it is told otherwise."""

    valueChanged = Signal(float)

    def __init__(self, *args):
        super().__init__(*_widgets(args))
        self.__dict__.update(_low=0.0, _high=99.0, _value=0.0, _step=1.0, _showing=False)
        self._slider, self._spin = QtWidgets.QSlider(Qt.Horizontal), QtWidgets.QDoubleSpinBox()
        row = _row(self)
        row.addWidget(self._slider, 1)
        row.addWidget(self._spin)
        self._spin.valueChanged.connect(self._onSpin)
        self._slider.valueChanged.connect(self._onSlider)
        self._show()

    def _show(self):
        self._showing = True
        step = self._step or 1.0
        self._slider.setRange(0, round((self._high - self._low) / step))
        self._slider.setValue(round((self._value - self._low) / step))
        self._spin.setRange(self._low, self._high)
        self._spin.setSingleStep(step)
        self._spin.setValue(self._value)
        self._showing = False

    def _onSpin(self, value):
        if not self._showing:
            self.setValue(value)

    def _onSlider(self, position):
        if not self._showing:
            self.setValue(self._low + position * self._step)

    def setValue(self, value):
        value = round(min(max(float(value), self._low), self._high), self.decimals)
        if value != self._value:
            self._value = value
            self._show()
            self.valueChanged.emit(value)

    def setRange(self, low, high):
        self._low, self._high = float(low), max(float(low), float(high))
        self.setValue(self._value)
        self._show()

    def setMinimum(self, low):
        self.setRange(low, self._high)

    def setMaximum(self, high):
        self.setRange(min(self._low, high), high)

    def setSingleStep(self, step):
        _checkStep(step, self._low, self._high)
        self._step = float(step)
        self._show()

    value = Property(float, lambda self: self._value, setValue)
    minimum = Property(float, lambda self: self._low, setMinimum)
    maximum = Property(float, lambda self: self._high, setMaximum)
    singleStep = Property(float, lambda self: self._step, setSingleStep)
    decimals = Property(int, lambda self: self._spin.decimals, lambda self, n: self._spin.setDecimals(n))
    suffix = Property(str, lambda self: self._spin.suffix, lambda self, text: self._spin.setSuffix(text))
    prefix = Property(str, lambda self: self._spin.prefix, lambda self, text: self._spin.setPrefix(text))
    pageStep = stored(float, "pageStep", 10.0)
    tracking = stored(bool, "tracking", True)


class _RangeBar(QtWidgets.QWidget):
    """What the two handles of a range look like; it is looked at, not moved."""

    def sizeHint(self):
        return QtCore.QSize(84, 22)

    def minimumSizeHint(self):
        return self.sizeHint()

    def paintEvent(self, event):
        low, high, first, last = self.parent().fractions()
        painter = QtGui.QPainter(self)
        handle = self.style().pixelMetric(QtWidgets.QStyle.PM_SliderLength)
        middle, length = self.height // 2, self.width - handle
        painter.fillRect(0, middle - 2, self.width, 4, self.palette.color(QtGui.QPalette.Mid))
        left, right = (handle // 2 + round(length * (v - low) / ((high - low) or 1)) for v in (first, last))
        painter.fillRect(left, middle - 2, right - left, 4, self.palette.color(QtGui.QPalette.Highlight))
        painter.setBrush(self.palette.color(QtGui.QPalette.Button))
        painter.setPen(self.palette.color(QtGui.QPalette.ButtonText))
        for x in (left, right):
            painter.drawRect(x - 5, middle - 7, 9, 14)
        painter.end()


class ctkRangeWidget(QtWidgets.QWidget):
    """Two values in a range; each is clamped to the other as things stand when it is set."""

    valuesChanged = Signal(float, float)
    minimumValueChanged = Signal(float)
    maximumValueChanged = Signal(float)
    rangeChanged = Signal(float, float)

    def __init__(self, *args):
        super().__init__(*_widgets(args))
        self.__dict__.update(_low=0.0, _high=99.0, _first=0.0, _last=99.0, _showing=False)
        self._spins = QtWidgets.QDoubleSpinBox(), QtWidgets.QDoubleSpinBox()
        self._grid = QtWidgets.QGridLayout(self)
        self._grid.setContentsMargins(0, 0, 0, 0)
        self._bar = _RangeBar(self)
        self._place()
        self._spins[0].valueChanged.connect(self._onSpin)
        self._spins[1].valueChanged.connect(self._onSpin)
        self._show()

    def _place(self):
        """The spin boxes beside the slider, or below it, at its ends."""
        below = bool(self.__dict__.get("_alignment", 0) & int(Qt.AlignBottom.value))
        places = {self._spins[0]: (1, 0, 1, 1), self._bar: (0, 0, 1, 3), self._spins[1]: (1, 2, 1, 1)}
        if not below:
            places = {self._spins[0]: (0, 0, 1, 1), self._bar: (0, 1, 1, 1), self._spins[1]: (0, 2, 1, 1)}
        for widget, place in places.items():
            self._grid.addWidget(widget, *place)
        self._grid.setColumnStretch(1, 1)

    def setSpinBoxAlignment(self, alignment):
        self.__dict__["_alignment"] = int(getattr(alignment, "value", alignment))
        self._place()

    def fractions(self):
        return self._low, self._high, self._first, self._last

    def _show(self):
        self._showing = True
        for spin, value in zip(self._spins, (self._first, self._last), strict=True):
            spin.setRange(self._low, self._high)
            spin.setValue(value)
        self._showing = False
        self.update()

    def _onSpin(self, _):
        if not self._showing:
            self.setValues(self._spins[0].value, self._spins[1].value)

    def _set(self, first, last):
        first, last = (round(value, self.decimals) for value in (first, last))
        before, (self._first, self._last) = (self._first, self._last), (first, last)
        self._show()
        if first != before[0]:
            self.minimumValueChanged.emit(first)
        if last != before[1]:
            self.maximumValueChanged.emit(last)
        if (first, last) != before:
            self.valuesChanged.emit(first, last)

    def setValues(self, first, last):
        first, last = sorted(min(max(float(value), self._low), self._high) for value in (first, last))
        self._set(first, last)

    def setMinimumValue(self, value):
        self._set(min(max(float(value), self._low), self._last), self._last)

    def setMaximumValue(self, value):
        self._set(self._first, min(max(float(value), self._first), self._high))

    def setRange(self, low, high):
        self._low, self._high = float(low), max(float(low), float(high))
        self.rangeChanged.emit(self._low, self._high)
        self.setValues(self._first, self._last)

    def setMinimum(self, low):
        self.setRange(low, self._high)

    def setMaximum(self, high):
        self.setRange(min(self._low, high), high)

    def setDecimals(self, count):
        for spin in self._spins:
            spin.setDecimals(count)

    def setSingleStep(self, step):
        _checkStep(step, self._low, self._high)
        for spin in self._spins:
            spin.setSingleStep(step)

    minimum = Property(float, lambda self: self._low, setMinimum)
    maximum = Property(float, lambda self: self._high, setMaximum)
    minimumValue = Property(float, lambda self: self._first, setMinimumValue)
    maximumValue = Property(float, lambda self: self._last, setMaximumValue)
    decimals = Property(int, lambda self: self._spins[0].decimals, setDecimals)
    singleStep = Property(float, lambda self: self._spins[0].singleStep, setSingleStep)
    spinBoxAlignment = Property(int, lambda self: self.__dict__.get("_alignment", 0x80), setSpinBoxAlignment)
    tracking = stored(bool, "tracking", True)


class ctkPathLineEdit(QtWidgets.QWidget):
    """A path that is typed or chosen."""

    currentPathChanged = Signal(str)
    validInputChanged = Signal(bool)
    Dirs, Files, Drives, Readable, Writable, Executable = 0x1, 0x2, 0x4, 0x10, 0x20, 0x40  # as in QDir
    NoDot, NoDotDot = 0x2000, 0x4000

    def __init__(self, *args):
        super().__init__(*_widgets(args))
        self._edit, button = QtWidgets.QLineEdit(), QtWidgets.QToolButton()
        button.setText("…")
        row = _row(self)
        row.addWidget(self._edit, 1)
        row.addWidget(button)
        self._edit.textChanged.connect(self.currentPathChanged)

    def setCurrentPath(self, path):
        self._edit.setText(path)

    currentPath = Property(str, lambda self: self._edit.text, setCurrentPath)
    filters = stored(int, "filters", 0)
    nameFilters = stored("QStringList", "nameFilters", [])
    settingKey = stored(str, "settingKey", "")
    showBrowseButton = stored(bool, "showBrowseButton", True)
    showHistoryButton = stored(bool, "showHistoryButton", True)
