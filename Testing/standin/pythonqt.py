"""The attribute conventions of PythonQt on top of PySide6.

Properties of Qt are attributes, both ways; an attribute that does not exist is an error, as it is in Slicer.
"""

import ctypes
import functools
import inspect
import os
import warnings

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
from PySide6 import QtCore, QtGui, QtWidgets

_tables = {}


def _keepForEver(*constants):
    """PySide6 6.12 drops a reference to None, True or False at every call that returns it.

    Before Python 3.12, in which these have none to lose, a long run would use them up and end in an abort.
    """
    for constant in constants:
        ctypes.c_ssize_t.from_address(id(constant)).value += 1 << 40


_keepForEver(None, True, False)


def _metaObject(obj):
    meta = QtCore.QObject.metaObject(obj)
    try:
        meta.className()
    except RuntimeError:  # PySide takes it for another one that lay at this address and has gone
        return type(obj).staticMetaObject
    return meta


def properties(obj):
    """The Qt properties of an object's class by name."""
    return _described(type(obj))[0]


def _described(kind):
    """Properties and signatures of signals of a class, each by name.

    Kept by type, and asked of Qt's own classes at once, because PySide now and then takes a meta-object for another one
    that lay at the same address and has gone.
    """
    if kind not in _tables:
        meta = kind.staticMetaObject
        signals = {}
        for method in (meta.method(i) for i in range(meta.methodCount())):
            if method.methodType() == QtCore.QMetaMethod.Signal:
                name, signature = (bytes(t.data()).decode() for t in (method.name(), method.methodSignature()))
                signals.setdefault(name, set()).add(signature)
        found = (meta.property(i) for i in range(meta.propertyCount()))
        _tables[kind] = {property_.name(): property_ for property_ in found}, signals
    return _tables[kind]


def _pythonDefined(cls, name):
    """True if a Python subclass (not a wrapped Qt class) defines the attribute."""
    for base in cls.__mro__:
        if base in _patched:
            return False
        if name in base.__dict__:
            return True
    return False


def _make(cls):
    origGet = cls.__getattribute__

    def __getattribute__(self, name):
        if name[:2] == "__" or name in ("metaObject", "property", "setProperty", "sizeHint", "minimumSizeHint"):
            return origGet(self, name)
        if name in _extra:
            return functools.partial(_extra[name], self)
        if name == "name":
            return QtCore.QObject.objectName(self)
        t = type(self)
        if not _pythonDefined(t, name) and name not in origGet(self, "__dict__"):
            prop = properties(self).get(name)
            if prop is not None:
                return prop.read(self)
        return origGet(self, name)

    def __setattr__(self, name, value):
        if name == "name":
            QtCore.QObject.setObjectName(self, value)
            return
        t = type(self)
        attribute = inspect.getattr_static(t, name, None)
        if isinstance(attribute, property):
            return attribute.__set__(self, value)
        if not _pythonDefined(t, name) or isinstance(attribute, QtCore.Property):
            prop = properties(self).get(name)
            if prop is not None:
                if not prop.isWritable():
                    raise AttributeError(f"Property '{name}' of type '{prop.typeName()}' is not writable")
                if prop.isEnumType() or prop.isFlagType():
                    setter = "set" + name[0].upper() + name[1:]
                    origGet(self, setter)(value)
                elif not prop.write(self, list(value) if isinstance(value, tuple) else value):
                    raise ValueError(f"Property '{name}' of type '{prop.typeName()}' does not accept {value!r}")
                return
            if QtCore.QObject.property(self, name) is not None:  # dynamic property
                QtCore.QObject.setProperty(self, name, value)
                return
        if t in _patched and not isinstance(value, QtCore.SignalInstance):
            raise AttributeError(
                f"Attribute '{name}' does not exist on {t.__name__} and creation of new "
                "attributes on C++ objects is not allowed"
            )
        origGet(self, "__dict__")[name] = value

    return __getattribute__, __setattr__


def _signal(obj, signature):
    """The signal of that whole signature; what a stand-in widget declares as `object` may be of any class."""
    name = signature.partition("(")[0]
    known = _described(type(obj))[1].get(name, set())
    if signature not in known and not any("PyObject" in k for k in known):
        raise ValueError(f"{type(obj).__name__} has no signal {signature}, but {sorted(known) or 'none of that name'}")
    return getattr(obj, name)


_origConnect, _origDisconnect = QtCore.QObject.connect, QtCore.QObject.disconnect


def _connect(self, *args):
    if len(args) == 2 and isinstance(args[0], str):
        _signal(self, args[0]).connect(args[1])
        return True
    return _origConnect(self, *args)


def _disconnect(self, *args):
    if len(args) == 2 and isinstance(args[0], str):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # what is not connected is no matter for PythonQt either
            return _signal(self, args[0]).disconnect(args[1]) is not False
    return _origDisconnect(self, *args)


_patched = set()
_extra = {
    "connect": _connect,
    "disconnect": _disconnect,
    "className": lambda self: _metaObject(self).className(),
}


def install():
    classes = []
    for module in (QtCore, QtGui, QtWidgets):
        for item in [getattr(module, n) for n in dir(module) if not n.startswith("_")]:
            if isinstance(item, type) and issubclass(item, QtCore.QObject):
                classes.append(item)
    _patched.update(classes)
    for cls in classes:
        _described(cls)
    made = [(cls, _make(cls)) for cls in classes]
    for cls, (get, set_) in made:
        cls.__getattribute__, cls.__setattr__ = get, set_
    for cls in (QtWidgets.QDialog, QtWidgets.QMenu):
        if not hasattr(cls, "exec_"):
            cls.exec_ = cls.exec


install()
