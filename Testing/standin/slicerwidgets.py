"""Stand-ins for the qMRML widgets; their lists of nodes come from the real MRML scene."""

import sys
from functools import partial

import slicer
from PySide6 import QtWidgets
from PySide6.QtCore import Property, Signal
from stored import stored


def _removeObservers(scene, tags, *_):
    while scene is not None and tags:
        scene.RemoveObserver(tags.pop())


class qMRMLWidget(QtWidgets.QWidget):
    mrmlSceneChanged = Signal(object)

    def __init__(self, *args):
        super().__init__(*[a for a in args if isinstance(a, QtWidgets.QWidget)])
        self._scene = None
        self.isEntered = False

    def setMRMLScene(self, scene):
        if scene is not self._scene:
            self._scene = scene
            self.mrmlSceneChanged.emit(scene)

    def mrmlScene(self):
        return self._scene


class qSlicerScriptedLoadableModuleWidget(qMRMLWidget):
    """What a module's widget is put into; `self()` is the Python side of it."""

    widget = None

    def __init__(self, moduleName):
        super().__init__()
        self.moduleName = moduleName

    def self(self):
        return self.widget

    def reload(self):
        """Make the Python side anew; `enter` is not called, even where the module is the one that is shown."""
        className = f"{self.moduleName}Widget"
        self.widget = getattr(sys.modules[self.moduleName], className)(self)
        setattr(slicer.modules, className, self.widget)
        self.widget.setup()


class qMRMLNodeComboBox(QtWidgets.QWidget):
    currentNodeChanged = Signal(object)
    currentNodeIDChanged = Signal(str)
    nodeAddedByUser = Signal(object)
    nodeTypes = stored("QStringList", "nodeTypes", [])
    showHidden = stored(bool, "showHidden", False)
    showChildNodeTypes = stored(bool, "showChildNodeTypes", True)
    hideChildNodeTypes = stored("QStringList", "hideChildNodeTypes", [])
    noneEnabled = stored(bool, "noneEnabled", False)
    noneDisplay = stored(str, "noneDisplay", "None")
    addEnabled = stored(bool, "addEnabled", True)
    removeEnabled = stored(bool, "removeEnabled", True)
    editEnabled = stored(bool, "editEnabled", False)
    renameEnabled = stored(bool, "renameEnabled", False)
    selectNodeUponCreation = stored(bool, "selectNodeUponCreation", True)
    interactionNodeSingletonTag = stored(str, "interactionNodeSingletonTag", "")
    baseName = stored(str, "baseName", "")

    def __init__(self, *args):
        super().__init__(*[a for a in args if isinstance(a, QtWidgets.QWidget)])
        self._scene, self._node, self._tags, self._filling = None, None, [], False
        layout = QtWidgets.QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        self._combo = QtWidgets.QComboBox(self)
        self._combo.setSizeAdjustPolicy(QtWidgets.QComboBox.AdjustToMinimumContentsLengthWithIcon)
        layout.addWidget(self._combo)
        self._combo.activated.connect(self._onActivated)
        self._refresh()

    def _update(self, name):
        self._refresh()

    def setMRMLScene(self, scene):
        _removeObservers(self._scene, self._tags)
        self._scene, self._tags = scene, []
        self.destroyed.connect(partial(_removeObservers, scene, self._tags))
        if scene is not None:
            for event in (scene.NodeAddedEvent, scene.NodeRemovedEvent, scene.EndCloseEvent, scene.EndImportEvent):
                self._tags.append(scene.AddObserver(event, lambda *_: self._refresh()))
        self._refresh()

    def mrmlScene(self):
        return self._scene

    def nodes(self):
        if self._scene is None:
            return []
        found = []
        for i in range(self._scene.GetNumberOfNodes()):
            node = self._scene.GetNthNode(i)
            types = [t for t in self.nodeTypes if node.IsA(t)]
            if not types or (node.GetHideFromEditors() and not self.showHidden):
                continue
            if not self.showChildNodeTypes and node.GetClassName() not in self.nodeTypes:
                continue
            found.append(node)
        return found

    def _refresh(self):
        if self._filling:
            return
        self._filling = True
        nodes = self.nodes()
        self._combo.clear()
        if self.noneEnabled:
            self._combo.addItem(self.noneDisplay, "")
        for node in nodes:
            self._combo.addItem(node.GetName(), node.GetID())
        tag = nodes and nodes[0].GetNodeTagName() or (self.nodeTypes[0][7:-4] if self.nodeTypes else "node")
        if self.addEnabled:
            self._combo.addItem(f"Create new {tag}", "+")
        if not self._combo.count or (not nodes and not self.noneEnabled):
            self._combo.setPlaceholderText(f"Select a {tag}")
            self._combo.setCurrentIndex(-1)
        self._filling = False
        if self._node is not None and self._node not in nodes:
            self._setNode(None)
        elif self._node is None and nodes and not self.noneEnabled:
            self._setNode(nodes[0])
        else:
            self._show()

    def _show(self):
        index = self._combo.findData(self._node.GetID() if self._node else "")
        self._combo.setCurrentIndex(index)

    def _setNode(self, node):
        if node is self._node:
            self._show()
            return
        self._node = node
        self._show()
        self.currentNodeChanged.emit(node)
        self.currentNodeIDChanged.emit(node.GetID() if node else "")

    def _onActivated(self, index):
        data = self._combo.itemData(index)
        if data == "+":
            self.addNode()
        else:
            self._setNode(self._scene.GetNodeByID(data) if data else None)

    def currentNode(self):
        return self._node

    def setCurrentNode(self, node):
        if isinstance(node, str):
            node = self._scene.GetNodeByID(node)
        if node is not None and node not in self.nodes():
            node = None
        self._setNode(node)

    def addNode(self, nodeType=None):
        name = self._scene.GenerateUniqueName(self.baseName or self.nodeTypes[0][7:-4])
        node = self._scene.AddNewNodeByClass(nodeType or self.nodeTypes[0], name)
        self._setNode(node)
        self.nodeAddedByUser.emit(node)
        return node

    currentNodeID = Property(str, lambda s: s._node.GetID() if s._node else "", lambda s, v: s.setCurrentNode(v))
