"""Small counterpart of `slicer.parameterNodeWrapper`: typed fields stored in a node, and widgets bound to them.

It keeps to the documented behaviour as far as our panels use it, and is stricter: an unknown field, type or kind of
widget raises, and so does undoing a connection that Slicer could not undo.
"""

import collections.abc
import dataclasses
import enum
import pathlib
import types
import typing
import weakref

import ctk
import qt
import slicer
import vtk

RESERVED = {
    "AddObserver",
    "EndModify",
    "Modified",
    "RemoveObserver",
    "StartModify",
    "allParameters",
    "connectGui",
    "connectParametersToGui",
    "dataType",
    "default",
    "disconnectGui",
    "getValue",
    "isCached",
    "parameterNode",
    "setValue",
}


@dataclasses.dataclass
class Default:
    value: typing.Any


@dataclasses.dataclass
class WithinRange:
    minimum: float
    maximum: float

    def validate(self, value):
        _require(self.minimum <= value <= self.maximum, f"{value} is not from {self.minimum} to {self.maximum}")


@dataclasses.dataclass
class Choice:
    choices: typing.Sequence

    def validate(self, value):
        _require(value in self.choices, f"{value!r} is none of {self.choices}")


def _require(isTrue, problem):
    if not isTrue:
        raise ValueError(problem)


class _Text:
    """A value that is one text in the node."""

    def __init__(self, accepted, default, toText=str, fromText=str):
        self.accepted, self.default, self.toText, self.fromText = accepted, default, toText, fromText

    def check(self, value):
        if not isinstance(value, self.accepted):
            raise TypeError(f"{value!r} is a {type(value).__name__}, not a {self.accepted}")

    def isIn(self, node, name):
        return node.HasParameter(name)

    def write(self, node, name, value):
        node.SetParameter(name, self.toText(value))

    def read(self, node, name):
        return self.fromText(node.GetParameter(name))

    def remove(self, node, name):
        node.UnsetParameter(name)


class _Node(_Text):
    """A node, referenced; the empty text beside the reference says that it was set."""

    def __init__(self, kind):
        super().__init__((kind, type(None)), None)

    def write(self, node, name, value):
        node.SetParameter(name, "")
        node.SetNodeReferenceID(name, value.GetID() if value is not None else None)

    def read(self, node, name):
        return node.GetNodeReference(name)

    def remove(self, node, name):
        super().remove(node, name)
        node.RemoveNodeReferenceIDs(name)


class _List:
    """Elements of one kind, each stored under a name of its own."""

    def __init__(self, element):
        self.element, self.default = element, ()

    def check(self, values):
        for value in values:
            self.element.check(value)

    def isIn(self, node, name):
        return node.HasParameter(f"{name}_length")

    def write(self, node, name, values):
        values = list(values)
        self.remove(node, name)
        node.SetParameter(f"{name}_length", str(len(values)))
        for i, value in enumerate(values):
            self.element.write(node, f"{name}_{i}", value)

    def read(self, node, name):
        count = int(node.GetParameter(f"{name}_length"))
        return _StoredList(self, node, name, [self.element.read(node, f"{name}_{i}") for i in range(count)])

    def remove(self, node, name):
        for i in range(int(node.GetParameter(f"{name}_length") or 0)):
            self.element.remove(node, f"{name}_{i}")
        node.UnsetParameter(f"{name}_length")


class _StoredList(collections.abc.MutableSequence):
    """A list whose changes are stored; it adds to nothing else, as in Slicer."""

    def __init__(self, kind, node, name, values):
        self._kind, self._node, self._name, self._values = kind, node, name, values

    def _save(self):
        self._kind.check(self._values)
        self._kind.write(self._node, self._name, self._values)

    def __len__(self):
        return len(self._values)

    def __getitem__(self, index):
        return self._values[index]

    def __setitem__(self, index, value):
        self._values[index] = value
        self._save()

    def __delitem__(self, index):
        del self._values[index]
        self._save()

    def insert(self, index, value):
        self._values.insert(index, value)
        self._save()

    def __eq__(self, other):
        return self._values == list(other)


def _storageOf(kind):
    simple = {
        bool: lambda: _Text(bool, False, fromText=lambda text: text == "True"),
        int: lambda: _Text(int, 0, fromText=int),
        float: lambda: _Text((int, float), 0.0, fromText=float),
        str: lambda: _Text(str, ""),
        pathlib.Path: lambda: _Text(pathlib.Path, pathlib.Path(), fromText=pathlib.Path),
    }
    if kind in simple:
        return simple[kind]()
    if _nodeClass(kind):
        return _Node(_nodeClass(kind))
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return _Text(kind, next(iter(kind)), toText=lambda value: value.name, fromText=lambda text: kind[text])
    if typing.get_origin(kind) is list:
        return _List(_storageOf(typing.get_args(kind)[0]))
    if isinstance(kind, types.UnionType):
        raise TypeError(f"{kind}: write Optional[...], which every version of Slicer knows")
    raise TypeError(f"the stand-in does not know the type {kind}")


