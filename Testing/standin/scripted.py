"""Small counterparts of the parts of Slicer's Python that only the application has.

They follow the documented behaviour of `slicer.ScriptedLoadableModule` and `slicer.i18n` as far as our modules use it.
"""

import importlib
import os
import types
import unittest

import parameternode
import slicer


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
        slicer.util.reloadScriptedModule(self.moduleName)


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
    return {"ScriptedLoadableModule": scripted, "i18n": i18n, "parameterNodeWrapper": parameternode.module()}
