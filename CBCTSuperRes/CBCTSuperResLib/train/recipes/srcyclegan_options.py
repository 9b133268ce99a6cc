"""The block "train" of "model": "srcyclegan"."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from ...networks.options import option
from .options import OwnLossesOptions


def _term(weight: float, meaning: str) -> Any:
    return option(weight, f"Weight of the loss that {meaning}", minimum=0, null=0.0)


@dataclass(frozen=True)
class SRCycleGANTrainOptions(OwnLossesOptions):
    """Of "model": "srcyclegan", for slices of two scanners without pairs; x is a coarse slice, y a fine one."""

    weight_decay_G: ClassVar[float] = 0.0
    weight_decay_D: ClassVar[float] = 0.0
    pixel_criterion: ClassVar[str] = "l1"
    pixel_weight: ClassVar[float] = 0.0
    warmup_iters: ClassVar[int] = 0

    lr_G: float = option(2e-4, "Learning rate of both generators (Adam); 1e-5 as published.", seed=True, above=0)
    lr_D: float = option(2e-4, "Learning rate of both discriminators; 1e-5 as published.", seed=True, above=0)
    beta1_G: float = option(0.5, "Adam's first decay for the generators; the second is 0.999.", minimum=0, below=1)
    beta1_D: float = option(0.5, "Adam's first decay for the discriminators.", minimum=0, below=1)
    lr_scheme: str = option(
        "Linear",
        "Schedule: constant for the first half, then linearly down to 0; steps (lr_steps); or a half cosine down to 0.",
        seed=True,
        choices=("Linear", "MultiStepLR", "Cosine"),
    )
    fine_range: tuple[float, float] | None = option(
        None,
        "Grey values of the fine scanner (dataroot_HR) that become 0 and 1, as datasets.train.normalization_range "
        "are those of the coarse one; null: estimated.",
    )
    gan_weight: float = _term(1.0, "makes G x fool the discriminator of fine slices.")
    gan_coarse_weight: float = _term(1.0, "makes F y fool the discriminator of coarse slices.")
    cycle_coarse_weight: float = _term(1.0, "keeps x after the way there and back, F G x.")
    cycle_fine_weight: float = _term(1.0, "keeps y after the way there and back, G F y.")
    identity_fine_weight: float = _term(0.2, "keeps y, enlarged by G and averaged again.")
    identity_coarse_weight: float = _term(0.02, "keeps x, enlarged and reduced by F.")
    down_weight: float = _term(1.0, "keeps x in the averages of G x (down).")
    up_weight: float = _term(1.0, "keeps y near F y, each pixel repeated (up).")
    clinical_ssim_weight: float = _term(1.0, "keeps the structure of x in the averages of G x (clinical SSIM).")
    micro_ssim_weight: float = _term(1.0, "keeps the structure of y near F y, each pixel repeated (micro SSIM).")
    pool_size: int = option(50, "Earlier images that the discriminators also see; 0: none.", minimum=0)
    coarse_blur: float | None = option(
        None,
        "Standard deviation, in its pixels, of the coarse scanner's blur, with which F begins; null: estimated from "
        "the coarse slices. Needs network_G.residual.",
        minimum=0,
        maximum=2,
    )
    coarse_noise: float | None = option(
        None,
        "Standard deviation, as a share of the window, of the noise that is added to F y before it is judged and "
        "enlarged, so that F need not invent any, nor hide y in it; null: that of the coarse slices, estimated. As "
        "published: 0.",
        minimum=0,
        below=1,
    )
    as_published: bool = option(
        False,
        "Take SSIM of images from -1 to 1, the identity losses of whole patches, F of x itself, and add no noise.",
    )
