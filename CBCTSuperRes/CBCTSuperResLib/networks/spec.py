"""What the rest of the library must know of a network, without torch."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields


@dataclass(frozen=True)
class NetworkSpec:
    """Description of a network, stored with its weights.

    Attributes
    ----------
    network : str
        Name in the registry `networks.NETWORKS`.
    options : dict
        Keyword arguments that rebuild the network.
    dimensions : int
        2 (slices) or 3 (blocks).
    scale : float or None
        The one factor of the network along each of its axes; None for a network of any real scale.
    scale_range : tuple of float or None
        Smallest and largest factor of a network of any real scale.
    channels : int
        Channels of a slice (or block), of input and output.
    slices : int
        Neighbouring slices on either side that the input of a 2-D network holds besides the slice to enlarge, all as
        channels in their order along the axis across the slices.
    halo : int or None
        Context, in input voxels, beyond which `encode` changes by less than the tile tolerance. None: unknown or
        unbounded, so that a slice is never cut into tiles.
    decode_halo : int
        Context, in input voxels, that `decode` needs; exact.
    minimum_size : int
        Smallest extent of the input along each axis.
    multiple : int
        The extents of the input must be multiples of this.
    outputs : tuple of str
        Keys of the mapping that `forward` returns; the first is always "sr".
    flops_per_voxel : float
        Floating-point operations for one input voxel.
    bytes_per_voxel : float
        Memory that one input voxel of a tile needs while `encode` runs, float32.
    decode_bytes_per_voxel : float
        The same for `decode`, per input voxel.
    """

    network: str
    options: dict = field(default_factory=dict)
    dimensions: int = 2
    scale: float | None = 2
    scale_range: tuple[float, float] | None = None
    channels: int = 1
    slices: int = 0
    halo: int | None = None
    decode_halo: int = 0
    minimum_size: int = 1
    multiple: int = 1
    outputs: tuple[str, ...] = ("sr",)
    flops_per_voxel: float = 0.0
    bytes_per_voxel: float = 0.0
    decode_bytes_per_voxel: float = 0.0

    @property
    def input_channels(self) -> int:
        """Channels of the tensor that the network takes."""
        return self.channels * (2 * self.slices + 1)

    def to_json(self) -> dict:
        return asdict(self)

    @staticmethod
    def from_json(values: dict) -> NetworkSpec:
        """Rebuild from JSON; unknown keys of newer versions are ignored, lists become tuples."""
        known = {f.name for f in fields(NetworkSpec)}
        values = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items() if k in known}
        return NetworkSpec(**values)
