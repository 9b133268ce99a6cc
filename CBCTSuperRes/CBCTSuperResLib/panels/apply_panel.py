"""The panel of CBCTSuperRes: choose, Apply, see how far it is, Cancel."""

from __future__ import annotations

import logging
from collections.abc import Callable

import qt
import slicer
import vtk
from slicer.i18n import tr as _

from ..card import ModelCard
from ..errors import Cancelled, SuperResError
from ..estimate import Estimate, estimate
from ..install import ensurePackages
from ..logic import SuperResJob, SuperResLogic
from ..memory import readable
from ..models import list_models
from ..nodes import volumeFromNode
from ..options import Options
from ..progress import duration_text
from ..volume import Volume
from .apply_parameters import ApplyParameters

POLL_INTERVAL_MS = 100


class ApplyPanel:
    """Binds the widgets of CBCTSuperRes.ui to the parameters in the scene and to a logic.

    >>> panel = ApplyPanel(slicer.util.loadUI(path), CBCTSuperResLogic())
    >>> panel.bind()      # on entering the module
    >>> panel.unbind()    # on leaving it, or when the scene closes; a run goes on
    >>> panel.close()     # at the end

    Parameters
    ----------
    widget : QWidget
        The loaded .ui file.
    logic : SuperResLogic
        Also offers `getParameterNode`.
    ensurePackages : callable, optional
        Called before a run; installs what is missing.
    """

    def __init__(self, widget, logic: SuperResLogic, ensurePackages: Callable[[], None] = ensurePackages) -> None:
        self.widget, self.logic = widget, logic
        self.ui = slicer.util.childWidgetVariables(widget)
        self.parameters: ApplyParameters | None = None
        self.job: SuperResJob | None = None
        self._ensurePackages = ensurePackages
        self._cards: list[ModelCard] = []
        self._bindings: tuple[int, int] | None = None
        self._timer = qt.QTimer()
        self._timer.setInterval(POLL_INTERVAL_MS)
        self._timer.connect("timeout()", self.onTimer)
        self.ui.modelSelector.connect("currentIndexChanged(int)", self.onModelChosen)
        self.ui.applyButton.connect("clicked(bool)", self.onApplyOrCancel)
        self.listModels()
        self.refresh()

    def bind(self) -> None:
        """Show and follow the parameters of the scene."""
        if self.parameters is not None:
            return
        self.parameters = ApplyParameters(self.logic.getParameterNode())
        self._chooseFirstVolume()
        gui = self.parameters.connectGui(self.widget)
        observer = self.parameters.AddObserver(vtk.vtkCommand.ModifiedEvent, self.refresh)
        self._bindings = (gui, observer)
        self.listModels()
        self.refresh()

    def unbind(self) -> None:
        if self.parameters is None:
            return
        gui, observer = self._bindings
        self.parameters.disconnectGui(gui)
        self.parameters.RemoveObserver(observer)
        self.parameters = self._bindings = None
        self.refresh()

    def close(self) -> None:
        """Stop a run, its process included, and let go of the scene."""
        self.stop()
        self.unbind()

    def stop(self) -> None:
        """End a run at once, for instance because the scene closes."""
        if self.job:
            self.job.close()
            self._end()

    def listModels(self) -> None:
        """Look for models again, so that one that was just added appears."""
        self._cards = [entry.card for entry in list_models() if entry.card]
        selector = self.ui.modelSelector
        wasBlocked = selector.blockSignals(True)
        selector.clear()
        for card in self._cards:
            selector.addItem(card.title or card.name)
        selector.blockSignals(wasBlocked)

    def refresh(self, caller=None, event=None) -> None:
        """Show the parameters, and whether and why not they can be applied."""
        self._showModel()
        reason = self._showInput()
        running = self.job is not None
        self.ui.applyButton.text = _("Cancel") if running else _("Apply")
        self.ui.applyButton.enabled = running or not reason
        if running:
            reason = _("Stop computing; nothing is changed.")
        self.ui.applyButton.toolTip = reason or _("Compute the super-resolved volume.")
        self.ui.progressBar.visible = running
        for control in (self.ui.inputSelector, self.ui.outputSelector, self.ui.modelSelector, self.ui.planesSelector):
            control.enabled = not running

    def onModelChosen(self, index: int) -> None:
        if self.parameters is not None and 0 <= index < len(self._cards):
            self.parameters.model = self._cards[index].name

    def onApplyOrCancel(self, checked: bool = False) -> None:
        if self.job:
            self.job.cancel()
            self._showProgress()
            return
        try:
            self._ensurePackages()
            self.job = self._start()
        except SuperResError as error:
            self._showError(error)
            return
        self._showProgress()
        self._timer.start()
        self.refresh()

    def onTimer(self) -> None:
        self.job.poll()
        self._showProgress()
        if self.job.isFinished:
            self._end()

    def _chooseFirstVolume(self) -> None:
        if self.parameters.inputVolume is None:
            self.parameters.inputVolume = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLScalarVolumeNode")

    def _start(self) -> SuperResJob:
        parameters = self.parameters
        return self.logic.start(
            parameters.inputVolume,
            parameters.outputVolume,
            model=self._card().path,
            planes=parameters.planes.value,
        )

    def _end(self) -> None:
        job, self.job = self.job, None
        self._timer.stop()
        job.close()
        if job.error:
            self._showError(job.error)
        else:
            self._showResult(job)
        self.refresh()

    def _card(self) -> ModelCard | None:
        if self.parameters is None:
            return None
        return next((card for card in self._cards if card.name == self.parameters.model), None)

    def _showModel(self) -> None:
        card = self._card()
        wasBlocked = self.ui.modelSelector.blockSignals(True)
        self.ui.modelSelector.currentIndex = self._cards.index(card) if card else -1
        self.ui.modelSelector.blockSignals(wasBlocked)
        self.ui.modelLabel.text = card.line if card else ""

    def _showInput(self) -> str:
        """Describe input and result; returns why they cannot be computed, or nothing."""
        self.ui.inputLabel.text = self.ui.outputLabel.text = ""
        if self.parameters is None:
            return _("No scene is open.")
        try:
            volume = volumeFromNode(self.parameters.inputVolume)
            self.ui.inputLabel.text = volumeText(volume)
            return self._showOutput(volume)
        except SuperResError as error:
            return str(error)

    def _showOutput(self, volume: Volume) -> str:
        card = self._card()
        if card is None:
            return _("The model {name} is not installed. Choose another one.").format(name=self.parameters.model)
        if self.parameters.outputVolume is self.parameters.inputVolume:
            return _("The output volume is the input volume. Choose another one.")
        options = Options(planes=self.parameters.planes.value)
        need = estimate(volume.grid, volume.voxels.dtype, card, options)
        self.ui.outputLabel.text = estimateText(need)
        return ""

    def _showProgress(self) -> None:
        self.ui.progressBar.value = round(100 * self.job.fraction)
        rest = duration_text(self.job.remaining)
        left = ", " + _("{duration} left").format(duration=rest) if rest and not self.job.isFinished else ""
        self.ui.statusLabel.text = self.job.message + left

    def _showError(self, error: SuperResError) -> None:
        self.ui.statusLabel.text = str(error)
        if not isinstance(error, Cancelled):
            logging.error("%s\n%s", error, getattr(error, "detail", ""))

    def _showResult(self, job: SuperResJob) -> None:
        if self.parameters is not None:
            self.parameters.outputVolume = job.outputVolume
        slicer.util.setSliceViewerLayers(background=job.outputVolume)
        lines = [_("Done: {name}").format(name=job.outputVolume.GetName()), *job.warnings]
        self.ui.statusLabel.text = "\n".join(lines)


def volumeText(volume: Volume) -> str:
    """ "400 x 400 x 280, 0.3 x 0.3 x 0.3 mm, int16, 90 MB"."""
    size = " x ".join(map(str, volume.grid.size))
    spacing = " x ".join(f"{s:.3g}" for s in volume.spacing)
    return f"{size}, {spacing} mm, {volume.voxels.dtype}, {readable(volume.voxels.nbytes)}"


def estimateText(need: Estimate) -> str:
    """Size, spacing, memory and time of a result that is not there yet."""
    size = " x ".join(map(str, need.grid.size))
    spacing = " x ".join(f"{s:.3g}" for s in need.grid.spacing)
    text = _("{size}, {spacing} mm, {bytes}; about {duration} and {memory} of memory")
    return text.format(
        size=size,
        spacing=spacing,
        bytes=readable(need.output_bytes),
        duration=duration_text(need.seconds),
        memory=readable(need.memory_bytes),
    )