def _nodeClass(kind):
    """The class of node of a field such as `vtkMRMLModelNode` or `Optional[vtkMRMLModelNode]`, or None."""
    if typing.get_origin(kind) is typing.Union:
        kind = next(iter(k for k in typing.get_args(kind) if k is not type(None)))
    return kind if isinstance(kind, type) and issubclass(kind, slicer.vtkMRMLNode) else None


class _Field:
    def __init__(self, name, hint, cls):
        isAnnotated = typing.get_origin(hint) is typing.Annotated
        self.name, self.kind, *self.annotations = (name, *typing.get_args(hint)) if isAnnotated else (name, hint)
        self.storage = _storageOf(self.kind)
        self.validators = [a for a in self.annotations if hasattr(a, "validate")]
        given = self.annotation(Default)
        self.default = getattr(cls, name, given.value if given else self.storage.default)
        self.check(self.default)

    def annotation(self, kind):
        return next((a for a in self.annotations if isinstance(a, kind)), None)

    def check(self, value):
        self.storage.check(value)
        for validator in self.validators:
            validator.validate(value)

    def write(self, node, value):
        self.check(value)
        with slicer.util.NodeModify(node):
            self.storage.write(node, self.name, value)

    def read(self, node):
        if not self.storage.isIn(node, self.name):
            self.write(node, self.default)
        return self.storage.read(node, self.name)


_watching = []  # a node calls its observers even where Python's collector has taken them for garbage


def parameterNodeWrapper(cls):
    """Class decorator: the annotated fields become properties that are stored in a parameter node."""
    fields = {name: _Field(name, hint, cls) for name, hint in typing.get_type_hints(cls, include_extras=True).items()}
    for name, field in fields.items():
        if name in RESERVED:
            raise ValueError(f"{name} is a name of parameterNodeWrapper's own")
        setattr(cls, name, _property(field))
    cls.allParameters = fields
    for method in (__init__, __setattr__, connectGui, connectParametersToGui, disconnectGui, getValue, setValue):
        setattr(cls, method.__name__, method)
    for name in ("AddObserver", "RemoveObserver", "StartModify", "EndModify", "Modified"):
        setattr(cls, name, lambda self, *args, _name=name: getattr(self.parameterNode, _name)(*args))
    return cls


def _property(field):
    return property(lambda self: self._known[field.name], lambda self, value: _store(self, field, value))


def _store(self, field, value):
    with slicer.util.NodeModify(self.parameterNode):
        field.write(self.parameterNode, value)
        self._known[field.name] = field.read(self.parameterNode)


def __init__(self, parameterNode):
    """As in Slicer, values are read again only when the node says that it was modified.

    So a node that is referenced, but loaded later than the parameters, stays unknown until somebody calls `Modified`.
    """
    self.__dict__.update(parameterNode=parameterNode, _known={}, _guis={}, _nextTag=0, _updating=False, _reading=False)
    self._known.update({name: field.read(parameterNode) for name, field in self.allParameters.items()})
    reference = weakref.ref(self)
    _watching.append(lambda *_: _readAgain(reference()))
    parameterNode.AddObserver(vtk.vtkCommand.ModifiedEvent, _watching[-1])


def _readAgain(self):
    """Defaults of what is gone, as after a scene closed, are written in one go, which is then read once more."""
    if self is None or self._reading:
        return
    with slicer.util.NodeModify(self.parameterNode):
        self.__dict__["_reading"] = True
        try:
            self._known.update({name: field.read(self.parameterNode) for name, field in self.allParameters.items()})
        finally:
            self.__dict__["_reading"] = False


def __setattr__(self, name, value):
    if name not in self.allParameters:
        raise AttributeError(f"{type(self).__name__} has no field {name}")
    object.__setattr__(self, name, value)


def getValue(self, name):
    return getattr(self, name)


def setValue(self, name, value):
    setattr(self, name, value)


def connectGui(self, gui):
    """Bind every widget that has the property SlicerParameterName. No tag is returned, nor is one by Slicer."""
    widgets = gui.findChildren(qt.QWidget) if hasattr(gui, "findChildren") else list(vars(gui).values())
    named = {widget.property("SlicerParameterName"): widget for widget in widgets if hasattr(widget, "property")}
    self.connectParametersToGui({name: widget for name, widget in named.items() if name})


