"""The networks, by name. Nothing here knows of volumes, files or training, and importing this needs no torch.

A network is a `torch.nn.Module` that is built from keyword options and offers

- ``describe() -> NetworkSpec``: the facts that follow from its options (of the context only a bound, if there is one:
  it is calibrated);
- ``encode(x[, conditions]) -> Tensor``: everything that happens on the input's grid, shape (N, F, *spatial). x has
  the shape (N, C, *spatial); where the spec says so, C are neighbouring slices with the one to enlarge in the middle.
  A network that its spec gives conditions takes them as a dict of tensors: "blur" (N, spatial axes), "noise" (N, 1);
- ``decode(features, positions=None) -> dict[str, Tensor]``: the rest, with the outputs that the spec names. A network
  of a fixed factor ignores `positions` and returns the whole enlarged tile; a network of any real factor samples it at
  `positions`, one 1-D tensor per spatial axis, in voxels of the tile (0 is the centre of its first voxel). One that
  its spec calls absolute is also given `whole`, for each axis the voxels of the whole volume before the tile, and its
  extent;
- ``forward(x[, conditions][, positions]) -> dict[str, Tensor]``: both, for training; it may give outputs of its own.

It may have

- ``full_precision``: names of modules whose rounding would show and which therefore stay in float32;
- ``stochastic_layers``: names of modules that draw anew in training mode, such as dropout;
- ``prepare_for_inference(device)``: called once on the copy that will run, in evaluation mode and never trained.
"""

from __future__ import annotations

from importlib import import_module
from typing import NamedTuple

from .discriminator_options import (
    PatchDiscriminatorOptions,
    SRGAN3DDiscriminatorOptions,
    UNetDiscriminatorOptions,
    VGGDiscriminatorOptions,
)
from .options import (
    AnySizeOptions,
    ArSSROptions,
    NoOptions,
    Perceptual2DOptions,
    ResidualOptions,
    SRCycleGANOptions,
    SRGAN3DOptions,
    UNetSPSROptions,
)
from .spec import NetworkSpec


class Registered(NamedTuple):
    """Where a network is and what it takes.

    Attributes
    ----------
    path : str
        "module:class"; imported when the network is built.
    options : type
        The dataclass of its options, see options.py.
    """

    path: str
    options: type = NoOptions


NETWORKS: dict[str, Registered] = {
    "unetspsr": Registered("CBCTSuperResLib.networks.unetspsr:UNetSPSR", UNetSPSROptions),
    "residual": Registered("CBCTSuperResLib.networks.residual:ResidualNet", ResidualOptions),
    "perceptual2d": Registered("CBCTSuperResLib.networks.perceptual2d:Perceptual2D", Perceptual2DOptions),
    "srgan3d": Registered("CBCTSuperResLib.networks.srgan3d:SRGAN3D", SRGAN3DOptions),
    "arssr": Registered("CBCTSuperResLib.networks.arssr:ArSSR", ArSSROptions),
    "srcyclegan": Registered("CBCTSuperResLib.networks.srcyclegan:SRCycleGAN", SRCycleGANOptions),
    "any_size": Registered("CBCTSuperResLib.networks.any_size:AnySizeNet", AnySizeOptions),
}
DISCRIMINATORS: dict[str, Registered] = {
    "discriminator_unet_128": Registered(
        "CBCTSuperResLib.networks.unet_discriminator:UNetDiscriminator", UNetDiscriminatorOptions
    ),
    "discriminator_vgg_128": Registered("CBCTSuperResLib.networks.vgg:VGGDiscriminator", VGGDiscriminatorOptions),
    "discriminator_patch": Registered(
        "CBCTSuperResLib.networks.srcyclegan:PatchDiscriminator", PatchDiscriminatorOptions
    ),
    "discriminator_srgan3d": Registered(
        "CBCTSuperResLib.networks.srgan3d:SRGAN3DDiscriminator", SRGAN3DDiscriminatorOptions
    ),
}


def build_network(name: str, **options):
    """Build a network, or a discriminator, of the registries with its initial weights.

    Raises
    ------
    KeyError
        If there is no network of this name.
    ValueError
        If the options do not make sense together.
    """
    found = NETWORKS[name] if name in NETWORKS else DISCRIMINATORS[name]
    module, _, cls = found.path.partition(":")
    return getattr(import_module(module), cls)(**options)


__all__ = ["DISCRIMINATORS", "NETWORKS", "NetworkSpec", "Registered", "build_network"]
