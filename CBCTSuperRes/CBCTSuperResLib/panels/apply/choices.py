"""What the choices in the panel of CBCTSuperRes come to: model, window, plan, and what speaks against them; no Qt."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import slicer
from slicer.i18n import tr as _

from ...acquisition.estimate import EstimatedAcquisition
from ...apply.conditions import is_unlike_usual
from ...apply.engines import TITLES, installed_engines
from ...apply.engines.choice import GRAPH_ENGINES, why_only_torch
from ...apply.factors import are_three_planes_closer
from ...apply.memory_and_disk import check_memory
from ...apply.plan import Plan, make_plan
from ...apply.plan_checks import LARGEST_SPACING_RATIO, spacing_suspicion
from ...apply.suited_model import suited_card
from ...core.errors import DeviceError, ModelError, OptionError, SuperResError
from ...core.gpus import count_gpus
from ...core.options import BONE, Options
from ...models.card import ModelCard
from ...models.folder import DEFAULT_MODEL, default_model, list_models, told_model, user_models_folder
from ...models.graph import find_graph
from ...scan.window_choice import WindowChoice, choose_window_for_sample
from ...scene.nodes import inputOf, reportOf
from ..error_text import errorText
from .parameters import AUTOMATIC, Device, Planes, VoxelSize
from .scan_choices import ScanChoices
from .texts import threePlanesText

NOTEWORTHY_BLANK_SHARE = 0.01
CLIPS_EVERYTHING = 0.995  # of what was measured; what is left is noise
MODELS_FOLDER = "CBCTSuperRes/modelsFolder"


def modelsFolder() -> Path:
    """Where the user's own models are looked for and put; remembered for the person, whatever the scene."""
    chosen = slicer.app.userSettings().value(MODELS_FOLDER)
    return Path(chosen) if chosen else user_models_folder()


def setModelsFolder(folder: str | Path) -> None:
    """Remember another folder; "" goes back to the usual one."""
    slicer.app.userSettings().setValue(MODELS_FOLDER, str(folder))