def connectParametersToGui(self, widgets):
    """Bind widgets by the names of their fields; returns a tag for `disconnectGui`."""
    unknown = set(widgets) - set(self.allParameters)
    _require(not unknown, f"no such fields: {unknown}")
    connectors = [_Connector(self, self.allParameters[name], widget) for name, widget in widgets.items()]
    tag = self._nextTag
    self.__dict__["_nextTag"] += 1
    self._guis[tag] = connectors
    for connector in connectors:
        connector.show()
        connector.connect()
    _watching.append(lambda *_: _updateGui(self))
    self.AddObserver(vtk.vtkCommand.ModifiedEvent, _watching[-1])
    return tag


def disconnectGui(self, tag):
    """Undo `connectParametersToGui`. As in Slicer, nothing undoes `connectGui`; here it is at least noticed."""
    for connector in self._guis.pop(tag):
        connector.disconnect()


def _updateGui(self):
    if self._updating:
        return
    self.__dict__["_updating"] = True
    try:
        with slicer.util.NodeModify(self.parameterNode):
            for connectors in list(self._guis.values()):
                for connector in connectors:
                    connector.show()
    finally:
        self.__dict__["_updating"] = False


class _Connector:
    """One widget and one field; which go together is decided by the very class of the widget, as in Slicer."""

    def __init__(self, parameters, field, widget):
        self.parameters, self.field, self.widget = parameters, field, widget
        self.signal, self.value, self.show = self._ways(type(widget), field.kind)

    def _ways(self, widgetClass, kind):
        if _nodeClass(kind) and widgetClass is slicer.qMRMLNodeComboBox:
            self.widget.nodeTypes = [_nodeClass(kind)().GetClassName()]
            return "currentNodeChanged(vtkMRMLNode*)", self.widget.currentNode, self._showNode
        if widgetClass is qt.QComboBox:
            return self._choices(kind)
        return self._plain(widgetClass, kind)

    def _plain(self, widgetClass, kind):
        numbers = {(qt.QSlider, int), (qt.QSpinBox, int), (qt.QDoubleSpinBox, float), (ctk.ctkSliderWidget, float)}
        numberSignal = "valueChanged(int)" if kind is int else "valueChanged(double)"
        plain = {
            (qt.QCheckBox, bool): ("toggled(bool)", "checked"),
            (qt.QPushButton, bool): ("toggled(bool)", "checked"),
            (qt.QLineEdit, str): ("textChanged(QString)", "text"),
            (ctk.ctkPathLineEdit, pathlib.Path): ("currentPathChanged(QString)", "currentPath"),
            **dict.fromkeys(numbers, (numberSignal, "value")),
        }
        if (widgetClass, kind) not in plain:
            raise TypeError(f"{self.field.name} ({kind}) cannot be shown by a {widgetClass.__name__}")
        if (widgetClass, kind) in numbers:
            bounds = self._needed(WithinRange)
            self.widget.setRange(bounds.minimum, bounds.maximum)
        signal, name = plain[widgetClass, kind]
        toWidget = str if kind is pathlib.Path else kind
        return (
            signal,
            lambda: kind(getattr(self.widget, name)),
            lambda: setattr(self.widget, name, toWidget(self._stored())),
        )

    def _choices(self, kind):
        if isinstance(kind, type) and issubclass(kind, enum.Enum):
            choices = list(kind)
            labels = [getattr(kind, "label", lambda value: value.name)(value) for value in kind]
        elif kind in (int, float, str, bool):
            choices = list(self._needed(Choice).choices)
            labels = [str(choice) for choice in choices]
        else:
            raise TypeError(f"{self.field.name} ({kind}) cannot be shown by a QComboBox")
        self.widget.clear()
        for label in labels:
            self.widget.addItem(label)
        return (
            "currentIndexChanged(int)",
            lambda: choices[self.widget.currentIndex],
            lambda: setattr(self.widget, "currentIndex", choices.index(self._stored())),
        )

    def _needed(self, kind):
        annotation = self.field.annotation(kind)
        if annotation is None:
            raise RuntimeError(
                f"{self.field.name} needs Annotated[..., {kind.__name__}(...)] to be shown by its widget"
            )
        return annotation

    def _stored(self):
        return self.parameters.getValue(self.field.name)

    def _showNode(self):
        self.widget.setCurrentNode(self._stored())

    def connect(self):
        self.widget.connect(self.signal, self.changed)

    def disconnect(self):
        self.widget.disconnect(self.signal, self.changed)

    def changed(self, *_):
        if not self.parameters._updating:
            self.parameters.setValue(self.field.name, self.value())


def module():
    """`slicer.parameterNodeWrapper`."""
    made = types.ModuleType("slicer.parameterNodeWrapper")
    for item in (parameterNodeWrapper, Choice, Default, WithinRange):
        setattr(made, item.__name__, item)
    return made
