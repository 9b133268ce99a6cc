"""Options of the networks that enlarge: a frozen dataclass each, whose fields say what they mean and what they accept.

A network takes exactly the fields of its dataclass as keywords, and a model file stores exactly these. A training's
options take the keys of "network_G" and "network_D" from here, with their limits and meanings. Importing this needs no
torch.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from math import ceil
from typing import Any, ClassVar

from .spec import CONDITIONS

SCALES = (1, 2, 3, 4, 8)
LEAST_JUDGED = 24  # pixels along an edge of an image that the discriminators of SR-CycleGAN can judge


def option(default: Any, meaning: str, *, seed: bool = False, **rules: Any) -> Any:
    """A field of a dataclass of options.

    Parameters
    ----------
    default : object
    meaning : str
        For people: one or two sentences.
    seed : bool
        Whether UNetSPSR's own tables of options have it; otherwise it is ours.
    **rules
        What is accepted beyond the field's type. Of numbers, or each number of a tuple: `minimum`, `maximum`, and
        `above` and `below`, which are not reached; `choices`: all that is accepted; `ascending`: each value of a tuple
        must be larger than the one before. `derived`: no key of a training's "network_G", but found from its other
        options ("scale", "in_nc").
    """
    metadata = {"meaning": meaning, "seed": seed, **rules}
    if isinstance(default, dict):
        return field(default_factory=dict, metadata=metadata)
    return field(default=default, metadata=metadata)


def in_channels() -> Any:
    """The field `in_nc` of networks that may see neighbouring slices."""
    meaning = (
        "Channels of LR: 1 for grey, 3 for colour. With out_nc 1 also 3, 5, 7 or 9: so many neighbouring slices, of "
        "which the middle one is enlarged."
    )
    return option(1, meaning, seed=True, choices=(1, 3, 5, 7, 9))


def out_channels() -> Any:
    """The field `out_nc` of the same networks."""
    return option(1, "Channels of HR: as in_nc, or 1 with neighbouring slices.", seed=True, choices=(1, 3))


def neighbouring_slices() -> Any:
    """The field `slices` of the same networks."""
    meaning = "Neighbouring slices on either side that come as channels, in their order; the middle one is enlarged."
    return option(0, meaning, minimum=0, derived=True)


def conditions(beside: str = "slices") -> Any:
    """The field `conditions` of networks that may be told blur and noise."""
    meaning = f"What the network is told of the acquisition beside the {beside}, as constant maps: blur, noise."
    return option((), meaning, choices=CONDITIONS)


def unshuffle() -> Any:
    """The field `unshuffle` of networks that may work on folded pixels."""
    return option(
        1,
        "Edge of the squares of pixels that become one place with as many more channels: 2 gives the same operations "
        "four times the weights and twice the field of view.",
        choices=(1, 2, 4),
    )


def factor() -> Any:
    """The field `scale` of networks of any of `SCALES`."""
    return option(2, "Factor of enlargement.", seed=True, choices=SCALES, derived=True)


def log_variance() -> Any:
    """The field `log_variance` of networks that may tell how sure they are."""
    return option(
        False,
        "Whether the network also gives the logarithm of its error's variance, of which Apply makes error bars.",
    )


def check_channels(options: Any) -> None:
    """Refuse channels that are neither those of an image nor those of neighbouring slices.

    Raises
    ------
    ValueError
    """
    if (options.slices and options.out_nc != 1) or options.in_nc != options.out_nc * (2 * options.slices + 1):
        raise ValueError(
            f"in_nc {options.in_nc} and out_nc {options.out_nc} do not fit: alike (1 or 3), or, with {options.slices} "
            f"neighbouring slices on either side, {2 * options.slices + 1} and 1."
        )


@dataclass(frozen=True)
class NetworkOptions:
    """What the options of all networks can do."""

    def check(self) -> None:
        """Refuse what a field does not accept, and, where a network says more, what does not fit together.

        Raises
        ------
        ValueError
            Its message begins with the option's name.
        """
        for one in fields(self):
            value, rules = getattr(self, one.name), one.metadata
            for number in value if isinstance(value, tuple | list) else () if value is None else (value,):
                if number not in rules.get("choices", (number,)):
                    accepted = " or ".join(str(choice) for choice in rules["choices"])
                    raise ValueError(f"{one.name} is {number}; it must be {accepted}.")
                if number < rules.get("minimum", number):
                    raise ValueError(f"{one.name} is {number}; it must be at least {rules['minimum']}.")
                if number > rules.get("maximum", number):
                    raise ValueError(f"{one.name} is {number}; it must be at most {rules['maximum']}.")


@dataclass(frozen=True)
class NoOptions(NetworkOptions):
    """Of a network that is always the same."""


@dataclass(frozen=True)
class UNetSPSROptions(NetworkOptions):
    """UNetSPSR's generator (networks/unetspsr.py)."""

    has_gradient_branch: ClassVar[bool] = True  # whose map a loss may compare

    nf: int = option(64, "Features of the trunk and of the gradient branch.", seed=True, minimum=1)
    nb: int = option(23, "Residual blocks of the trunk; RRDBs in unetspsr_net.", seed=True, minimum=4)
    in_nc: int = in_channels()
    out_nc: int = out_channels()
    gc: int = option(
        32, "Growth channels of the dense blocks; honoured, unlike in the public code.", seed=True, minimum=1
    )
    taps: tuple[int, int, int, int] | None = option(
        None,
        "After which blocks (from 1) the gradient branch takes in features. null: 5, 10, 15, 20 from nb = 20 on, else "
        "the quarters of nb.",
        minimum=1,
        ascending=True,
    )
    unshuffle: int = unshuffle()
    skip: bool = option(
        False,
        "Whether the image is the input's linear interpolation and what the network adds: learnt sooner, and exact "
        "where the rest is computed in 16 bits. The published network has none.",
    )
    conditions: tuple[str, ...] = conditions()
    scale: int = factor()
    slices: int = neighbouring_slices()

    @property
    def branch_taps(self) -> tuple[int, ...]:
        """`taps`, or SPSR's for trunks of at least 20 RRDBs and the quarters of shorter ones."""
        if self.taps:
            return tuple(self.taps)
        return (5, 10, 15, 20) if self.nb >= 20 else tuple(ceil(self.nb * k / 4) for k in (1, 2, 3, 4))

    def check(self) -> None:
        """See `NetworkOptions.check`."""
        super().check()
        if self.slices and (self.in_nc, self.out_nc) != (2 * self.slices + 1, 1):
            raise ValueError(
                f"in_nc must be {2 * self.slices + 1} and out_nc 1 with {self.slices} slices on either side, not "
                f"{self.in_nc} and {self.out_nc}."
            )
        if not self.slices and self.in_nc not in (1, 3):
            raise ValueError(f"in_nc must be 1 or 3 without neighbouring slices, not {self.in_nc}.")
        if self.skip and not self.slices and self.in_nc != self.out_nc:
            raise ValueError(f"skip needs as many channels in as out, not {self.in_nc} and {self.out_nc}.")
        if self.nf % self.unshuffle**2:
            raise ValueError(
                f"nf is {self.nf}; with unshuffle {self.unshuffle} it must be a multiple of {self.unshuffle**2}."
            )
        taps = list(self.branch_taps)
        if len(taps) != 4 or taps != sorted(set(taps)):
            raise ValueError(f"taps must be four ascending numbers of blocks, not {taps}.")
        if taps[-1] > self.nb:
            raise ValueError(f"taps {taps} reach beyond the {self.nb} blocks of nb.")


