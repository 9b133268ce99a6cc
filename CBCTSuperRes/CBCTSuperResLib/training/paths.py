"""Paths in the options of a training, for a process that runs elsewhere."""

from __future__ import annotations

from pathlib import Path

from .options import TrainingOptions, read_options


def withAbsolutePaths(options: TrainingOptions) -> TrainingOptions:
    """The same options for a process with another working folder."""
    values = options.to_json()
    paths = values["path"]
    for name in ("root", "pretrain_model_G", "feature_weights", "public_data"):
        paths[name] = absolute(paths[name])
    for dataset in values["datasets"].values():
        for name in ("dataroot_HR", "dataroot_LR", "subset_file"):
            value = dataset[name]
            dataset[name] = [absolute(one) for one in value] if isinstance(value, list) else absolute(value)
    return read_options(values)


def absolute(path: str | Path | None) -> str | None:
    """A path as it is from every folder; nothing for nothing."""
    return path and str(Path(path).absolute())
