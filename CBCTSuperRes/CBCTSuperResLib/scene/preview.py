"""A preview in a slice view: a hidden volume node in the view's foreground, which leaves no trace when it goes.

It follows the view: any change puts an end to it and begins it anew, after a moment of quiet.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import slicer
import vtk
from slicer.util import VTKObservationMixin

from ..apply.preview_request import PreviewRequest
from ..core.errors import SuperResError
from ..core.options import WARNING, Options
from ..core.volume import Grid
from ..io.volume import Volume
from ..jobs.preview import PreviewSession
from .nodes import placeBeside, updateNode
from .slice_views import (
    SliceInView,
    TiltedView,
    compositeNodeOf,
    crosshairNode,
    crosshairPosition,
    sliceInView,
)

PREVIEW_ATTRIBUTE = "CBCTSuperRes.preview"
DELAY_S = 0.08  # of quiet; the timer that polls adds up to 0.1


class PreviewDisplay:
    """Shows the picture of a slice in a view, in front of the volume that it is of; `remove` restores the view.

    Whatever the view showed, an earlier result for instance, its background is that volume now, so that fading compares
    the prediction with the scan and nothing else.

    >>> display = PreviewDisplay(sliceNode, inputVolume)
    >>> display.show(canvas, opacity=1.0)
    >>> display.update(canvas, box)
    >>> display.remove()

    Parameters
    ----------
    sliceNode : vtkMRMLSliceNode
        The view.
    inputNode : vtkMRMLScalarVolumeNode
        The volume that the picture is a slice of: gives transform, window and colors.
    normal, thickness : int, float
        Which axis of the picture lies across the view, and how many voxels of the volume the picture is to be thick
        there; see `SliceInView`.
    """

    def __init__(
        self,
        sliceNode: slicer.vtkMRMLSliceNode,
        inputNode: slicer.vtkMRMLScalarVolumeNode,
        normal: int,
        thickness: float = 1.0,
    ) -> None:
        self.node: slicer.vtkMRMLScalarVolumeNode | None = None
        self._composite = compositeNodeOf(sliceNode)
        self._inputNode, self._scene = inputNode, inputNode.GetScene()
        self._normal, self._thickness = normal, thickness
        self._before: tuple[str | None, str | None, float] = (None, None, 0.0)

    def show(self, canvas: Volume, opacity: float) -> None:
        """Put the picture into the foreground."""
        node = slicer.vtkMRMLScalarVolumeNode()
        node.SetName(f"{self._inputNode.GetName()} preview")
        node.SetHideFromEditors(True)
        node.SetSaveWithScene(False)
        node.SetAttribute(PREVIEW_ATTRIBUTE, "1")
        self.node = self._scene.AddNode(node)
        updateNode(self.node, replace(canvas, grid=self._thickened(canvas.grid)))
        self.followInput()
        self.node.GetDisplayNode().SetSaveWithScene(False)
        if self._composite is not None:
            composite = self._composite
            volumes = composite.GetBackgroundVolumeID(), composite.GetForegroundVolumeID()
            self._before = (*volumes, composite.GetForegroundOpacity())
            with slicer.util.NodeModify(composite):
                composite.SetBackgroundVolumeID(self._inputNode.GetID())
                composite.SetForegroundVolumeID(self.node.GetID())
                composite.SetForegroundOpacity(opacity)

    def update(self, canvas: Volume, box: tuple[slice, slice, slice]) -> None:
        """Show a part (k, j, i) of the picture anew."""
        if self._isThere():
            slicer.util.arrayFromVolume(self.node)[box] = canvas.voxels[box]
            slicer.util.arrayFromVolumeModified(self.node)

    def setOpacity(self, opacity: float) -> None:
        if self._isInFront():
            self._composite.SetForegroundOpacity(opacity)

    def followInput(self) -> None:
        """Take transform, window and colors from the input again."""
        if self._isThere() and self._scene.IsNodePresent(self._inputNode):
            placeBeside(self._inputNode, self.node)

    def remove(self) -> None:
        """Restore the view and remove the node. Safe at any time, and more than once."""
        if self._isInFront():
            *volumes, opacity = self._before
            background, foreground = (v if v and self._scene.GetNodeByID(v) else None for v in volumes)
            with slicer.util.NodeModify(self._composite):
                if self._composite.GetBackgroundVolumeID() == self._inputNode.GetID():
                    self._composite.SetBackgroundVolumeID(background)
                self._composite.SetForegroundVolumeID(foreground)
                self._composite.SetForegroundOpacity(opacity)
        if self._isThere():
            if self.node.GetDisplayNode():
                self._scene.RemoveNode(self.node.GetDisplayNode())
            self._scene.RemoveNode(self.node)
        self.node = None

    def _thickened(self, grid: Grid) -> Grid:
        """The slice as thick as the view needs, in its place."""
        spacing = np.array(grid.spacing)
        spacing[self._normal] *= self._thickness
        moved = grid.direction @ ((np.array(grid.size) - 1) / 2 * (spacing - grid.spacing))
        return replace(grid, spacing=tuple(spacing), origin=tuple(grid.origin - moved))

    def _isThere(self) -> bool:
        return self.node is not None and bool(self._scene.IsNodePresent(self.node))

    def _isInFront(self) -> bool:
        """Whether the view shows the picture; others may have put something else there."""
        if self._composite is None or not self._isThere() or not self._scene.IsNodePresent(self._composite):
            return False
        return self._composite.GetForegroundVolumeID() == self.node.GetID()


@dataclass(frozen=True, eq=False)
class Subject:
    """What is to be previewed, and in which view.

    Attributes
    ----------
    sliceNode : vtkMRMLSliceNode
    inputNode : vtkMRMLScalarVolumeNode
    volume : Volume
        The voxels of the input.
    model : Path or None
        The model's file; None leaves the choice to the scan.
    options : Options
        As they would be applied.
    """

    sliceNode: slicer.vtkMRMLSliceNode
    inputNode: slicer.vtkMRMLScalarVolumeNode
    volume: Volume
    model: Path | None
    options: Options


@dataclass(frozen=True)
class Wanted:
    """What a subject comes to at a moment; equal as long as the same preview is right."""

    sliceNode: slicer.vtkMRMLSliceNode
    inputNode: slicer.vtkMRMLScalarVolumeNode
    version: tuple
    seen: SliceInView
    request: PreviewRequest

    def keepsPictureOf(self, other: Wanted | None) -> bool:
        """Whether what is shown for the other is right for this one, too, though less or more of it is in view."""
        return (
            other is not None
            and self.sliceNode is other.sliceNode
            and self.version == other.version
            and self.seen.thickness == other.seen.thickness
            and self.request.is_of_one_slice_with(other.request)
        )


class LivePreview:
    """Follows a view, a volume and the choices while it is on.

    >>> preview = LivePreview(PreviewSession(), subject, whenChanged)
    >>> preview.switchOn()
    >>> while preview.isBusy:
    ...     preview.poll()          # ten times a second
    >>> preview.look()              # after a choice, the volume or the ROI has changed; the view is observed
    >>> preview.switchOff()         # nothing is left in the scene; the process stays warm
    >>> preview.close()

    Parameters
    ----------
    session : PreviewSession
    subject : callable
        Returns the `Subject` as it is chosen now; raises `SuperResError` if there is none.
    whenChanged : callable
        Called when the view or the crosshair has moved, or the preview has switched itself off.

    Attributes
    ----------
    isOn : bool
    problem : SuperResError or None
        Why there is no preview now.
    seen : SliceInView or None
        What the view shows of the volume.
    share : float
        How much of what is in view is computed.
    seconds : tuple of float
        Seconds until the first block and until the end, as far as both have come.
    model : str
        Name of the one that computes it; "" before that is known.
    turned : float
        By how many degrees the view was turned into the slices of the volume when the preview was switched on.
    """

    def __init__(
        self, session: PreviewSession, subject: Callable[[], Subject], whenChanged: Callable[[], None]
    ) -> None:
        self.isOn = False
        self.opacity = 1.0
        self.turned = 0.0
        self._session, self._subject, self._whenChanged = session, subject, whenChanged
        self._observers = VTKObservationMixin()
        self._followed: tuple = ()
        self._display: PreviewDisplay | None = None
        self._volume: Volume | None = None
        self._forget()

    @property
    def isBusy(self) -> bool:
        """Whether `poll` is to be called."""
        return self._due is not None or self._session.is_busy

    @property
    def isStarting(self) -> bool:
        return self._session.is_starting

    @property
    def seen(self) -> SliceInView | None:
        return self._wanted.seen if self._wanted else None

    def switchOn(self) -> None:
        """Begin at once; a view that is tilted against the volume is aligned with it first."""
        self.isOn, self.turned = True, 0.0
        self.look()
        if isinstance(self.problem, TiltedView):
            subject, self.turned = self._subject(), self.problem.degrees
            subject.sliceNode.RotateToVolumePlane(subject.inputNode)
            self.look()
        if self._due is not None:
            self._due = 0.0

    def switchOff(self) -> None:
        self.isOn = False
        self._forget()
        self._follow()

    def close(self) -> None:
        self.switchOff()
        self._session.close()

    def tidyUp(self) -> bool:
        """Remove the files of a process that has left, idle; whether there is one that may still do so."""
        return self._session.tidy_up()

    def look(self) -> None:
        """See what is wanted now; if it is something else than before, end what is going on and begin soon."""
        if not self.isOn:
            return
        try:
            subject = self._subject()
            self._follow(subject)
            wanted = _wanted(subject)
        except SuperResError as error:
            self._forget()
            self.problem = error
            return
        if wanted != self._wanted:
            self._forget(keepPicture=wanted.keepsPictureOf(self._wanted))
            self._wanted, self._volume, self._due = wanted, subject.volume, time.monotonic() + DELAY_S
        self.onDisplayChanged()

    def poll(self) -> None:
        """Go on, for at most 50 ms."""
        if self._due is not None and time.monotonic() >= self._due:
            self._ask()
        for event in self._session.poll():
            self._take(event)
        if self._session.error:
            self._fail(self._session.error)

    def setOpacity(self, opacity: float) -> None:
        self.opacity = opacity
        if self._display:
            self._display.setOpacity(opacity)

    def onViewChanged(self, caller=None, event=None) -> None:
        self.look()
        self._whenChanged()

    def onDisplayChanged(self, caller=None, event=None) -> None:
        """The input looks different, or lies under another transform."""
        if self._display:
            self._display.followInput()

    def onSave(self, caller=None, event=None) -> None:
        """What is saved must not refer to a node that is not."""
        self.switchOff()
        self._whenChanged()

    def _ask(self) -> None:
        self._due, self._asked_at = None, time.monotonic()
        volume, self._volume = self._volume, None
        try:
            self._session.ask(volume, self._wanted.version, self._wanted.request)
        except SuperResError as error:
            self._fail(error)

    def _take(self, event: dict) -> None:
        if event["event"] == "canvas":
            self._canvas, self.model = event["canvas"], event["model"]
        elif event["event"] == "block":
            self.share = event["share"]
            self._show(tuple(slice(*ends) for ends in event["box"]))
            self.seconds = self.seconds or (time.monotonic() - self._asked_at,)
        elif event["event"] == "complete":
            needed = time.monotonic() - self._asked_at
            self.seconds, self._canvas = (*(self.seconds or (needed,)), needed), None

    def _show(self, box: tuple[slice, slice, slice]) -> None:
        if self._display:
            self._display.update(self._canvas, box)
            return
        wanted = self._wanted
        seen = wanted.seen
        self._display = PreviewDisplay(wanted.sliceNode, wanted.inputNode, seen.normal, seen.thickness)
        self._display.show(self._canvas, self.opacity)

    def _fail(self, error: SuperResError) -> None:
        """Tell why there is no preview; the next change tries again."""
        logging.error("%s\n%s", error, getattr(error, "detail", ""))
        wanted, self._session.error = self._wanted, None
        self._forget()
        self._wanted, self.problem = wanted, error

    def _forget(self, keepPicture: bool = False) -> None:
        """Give up what was asked for, and take away what is shown of it."""
        self._session.rest()
        self._wanted: Wanted | None = None
        self._volume = self._canvas = None
        self._due: float | None = None
        self._asked_at = self.share = 0.0
        self.seconds: tuple[float, ...] = ()
        self.model = ""
        self.problem: SuperResError | None = None
        if self._display and not keepPicture:
            self._display.remove()
            self._display = None

    def _follow(self, subject: Subject | None = None) -> None:
        """Observe the view, the crosshair and the display of the input, and nothing else."""
        followed = () if subject is None else (subject.sliceNode, subject.inputNode)
        if followed == self._followed:
            return
        self._followed = followed
        self._observers.removeObservers()
        if subject is None:
            return
        scene, changed = subject.inputNode.GetScene(), vtk.vtkCommand.ModifiedEvent
        for node in (subject.sliceNode, crosshairNode(scene)):
            if node is not None:
                self._observers.addObserver(node, changed, self.onViewChanged)
        displayChanged = slicer.vtkMRMLDisplayableNode.DisplayModifiedEvent
        self._observers.addObserver(subject.inputNode, displayChanged, self.onDisplayChanged)
        self._observers.addObserver(scene, scene.StartSaveEvent, self.onSave)


def _wanted(subject: Subject) -> Wanted:
    """What a subject comes to now.

    Raises
    ------
    InputError
        If the view shows no slice of the volume.
    """
    inputNode = subject.inputNode
    options = subject.options
    if subject.model is not None:  # maps are not made, but have a say in which model is taken
        options = replace(options, uncertainty=0, disagreement_above=None, warning_above=WARNING)
    crosshair = crosshairPosition(inputNode.GetScene())
    seen = sliceInView(subject.sliceNode, inputNode, crosshair, options.roi)
    request = PreviewRequest(subject.model and str(subject.model), options, seen.normal, seen.visible, seen.focus)
    version = (inputNode.GetID(), inputNode.GetImageData().GetMTime(), subject.volume.grid.index_to_point.tobytes())
    return Wanted(subject.sliceNode, inputNode, version, seen, request)
