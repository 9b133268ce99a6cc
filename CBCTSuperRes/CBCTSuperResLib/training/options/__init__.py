"""The options of a training: UNetSPSR's JSON with our additions, read, checked and written without extra packages."""

from .data_keys import DatasetOptions, TrainDatasetOptions
from .device import TrainingDevice, training_device
from .needs import missing
from .network_keys import UNET, VGG, DiscriminatorOptions, GeneratorOptions
from .reading import read_and_check, read_options, read_values
from .train_keys import LoggerOptions, PathOptions, TrainOptions
from .training_options import TrainingOptions

__all__ = [
    "UNET",
    "VGG",
    "DatasetOptions",
    "DiscriminatorOptions",
    "GeneratorOptions",
    "LoggerOptions",
    "PathOptions",
    "TrainDatasetOptions",
    "TrainOptions",
    "TrainingDevice",
    "TrainingOptions",
    "missing",
    "read_and_check",
    "read_options",
    "read_values",
    "training_device",
]
