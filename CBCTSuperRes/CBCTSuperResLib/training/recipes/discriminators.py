"""The discriminators that "network_D" and "network_D_grad" can name."""

from __future__ import annotations

from torch import nn

from ...networks.unet_discriminator import UNetDiscriminator
from ...networks.vgg_discriminator import VGGDiscriminator
from ..options import VGG, DiscriminatorOptions


def build_discriminator(block: DiscriminatorOptions) -> nn.Module:
    """A new network with its initial weights; the U-Net keeps torch's usual ones, as Real-ESRGAN does."""
    if block.which_model_D == VGG:
        return VGGDiscriminator(block.in_nc, block.nf)
    return UNetDiscriminator(block.in_nc, block.nf, block.skip_connection)


def has_batch_norm(block: DiscriminatorOptions) -> bool:
    """Whether the outputs for one image depend on the others of its batch."""
    return block.which_model_D == VGG
