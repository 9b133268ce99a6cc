"""The discriminators that "network_D" and "network_D_grad" can name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

from ...errors import OptionError
from ...networks.unet_discriminator import UNetDiscriminator
from ...networks.vgg_discriminator import LARGEST, SMALLEST, VGGDiscriminator

if TYPE_CHECKING:
    from ..options import DiscriminatorOptions

UNET, VGG = "discriminator_unet_128", "discriminator_vgg_128"


def build_discriminator(block: DiscriminatorOptions) -> nn.Module:
    """A new network with its initial weights; the U-Net keeps torch's usual ones, as Real-ESRGAN does."""
    if block.which_model_D == VGG:
        return VGGDiscriminator(block.in_nc, block.nf)
    return UNetDiscriminator(block.in_nc, block.nf, block.skip_connection)


def has_batch_norm(block: DiscriminatorOptions) -> bool:
    """Whether the outputs for one image depend on the others of its batch."""
    return block.which_model_D == VGG


def check_discriminator(block: DiscriminatorOptions, name: str, channels: int, size: int) -> None:
    """Refuse a discriminator that cannot look at images of this size.

    Parameters
    ----------
    block : DiscriminatorOptions
    name : str
        Of the block in the options.
    channels, size : int
        Channels of the images, and their edge in pixels.

    Raises
    ------
    OptionError
    """
    if block.which_model_D not in (UNET, VGG):
        raise OptionError(f"{name}.which_model_D is {block.which_model_D!r}.", f"Choose {UNET} or {VGG}.")
    if block.in_nc != channels:
        raise OptionError(
            f"{name}.in_nc is {block.in_nc}, but network_G.out_nc is {channels}.", "Give both the same number."
        )
    if block.which_model_D == VGG and not SMALLEST <= size <= LARGEST:
        raise OptionError(
            f"{VGG} ({name}) needs images of {SMALLEST} to {LARGEST} pixels; it would get {size} x {size}.",
            "Change datasets.train.HR_size, or choose discriminator_unet_128.",
        )
    if block.which_model_D == UNET and size % UNetDiscriminator.multiple:
        raise OptionError(
            f"{UNET} ({name}) needs multiples of {UNetDiscriminator.multiple} pixels; it would get {size} x {size}.",
            "Change datasets.train.HR_size; train.gradient_padding must be 1 (or null) with a U-Net.",
        )
