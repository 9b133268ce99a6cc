"""Keys of "network_G" and "network_D"."""

from __future__ import annotations

from dataclasses import dataclass

from .keys import ours, seed
from .kinds import Flag, ListOf, OnlyNull, Text, Whole

UNET = "discriminator_unet_128"
VGG = "discriminator_vgg_128"
CHANNELS = Text((1, 3))


@dataclass(frozen=True)
class GeneratorOptions:
    """The network that is trained to enlarge."""

    which_model_G: str = seed(Text(("unetspsr_net",)), "unetspsr_net", "Generator: SPSR's, with a gradient branch.")
    norm_type: str | None = seed(
        OnlyNull("the generator has no normalisation"), None, "Normalisation of the generator: it has none."
    )
    mode: str = seed(Text(("CNA",)), "CNA", "Order within a layer: convolution, (normalisation,) activation.")
    nf: int = seed(Whole(1), 64, "Features of the trunk and of the gradient branch.")
    nb: int = seed(Whole(4), 23, "Residual blocks (RRDB) of the trunk.")
    in_nc: int = seed(CHANNELS, 1, "Channels of LR: 1 for grey, 3 for colour.")
    out_nc: int = seed(CHANNELS, 1, "Channels of HR; the same as in_nc.")
    gc: int = seed(Whole(1), 32, "Growth channels of the dense blocks; honoured, unlike in the public code.")
    branch_taps: tuple[int, ...] | None = ours(
        ListOf(Whole(1), 4, ascending=True),
        None,
        "After which blocks (from 1) the gradient branch takes in features. null: 5, 10, 15, 20 from nb = 20 on, else "
        "the quarters of nb.",
    )
    initial: str = ours(
        Text(("kaiming", "interpolation")),
        "kaiming",
        "Weights to begin with: random, or such that the untrained network interpolates.",
    )


@dataclass(frozen=True)
class DiscriminatorOptions:
    """A network that is trained to tell real images from enlarged ones."""

    which_model_D: str = seed(
        Text((UNET, VGG)), UNET, "Discriminator: Real-ESRGAN's U-Net with spectral norm, or SPSR's VGG of 128 pixels."
    )
    norm_type: str | None = seed(
        Text(("batch", "spectral")), None, "Normalisation of the VGG: batch. The U-Net always has spectral norm."
    )
    act_type: str | None = seed(Text(("leakyrelu",)), None, "Activation: leaky ReLU in both.")
    mode: str | None = seed(Text(("CNA",)), None, "Order within a layer of the VGG; the U-Net ignores it.")
    nf: int = seed(Whole(1), 64, "Features of the first layer.")
    in_nc: int = seed(CHANNELS, 1, "Channels: as network_G.out_nc.")
    skip_connection: bool = ours(Flag(), True, "Whether the U-Net adds its encoder's features to its decoder's.")
