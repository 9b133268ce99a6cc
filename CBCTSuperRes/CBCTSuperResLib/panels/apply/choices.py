"""What is chosen in the panel of CBCTSuperRes, as objects of the library; no Qt."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import slicer
from slicer.i18n import tr as _

from ...apply.engines import TITLES, installed_engines
from ...apply.engines.choice import GRAPH_ENGINES, why_only_torch
from ...apply.plan import Plan, make_plan
from ...apply.plan_checks import LARGEST_SPACING_RATIO, spacing_suspicion
from ...core.errors import DeviceError, ModelError, OptionError, SuperResError
from ...core.gpus import count_gpus
from ...core.options import Options
from ...io.volume import Volume
from ...models.card import ModelCard
from ...models.folder import default_model, list_models, user_models_folder
from ...models.graph import find_graph
from ...scan.overview import Overview, overview_of
from ...scan.window_choice import WindowChoice, choose_window_for_sample
from ...scene.nodes import ATTRIBUTES, inputOf, reportOf, roiBox, volumeFromNode
from ..error_text import errorText
from .parameters import ApplyParameters, Blank, Device, VoxelSize, WindowPreset

DISAGREEMENT_PASSES = 4
NOTEWORTHY_BLANK_SHARE = 0.01
CLIPS_EVERYTHING = 0.995  # of what was measured; what is left is noise
SCALAR_VOLUME = "vtkMRMLScalarVolumeNode"
MODELS_FOLDER = "CBCTSuperRes/modelsFolder"


def modelsFolder() -> Path:
    """Where the user's own models are looked for and put; remembered for the person, whatever the scene."""
    chosen = slicer.app.userSettings().value(MODELS_FOLDER)
    return Path(chosen) if chosen else user_models_folder()


def setModelsFolder(folder: str | Path) -> None:
    """Remember another folder; "" goes back to the usual one."""
    slicer.app.userSettings().setValue(MODELS_FOLDER, str(folder))


def isScan(node: slicer.vtkMRMLNode) -> bool:
    """Whether a node is a volume that the input selector lists and that this module has not computed."""
    isListed = node.GetClassName() == SCALAR_VOLUME and not node.GetHideFromEditors()
    return isListed and not any(name.startswith(ATTRIBUTES) for name in node.GetAttributeNames())


