"""The block "train" of "model": "srgan3d", and the keys of the original's command line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ...networks.options import option
from .options import CRITERIA, OwnLossesOptions, blur_range, check_ranges, noise_range, noise_smooth_range, val_size
from .seed_names import SeedName, SeedNames


@dataclass(frozen=True)
class SRGAN3DTrainOptions(OwnLossesOptions):
    """Of "model": "srgan3d", for networks of blocks."""

    pixel_criterion: str = option(
        "l2", "Difference of SR and HR: l1 (absolute) or l2 (squared).", seed=True, choices=CRITERIA
    )
    pixel_weight: float = option(1.0, "Weight of that difference.", seed=True, minimum=0, null=0.0)
    gradient_difference_weight: float = option(
        1.0, "Weight of the squared difference of the edges of SR and HR along each axis.", minimum=0, null=0.0
    )
    gan_weight: float = option(1e-3, "Weight of the GAN loss on images.", seed=True, minimum=0, null=0.0)
    real_label: tuple[float, float] = option(
        (0.7, 1.2), "Range of what the discriminator should say of real volumes; drawn in each step."
    )
    fake_label: tuple[float, float] = option((0.0, 0.3), "Range of what it should say of enlarged ones.")
    swapped_labels: float = option(
        0.1,
        "Share of the steps in which its labels are exchanged, so that it does not become too sure.",
        minimum=0,
        maximum=1,
    )
    blur: tuple[float, ...] = blur_range()
    noise: tuple[float, float] = noise_range()
    noise_smooth: tuple[float, float] = noise_smooth_range()
    val_size: int = val_size()

    def check(self) -> None:
        """Ranges go from the smaller to the larger number.

        Raises
        ------
        ValueError
            Its message begins with the option's name.
        """
        check_ranges(self, ("real_label", "fake_label", "noise", "noise_smooth"))


SRGAN3D_PLACES = {
    "residual_blocks": "network_G.residual_blocks",
    "feature_size": "network_G.feature_size",
    "upsampling_factor": "scale",
    "subpixel_NN": "network_G.subpixel_NN",
    "nn": "network_G.nn",
    "restore": "path.resume_state",
    "checkpoint_dir_restore": "path.pretrain_model_G",
    "checkpoint_dir": "path.root",  # which holds predictions and volumes as well
    "path_prediction": "path.root",
    "path_volumes": "path.root",
}


@dataclass(frozen=True)
class SRGAN3DNames(SeedNames):
    """The keys of the original command line; of its folders, which are one here, checkpoint_dir goes before."""

    def translated(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """See `SeedNames.translated`."""
        switches = {"True": True, "False": False}  # as Python writes them, and the original's command line
        values = {
            name: switches.get(str(value), value) if name in ("nn", "subpixel_NN") else value
            for name, value in given.items()
        }
        return {place: values[name] for name, place in reversed(SRGAN3D_PLACES.items()) if name in values}


SRGAN3D_NAMES = SRGAN3DNames(
    {name: SeedName(place) for name, place in SRGAN3D_PLACES.items()},
    elsewhere={"evaluate": "is no option here; a trained model is evaluated by the command cbct-superres test"},
)
