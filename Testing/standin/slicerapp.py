"""Completes slicer-core with what only the application has. Import this before the modules under test.

`slicer.app.hasMainWindow = False` makes it the application as started with `--no-main-window`.
"""

import importlib
import os
import sys
import tempfile
import types

import ctk  # noqa: F401
import qt
import scripted
import shiboken6
import slicer
import slicerwidgets
import views

qapp = qt.QApplication.instance() or qt.QApplication([])


class _ModuleSelector(qt.QWidget):
    """The main window's list of modules; choosing one leaves the other and enters it."""

    def __init__(self, parent):
        super().__init__(parent)
        self.selectedModule = ""

    def selectModule(self, name):
        entered = slicer.util.getModule(name).widgetRepresentation()
        if self.selectedModule == name:
            return
        if self.selectedModule:
            left = slicer.util.getModule(self.selectedModule).widgetRepresentation()
            left.isEntered = False
            getattr(left.self(), "exit", lambda: None)()
        self.selectedModule = name
        entered.isEntered = True
        getattr(entered.self(), "enter", lambda: None)()


class _MainWindow(qt.QMainWindow):
    def __init__(self):
        super().__init__()
        self.objectName = "qSlicerMainWindow"
        self._selector = _ModuleSelector(self)

    def moduleSelector(self):
        return self._selector


class _ModuleManager(qt.QObject):
    def module(self, name):
        return getattr(slicer.modules, name.lower(), None)


class _App(qt.QObject):
    startupCompleted, aboutToQuit = qt.Signal(), qt.Signal()
    temporaryPath = tempfile.gettempdir()
    applicationVersion = "5.12.0"

    def __init__(self, scene):
        super().__init__()
        self._logic = slicer.vtkSlicerApplicationLogic()
        self._logic.SetMRMLScene(scene)
        self._colors = slicer.vtkMRMLColorLogic()
        self._colors.SetMRMLApplicationLogic(self._logic)
        self._colors.SetMRMLScene(scene)
        self._logic.SetModuleLogic("Colors", self._colors)
        if not scene.GetFirstNodeByClass("vtkMRMLColorTableNode"):
            self._colors.AddDefaultColorNodes()
        self._modules = _ModuleManager()
        self._window = self._layoutManager = None
        self.hasMainWindow = True

    def applicationLogic(self):
        return self._logic

    def moduleManager(self):
        return self._modules

    def processEvents(self):
        qapp.processEvents()

    def testingEnabled(self):
        return True

    def topLevelWidgets(self):
        if not self.hasMainWindow:
            return ()
        self._window = self._window or _MainWindow()
        return (self._window,)

    def layoutManager(self):
        """Made when it is first asked for, so that tests without views have no nodes of theirs."""
        if not self.hasMainWindow:
            return None
        self._layoutManager = self._layoutManager or views.LayoutManager(self._logic, slicer.mrmlScene)
        return self._layoutManager

    def resetViews(self):
        """For the next test."""
        if self._layoutManager is not None:
            self._layoutManager.reset()

    def settings(self):
        return qt.QSettings()

    userSettings = settings

    def clipboard(self):
        return qt.QApplication.clipboard()

    def setOverrideCursor(self, cursor):
        qt.QApplication.setOverrideCursor(cursor)

    def restoreOverrideCursor(self):
        qt.QApplication.restoreOverrideCursor()


class _LoadableModule:
    """A module of Slicer's own of which only the logic is used."""

    def __init__(self, logic):
        self._logic = logic
        logic.SetMRMLApplicationLogic(slicer.app.applicationLogic())
        logic.SetMRMLScene(slicer.mrmlScene)

    def logic(self):
        return self._logic


def start(scene=None):
    """Make `slicer` look like the application, once."""
    if hasattr(slicer, "app"):
        return
    slicer.mrmlScene = scene or getattr(slicer, "mrmlScene", None) or slicer.vtkMRMLScene()
    _keepSettingsInTemporaryFolder()
    slicer.app = _App(slicer.mrmlScene)
    slicer.modules = types.ModuleType("slicer.modules")
    slicer.modules.plots = _LoadableModule(slicer.vtkSlicerPlotsLogic())
    sys.modules["slicer.modules"] = slicer.modules
    for name, module in scripted.modules().items():
        setattr(slicer, name, module)
        sys.modules[f"slicer.{name}"] = module
    for name, cls in vars(slicerwidgets).items():
        if isinstance(cls, type) and name.startswith("q"):
            setattr(slicer, name, cls)


def _keepSettingsInTemporaryFolder():
    qt.QSettings.setDefaultFormat(qt.QSettings.IniFormat)
    qt.QSettings.setPath(qt.QSettings.IniFormat, qt.QSettings.UserScope, tempfile.mkdtemp(prefix="slicer-settings-"))
    qt.QCoreApplication.setOrganizationName("standin")


def loadModule(path):
    """Import a scripted module and make its module object, as the module factory does; returns the Python module."""
    folder, name = os.path.dirname(path), os.path.splitext(os.path.basename(path))[0]
    if folder not in sys.path:
        sys.path.insert(0, folder)
    module = importlib.import_module(name)
    parent = types.SimpleNamespace(
        path=str(path), name=name, title="", categories=[], dependencies=[], contributors=[], icon=None, hidden=False
    )
    parent.helpText = parent.acknowledgementText = ""
    parent.instance = getattr(module, name)(parent)
    parent.widgetRepresentation = lambda: _represented.get(name) or _represented.setdefault(name, _makeWidget(name))
    setattr(slicer.modules, name.lower(), parent)
    return module


_represented = {}  # what `widgetRepresentation` of each module gave
_made = []


def closeWidgets():
    """Destroy all that was made of modules, as the application does when it ends; otherwise every widget of earlier
    tests goes on listening to the scene.
    """
    for window in slicer.app.topLevelWidgets() if _represented else ():
        window.moduleSelector().selectedModule = ""
    _represented.clear()
    while _made:
        shiboken6.delete(_made.pop())


def _makeWidget(name):
    panel = slicerwidgets.qSlicerScriptedLoadableModuleWidget(name)
    _made.append(panel)
    panel.setLayout(qt.QVBoxLayout())
    panel.setMRMLScene(slicer.mrmlScene)
    panel.reload()
    return panel


def showWidget(module):
    """Make a new widget of a scripted module and enter it, as the application does when it is first chosen."""
    panel = _makeWidget(module.__name__)
    panel.isEntered = True
    if hasattr(panel.widget, "enter"):
        panel.widget.enter()
    return panel.widget