@dataclass(frozen=True)
class ResidualOptions(NetworkOptions):
    """The plain residual network (networks/residual.py)."""

    nf: int = option(64, "Features.", seed=True, minimum=1)
    nb: int = option(23, "Residual blocks.", seed=True, minimum=1)
    in_nc: int = in_channels()
    out_nc: int = out_channels()
    unshuffle: int = unshuffle()
    conditions: tuple[str, ...] = conditions()
    log_variance: bool = log_variance()
    scale: int = factor()
    slices: int = neighbouring_slices()

    def check(self) -> None:
        """See `NetworkOptions.check`."""
        super().check()
        check_channels(self)


LAYOUTS: dict[str, tuple[str, ...]] = {  # of perceptual2d, and how each may double
    "own": ("NN", "TS", "PS"),
    "published": ("NN", "TS"),
    "srresnet": ("NN", "PS"),
}


@dataclass(frozen=True)
class Perceptual2DOptions(NetworkOptions):
    """The slice network of the perceptual loss (networks/perceptual2d.py)."""

    nf: int = option(64, "Features.", seed=True, minimum=1)
    nb: int = option(4, "Residual blocks.", seed=True, minimum=1)
    in_nc: int = in_channels()
    out_nc: int = out_channels()
    layout: str = option(
        "own",
        "own: no batch norm, odd kernels, corrects an interpolation. published: as it was published, with 4 x 4 "
        "kernels, batch norm and tanh. srresnet: its published sibling.",
        choices=tuple(LAYOUTS),
    )
    upsampling: str = option(
        "NN",
        "How features double: NN, nearest and a convolution; TS, a transposed convolution, which may draw a "
        "checkerboard; PS, a rearrangement.",
        choices=("NN", "TS", "PS"),
    )
    log_variance: bool = log_variance()
    dropout: float = option(
        0.0,
        "Share of the features that each draw leaves out of the blocks; above 0, draws tell what the weights do not "
        "know.",
        minimum=0,
        maximum=0.9,
    )
    conditions: tuple[str, ...] = conditions()
    scale: int = factor()
    slices: int = neighbouring_slices()

    def check(self) -> None:
        """See `NetworkOptions.check`."""
        super().check()
        if self.scale not in (2, 4, 8):
            raise ValueError(f"scale is {self.scale}; this network doubles, so it must be 2, 4 or 8.")
        if self.upsampling not in LAYOUTS[self.layout]:
            raise ValueError(
                f"upsampling is {self.upsampling}; the layout {self.layout} has {' and '.join(LAYOUTS[self.layout])}."
            )
        if self.layout != "own" and (self.log_variance or self.dropout or self.conditions):
            raise ValueError(
                f"layout is {self.layout}, which has neither log_variance nor dropout nor conditions; choose own."
            )
        check_channels(self)


