"""Preview: what Apply would give, shown in a slice view before it is applied."""

from __future__ import annotations

import qt
import slicer
import vtk
from slicer.i18n import tr as _
from slicer.util import VTKObservationMixin

from ...core.errors import InputError, SuperResError
from ...jobs.preview import PreviewSession
from ...scene.preview import LivePreview, Subject
from ...scene.slice_views import TiltedView, crosshairPosition, sliceViews
from .. import dialogs
from ..error_text import errorText
from ..section import Section, offer, signalsBlocked
from .choices import ApplyChoices
from .parameters import Planes

AXIAL = 2
TIDY_INTERVAL_MS = 5000


class PreviewSection(Section):
    """The button Preview; while it is on, the view that shows it, its opacity, and how far it is."""

    def __init__(self, ui, choices: ApplyChoices) -> None:
        super().__init__(ui, choices)
        self.preview = LivePreview(PreviewSession(slicer.app.temporaryPath), self._subject, self._onLiveChange)
        self._problem: SuperResError | None = None
        self._isTicking = False
        self._views: list[str] = []
        self._layoutObserver = VTKObservationMixin()
        self._tidyTimer = qt.QTimer()
        self._tidyTimer.setInterval(TIDY_INTERVAL_MS)
        self._tidyTimer.connect("timeout()", self.onTidy)
        ui.previewButton.connect("clicked(bool)", self.onSwitched)
        ui.alignViewButton.connect("clicked(bool)", self.onAlignView)
        ui.previewViewSelector.connect("currentIndexChanged(int)", self.onViewChosen)

    @property
    def isBusy(self) -> bool:
        return self.preview.isBusy

    def bind(self) -> None:
        for layout in slicer.util.getNodesByClass("vtkMRMLLayoutNode"):
            self._layoutObserver.addObserver(layout, vtk.vtkCommand.ModifiedEvent, self.onLayoutChanged)

    def unbind(self) -> None:
        self._layoutObserver.removeObservers()
        self.remove()

    def close(self) -> None:
        self._tidyTimer.stop()
        self.preview.close()

    def remove(self) -> None:
        """Switch the preview off, because the run itself begins, or the module is left."""
        self.preview.switchOff()
        self._problem = None
        self._show()

    def refresh(self) -> None:
        self._listViews()
        if self.parameters is None or self.choices.isLocked:
            self.preview.switchOff()
        else:
            self.preview.setOpacity(self.parameters.previewFade / 100)
            self.preview.look()
        self._isTicking = self.isBusy
        self._show()

    def poll(self) -> None:
        self.preview.poll()
        self._isTicking = self.isBusy
        self._show()

    def onSwitched(self, checked: bool = False) -> None:
        self._problem = None
        if self.preview.isOn:
            self.preview.switchOff()
        else:
            try:
                dialogs.ensurePackages(self.choices.needsTorch(), self.choices.options().engine)
                self.preview.switchOn()
                self._tidyTimer.start()
            except SuperResError as error:
                self._problem = error
        self.changed.emit()

    def onViewChosen(self, index: int) -> None:
        if self.parameters is not None and 0 <= index < len(self._views):
            self.parameters.previewView = self._views[index]

    def onAlignView(self, checked: bool = False) -> None:
        sliceNode, inputNode = self._sliceNode(), self.choices.inputNode
        if sliceNode is not None and inputNode is not None:
            sliceNode.RotateToVolumePlane(inputNode)

    def onTidy(self) -> None:
        """A process that nobody asked for two minutes has left; its files go now."""
        if not self.isBusy and not self.preview.tidyUp():
            self._tidyTimer.stop()

    def onLayoutChanged(self, caller=None, event=None) -> None:
        self.refresh()

    def _onLiveChange(self) -> None:
        """The other sections hear only of its beginning, because a view that is scrolled changes all the time."""
        self._show()
        if self.isBusy and not self._isTicking:
            self.changed.emit()

    def _subject(self) -> Subject:
        volume, card, sliceNode = self.choices.volume(), self.choices.installedCard(), self._sliceNode()
        if sliceNode is None:
            raise InputError(_("The layout shows no slice view."), _("Choose a layout with slice views."))
        model = None if self.choices.isAutomatic else card.path.absolute()
        return Subject(sliceNode, self.choices.inputNode, volume, model, self.choices.options())

    def _sliceNode(self) -> slicer.vtkMRMLSliceNode | None:
        nodes = sliceViews(slicer.mrmlScene)
        chosen = self.parameters.previewView if self.parameters else ""
        return next((node for node in nodes if node.GetLayoutName() == chosen), nodes[0] if nodes else None)

    def _listViews(self) -> None:
        nodes, selector, current = sliceViews(slicer.mrmlScene), self.ui.previewViewSelector, self._sliceNode()
        texts = [f"{node.GetName()} ({node.GetOrientation().lower()})" for node in nodes]
        self._views = [node.GetLayoutName() for node in nodes]
        with signalsBlocked(selector):
            if texts != [selector.itemText(n) for n in range(selector.count)]:
                selector.clear()
                for text in texts:
                    selector.addItem(text)
            selector.currentIndex = self._views.index(current.GetLayoutName()) if current else -1

    def _show(self) -> None:
        isOn, problem = self.preview.isOn, self._problem or self.preview.problem
        reason = self.choices.previewProblem()
        hint = _(
            "Compute the result around the crosshair, then in the whole view; it follows the view until it is stopped."
        )
        offer(self.ui.previewButton, reason, hint)
        self.ui.previewButton.checked = isOn
        self.ui.previewButton.enabled = isOn or not reason
        self.ui.previewButton.text = _("Stop preview") if isOn else _("Preview")
        self.ui.previewViewSelector.enabled = bool(self._views)
        self.ui.alignViewButton.visible = isOn and isinstance(problem, TiltedView)
        told = [self._progressText(), self._modelText(), self._turnedText()]
        told += [self._crosshairText(), self._planesText()]
        lines = [errorText(problem)] if problem else told
        self.ui.previewLabel.text = "\n".join(line for line in lines if line)
        self.ui.previewFrame.visible = isOn or problem is not None

    def _progressText(self) -> str:
        preview = self.preview
        if not preview.isOn:
            return ""
        if len(preview.seconds) == 2:
            first, last = (f"{seconds:.1f}" for seconds in preview.seconds)
            if first == last:
                return _("Computed in {last} s.").format(last=last)
            return _("Computed in {last} s, the first block in {first} s.").format(last=last, first=first)
        if preview.share:
            return _("{percent} % of what is in view is computed.").format(percent=round(100 * preview.share))
        if preview.isStarting:
            return _("Starting; the first time, this takes some seconds.")
        return _("Computing.")

    def _modelText(self) -> str:
        preview = self.preview
        if not preview.isOn or not preview.model or not self.choices.isAutomatic:
            return ""
        return _("By the model {name}, as Apply will take it.").format(name=preview.model)

    def _turnedText(self) -> str:
        sliceNode, degrees = self._sliceNode(), self.preview.turned
        if not self.preview.isOn or not degrees or sliceNode is None:
            return ""
        text = _("The view {view} was turned by {degrees:.0f} degrees, into the slices of the scan.")
        return text.format(view=sliceNode.GetName(), degrees=degrees)

    def _crosshairText(self) -> str:
        seen = self.preview.seen
        if seen is None or seen.isAtCrosshair or crosshairPosition(slicer.mrmlScene) is None:
            return ""
        return _("The crosshair is not on what is in view of the volume, so the preview begins in its middle.")

    def _planesText(self) -> str:
        """Why a view across the slices gains less than one in their plane, as the result will."""
        seen, card = self.preview.seen, self.choices.card()
        isSlicewise = card is not None and card.spec.dimensions == 2 and self.parameters.planes is Planes.axial
        if seen is None or not isSlicewise or seen.normal == AXIAL:
            return ""
        return _("Only the axial slices become finer, so this view gains along one direction only.")
