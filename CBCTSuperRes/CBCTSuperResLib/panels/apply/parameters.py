"""What the panel of CBCTSuperRes remembers in the scene."""

from enum import Enum
from pathlib import Path
from typing import Annotated

from slicer import vtkMRMLMarkupsROINode, vtkMRMLScalarVolumeNode
from slicer.i18n import tr as _
from slicer.parameterNodeWrapper import WithinRange, parameterNodeWrapper

from ...apply.engines import TITLES
from ...scan.window import PRESETS

AUTOMATIC = ""  # in place of a model's name


class Planes(Enum):
    """`Options.planes` in plain words."""

    axial = "axial"
    isotropic = "isotropic"

    @staticmethod
    def label(planes: "Planes") -> str:
        if planes is Planes.axial:
            return _("In slices (axial)")
        return _("In all axes (isotropic)")


class VoxelSize(Enum):
    """`Options.output_spacing` in plain words; "" for None, "custom" for three sizes. "same" is `Options.scale` 1."""

    usual = ""
    cubic = "cubic"
    custom = "custom"
    same = "same"

    @staticmethod
    def label(size: "VoxelSize") -> str:
        words = {
            VoxelSize.usual: _("The model's own"),
            VoxelSize.cubic: _("Cubic (finest axis)"),
            VoxelSize.custom: _("Given below (mm)"),
            VoxelSize.same: _("Same size, less noise"),
        }
        return words[size]


class _Window(Enum):
    """`Options.window` in plain words: the values are what it takes, "" for None and "custom" for two gray values."""

    @staticmethod
    def label(preset: "_Window") -> str:
        words = {"": _("Automatic"), "model": _("As the model was trained"), "custom": _("Custom")}
        return words.get(preset.value) or PRESETS[preset.value].title


WindowPreset = _Window(
    "WindowPreset", {"automatic": "", "model": "model", **{name: name for name in PRESETS}, "custom": "custom"}
)


class Quality(Enum):
    """`Options.ensemble` in plain words."""

    fast = 1
    balanced = 2
    best = 8

    @staticmethod
    def label(quality: "Quality") -> str:
        words = {
            Quality.fast: _("Fast: each part once"),
            Quality.balanced: _("Balanced: mean of 2, twice the time"),
            Quality.best: _("Best: mean of 8, eight times the time"),
        }
        return words[quality]


class Device(Enum):
    """`Options.device` in plain words."""

    auto = "auto"
    gpu = "cuda"
    gpus = "cuda:all"
    cpu = "cpu"

    @staticmethod
    def label(device: "Device") -> str:
        words = {
            Device.auto: _("Automatic"),
            Device.gpu: _("Graphics card (NVIDIA)"),
            Device.gpus: _("All graphics cards (NVIDIA), together"),
            Device.cpu: _("Processor"),
        }
        return words[device]


class Precision(Enum):
    """`Options.precision` in plain words."""

    auto = "auto"
    fp32 = "fp32"
    tf32 = "tf32"
    bf16 = "bf16"
    fp16 = "fp16"

    @staticmethod
    def label(precision: "Precision") -> str:
        words = {
            Precision.auto: _("Automatic"),
            Precision.fp32: _("32 bit"),
            Precision.tf32: _("32 bit, rounded products (TF32)"),
            Precision.bf16: _("16 bit, wide range (BF16)"),
            Precision.fp16: _("16 bit (FP16)"),
        }
        return words[precision]


class ComputingEngine(Enum):
    """`Options.engine` in plain words."""

    auto = "auto"
    torch = "torch"
    onnxruntime = "onnxruntime"
    openvino = "openvino"

    @staticmethod
    def label(engine: "ComputingEngine") -> str:
        return _("Automatic") if engine is ComputingEngine.auto else TITLES[engine.value]


class Blank(Enum):
    """`Options.blank` in plain words."""

    auto = "auto"
    none = "none"
    value = "value"

    @staticmethod
    def label(blank: "Blank") -> str:
        words = {
            Blank.auto: _("Find them"),
            Blank.none: _("There are none"),
            Blank.value: _("Voxels of a gray value"),
        }
        return words[blank]


class OutputType(Enum):
    """`Options.dtype` in plain words; "" for None."""

    same = ""
    int16 = "int16"
    uint16 = "uint16"
    float32 = "float32"

    @staticmethod
    def label(kind: "OutputType") -> str:
        words = {
            OutputType.same: _("As the input"),
            OutputType.int16: _("16 bit, signed (int16)"),
            OutputType.uint16: _("16 bit, unsigned (uint16)"),
            OutputType.float32: _("32 bit, floating point (float32)"),
        }
        return words[kind]


@parameterNodeWrapper
class ApplyParameters:
    """Bound to the widgets whose property SlicerParameterName is the name of a field.

    `model`, `windowLow`, `windowHigh`, `previewView`, `batchVolumes` and `batchFiles` are bound by their sections, as
    their choices depend on what is there. `model` is a name, or `AUTOMATIC`. A custom window that was never set has
    both at 0, as has a voxel size.
    """

    inputVolume: vtkMRMLScalarVolumeNode
    roi: vtkMRMLMarkupsROINode
    model: str = AUTOMATIC

    windowPreset: WindowPreset = WindowPreset.automatic
    windowLow: float = 0.0
    windowHigh: float = 0.0

    outputVolume: vtkMRMLScalarVolumeNode
    planes: Planes = Planes.axial
    voxelSize: VoxelSize = VoxelSize.usual
    voxelSizeI: Annotated[float, WithinRange(0.0, 10.0)] = 0.0
    voxelSizeJ: Annotated[float, WithinRange(0.0, 10.0)] = 0.0
    voxelSizeK: Annotated[float, WithinRange(0.0, 10.0)] = 0.0
    referenceVolume: vtkMRMLScalarVolumeNode

    previewView: str = ""
    previewFade: Annotated[float, WithinRange(0.0, 100.0)] = 100.0

    scannerBlur: Annotated[float, WithinRange(0.0, 5.0)] = 0.0
    sharpness: Annotated[float, WithinRange(0.0, 100.0)] = 100.0
    backProjection: bool = True
    quality: Quality = Quality.fast
    device: Device = Device.auto
    precision: Precision = Precision.auto
    engine: ComputingEngine = ComputingEngine.auto
    tile: Annotated[int, WithinRange(0, 2048)] = 0
    modelSmoothing: bool = True
    smoothing: Annotated[float, WithinRange(0.0, 5.0)] = 0.5
    blank: Blank = Blank.auto
    blankValue: Annotated[float, WithinRange(-1000000.0, 1000000.0)] = 0.0
    outputType: OutputType = OutputType.same
    disagreement: bool = False
    misjudgedBone: bool = False

    batchVolumes: list[vtkMRMLScalarVolumeNode]
    batchFiles: list[Path]
    batchFolder: str = ""
    batchSkip: bool = True
