"""A plain residual network: all work on the input's grid, and an interpolation that it corrects.

Architecture: residual blocks without normalisation (Lim et al., EDSR, CVPR Workshops 2017) and sub-pixel enlargement
(Shi et al., ESPCN, CVPR 2016). With the same number of operations it is faster than a UNetSPSR of few features, whose
last layers work on the output's grid, and learns more in the same time. It may work on folded pixels (FFDNet: Zhang et
al., IEEE TIP 2018), and be told blur and noise of the scan as constant maps (SRMD: Zhang et al., CVPR 2018).
"""

from __future__ import annotations

from dataclasses import asdict
from itertools import product

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .blocks import LEAST, MOST, USUAL, FullPrecisionConv2d, conv, full_precision, maps_of, with_conditions
from .options import ResidualOptions
from .spec import NetworkSpec

SLOPE = 0.1
CALM = 0.1  # how much smaller than usual the first weights are where a block or the network ends


class ResidualBlock(nn.Module):
    """x + conv(leaky ReLU(conv(x)))."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.conv1 = conv(features, features)
        self.conv2 = conv(features, features)

    def forward(self, x: Tensor) -> Tensor:
        """(N, features, H, W) -> the same shape."""
        return x + self.conv2(F.leaky_relu(self.conv1(x), SLOPE, inplace=True))


class VarianceHead(nn.Module):
    """The logarithm of the error's variance, from the last features and the image that was made of them.

    It takes nothing from the image: with its weights left out, the network is the one without it.
    """

    def __init__(self, inputs: int, features: int, outputs: int) -> None:
        super().__init__()
        self.first = conv(inputs, features)
        self.last = conv(features, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) -> (N, outputs, H, W), within bounds."""
        with full_precision(x):
            hidden = F.leaky_relu(self.first(x.to(self.first.weight.dtype)), SLOPE, inplace=True)
            return self.last(hidden).clamp(LEAST, MOST)


class ResidualNet(nn.Module):
    """Residual blocks; the last layer sees the input beside their features, and begins as linear interpolation.

    Parameters
    ----------
    **options
        Fields of `ResidualOptions`.

    Raises
    ------
    ValueError
        If the options do not fit together.
    """

    @property
    def full_precision(self) -> tuple[str, ...]:
        """The last layers, whose rounding would show."""
        return ("tail", "variance") if self.options["log_variance"] else ("tail",)

    def __init__(self, **options) -> None:
        super().__init__()
        chosen = ResidualOptions(**options)
        chosen.check()
        self.options = asdict(chosen)
        self.slices, self.unshuffle = chosen.slices, chosen.unshuffle
        part = chosen.unshuffle**2
        self.head = conv(chosen.in_nc * part + maps_of(chosen.conditions, 2), chosen.nf)
        self.blocks = nn.ModuleList(ResidualBlock(chosen.nf) for _ in range(chosen.nb))
        outputs = chosen.out_nc * part * chosen.scale**2
        self.tail = FullPrecisionConv2d(chosen.nf + chosen.out_nc * part, outputs, 3, padding=1)
        if chosen.log_variance:
            self.variance = VarianceHead(chosen.nf + chosen.out_nc * part + outputs, chosen.nf, outputs)
        self._initialise()

    def forward(self, x: Tensor, conditions: dict[str, Tensor] | None = None) -> dict[str, Tensor]:
        """(N, in_nc, H, W) in units of the window -> "sr" (N, out_nc, sH, sW), not clamped, and perhaps
        "log_variance" of the same shape.
        """
        return self.decode(self.encode(x, conditions))

    def encode(self, x: Tensor, conditions: dict[str, Tensor] | None = None) -> Tensor:
        """The enlarged image, its pixels as channels: (N, out_nc s s, H, W); behind it as many of the log-variance."""
        middle = x[:, self.slices : self.slices + 1] if self.slices else x
        folded = F.pixel_unshuffle(x, self.unshuffle)
        features = self.head(with_conditions(folded, self.options["conditions"], conditions))
        for block in self.blocks:
            features = block(features)
        seen = torch.cat((features.to(x.dtype), F.pixel_unshuffle(middle, self.unshuffle)), 1)
        found = self.tail(seen)
        if self.options["log_variance"]:
            variance = self.variance(torch.cat((seen.to(found.dtype), found), 1))
            return torch.cat([F.pixel_shuffle(maps, self.unshuffle) for maps in (found, variance)], 1)
        return F.pixel_shuffle(found, self.unshuffle)

    def decode(self, features: Tensor, positions=None) -> dict[str, Tensor]:
        """ "sr" (N, out_nc, s h, s w) of what `encode` gave, and "log_variance"."""
        if not self.options["log_variance"]:
            return {"sr": F.pixel_shuffle(features, self.options["scale"])}
        parts = zip(("sr", "log_variance"), features.chunk(2, 1), strict=True)
        return {name: F.pixel_shuffle(part, self.options["scale"]) for name, part in parts}

    def describe(self) -> NetworkSpec:
        """Facts that follow from the options."""
        nf, scale, fold = self.options["nf"], self.options["scale"], self.unshuffle
        weights = sum(layer.weight.numel() for layer in self.modules() if isinstance(layer, nn.Conv2d))
        return NetworkSpec(
            network="residual",
            options=dict(self.options),
            dimensions=2,
            scale=scale,
            channels=self.options["out_nc"],
            slices=self.slices,
            context=fold * (2 * len(self.blocks) + (4 if self.options["log_variance"] else 2)),
            minimum_size=fold,
            multiple=fold,
            outputs={"sr": "image", **({"log_variance": "log_variance"} if self.options["log_variance"] else {})},
            conditions=tuple(self.options["conditions"]),
            encode_flops=2.0 * weights / fold**2,
            encode_bytes=4.0 * (4 * nf / fold**2 + 3 * scale**2 + 2),
            decode_bytes=8.0,
        )

    @torch.no_grad()
    def _initialise(self) -> None:
        """He-normal weights, small where blocks and network end; the path past the blocks interpolates linearly."""
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, a=SLOPE)
                nn.init.zeros_(layer.bias)
        for layer in (*(block.conv2 for block in self.blocks), self.tail):
            layer.weight.mul_(CALM)
        if self.options["log_variance"]:
            self.variance.last.weight.mul_(CALM)
            self.variance.last.bias.fill_(USUAL)
        channels, scale, fold = self.options["out_nc"], self.options["scale"], self.unshuffle
        # Pixel `inner` of a fold becomes the parts `part` of it. Each is interpolated between two pixels, which are
        # entries of the kernel (which fold) and channels (which pixel of it).
        profiles = {}
        for inner, part in product(range(fold), range(scale)):
            place = inner + (part + 0.5) / scale - 0.5
            profiles[inner, part] = profile = torch.zeros(3, fold)
            for pixel in range(-fold, 2 * fold):
                profile[pixel // fold + 1, pixel % fold] = max(0.0, 1 - abs(pixel - place))
        self.tail.weight[:, -channels * fold**2 :] = 0
        for channel, row, column in product(
            range(channels), product(range(fold), range(scale)), product(range(fold), range(scale))
        ):
            kernel = torch.einsum("ap,bq->pqab", profiles[row], profiles[column])
            output = ((channel * scale + row[1]) * scale + column[1]) * fold**2 + row[0] * fold + column[0]
            first = self.options["nf"] + channel * fold**2
            self.tail.weight[output, first : first + fold**2] = kernel.reshape(fold**2, 3, 3)