class ApplyChoices(ScanChoices):
    """Read by all sections, changed by none of them but through the parameters.

    Attributes
    ----------
    cards : list of ModelCard
        The models that can be chosen, one of each name.
    isLocked : bool
        Whether a run is going on, during which nothing is to be changed.
    modelReason : str
        Why a model was chosen for the voxel size; "" where the user has chosen it.
    """

    def __init__(self) -> None:
        super().__init__()
        self.isLocked = False
        self.cards: list[ModelCard] = []
        self._windows: tuple[tuple, dict[str, WindowChoice]] = ((), {})
        self._default: tuple[tuple, ModelCard] | None = None
        self._scanner: tuple[tuple, EstimatedAcquisition | None] | None = None
        self._scanned: tuple[tuple, dict[str, Plan]] = ((), {})
        self._suited: tuple[Plan, ModelCard] | None = None
        self._followed: str | None = None
        self._sizeFollowed: tuple | None = None
        self._modelForSize = self._modelBefore = self.modelReason = ""
        self.listModels()

    def listModels(self) -> None:
        """Look for models again, so that one that was just added appears."""
        cards = [entry.card for entry in list_models([modelsFolder()]) if entry.card]
        self.cards = list({card.name: card for card in reversed(cards)}.values())[::-1]
        self._default = self._suited = None
        self._scanned = ((), {})

    def forget(self) -> None:
        super().forget()
        self._suited = None
        self._windows = self._scanned = ((), {})

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
            if self._modelForSize and (asked is None or self._canMake(self._modelBefore, asked, spacing)):
                chosen.model, self._modelForSize, self.modelReason = self._modelBefore, "", ""
            elif asked is not None and not (card and card.offered(asked, options.planes, spacing)):
                found = default_model(options, spacing)
                self._modelBefore = self._modelBefore if self._modelForSize else chosen.model
                chosen.model = self._modelForSize = found.name
                isSame = chosen.voxelSize is VoxelSize.same
                text = _("Chosen because {name} does not denoise without enlarging.") if isSame else ""
                text = text or _("Chosen for this voxel size, which {name} does not make.")
                if self._modelBefore == DEFAULT_MODEL and self.areThreePlanesCloser():
                    text = _("Chosen for this voxel size, which {name} does not make slice by slice.")
                    text += " " + threePlanesText()
                self.modelReason = text.format(name=self._modelBefore)
        except SuperResError:
            pass  # `problem` tells it

    def areThreePlanesCloser(self) -> bool:
        """Whether the usual model would make what is asked for in three planes, closer to the truth than blocks are."""
        try:
            spacing = self.volume().spacing
            factors = self.installedCard().offered(self.options().factors(spacing), self.parameters.planes.value)
            return factors is not None and are_three_planes_closer(factors, spacing)
        except SuperResError:  # `problem` tells it
            return False

    def _canMake(self, model: str, asked, spacing) -> bool:
        card = next((card for card in self.cards if card.name == model), None)
        return card is not None and card.offered(asked, self.parameters.planes.value, spacing) is not None

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

    def notes(self) -> list[str]:
        """What to know before applying: what the output replaces, what is noticed about the scan and the window."""
        notes = [self._replacement()]
        try:
            notes.append(spacing_suspicion(self.volume().grid))
            blank = self.overview().blanks.share
            if blank >= NOTEWORTHY_BLANK_SHARE:
                text = _("About {percent:.0f} % is blank: outside the field of view.")
                notes.append(text.format(percent=100 * blank))
            if (card := self.card()) is not None:
                known = self.scanned(card)
                notes += known.warnings if known else [*self.plan().warnings, *self.window().warnings]
        except SuperResError:
            pass  # `problem` tells it
        return list(dict.fromkeys(note for note in notes if note))

    def scanToReplace(self) -> slicer.vtkMRMLScalarVolumeNode | None:
        """The chosen output, if there are voxels in it that this module has not computed."""
        output = self.outputNode
        if output is None or output.GetImageData() is None or reportOf(output) is not None:
            return None
        return output if inputOf(output) is None else None

    @property
    def isAutomatic(self) -> bool:
        """Whether the scan is to choose the model."""
        return self.parameters is not None and self.parameters.model == AUTOMATIC

    def card(self) -> ModelCard | None:
        """The model that is taken, as far as is known; None if there is none."""
        try:
            return None if self.parameters is None else self.installedCard()
        except SuperResError:
            return None

    def installedCard(self) -> ModelCard:
        """The model that is taken: the chosen one, or as far as is known what the scan chooses.

        Raises
        ------
        ModelError, OptionError
            If it is not installed, or none makes what is asked for.
        """
        return self._cardOfScan() if self.isAutomatic else self.usualCard()

    @property
    def canMarkBone(self) -> bool:
        """Whether error bars are asked for of a model that tells them, so that misjudged bone can be told, too."""
        chosen = self.parameters
        if chosen is None or self.isAutomatic or not chosen.disagreement or chosen.planes is Planes.isotropic:
            return False
        return any(card.name == chosen.model and card.tells_errors for card in self.cards)

    def _options(self, roi: tuple | None = None) -> Options:
        options = super()._options(roi)
        return replace(options, warning_above=BONE) if self.parameters.misjudgedBone and self.canMarkBone else options

    def usualCard(self) -> ModelCard:
        """The chosen model; where the scan is to choose it, the one from which only the scan's blur leads to another.

        Raises
        ------
        ModelError, OptionError
            As `installedCard`.
        """
        if self.isAutomatic:
            return self._defaultCard()
        name = self.parameters.model
        if card := next((card for card in self.cards if card.name == name), None):
            return card
        raise ModelError(_("The model {name} is not installed.").format(name=name), _("Choose another one."))

    def _defaultCard(self) -> ModelCard:
        """What `default_model` gives, which reads files."""
        options, spacing = self._options(), None
        if options.output_spacing is not None:
            spacing = self.volume().spacing
        key = (options.factors(spacing), options.planes, spacing)
        if self._default is None or self._default[0] != key:
            self._default = (key, default_model(options, spacing))
        return self._default[1]

    def _cardOfScan(self) -> ModelCard:
        usual = self._defaultCard()
        known = self.scanned(usual)
        if known is None:
            return usual
        if self._suited is None or self._suited[0] is not known:
            self._suited = (known, suited_card(known))
        return self._suited[1]

    def betterCard(self) -> ModelCard | None:
        """What the scan would choose in place of a chosen model that does not suit it; None where that is well."""
        if self.parameters is None or self.isAutomatic or self.inputNode is None:
            return None
        try:
            chosen, better, options = self.usualCard(), self._cardOfScan(), self._options()
            known = self.scanned(chosen)
            spacing = self.volume().spacing
            isAble = chosen.offered(options.factors(spacing), options.planes, spacing) is not None
        except SuperResError:
            return None
        isUnlike = known is not None and is_unlike_usual(chosen, known.conditions)
        return better if better.name != chosen.name and (isUnlike or not isAble) else None

    def scannerKey(self) -> tuple | None:
        """What `scanner` depends on; None where there is nothing that could be looked at."""
        if self.parameters is None or self.inputNode is None:
            return None
        try:
            window, spacing = self._windowFor(self.usualCard()).window, self.volume().spacing
        except SuperResError:
            return None
        node = self.inputNode  # which may be renamed or moved without becoming another scan
        voxels = node.GetID(), node.GetImageData().GetMTime(), spacing
        return voxels, self._blank(), self._windowRequest(), window.lo, window.hi

    def setScanner(self, key: tuple, scanner: EstimatedAcquisition | None) -> None:
        """What a look at the scan has found; None if it failed."""
        self._scanner = (key, scanner)

    @property
    def scanner(self) -> EstimatedAcquisition | None:
        """What the scan was found to tell of its scanner; None while that is not known."""
        return self._scanner[1] if self.isLookedAt else None

    @property
    def isLookedAt(self) -> bool:
        """Whether the scan was looked at as the choices are now, with or without success."""
        return self._scanner is not None and self._scanner[0] == self.scannerKey()

    def scanned(self, card: ModelCard) -> Plan | None:
        """The plan with a model and with what the scan was found to tell; None while that is not known."""
        scanner = self.scanner
        if scanner is None:
            return None
        try:
            options, volume, window = self.options(), self.volume(), self._windowFor(card)
            key = (self._scanner[0], options)
            if self._scanned[0] != key:
                self._scanned = (key, {})
            plans, model = self._scanned[1], card.weights_sha256
            if model not in plans:
                plan = make_plan(volume.grid, volume.voxels.dtype, card, options)
                known = {"blanks": self.overview().blanks, "choice": window, "scanner": scanner}
                plans[model] = plan.with_scan(volume, **known)
            return plans[model]
        except SuperResError:  # `problem` tells it
            return None

    def needsTorch(self) -> bool:
        """Whether nothing but PyTorch computes what is chosen, or what the scan may choose."""
        try:
            options, cards = self.options(), [self.installedCard()]
            if self.isAutomatic:
                spacing = self.volume().spacing if self.inputNode is not None else None
                cards += [told_model(self.usualCard(), options, spacing)]
        except SuperResError:
            return True
        if options.engine == "torch":
            return True
        return any(why_only_torch(card, options) or find_graph(card) is None for card in cards if card)

    def window(self) -> WindowChoice:
        """The window that the choices come to, and what it clips of what is computed, as far as a quick look tells.

        Raises
        ------
        SuperResError
            Why there is none.
        """
        return self._windowFor(self.card())

    def _windowFor(self, card: ModelCard | None) -> WindowChoice:
        seen, request, model = self.overview(), self._windowRequest(), card.weights_sha256 if card else ""
        try:
            roi = self.options().roi
        except SuperResError:  # `problem` tells it
            roi = None
        key = (seen, request, roi)
        if self._windows[0] != key:
            self._windows = (key, {})
        if model not in self._windows[1]:
            part = None if roi is None else seen.sample_within(roi)
            self._windows[1][model] = choose_window_for_sample(seen.sample, seen.levels, request, card, part)
        return self._windows[1][model]

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
        return self._whyNothingCanBeComputed(lambda: check_memory(self.plan()))

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
