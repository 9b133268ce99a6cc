"""A slice view that is divided by a line: one volume left of it, another right; the line is dragged with the mouse."""

from __future__ import annotations

from collections.abc import Callable

import vtk

GRASP = 8  # pixels on either side of the line in which it can be grasped
FIRST = 10.0  # before the view's own interaction, which would change window and level
LINE_COLOR = 1.0, 0.85, 0.2


class SplitView:
    """Shows a view's foreground volume right of a line, whatever the foreground's opacity is.

    The part of the foreground's image that lies right of the line is drawn over the view; nothing is computed or
    copied, and the nodes stay as they are.

    >>> split = SplitView(layoutManager.sliceWidget("Red"), 0.5, onMoved)
    >>> split.place(0.3)
    >>> split.remove()

    Parameters
    ----------
    sliceWidget : qMRMLSliceWidget
    share : float
        Where the line is: 0 at the left edge, 1 at the right.
    onMoved : callable (share)
        Called when the line is dragged, instead of moving it.
    """

    def __init__(self, sliceWidget, share: float, onMoved: Callable[[float], None]) -> None:
        self.share = share
        self._view, self._node = sliceWidget.sliceView(), sliceWidget.mrmlSliceNode()
        self._onMoved, self._isDragged = onMoved, False
        self._image = vtk.vtkImageMapper()
        self._image.SetInputConnection(sliceWidget.sliceLogic().GetForegroundLayer().GetImageDataConnection())
        self._image.SetColorWindow(255.0)  # of what has passed the foreground's own window
        self._image.SetColorLevel(127.5)
        self._image.UseCustomExtentsOn()
        self._line = vtk.vtkLineSource()
        lineMapper = vtk.vtkPolyDataMapper2D()
        lineMapper.SetInputConnection(self._line.GetOutputPort())
        self._picture, line = vtk.vtkActor2D(), vtk.vtkActor2D()
        self._picture.SetMapper(self._image)
        line.SetMapper(lineMapper)
        line.GetProperty().SetColor(*LINE_COLOR)
        line.GetProperty().SetLineWidth(2)
        self._actors = [self._picture, line]
        self._renderer = self._view.renderWindow().GetRenderers().GetFirstRenderer()
        for actor in self._actors:
            actor.GetProperty().SetDisplayLocationToForeground()
            self._renderer.AddViewProp(actor)
        self._interactor = self._view.interactor()
        events = {
            "LeftButtonPressEvent": self._onPress,
            "MouseMoveEvent": self._onMove,
            "LeftButtonReleaseEvent": self._onRelease,
        }
        self._tags = {name: self._interactor.AddObserver(name, slot, FIRST) for name, slot in events.items()}
        self._nodeTag = self._node.AddObserver(vtk.vtkCommand.ModifiedEvent, self._onViewChanged)
        self.place(share)

    def place(self, share: float) -> None:
        """Move the line."""
        self.share = min(max(share, 0.0), 1.0)
        width, height = self._node.GetDimensions()[:2]
        column = min(round(self.share * width), width - 1)
        self._image.SetCustomDisplayExtents([column, width - 1, 0, height - 1])
        self._picture.SetPosition(column, 0)
        self._line.SetPoint1(column, 0, 0)
        self._line.SetPoint2(column, height, 0)
        self._view.scheduleRender()

    def remove(self) -> None:
        """Leave the view as it was."""
        for actor in self._actors:
            self._renderer.RemoveViewProp(actor)
        for tag in self._tags.values():
            self._interactor.RemoveObserver(tag)
        self._node.RemoveObserver(self._nodeTag)
        self._view.scheduleRender()

    def _onViewChanged(self, caller=None, event=None) -> None:
        self.place(self.share)

    def _onPress(self, interactor, event: str) -> None:
        column = self.share * self._node.GetDimensions()[0]
        if abs(interactor.GetEventPosition()[0] - column) <= GRASP:
            self._isDragged = True
            self._keep(event)

    def _onMove(self, interactor, event: str) -> None:
        if self._isDragged:
            self._onMoved(interactor.GetEventPosition()[0] / max(self._node.GetDimensions()[0], 1))
            self._keep(event)

    def _onRelease(self, interactor, event: str) -> None:
        if self._isDragged:
            self._isDragged = False
            self._keep(event)

    def _keep(self, event: str) -> None:
        """Let nobody else see the event that is being told of."""
        self._interactor.GetCommand(self._tags[event]).SetAbortFlag(1)
