"""Keys of "network_G" and "network_D"."""

from __future__ import annotations

from dataclasses import dataclass

from .keys import ours, seed
from .kinds import Flag, ListOf, OnlyNull, Text, Whole

SPSR, RESIDUAL = "unetspsr_net", "residual_net"
UNET = "discriminator_unet_128"
VGG = "discriminator_vgg_128"
CHANNELS = Text((1, 3))


@dataclass(frozen=True)
class GeneratorOptions:
    """The network that is trained to enlarge."""

    which_model_G: str = seed(
        Text((SPSR, RESIDUAL)),
        SPSR,
        "Generator: SPSR's, with a gradient branch; or a plain residual network (ours), fast on computers without GPU.",
    )
    norm_type: str | None = seed(
        OnlyNull("the generator has no normalisation"), None, "Normalisation of the generator: it has none."
    )
    mode: str = seed(Text(("CNA",)), "CNA", "Order within a layer: convolution, (normalisation,) activation.")
    nf: int = seed(Whole(1), 64, "Features of the trunk and of the gradient branch.")
    nb: int = seed(Whole(4), 23, "Residual blocks of the trunk (RRDB in unetspsr_net).")
    in_nc: int = seed(
        Text((1, 3, 5, 7, 9)),
        1,
        "Channels of LR: 1 for grey, 3 for colour. With out_nc 1 also 3, 5, 7 or 9: so many neighbouring slices, of "
        "which the middle one is enlarged.",
    )
    out_nc: int = seed(CHANNELS, 1, "Channels of HR: as in_nc, or 1 with neighbouring slices.")
    gc: int = seed(
        Whole(1), 32, "Growth channels of the dense blocks; honoured, unlike in the public code. Not in residual_net."
    )
    branch_taps: tuple[int, ...] | None = ours(
        ListOf(Whole(1), 4, ascending=True),
        None,
        "After which blocks (from 1) the gradient branch takes in features. null: 5, 10, 15, 20 from nb = 20 on, else "
        "the quarters of nb.",
    )
    initial: str = ours(
        Text(("kaiming", "interpolation")),
        "kaiming",
        "Weights to begin with: random, or such that the untrained network interpolates, as residual_net always does.",
    )

    @property
    def slices(self) -> int:
        """Neighbouring slices on either side of the one that is enlarged."""
        return (self.in_nc - 1) // 2 if self.out_nc == 1 else 0

    @property
    def channels(self) -> int:
        """Channels of one slice of LR."""
        return 1 if self.slices else self.in_nc


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
