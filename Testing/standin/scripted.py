"""Small counterparts of the parts of Slicer's Python that only the application has.

They follow the documented behaviour of `slicer.ScriptedLoadableModule`, `slicer.i18n` and
`slicer.parameterNodeWrapper` as far as our modules use it, and are stricter: an unknown field, type or widget raises.
"""

import enum
import importlib
import os
import types
import typing
import unittest

import qt
import slicer
import vtk


class ScriptedLoadableModule:
    def __init__(self, parent):
        self.parent = parent
        self.moduleName = type(self).__name__

    def resourcePath(self, name):
        return os.path.join(os.path.dirname(self.parent.path), "Resources", name)

    def runTest(self, **keywords):
        module = importlib.import_module(type(self).__module__)
        getattr(module, self.moduleName + "Test")().runTest(**keywords)


class ScriptedLoadableModuleWidget:
    def __init__(self, parent):
        super().__init__()
        self.moduleName = type(self).__name__.removesuffix("Widget")
        self.parent = parent
        self.layout = parent.layout()

    def resourcePath(self, name):
        module = getattr(slicer.modules, self.moduleName.lower())
        return os.path.join(os.path.dirname(module.path), "Resources", name)

    def setup(self):
        """Where Slicer adds the developer's section."""

    def cleanup(self):
        """To be overridden."""

    def onReload(self):
        slicer.reloaded.append(self.moduleName)


class ScriptedLoadableModuleLogic:
    def __init__(self, parent=None):
        super().__init__()
        self.moduleName = type(self).__name__.removesuffix("Logic")

    def getParameterNode(self):
        node = slicer.mrmlScene.GetSingletonNode(self.moduleName, "vtkMRMLScriptedModuleNode")
        if node is None:
            node = slicer.vtkMRMLScriptedModuleNode()
            node.SetSingletonTag(self.moduleName)
            node.SetName(self.moduleName)
            node = slicer.mrmlScene.AddNode(node)
        node.SetAttribute("ModuleName", self.moduleName)
        return node


class ScriptedLoadableModuleTest(unittest.TestCase):
    def runTest(self, **_):
        """To be overridden."""


def tr(text, context=None):
    return text


def translate(context, text):
    return text


def parameterNodeWrapper(cls):
    """Class decorator: the annotated fields become properties that are stored in a parameter node."""
    fields = typing.get_type_hints(cls)
    defaults = {name: getattr(cls, name) for name in fields if hasattr(cls, name)}
    for name, kind in fields.items():
        setattr(cls, name, _storedProperty(name, kind, defaults.get(name)))
    cls.__init__ = _makeInit(fields, defaults)
    cls.__setattr__ = _setKnown
    cls.connectGui, cls.disconnectGui = _connectGui, _disconnectGui
    cls.AddObserver = lambda self, event, callback: self.parameterNode.AddObserver(event, callback)
    cls.RemoveObserver = lambda self, tag: self.parameterNode.RemoveObserver(tag)
    cls.allParameters = fields
    return cls


def _isNode(kind):
    return isinstance(kind, type) and issubclass(kind, slicer.vtkMRMLNode)


def _storedProperty(name, kind, default):
    if _isNode(kind):
        return property(
            lambda self: self.parameterNode.GetNodeReference(name),
            lambda self, node: self.parameterNode.SetNodeReferenceID(name, _idOf(node, kind)),
        )
    if issubclass(kind, enum.Enum):  # stored by name
        return property(
            lambda self: kind[self.parameterNode.GetParameter(name)],
            lambda self, value: self.parameterNode.SetParameter(name, kind(value).name),
        )
    if kind is not str:
        raise TypeError(f"{name}: the stand-in does not know the type {kind}")
    return property(
        lambda self: self.parameterNode.GetParameter(name),
        lambda self, value: self.parameterNode.SetParameter(name, str(value)),
    )


def _idOf(node, kind):
    if node is not None and not isinstance(node, kind):
        raise TypeError(f"{node.GetName()} is no {kind.__name__}")
    return node.GetID() if node else None


def _makeInit(fields, defaults):
    def __init__(self, parameterNode):
        self.__dict__.update(parameterNode=parameterNode, _guis={}, _updating=False)
        for name, default in defaults.items():
            if not _isNode(fields[name]) and not parameterNode.GetParameter(name):
                setattr(self, name, default)

    return __init__


def _setKnown(self, name, value):
    if not isinstance(getattr(type(self), name, None), property):
        raise AttributeError(f"{type(self).__name__} has no field {name}")
    object.__setattr__(self, name, value)


def _connectGui(self, gui):
    """Bind every widget that has the property SlicerParameterName; returns a tag."""
    bound = {}
    for widget in gui.findChildren(qt.QWidget):
        name = widget.property("SlicerParameterName")
        if name:
            bound[name] = _Connector(self, name, self.allParameters[name], widget)
    observer = self.AddObserver(vtk.vtkCommand.ModifiedEvent, lambda *_: _updateGui(self))
    tag = len(self._guis)
    self._guis[tag] = (bound, observer)
    _updateGui(self)
    for connector in bound.values():
        connector.connect()
    return tag


def _disconnectGui(self, tag):
    bound, observer = self._guis.pop(tag)
    self.RemoveObserver(observer)
    for connector in bound.values():
        connector.disconnect()


def _updateGui(self):
    if self._updating:
        return
    self.__dict__["_updating"] = True
    try:
        for bound, _ in self._guis.values():
            for connector in bound.values():
                connector.show()
    finally:
        self.__dict__["_updating"] = False


class _Connector:
    """One widget and one field."""

    def __init__(self, parameters, name, kind, widget):
        self.parameters, self.name, self.kind, self.widget = parameters, name, kind, widget
        if _isNode(kind) and type(widget) is slicer.qMRMLNodeComboBox:
            self.signal = "currentNodeChanged(vtkMRMLNode*)"
        elif isinstance(kind, type) and issubclass(kind, enum.Enum) and type(widget) is qt.QComboBox:
            self.signal = "currentIndexChanged(int)"
            widget.clear()
            for value in kind:
                widget.addItem(kind.label(value))
        else:
            raise TypeError(f"{name} ({kind}) cannot be shown by a {type(widget).__name__}")

    def connect(self):
        self.widget.connect(self.signal, self.changed)

    def disconnect(self):
        self.widget.disconnect(self.signal, self.changed)

    def changed(self, *_):
        if self.parameters._updating:
            return
        value = self.widget.currentNode() if _isNode(self.kind) else list(self.kind)[self.widget.currentIndex]
        setattr(self.parameters, self.name, value)

    def show(self):
        value = getattr(self.parameters, self.name)
        if _isNode(self.kind):
            self.widget.setCurrentNode(value)
        else:
            self.widget.currentIndex = list(self.kind).index(value)


def modules():
    """The modules of Slicer by name, for `sys.modules` and as attributes of `slicer`."""
    scripted = types.ModuleType("slicer.ScriptedLoadableModule")
    for cls in (
        ScriptedLoadableModule,
        ScriptedLoadableModuleLogic,
        ScriptedLoadableModuleTest,
        ScriptedLoadableModuleWidget,
    ):
        setattr(scripted, cls.__name__, cls)
    i18n = types.ModuleType("slicer.i18n")
    i18n.tr, i18n.translate = tr, translate
    wrapper = types.ModuleType("slicer.parameterNodeWrapper")
    wrapper.parameterNodeWrapper = parameterNodeWrapper
    return {"ScriptedLoadableModule": scripted, "i18n": i18n, "parameterNodeWrapper": wrapper}
