"""Completes slicer-core with what only the application has. Import this before the modules under test."""

import importlib
import os
import sys
import tempfile
import types

import ctk  # noqa: F401
import qt
import scripted
import slicer
import slicerwidgets

qapp = qt.QApplication.instance() or qt.QApplication([])


class _App(qt.QObject):
    startupCompleted = qt.Signal()
    temporaryPath = tempfile.gettempdir()
    majorVersion, minorVersion = 5, 12

    def __init__(self, scene):
        super().__init__()
        self._logic = slicer.vtkSlicerApplicationLogic()
        self._logic.SetMRMLScene(scene)

    def applicationLogic(self):
        return self._logic

    def processEvents(self):
        qapp.processEvents()

    def testingEnabled(self):
        return True

    def layoutManager(self):
        return None


def start(scene=None):
    """Make `slicer` look like the application, once."""
    if hasattr(slicer, "app"):
        return
    slicer.mrmlScene = scene or getattr(slicer, "mrmlScene", None) or slicer.vtkMRMLScene()
    slicer.app = _App(slicer.mrmlScene)
    slicer.reloaded = []
    slicer.modules = types.ModuleType("slicer.modules")
    sys.modules["slicer.modules"] = slicer.modules
    for name, module in scripted.modules().items():
        setattr(slicer, name, module)
        sys.modules[f"slicer.{name}"] = module
    for name, cls in vars(slicerwidgets).items():
        if isinstance(cls, type) and name.startswith("q"):
            setattr(slicer, name, cls)


def loadModule(path):
    """Import a scripted module and make its module object, as the module factory does; returns the Python module."""
    folder, name = os.path.dirname(path), os.path.splitext(os.path.basename(path))[0]
    if folder not in sys.path:
        sys.path.insert(0, folder)
    module = importlib.import_module(name)
    parent = types.SimpleNamespace(path=str(path), title="", categories=[], dependencies=[], contributors=[])
    parent.helpText = parent.acknowledgementText = ""
    parent.instance = getattr(module, name)(parent)
    setattr(slicer.modules, name.lower(), parent)
    return module


def showWidget(module):
    """Make the widget of a scripted module and enter it, as the application does when it is first chosen."""
    panel = slicerwidgets.qMRMLWidget()
    panel.setLayout(qt.QVBoxLayout())
    panel.setMRMLScene(slicer.mrmlScene)
    widget = getattr(module, module.__name__ + "Widget")(panel)
    widget.setup()
    if hasattr(widget, "enter"):
        widget.enter()
    return widget