@dataclass(frozen=True)
class SRGAN3DOptions(NetworkOptions):
    """The generator of the 3-D SRGAN (networks/srgan3d.py)."""

    kind: ClassVar[str] = "blocks"

    residual_blocks: int = option(6, "Residual blocks.", minimum=1)
    feature_size: int = option(32, "Features of the blocks (network_G), or of the first layer (network_D).", minimum=1)
    subpixel_NN: bool = option(
        False,
        "Enlarge by transposed convolutions that begin free of checkerboards. With neither this nor nn: by sub-pixel "
        "convolutions.",
    )
    nn: bool = option(False, "Enlarge by repeating voxels, between convolutions; the output is a tanh.")
    batch_norm: bool = option(
        True,
        "Batch norm, as published: a batch must be computed in one piece. false: none, and a batch may be computed in "
        "parts.",
    )
    skip: bool = option(
        True,
        "The network corrects the linear enlargement of its input (ours); false: it draws the volume itself, as "
        "published.",
    )
    scale: int = option(2, "Factor of enlargement.", choices=(2, 4), derived=True)

    @property
    def has_batch_norm(self) -> bool:
        """Whether training needs the whole batch at once."""
        return self.batch_norm

    def check(self) -> None:
        """See `NetworkOptions.check`."""
        super().check()
        if self.subpixel_NN and self.nn:
            raise ValueError("subpixel_NN and nn are two ways of enlarging; choose one of them, or neither.")


