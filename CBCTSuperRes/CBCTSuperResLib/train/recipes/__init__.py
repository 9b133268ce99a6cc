"""What is trained, with which losses, and how one step goes: one recipe a file; here is their list, without torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .arssr_options import ARSSR_NAMES, ArSSRTrainOptions
from .perceptual_options import PERCEPTUAL_NAMES, PerceptualTrainOptions
from .seed_names import SeedNames
from .srcyclegan_options import SRCycleGANTrainOptions
from .srgan3d_options import SRGAN3D_NAMES, SRGAN3DTrainOptions


@dataclass(frozen=True)
class Registered:
    """Where a recipe is, what its options may hold, and which networks it trains.

    Attributes
    ----------
    path : str
        "module:class"; imported when it is built.
    options : type or None
        A subclass of `TrainOptions`, the block "train" with the recipe's own keys; None: `TrainOptions` itself.
    trains : str or None
        "slices": networks of two dimensions and a whole factor; "blocks": of three; "any factor": of three dimensions
        and any real factor. None: whatever is registered.
    defaults : mapping of str to object
        Keys in other blocks that are otherwise than elsewhere when they are left out, by their places, such as
        "network_G.which_model_G". Those of a data set count only where there is one.
    seed_names : SeedNames
        The keys of the program that the recipe comes from, where they are called otherwise.
    is_unpaired : bool
        Whether LR and HR need have nothing to do with each other; each may have masks of what is learnt from.
    """

    path: str
    options: type | None = None
    trains: str | None = None
    defaults: Mapping[str, Any] = field(default_factory=dict)
    seed_names: SeedNames = SeedNames({})
    is_unpaired: bool = False


RECIPES: dict[str, Registered] = {
    "unetspsr": Registered("CBCTSuperResLib.train.recipes.unetspsr:UNetSPSRRecipe", trains="slices"),
    "arssr": Registered(
        "CBCTSuperResLib.train.recipes.arssr:ArSSRRecipe",
        ArSSRTrainOptions,
        "any factor",
        {
            "network_G.which_model_G": "arssr_net",
            "datasets.train.mode": "HR",
            "datasets.train.HR_size": 40,
            "datasets.train.batch_size": 15,
            "datasets.val.mode": "HR",
            "scale": 4,
        },
        ARSSR_NAMES,
    ),
    "perceptual": Registered(
        "CBCTSuperResLib.train.recipes.perceptual:PerceptualRecipe",
        PerceptualTrainOptions,
        "slices",
        {"network_G.which_model_G": "perceptual2d_net", "datasets.train.batch_size": 48, "scale": 4},
        PERCEPTUAL_NAMES,
    ),
    "srgan3d": Registered(
        "CBCTSuperResLib.train.recipes.srgan3d:SRGAN3DRecipe",
        SRGAN3DTrainOptions,
        "blocks",
        {
            "network_G.which_model_G": "srgan3d_net",
            "network_D.which_model_D": "discriminator_srgan3d",
            "datasets.train.HR_size": 48,
            "datasets.train.batch_size": 2,
            "scale": 4,
        },
        SRGAN3D_NAMES,
    ),
    "srcyclegan": Registered(
        "CBCTSuperResLib.train.recipes.srcyclegan:SRCycleGANRecipe",
        SRCycleGANTrainOptions,
        "slices",
        {
            "network_G.which_model_G": "srcyclegan_net",
            "network_D.which_model_D": "discriminator_patch",
            "datasets.train.HR_size": 128,
            "datasets.train.batch_size": 4,
            "scale": 4,
        },
        is_unpaired=True,
    ),
}
