"""The networks, by name. Nothing here knows of volumes, files or training, and importing this needs no torch.

A network is a `torch.nn.Module` that is built from keyword options and offers

- ``describe() -> NetworkSpec``: the facts that follow from its options (of the halo only a bound, if there is one: it
  is calibrated);
- ``forward(x) -> dict[str, Tensor]``: x of shape (N, C, *spatial), at least the key "sr"; where the spec says so, C
  are neighbouring slices with the one to enlarge in the middle;
- ``encode(x) -> Tensor``: everything that happens on the input's grid, shape (N, F, *spatial);
- ``decode(features, positions=None) -> dict[str, Tensor]``: the rest. A network of one fixed factor ignores `positions`
  and returns the whole enlarged tile; a network of any real scale samples it at `positions`, one 1-D tensor per
  spatial axis, in voxels of the tile (0 is the centre of its first voxel).

It may name, in ``full_precision``, modules whose rounding would show and which therefore stay in float32.
"""

from __future__ import annotations

from importlib import import_module

from .spec import NetworkSpec

NETWORKS: dict[str, str] = {
    "residual": "CBCTSuperResLib.networks.residual:ResidualNet",
    "unetspsr": "CBCTSuperResLib.networks.unetspsr:UNetSPSR",
}


def build_network(name: str, **options):
    """Build a network of the registry with its initial weights.

    Raises
    ------
    KeyError
        If there is no network of this name.
    ValueError
        If the options do not make sense together.
    """
    module, _, cls = NETWORKS[name].partition(":")
    return getattr(import_module(module), cls)(**options)


__all__ = ["NETWORKS", "NetworkSpec", "build_network"]