@dataclass(frozen=True)
class ArSSROptions(NetworkOptions):
    """ArSSR's implicit voxel function (networks/arssr.py)."""

    kind: ClassVar[str] = "any factor"

    encoder_name: str = option(
        "RDN", "Encoder: RDN (dense blocks), ResCNN or SRResNet.", choices=("RDN", "ResCNN", "SRResNet")
    )
    decoder_depth: int = option(8, "Layers of the decoder, in two halves.", minimum=4)
    decoder_width: int = option(256, "Width of its layers.", minimum=1)
    feature_dim: int = option(128, "Features that the encoder makes of each voxel.", minimum=1)
    encoder_width: int = option(64, "Features within the encoder; in the paper 64.", minimum=1)
    encoder_blocks: int | None = option(
        None, "Blocks of the encoder; null: as in the paper, 8 of RDN, 3 of ResCNN, 18 of SRResNet.", minimum=1
    )
    coordinates: str = option(
        "relative",
        "What the decoder is told of a place: its offset to the nearest voxel and the size of an output voxel, or, as "
        "the original does, where in the whole volume it lies.",
        choices=("relative", "absolute"),
    )
    padding: str = option(
        "border",
        "Features beyond the volume: those at its border, or, as in the original, 0.",
        choices=("border", "zeros"),
    )
    output: str = option(
        "linear", "The decoder's end: linear, or, as in the original, cut at 0.", choices=("linear", "relu")
    )
    residual: bool = option(True, "Add the linear interpolation of the input; the original does not.")
    conditions: tuple[str, ...] = conditions("blocks")
    factors: tuple[float, float] = option((1.0, 4.0), "Smallest and largest factor that it offers.", minimum=1)

    @property
    def blocks(self) -> int:
        """`encoder_blocks`, or the paper's."""
        return self.encoder_blocks or {"RDN": 8, "ResCNN": 3, "SRResNet": 18}[self.encoder_name]

    def check(self) -> None:
        """See `NetworkOptions.check`."""
        super().check()
        if self.factors[0] > self.factors[1]:
            raise ValueError(f"factors must be the smallest and the largest one, not {list(self.factors)}.")


@dataclass(frozen=True)
class AnySizeOptions(NetworkOptions):
    """The light 3-D network of any real factor (networks/any_size.py)."""

    kind: ClassVar[str] = "any factor"

    nf: int = option(64, "Features.", seed=True, minimum=1)
    nb: int = option(6, "Residual blocks: a layer within slices and one across them.", seed=True, minimum=1)
    unshuffle: int = option(2, "Edge of the squares of pixels that become one place.", choices=(1, 2, 4))
    decoder_features: int = option(24, "Features from which an output voxel is made.", minimum=1)
    most_across: float = option(6.0, "Largest factor across slices.", minimum=1)
    most_within: float = option(4.0, "Largest factor along rows and columns.", minimum=1)
    conditions: tuple[str, ...] = conditions("block")


@dataclass(frozen=True)
class SRCycleGANOptions(NetworkOptions):
    """The generators of SR-CycleGAN (networks/srcyclegan.py)."""

    nf: int = option(64, "Features of the first layer.", minimum=8)
    nb: int = option(9, "Residual blocks.", minimum=1)
    upsampling: str = option(
        "NN",
        "How features double: NN, nearest and a convolution; PS, as published, a rearrangement, which may draw a "
        "checkerboard.",
        choices=("NN", "PS"),
    )
    norm: str = option(
        "instance",
        "Norm of the generators: instance, as published, over the whole slice, which must then never be cut, and "
        "patches that look otherwise than whole slices teach another network; or none.",
        choices=("instance", "none"),
    )
    residual: bool | None = option(
        None,
        "Whether the networks correct their enlarged or averaged input instead of drawing all grey values anew, as "
        "published; null: with upsampling NN they do.",
    )
    scale: int = option(4, "Factor of enlargement within slices.", choices=SCALES, derived=True)

    @property
    def smallest_patch(self) -> int:
        """Edge of the smallest fine patch to train with, see `LEAST_JUDGED`: one discriminator judges coarse slices."""
        return LEAST_JUDGED * self.scale

    def check(self) -> None:
        """See `NetworkOptions.check`."""
        super().check()
        if self.scale not in (2, 4, 8):
            raise ValueError(f"scale is {self.scale}; this network doubles, so it must be 2, 4 or 8.")
        if self.nf % 8:
            raise ValueError(f"nf is {self.nf}; it is halved up to three times, so it must be a multiple of 8.")