class ApplyChoices:
    """Read by all sections, changed by none of them but through the parameters.

    Attributes
    ----------
    parameters : ApplyParameters or None
        None while no scene is followed.
    cards : list of ModelCard
        The models that can be chosen, one of each name.
    isLocked : bool
        Whether a run is going on, during which nothing is to be changed.
    modelReason : str
        Why a model was chosen for the voxel size; "" where the user has chosen it.
    """

    def __init__(self) -> None:
        self.parameters: ApplyParameters | None = None
        self.isLocked = False
        self.cards: list[ModelCard] = []
        self._volume: tuple[tuple, Volume] | None = None
        self._overview: tuple[tuple, Overview] | None = None
        self._window: tuple[tuple, WindowChoice] | None = None
        self._followed: str | None = None
        self._sizeFollowed: tuple | None = None
        self._modelForSize = self._modelBefore = self.modelReason = ""
        self.listModels()

    def listModels(self) -> None:
        """Look for models again, so that one that was just added appears."""
        cards = [entry.card for entry in list_models([modelsFolder()]) if entry.card]
        self.cards = list({card.name: card for card in reversed(cards)}.values())[::-1]

    def forget(self) -> None:
        """Let go of the voxels of a scene that closes."""
        self._volume = self._overview = self._window = None

    def followInput(self) -> None:
        """When another scan is chosen, its result is to be a new volume, unless the chosen output was made of it."""
        if self.parameters is None:
            self._followed = None
            return
        before, self._followed = self._followed, self.inputNode.GetID() if self.inputNode else ""
        output = self.outputNode
        isAnother = before is not None and self._followed not in (before, "")
        if isAnother and output is not None and inputOf(output) is not self.inputNode:
            self.parameters.outputVolume = None

    def followVoxelSize(self) -> None:
        """When another voxel size is asked for that the model cannot make, one that can is chosen, and given up later.

        What was saved with a scene, or chosen by the user since, stays.
        """
        chosen = self.parameters
        if chosen is None:
            self._sizeFollowed, self.modelReason = None, ""
            return
        if self._modelForSize != chosen.model:
            self._modelForSize = self.modelReason = ""
        if chosen.voxelSize is VoxelSize.custom:
            self._proposeVoxelSize()
        now = (chosen.voxelSize, self._voxelSize(), chosen.planes, self._followed)
        before, self._sizeFollowed = self._sizeFollowed, now
        if before in (None, self._sizeFollowed):
            return
        try:
            spacing, options, card = self.volume().spacing, self.options(), self.card()
            asked = options.factors(spacing)
            if self._modelForSize and (asked is None or self._canMake(self._modelBefore, asked)):
                chosen.model, self._modelForSize, self.modelReason = self._modelBefore, "", ""
            elif asked is not None and not (card and card.offered(asked, options.planes)):
                found = default_model(options, spacing)
                self._modelBefore = self._modelBefore if self._modelForSize else chosen.model
                chosen.model = self._modelForSize = found.name
                isSame = chosen.voxelSize is VoxelSize.same
                text = _("Chosen because {name} does not denoise without enlarging.") if isSame else ""
                text = text or _("Chosen for this voxel size, which {name} does not make.")
                self.modelReason = text.format(name=self._modelBefore)
        except SuperResError:
            pass  # `problem` tells it

    def _canMake(self, model: str, asked) -> bool:
        card = next((card for card in self.cards if card.name == model), None)
        return card is not None and card.offered(asked, self.parameters.planes.value) is not None

    def _proposeVoxelSize(self) -> None:
        """Where no size was given yet: that of the finest axis, or half of it where the voxels are cubic already."""
        chosen, names = self.parameters, ("voxelSizeI", "voxelSizeJ", "voxelSizeK")
        try:
            spacing = self.volume().spacing
        except SuperResError:
            return
        finest = min(spacing) if max(spacing) > LARGEST_SPACING_RATIO * min(spacing) else min(spacing) / 2
        for name in names:
            if not getattr(chosen, name):
                setattr(chosen, name, round(finest, 3))

    def _voxelSize(self) -> str | tuple[float, float, float] | None:
        chosen = self.parameters
        if chosen.voxelSize is VoxelSize.same:
            return None
        if chosen.voxelSize is not VoxelSize.custom:
            return chosen.voxelSize.value or None
        sizes = chosen.voxelSizeI, chosen.voxelSizeJ, chosen.voxelSizeK
        return sizes if all(sizes) else None

    def chooseFirstScan(self) -> None:
        """Choose the first volume that the selector lists and that is no result of ours, if none is chosen."""
        if self.parameters is None or self.inputNode is not None:
            return
        scans = (node for node in slicer.util.getNodesByClass(SCALAR_VOLUME) if isScan(node))
        self.parameters.inputVolume = next(scans, None)

    @property
    def inputNode(self) -> slicer.vtkMRMLScalarVolumeNode | None:
        return self.parameters.inputVolume if self.parameters else None

    @property
    def roiNode(self) -> slicer.vtkMRMLMarkupsROINode | None:
        """The box to compute; None for the whole volume."""
        return self.parameters.roi if self.parameters else None

    @property
    def outputNode(self) -> slicer.vtkMRMLScalarVolumeNode | None:
        """The node to fill; None for a new one."""
        return self.parameters.outputVolume if self.parameters else None

    def volume(self) -> Volume:
        """The input volume: a view of the node's voxels; the same object until they change.

        Raises
        ------
        InputError
            If none is chosen, or it cannot be used.
        """
        volume, key = volumeFromNode(self.inputNode), self._volumeKey()
        if self._volume is None or self._volume[0] != key:
            self._volume = (key, volume)
        return self._volume[1]

    def overview(self) -> Overview:
        """What a quick look at the input volume tells.

        Raises
        ------
        InputError
            If none is chosen, or it cannot be used.
        """
        key = (self._volumeKey(), self._blank())
        if self._overview is None or self._overview[0] != key:
            self._overview = None
            self._overview = (key, overview_of(self.volume(), self._blank()))
        return self._overview[1]

    def notes(self) -> list[str]:
        """What to know before applying: what the output replaces, what is noticed about the scan and the window."""
        notes = [self._replacement()]
        try:
            notes.append(spacing_suspicion(self.volume().grid))
            blank = self.overview().blanks.share
            if blank >= NOTEWORTHY_BLANK_SHARE:
                text = _("About {percent:.0f} % is blank: outside the field of view.")
                notes.append(text.format(percent=100 * blank))
            if self.card() is not None:
                notes += [*self.plan().warnings, *self.window().warnings]
        except SuperResError:
            pass  # `problem` tells it
        return list(dict.fromkeys(note for note in notes if note))

    def scanToReplace(self) -> slicer.vtkMRMLScalarVolumeNode | None:
        """The chosen output, if there are voxels in it that this module has not computed."""
        output = self.outputNode
        if output is None or output.GetImageData() is None or reportOf(output) is not None:
            return None
        return output if inputOf(output) is None else None

    def measuredBox(self) -> tuple | None:
        """The box of voxels that the scanner has measured; None without a usable volume."""
        if self.parameters is None:
            return None
        try:
            return self.overview().measured
        except SuperResError:
            return None

    def card(self) -> ModelCard | None:
        """The chosen model; None if it is not installed."""
        if self.parameters is None:
            return None
        return next((card for card in self.cards if card.name == self.parameters.model), None)

    def needsTorch(self) -> bool:
        """Whether nothing but PyTorch computes what is chosen."""
        card = self.card()
        try:
            options = self.options()
        except SuperResError:
            return True
        if card is None or options.engine == "torch":
            return True
        return bool(why_only_torch(card, options)) or find_graph(card) is None

    def installedCard(self) -> ModelCard:
        """The chosen model.

        Raises
        ------
        ModelError
            If it is not installed.
        """
        card = self.card()
        if card is None:
            what = _("The model {name} is not installed.").format(name=self.parameters.model)
            raise ModelError(what, _("Choose another one."))
        return card

    def options(self) -> Options:
        """How to compute.

        Raises
        ------
        InputError, OptionError
            If choices contradict each other, for instance a ROI outside the volume.
        """
        chosen = self.parameters
        return Options(
            window=self._windowRequest(),
            blank=self._blank(),
            smooth=None if chosen.modelSmoothing else chosen.smoothing,
            planes=chosen.planes.value,
            scale=1.0 if chosen.voxelSize is VoxelSize.same else None,
            output_spacing=self._voxelSize(),
            roi=roiBox(self.roiNode, self.inputNode) if self.roiNode is not None else None,
            dtype=chosen.outputType.value or None,
            device=chosen.device.value,
            precision=chosen.precision.value,
            engine=chosen.engine.value,
            tile=chosen.tile or None,
            ensemble=chosen.quality.value,
            uncertainty=DISAGREEMENT_PASSES if chosen.disagreement else 0,
            scanner_blur=chosen.scannerBlur or None,
            sharpness=chosen.sharpness,
            back_projection="auto" if chosen.backProjection else "off",
        )

    def window(self) -> WindowChoice:
        """The window that the choices come to, and what it clips of what is computed, as far as a quick look tells.

        Raises
        ------
        SuperResError
            Why there is none.
        """
        seen, request, card = self.overview(), self._windowRequest(), self.card()
        try:
            roi = self.options().roi
        except SuperResError:  # `problem` tells it
            roi = None
        key = (seen, request, card and card.weights_sha256, roi)
        if self._window is None or self._window[0] != key:
            part = None if roi is None else seen.sample_within(roi)
            self._window = (key, choose_window_for_sample(seen.sample, seen.levels, request, card, part))
        return self._window[1]

    def plan(self) -> Plan:
        """What the result will be and cost, as far as the volume's grid tells.

        Raises
        ------
        SuperResError
            Why there can be no result.
        """
        volume = self.volume()
        return make_plan(volume.grid, volume.voxels.dtype, self.installedCard(), self.options())

    def problem(self) -> str:
        """Why Apply cannot run; "" if it can."""
        if self.inputNode is not None and self.outputNode is self.inputNode and not self.isLocked:
            return _("The output volume is the input volume. Choose another one.")
        return self._whyNothingCanBeComputed(lambda: self.plan().check_memory())

    def previewProblem(self) -> str:
        """Why there can be no preview; "" if there can."""
        return self._whyNothingCanBeComputed(self._checkPreview)

    def _checkPreview(self) -> None:
        card = self.card()
        if self.plan().way == "planes" and not card.spec.can_be_cut:
            what = _("The model {name} looks at whole slices; a preview in all axes would take as long as Apply.")
            raise OptionError(what.format(name=card.name), _("Preview in slices, or apply."))

    def _whyNothingCanBeComputed(self, check: Callable[[], object]) -> str:
        if self.isLocked:
            return _("Something else is being computed.")
        if self.parameters is None:
            return _("No scene is open.")
        try:
            self.volume()
            self.installedCard()
            self._checkDevice()
            self._checkEngine()
            self._checkWindow(self.window())
            check()
        except SuperResError as error:
            return errorText(error)
        return ""

    def _checkDevice(self) -> None:
        if self.parameters.device in (Device.gpu, Device.gpus) and not count_gpus():
            what = _("This computer has no graphics card (NVIDIA) that can compute.")
            raise DeviceError(what, _("Choose another device under Advanced."))

    def _checkEngine(self) -> None:
        engine = self.options().engine
        if engine not in GRAPH_ENGINES:
            return
        if why := why_only_torch(self.installedCard(), self.options()):
            what = _("{engine} cannot do this: {why}.").format(engine=TITLES[engine], why=why)
            raise OptionError(what, _("Choose another engine under Advanced."))
        there = installed_engines()
        if engine not in there and (engine == "openvino" or "torch" in there):  # otherwise Apply offers it
            what = _("{engine} is not installed.").format(engine=TITLES[engine])
            raise OptionError(what, _("Choose another engine under Advanced."))

    @staticmethod
    def _checkWindow(choice: WindowChoice) -> None:
        if choice.clipped_share >= CLIPS_EVERYTHING:
            what = _("The window {window} leaves out the whole scan, so that nothing would become sharper.")
            raise OptionError(what.format(window=choice.window), _("Choose another one."))

    def _replacement(self) -> str:
        """What the output volume holds that is no result of this input; "" if nothing."""
        output, scan = self.outputNode, self.inputNode
        if output is None or output is scan or output.GetImageData() is None or inputOf(output) is scan:
            return ""
        if reportOf(output) is None:
            return _("Replaces {name}, which is no result of this module.").format(name=output.GetName())
        made = inputOf(output)
        if made is None:
            return _("Replaces {name}, the result of another scan.").format(name=output.GetName())
        return _("Replaces {name}, the result of {scan}.").format(name=output.GetName(), scan=made.GetName())

    def _windowRequest(self) -> str | tuple[float, float] | None:
        chosen = self.parameters
        if chosen.windowPreset is not WindowPreset.custom:
            return chosen.windowPreset.value or None
        return (chosen.windowLow, chosen.windowHigh) if chosen.windowLow < chosen.windowHigh else None

    def _blank(self) -> str | float:
        chosen = self.parameters
        return chosen.blankValue if chosen.blank is Blank.value else chosen.blank.value

    def _volumeKey(self) -> tuple | None:
        """Another one whenever the voxels or their places have changed; None without voxels."""
        node = self.inputNode
        image = node.GetImageData() if node is not None else None
        return None if image is None else (node.GetID(), node.GetMTime(), image.GetMTime())
