"""What the panel of CBCTSuperRes has chosen, as objects of the library: the scan, and how to compute it; no Qt."""

from __future__ import annotations

import slicer

from ...core.errors import SuperResError
from ...core.options import Options
from ...io.volume import Volume
from ...scan.overview import Overview, overview_of
from ...scene.nodes import ATTRIBUTES, roiBox, volumeFromNode
from .parameters import ApplyParameters, Blank, VoxelSize, WindowPreset

DISAGREEMENT_PASSES = 4
SCALAR_VOLUME = "vtkMRMLScalarVolumeNode"


def isScan(node: slicer.vtkMRMLNode) -> bool:
    """Whether a node is a volume that the input selector lists and that this module has not computed."""
    isListed = node.GetClassName() == SCALAR_VOLUME and not node.GetHideFromEditors()
    return isListed and not any(name.startswith(ATTRIBUTES) for name in node.GetAttributeNames())


class ScanChoices:
    """The scan, what a quick look at it shows, and the options; read by all sections, changed through the parameters.

    Attributes
    ----------
    parameters : ApplyParameters or None
        None while no scene is followed.
    """

    def __init__(self) -> None:
        self.parameters: ApplyParameters | None = None
        self._volume: tuple[tuple, Volume] | None = None
        self._overview: tuple[tuple, Overview] | None = None

    def forget(self) -> None:
        """Let go of the voxels of a scene that closes."""
        self._volume = self._overview = None

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

    def measuredBox(self) -> tuple | None:
        """The box of voxels that the scanner has measured; None without a usable volume."""
        if self.parameters is None:
            return None
        try:
            return self.overview().measured
        except SuperResError:
            return None

    def options(self) -> Options:
        """How to compute.

        Raises
        ------
        InputError, OptionError
            If choices contradict each other, for instance a ROI outside the volume.
        """
        roi = roiBox(self.roiNode, self.inputNode) if self.roiNode is not None else None
        return self._options(roi)

    def lookOptions(self) -> Options:
        """What a look at the whole scan depends on."""
        return Options(blank=self._blank(), window=self._windowRequest())

    def _options(self, roi: tuple | None = None) -> Options:
        chosen = self.parameters
        return Options(
            window=self._windowRequest(),
            blank=self._blank(),
            smooth=None if chosen.modelSmoothing else chosen.smoothing,
            planes=chosen.planes.value,
            scale=1.0 if chosen.voxelSize is VoxelSize.same else None,
            output_spacing=self._voxelSize(),
            roi=roi,
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

    def _voxelSize(self) -> str | tuple[float, float, float] | None:
        chosen = self.parameters
        if chosen.voxelSize is VoxelSize.same:
            return None
        if chosen.voxelSize is not VoxelSize.custom:
            return chosen.voxelSize.value or None
        sizes = chosen.voxelSizeI, chosen.voxelSizeJ, chosen.voxelSizeK
        return sizes if all(sizes) else None

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
