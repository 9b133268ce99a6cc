"""What a training or test needs and is not there: looked up on the disk, before anything is computed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from ...errors import SuperResError
from ...models.listing import SUFFIX, find_model
from .data_keys import DatasetOptions
from .training_options import TrainingOptions

VGG19 = "VGG19's weights, torchvision's vgg19-dcbb9e9d.pth from https://download.pytorch.org/models/"


def missing(options: TrainingOptions) -> list[str]:
    """Sentences about files and folders that are named or needed but not there; [] if the work can begin."""
    keys = ("train", "val") if options.is_train else options.tests
    datasets = {key: options.dataset(key) for key in keys}
    return [
        *(text for key, dataset in datasets.items() if dataset for text in _images(f"datasets.{key}", dataset)),
        *_public_scans(options, [dataset for dataset in datasets.values() if dataset]),
        *_weights(options),
        *_root(options.path.root),
    ]


def _images(block: str, dataset: DatasetOptions) -> Iterator[str]:
    for key in ("dataroot_HR", "dataroot_LR"):
        for text in getattr(dataset, key):
            if not Path(text).exists():
                yield f"{block}.{key}: there is no {text}."
            elif Path(text).is_dir() and not any(Path(text).iterdir()):
                yield f"{block}.{key}: the folder {text} is empty."
    if dataset.subset_file and not Path(dataset.subset_file).is_file():
        yield f"{block}.subset_file: there is no file {dataset.subset_file}."


def _public_scans(options: TrainingOptions, datasets: list[DatasetOptions]) -> list[str]:
    names = dict.fromkeys(name for dataset in datasets for name in dataset.public)
    if not names:
        return []
    from ...evaluation.public import missing_scans

    try:
        return missing_scans(names, Path(options.path.public_data) if options.path.public_data else None)
    except SuperResError as error:
        return [str(error)]


def _weights(options: TrainingOptions) -> Iterator[str]:
    path = options.path
    if not options.is_train:
        yield from _tested_model(options)
        return
    if path.pretrain_model_G and not Path(path.pretrain_model_G).is_file():
        yield f"path.pretrain_model_G: there is no file {path.pretrain_model_G}."
    if path.resume_state and path.resume_state != "auto" and not Path(path.resume_state).is_file():
        yield f"path.resume_state: there is no file {path.resume_state}."
    if not options.train.feature_weight:
        return
    if not path.feature_weights:
        yield (
            f"train.feature_weight is {options.train.feature_weight:g}, but path.feature_weights names no file. Name "
            f"one (--feature-weights FILE): {VGG19}; or train without (--set train.feature_weight=0)."
        )
    elif not Path(path.feature_weights).is_file():
        yield f"path.feature_weights: there is no file {path.feature_weights} ({VGG19})."


def _tested_model(options: TrainingOptions) -> Iterator[str]:
    """A test takes a model by file or name, or else the run's: its best, or its latest where nothing was validated."""
    if options.path.pretrain_model_G:
        try:
            find_model(options.path.pretrain_model_G)
        except SuperResError as error:
            yield f"path.pretrain_model_G: {error}"
        return
    folder = options.run_folder / "models"
    if not any((folder / f"{which}_G{SUFFIX}").is_file() for which in ("best", "latest")):
        yield f"There is no model to test: path.pretrain_model_G is null, and {folder.parent} is no trained run."


def _root(root: str) -> Iterator[str]:
    if os.name != "nt" and "\\" in root and "/" not in root:
        yield f"path.root: {root} is a path of Windows; name a folder of this computer."
        return
    folder = Path(root).absolute()
    existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
    if not existing.is_dir():
        yield f"path.root: {existing} is not a folder."
    elif not os.access(existing, os.W_OK):
        yield f"path.root: {existing} cannot be written to."
