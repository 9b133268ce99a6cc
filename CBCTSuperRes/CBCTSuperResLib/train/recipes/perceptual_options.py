"""The block "train" of "model": "perceptual", and the keys of the original's command line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Any, ClassVar

from ...networks.options import option
from .options import OneNetworkOptions
from .seed_names import SeedNames, is_count


@dataclass(frozen=True)
class PerceptualTrainOptions(OneNetworkOptions):
    """Of "model": "perceptual", for networks of slices that may tell how sure they are."""

    pixel_criterion: ClassVar[str] = "l2"

    loss: str = option(
        "mse",
        "Difference of SR and HR: mse, the mean square of their pixels'; perceptual, that of their features in VGG16, "
        "whose weights path.feature_weights names.",
        choices=("mse", "perceptual"),
    )
    bars_alone: bool = option(
        False,
        "Train the log-variance alone, beside the finished image of path.pretrain_model_G, which stays as it is.",
    )
    lr_G: float = option(1e-3, "Learning rate of the generator (Adam).", seed=True, above=0)
    lr_scheme: str = option(
        "Cosine",
        "Schedule: steps (lr_steps), or a half cosine down to 0.",
        seed=True,
        choices=("MultiStepLR", "Cosine"),
    )
    niter: int = option(20000, "Iterations in all.", seed=True, minimum=1)
    val_freq: int = option(1000, "Iterations between validations.", seed=True, minimum=1)


PERCEPTUAL_PLACES = {
    "mode": "network_G.upsampling",
    "loss": "train.loss",
    "upscale_factor": "scale",
    "batch_size": "datasets.train.batch_size",
    "load_weight_dir": "path.pretrain_model_G",
    "save_weight_dir": "path.root",
    "save_result_dir": "path.root",
    "log_dir": "path.log_dir",
}
PERCEPTUAL_FOLDERS = {"train_data_dir": "train", "val_data_dir": "val", "test_data_dir": "test_1"}
PERCEPTUAL_OTHERS = ("LR_input_size", "init_epoch", "num_epoch", "HR_folder", "LR_folder", "epoch_size")


@dataclass(frozen=True)
class PerceptualNames(SeedNames):
    """The keys of the original command line, whose data lie in two folders of each data directory.

    An epoch is as many images as the HR folder holds, unless "epoch_size" says otherwise.
    """

    def __contains__(self, name: str) -> bool:
        return name in PERCEPTUAL_PLACES or name in PERCEPTUAL_FOLDERS or name in PERCEPTUAL_OTHERS

    def translated(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """See `SeedNames.translated`."""
        found = {place: given[name] for name, place in reversed(PERCEPTUAL_PLACES.items()) if name in given}
        if found.get("path.pretrain_model_G") == "None":
            found["path.pretrain_model_G"] = None
        high, low = given.get("HR_folder", "bssfp"), given.get("LR_folder", "bssfp_lowres")
        for name, block in PERCEPTUAL_FOLDERS.items():
            if given.get(name) is not None:
                roots = (f"{given[name]}/{folder}" for folder in (high, low))
                found |= dict(
                    zip((f"datasets.{block}.dataroot_HR", f"datasets.{block}.dataroot_LR"), roots, strict=True)
                )
        size, factor = given.get("LR_input_size"), given.get("upscale_factor", 4)
        if size is not None:
            found["datasets.train.HR_size"] = size * factor if is_count(size) and is_count(factor) else size
        if given.get("num_epoch") is not None or given.get("init_epoch"):
            found["train.niter"] = self._iterations(given, found.get("datasets.train.dataroot_HR"))
        return found

    def _iterations(self, given: Mapping[str, Any], images: str | None) -> Any:
        """Those of the epochs from init_epoch on; what is no number of epochs passes as it is."""
        last, first, batch = given.get("num_epoch", 20), given.get("init_epoch", 0), given.get("batch_size", 48)
        size = given.get("epoch_size")
        if size is None and images and Path(images).is_dir():
            size = sum(1 for file in Path(images).iterdir() if not file.name.startswith("."))
        size = self.epoch_size if size is None else size
        if not (all(map(is_count, (last, batch, size))) and isinstance(first, int) and 0 <= first < last):
            return last if not is_count(last) else f"{first} to {last} epochs"
        return (last - first) * ceil(size / batch)


PERCEPTUAL_NAMES = PerceptualNames({}, epoch_size=1000)
