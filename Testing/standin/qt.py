"""Flat `qt` namespace like the one that PythonQt offers inside Slicer."""

import xml.etree.ElementTree as ElementTree

import pythonqt  # noqa: F401  installs the conventions
from PySide6 import QtCore, QtGui, QtUiTools, QtWidgets

for _m in (QtCore, QtGui, QtWidgets):
    for _n, _v in [(n, getattr(_m, n)) for n in dir(_m)]:
        if not _n.startswith("_"):
            globals()[_n] = _v
Signal = QtCore.Signal
Qt = QtCore.Qt


class QUiLoader(QtUiTools.QUiLoader):
    """Creates the Slicer widget classes and honours the <connections> of the .ui file."""

    def __init__(self, parent=None):
        super().__init__(parent)
        import ctk
        import slicerwidgets

        for module in (ctk, slicerwidgets):
            for name, cls in vars(module).items():
                if isinstance(cls, type) and issubclass(cls, QtWidgets.QWidget) and name[:1] != "_":
                    self.registerCustomWidget(cls)

    def load(self, device, parent=None):
        text = bytes(device.readAll().data())
        root = ElementTree.fromstring(text)
        connections = root.find("connections")
        if connections is not None:
            root.remove(connections)
        flags = list(self._takeFlags(root))
        buffer = QtCore.QBuffer()
        buffer.setData(ElementTree.tostring(root))
        buffer.open(QtCore.QIODevice.ReadOnly)
        widget = super().load(buffer, parent)
        byName = {o.objectName: o for o in [widget, *widget.findChildren(QtCore.QObject)] if o.objectName}
        for name, property_, value in flags:
            names = [n.rpartition("::")[2] for n in value.split("|")]
            setattr(byName[name], property_, sum(getattr(type(byName[name]), n) for n in names))
        for c in [] if connections is None else connections:
            sender, receiver = byName[c.findtext("sender")], byName[c.findtext("receiver")]
            slot = getattr(receiver, c.findtext("slot").split("(")[0])
            sender.connect(c.findtext("signal"), slot)
        return widget

    @staticmethod
    def _takeFlags(root):
        """Take the flags of CTK's widgets out of a .ui file: Qt's own loader cannot read those of a class in Python."""
        for widget in root.iter("widget"):
            for item in [
                p for p in widget.findall("property") if widget.get("class")[:3] == "ctk" and p.find("set") is not None
            ]:
                widget.remove(item)
                yield widget.get("name"), item.get("name"), item.findtext("set")
