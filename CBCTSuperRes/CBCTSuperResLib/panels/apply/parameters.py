"""What the panel of CBCTSuperRes remembers in the scene."""

from enum import Enum

from slicer import vtkMRMLScalarVolumeNode
from slicer.i18n import tr as _
from slicer.parameterNodeWrapper import parameterNodeWrapper

from ...models import DEFAULT_MODEL


class Planes(Enum):
    """`Options.planes` in plain words."""

    axial = "axial"
    isotropic = "isotropic"

    @staticmethod
    def label(planes: "Planes") -> str:
        if planes is Planes.axial:
            return _("In slices (axial)")
        return _("In all axes (isotropic)")


@parameterNodeWrapper
class ApplyParameters:
    """Bound to the widgets whose property SlicerParameterName is the name of a field; `model` is bound by the panel."""

    inputVolume: vtkMRMLScalarVolumeNode
    outputVolume: vtkMRMLScalarVolumeNode
    model: str = DEFAULT_MODEL
    planes: Planes = Planes.axial
