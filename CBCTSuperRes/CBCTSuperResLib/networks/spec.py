"""What the rest of the library must know of a network, without torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from math import isfinite, prod

ROLES = ("image", "gradient", "log_variance")
CONDITIONS = ("blur", "noise")


@dataclass(frozen=True)
class NetworkSpec:
    """Description of a network, stored as JSON with its weights.

    Whatever is given for each axis is in the order of arrays: (j, i), or (k, j, i) for blocks. One number, or one
    range, stands for all axes alike.

    Attributes
    ----------
    network : str
        Name in the registry `networks.NETWORKS`.
    options : dict
        Keyword arguments that rebuild the network: the fields of its options.
    dimensions : int
        2 (slices) or 3 (blocks).
    scale : tuple of float, or None
        The fixed whole factor along each axis of the network; None for a network of any real factor.
    scale_range : tuple of (float, float), or None
        Smallest and largest factor along each axis of a network of any real factor.
    channels : int
        Channels of a slice (or block), of input and output.
    slices : int
        Neighbouring slices on either side that the input of a 2-D network holds besides the slice to enlarge, all as
        channels in their order along the axis across the slices.
    context : int, "unknown" or "global"
        Input voxels beyond which nothing changes the result, `encode` and `decode` together, by more than the tile
        tolerance. Unknown, until it is calibrated: a 2-D network is given whole slices, a 3-D network the whole
        volume. Global: the network looks at all of the image, for instance to normalise it, so that it will never be
        given less.
    decode_context : int
        What of that `decode` alone needs; exact.
    minimum_size : int
        Smallest extent of the input along each axis.
    multiple : int
        The extents of the input must be multiples of this.
    outputs : dict of str to str
        What `forward` returns, by name, and its role: "image", "gradient" (of the image, or of the input) or
        "log_variance" (of the image, in units of the window squared). The image comes first and is called "sr".
    domain : str
        "same": the output's grey values are the input's, and return through its window. "other": they are those of
        another kind of image, and return through the output window of the model's card.
    absolute : bool
        Whether `decode` must be told, besides the positions in its tile, where in the whole volume the tile lies.
    stochastic : bool
        Whether the network names layers in ``stochastic_layers`` that can be drawn anew, such as dropout.
    conditions : tuple of str
        What `encode` wants to be told besides the image: "blur" (standard deviation along each axis, in input voxels),
        "noise" (standard deviation, in units of the window).
    encode_flops, encode_bytes : float
        Floating-point operations, and memory while `encode` runs in float32, for one input voxel of a tile.
    decode_flops, decode_bytes : float
        The same for `decode`, for one output voxel.

    Raises
    ------
    ValueError
        If these facts contradict each other; the message says which.
    """

    network: str
    options: dict = field(default_factory=dict)
    dimensions: int = 2
    scale: tuple[float, ...] | None = (2.0, 2.0)
    scale_range: tuple[tuple[float, float], ...] | None = None
    channels: int = 1
    slices: int = 0
    context: int | str = "unknown"
    decode_context: int = 0
    minimum_size: int = 1
    multiple: int = 1
    outputs: dict[str, str] = field(default_factory=lambda: {"sr": "image"})
    domain: str = "same"
    absolute: bool = False
    stochastic: bool = False
    conditions: tuple[str, ...] = ()
    encode_flops: float = 0.0
    encode_bytes: float = 0.0
    decode_flops: float = 0.0
    decode_bytes: float = 0.0

    def __post_init__(self) -> None:
        if self.dimensions not in (2, 3):
            raise ValueError(f"the network has {self.dimensions!r} dimensions")
        if not isinstance(self.network, str) or not isinstance(self.options, dict):
            raise ValueError("the network has no name or no options")
        object.__setattr__(self, "conditions", tuple(self.conditions))
        self._set_scales()
        whole = (self.channels, self.slices, self.decode_context, self.minimum_size, self.multiple)
        if not all(type(number) is int and number >= 0 for number in whole) or 0 in (self.channels, self.multiple):
            raise ValueError("channels, slices, context, minimum size and multiple must be whole numbers")
        if self.context not in ("unknown", "global") and not (type(self.context) is int and self.context >= 0):
            raise ValueError(f"the context is {self.context!r}")
        if not isinstance(self.outputs, dict) or self.outputs.get("sr") != "image":
            raise ValueError("the network has no output 'sr', the image")
        object.__setattr__(self, "outputs", {"sr": "image", **self.outputs})  # JSON sorts them
        for what, found, known in (
            ("role of an output", self.outputs.values(), ROLES),
            ("domain", [self.domain], ("same", "other")),
            ("condition", self.conditions, CONDITIONS),
        ):
            for unknown in [name for name in found if name not in known]:
                raise ValueError(f"{unknown!r} is no {what}; known are {', '.join(known)}")

    def _set_scales(self) -> None:
        if (self.scale is None) is (self.scale_range is None):
            raise ValueError("the network has neither a scale nor a range of scales, or both")
        if self.scale is not None:
            factors = self.scale if isinstance(self.scale, Sequence) else [self.scale] * self.dimensions
            if len(factors) != self.dimensions or not all(_is_factor(f) and f == int(f) for f in factors):
                raise ValueError(f"the scale is {self.scale!r}, not a whole factor for each axis")
            object.__setattr__(self, "scale", tuple(map(float, factors)))
        else:
            ranges = self.scale_range if isinstance(self.scale_range[0], Sequence) else [self.scale_range]
            ranges = list(ranges) * (self.dimensions if len(ranges) == 1 else 1)
            if len(ranges) != self.dimensions or not all(
                len(pair) == 2 and all(map(_is_factor, pair)) and pair[0] <= pair[1] for pair in ranges
            ):
                raise ValueError(f"the range of scales is {self.scale_range!r}, not two factors for each axis")
            object.__setattr__(self, "scale_range", tuple((float(lo), float(hi)) for lo, hi in ranges))

    @property
    def input_channels(self) -> int:
        """Channels of the tensor that the network takes."""
        return self.channels * (2 * self.slices + 1)

    @property
    def can_be_cut(self) -> bool:
        """Whether tiles with the network's context around them give what the whole image gives."""
        return isinstance(self.context, int)

    @property
    def scale_text(self) -> str:
        """The factor, or the range of factors, for people; one for each axis, (i, j, k), where they differ."""
        factors = [f"{f:g}" for f in self.scale or ()] or ["{:g}-{:g}".format(*pair) for pair in self.scale_range]
        return f"x{factors[0]}" if len(set(factors)) == 1 else f"x{' x '.join(factors[::-1])}"

    def flops_per_voxel(self, scale: Sequence[float] | None = None) -> float:
        """Operations for one input voxel, `decode` included, at the network's factors or those that are given."""
        return self.encode_flops + self.decode_flops * prod(scale or self.scale)

    def to_json(self) -> dict:
        return asdict(self)

    @staticmethod
    def from_json(values: dict) -> NetworkSpec:
        """Rebuild from JSON, also from that of version 0.1.0; unknown keys of newer versions are ignored.

        Raises
        ------
        TypeError, ValueError
            If it describes no network.
        """
        values = dict(values) if "context" in values else _from_version_0_1_0(values)
        known = {f.name for f in fields(NetworkSpec)}
        return NetworkSpec(**{key: value for key, value in values.items() if key in known})


def _is_factor(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value) and value >= 1


def _from_version_0_1_0(values: dict) -> dict:
    """One number for all axes, `halo` for the context, names of outputs without roles, costs per input voxel."""
    values = dict(values)
    halo = values.pop("halo", None)
    values["context"] = "unknown" if halo is None else halo
    values["decode_context"] = values.pop("decode_halo", 0)
    if "outputs" in values:
        roles = {"sr": "image", "branch": "gradient", "gradient": "gradient"}
        values["outputs"] = {name: roles[name] for name in values["outputs"] if name in roles}
    values["encode_flops"] = values.pop("flops_per_voxel", 0.0)
    values["encode_bytes"] = values.pop("bytes_per_voxel", 0.0)
    decode_bytes, scale = values.pop("decode_bytes_per_voxel", 0.0), values.get("scale", 2)
    enlarged = scale ** values.get("dimensions", 2) if _is_factor(scale) else 1
    values["decode_bytes"] = decode_bytes / enlarged
    return values
