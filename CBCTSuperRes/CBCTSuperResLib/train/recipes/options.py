"""The block "train" of every training; the keys of a recipe's own are in NAME_options.py beside it.

Importing any of these needs no torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from ...networks.options import option

CRITERIA = ("l1", "l2")
NO_PENALTY = (
    "the public code's gradient penalty does not work and is undefined for the second discriminator; "
    "choose lsgan or vanilla"
)


@dataclass(frozen=True)
class TrainOptions:
    """Losses, optimisers and schedule."""

    lr_G: float = option(1e-4, "Learning rate of the generator (Adam).", seed=True, above=0)
    lr_G_grad: float = option(
        1e-4, "Learning rate of its gradient branch; honoured, unlike in the public code.", seed=True, above=0
    )
    weight_decay_G: float = option(0.0, "Weight decay of the generator.", seed=True, minimum=0, null=0.0)
    weight_decay_G_grad: float = option(0.0, "Weight decay of its gradient branch.", seed=True, minimum=0, null=0.0)
    beta1_G: float = option(
        0.9, "Adam's first decay for the generator; the second is 0.999.", seed=True, minimum=0, below=1
    )
    beta1_G_grad: float = option(0.9, "Adam's first decay for its gradient branch.", seed=True, minimum=0, below=1)
    lr_D: float = option(1e-4, "Learning rate of both discriminators.", seed=True, above=0)
    weight_decay_D: float = option(0.0, "Weight decay of both discriminators.", seed=True, minimum=0, null=0.0)
    beta1_D: float = option(0.9, "Adam's first decay for both discriminators.", seed=True, minimum=0, below=1)
    lr_scheme: str = option(
        "MultiStepLR",
        "Schedule: steps (lr_steps), or a half cosine down to 0.",
        seed=True,
        choices=("MultiStepLR", "Cosine"),
    )
    lr_steps: tuple[int, ...] = option(
        (50000, 100000, 200000, 300000),
        "Iterations after which the learning rates are multiplied by lr_gamma.",
        seed=True,
        minimum=1,
        ascending=True,
        null=(),
    )
    lr_gamma: float = option(0.5, "Factor of lr_steps.", seed=True, maximum=1, above=0)
    lr_warmup_iters: int = option(0, "Iterations over which the learning rates rise from 0.", minimum=0, null=0)

    pixel_criterion: str = option(
        "l1", "Difference of SR and HR: l1 (absolute) or l2 (squared).", seed=True, choices=CRITERIA
    )
    pixel_weight: float = option(0.3, "Weight of that difference.", seed=True, minimum=0, null=0.0)
    feature_criterion: str = option("l1", "Difference of VGG19's features of SR and HR.", seed=True, choices=CRITERIA)
    feature_weight: float = option(
        1.0, "Weight of that difference; above 0 it needs path.feature_weights.", seed=True, minimum=0, null=0.0
    )
    gan_type: str = option(
        "lsgan",
        "Form of both GAN losses, which compare each image with the mean of the other kind, as SPSR's.",
        seed=True,
        choices=("vanilla", "lsgan"),
        refused={"wgan-gp": NO_PENALTY, "wgan": NO_PENALTY},
    )
    gan_weight: float = option(5e-3, "Weight of the GAN loss on images.", seed=True, minimum=0, null=0.0)
    gradient_pixel_weight: float = option(
        1e-2, "Weight of the squared difference of the gradient maps of SR and HR.", seed=True, minimum=0, null=0.0
    )
    gradient_gan_weight: float = option(
        5e-3, "Weight of the GAN loss on gradient maps.", seed=True, minimum=0, null=0.0
    )
    pixel_branch_criterion: str = option(
        "l1", "Difference of the gradient branch's map and HR's gradient map.", seed=True, choices=CRITERIA
    )
    pixel_branch_weight: float = option(5e-1, "Weight of that difference.", seed=True, minimum=0, null=0.0)
    Branch_pretrain: bool = option(
        False, "1: before iteration Branch_init_iters only the fusion layers are trained, as in SPSR.", seed=True
    )
    Branch_init_iters: int = option(5000, "See Branch_pretrain; without it, unused.", seed=True, minimum=0)
    warmup_iters: int = option(
        0,
        "Iterations with the pixel and branch losses alone (no gradient, feature or GAN loss), before the "
        "discriminators come in.",
        minimum=0,
        null=0,
    )

    manual_seed: int | None = option(
        6,
        "Seed of all randomness; null: one is drawn, and recorded in the run's folder.",
        seed=True,
        minimum=0,
        null=None,
    )
    niter: int = option(500000, "Iterations in all.", seed=True, minimum=1)
    val_freq: int = option(5000, "Iterations between validations.", seed=True, minimum=1)
    ema_decay: float | None = option(
        None,
        "Decay of a running mean of the generator's weights, which is then validated and exported; null: none.",
        above=0,
        below=1,
    )
    precision: str = option(
        "float32",
        "Arithmetic of the networks: float16 on CUDA only; bfloat16 there and on processors that have it.",
        choices=("float32", "bfloat16", "float16"),
    )
    grad_clip: float | None = option(None, "Largest norm of a network's gradient; null: unlimited.", above=0)
    deterministic: bool = option(True, "The same run gives the same numbers; slower on CUDA.")

    def check(self) -> None:
        """Refuse what does not fit together.

        Raises
        ------
        ValueError
            Its message begins with the option's name.
        """


def blur_range() -> Any:
    """The key `blur` of recipes that simulate coarse scans of volumes."""
    meaning = (
        "Standard deviation of the simulated scanner's blur along each axis, in LR voxels: the least and the largest, "
        "or the least, the usual and the largest."
    )
    return option((0.25, 0.6), meaning, minimum=0)


def noise_range() -> Any:
    """The key `noise` of the same recipes."""
    return option((0.0, 0.03), "Standard deviation of its noise, in units of the window.", minimum=0)


def noise_smooth_range() -> Any:
    """The key `noise_smooth` of the same recipes."""
    meaning = (
        "Standard deviation, in LR voxels, of the Gaussian that smooths the noise; drawn for all axes within slices, "
        "and once more across them."
    )
    return option((0.6, 0.6), meaning, minimum=0)


def val_size() -> Any:
    """The key `val_size` of the same recipes."""
    return option(64, "Edge of the block in the middle of each val volume that is measured.", minimum=16)


def check_ranges(options: TrainOptions, names: Sequence[str]) -> None:
    """Refuse ranges, the blur's among them, that fall.

    Raises
    ------
    ValueError
    """
    for name in names:
        low, high = getattr(options, name) or (0, 0)
        if low > high:
            raise ValueError(f"{name} must be the smaller and the larger number, not [{low:g}, {high:g}].")
    blur = list(options.blur)
    if len(blur) not in (2, 3) or blur != sorted(blur):
        raise ValueError(f"blur must be two or three numbers that do not fall, not {blur}.")


@dataclass(frozen=True)
class OwnLossesOptions(TrainOptions):
    """Of a recipe with losses of its own: what UNetSPSR and its gradient branch weigh is constant here, and no key."""

    lr_G_grad: ClassVar[float] = 1e-4
    weight_decay_G_grad: ClassVar[float] = 0.0
    beta1_G_grad: ClassVar[float] = 0.9
    feature_criterion: ClassVar[str] = "l1"
    feature_weight: ClassVar[float] = 0.0
    gan_type: ClassVar[str] = "lsgan"
    gradient_pixel_weight: ClassVar[float] = 0.0
    gradient_gan_weight: ClassVar[float] = 0.0
    pixel_branch_criterion: ClassVar[str] = "l1"
    pixel_branch_weight: ClassVar[float] = 0.0
    Branch_pretrain: ClassVar[bool] = False
    Branch_init_iters: ClassVar[int] = 0


@dataclass(frozen=True)
class OneNetworkOptions(OwnLossesOptions):
    """Of a recipe that trains one network by the difference of its images and the true ones, and has no other losses.

    What the others weigh is constant here, and no key.
    """

    lr_D: ClassVar[float] = 1e-4
    weight_decay_D: ClassVar[float] = 0.0
    beta1_D: ClassVar[float] = 0.9
    pixel_weight: ClassVar[float] = 1.0
    gan_weight: ClassVar[float] = 0.0
    warmup_iters: ClassVar[int] = 0
