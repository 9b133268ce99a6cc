"""What is chosen in the panel of CBCTSuperRes, as objects of the library."""

from __future__ import annotations

import slicer
from slicer.i18n import tr as _

from ...card import ModelCard
from ...errors import InputError, SuperResError
from ...estimate import Estimate, estimate
from ...models import list_models
from ...nodes import volumeFromNode
from ...options import Options
from ...volume import Volume
from .parameters import ApplyParameters


class Choices:
    """Read by all sections, changed by none of them but through the parameters.

    Attributes
    ----------
    parameters : ApplyParameters or None
        None while no scene is followed.
    cards : list of ModelCard
        The models that can be chosen.
    isLocked : bool
        Whether a run is going on, during which nothing is to be changed.
    """

    def __init__(self) -> None:
        self.parameters: ApplyParameters | None = None
        self.isLocked = False
        self.cards: list[ModelCard] = []
        self._volume: tuple[tuple, Volume] | None = None
        self.listModels()

    def listModels(self) -> None:
        """Look for models again, so that one that was just added appears."""
        self.cards = [entry.card for entry in list_models() if entry.card]

    @property
    def inputNode(self) -> slicer.vtkMRMLScalarVolumeNode | None:
        return self.parameters.inputVolume if self.parameters else None

    @property
    def outputNode(self) -> slicer.vtkMRMLScalarVolumeNode | None:
        """The node to fill; None for a new one."""
        return self.parameters.outputVolume if self.parameters else None

    def volume(self) -> Volume:
        """The input volume: a view of the node's voxels.

        Raises
        ------
        InputError
            If none is chosen, or it cannot be used.
        """
        node = self.inputNode
        if node is None or node.GetImageData() is None:
            return volumeFromNode(node)
        key = (node.GetID(), node.GetMTime(), node.GetImageData().GetMTime())
        if self._volume is None or self._volume[0] != key:
            self._volume = None
            self._volume = (key, volumeFromNode(node))
        return self._volume[1]

    def card(self) -> ModelCard | None:
        """The chosen model; None if it is not installed."""
        if self.parameters is None:
            return None
        return next((card for card in self.cards if card.name == self.parameters.model), None)

    def options(self) -> Options:
        """How to compute.

        Raises
        ------
        OptionError, InputError
            If choices contradict each other, for instance a ROI outside the volume.
        """
        return Options(planes=self.parameters.planes.value)

    def estimate(self) -> Estimate:
        """What the result will be and cost.

        Raises
        ------
        SuperResError
            Why there can be no result.
        """
        card = self.card()
        volume = self.volume()
        if card is None:
            name = self.parameters.model
            raise InputError(_("The model {name} is not installed.").format(name=name), _("Choose another one."))
        return estimate(volume.grid, volume.voxels.dtype, card, self.options())

    def problem(self) -> str:
        """Why Apply cannot run; "" if it can."""
        if self.parameters is None:
            return _("No scene is open.")
        if self.inputNode is not None and self.outputNode is self.inputNode:
            return _("The output volume is the input volume. Choose another one.")
        try:
            self.estimate()
        except SuperResError as error:
            return str(error)
        return ""
