"""A plain residual network: all work on the input's grid, and an interpolation that it corrects.

Architecture: residual blocks without normalisation (Lim et al., EDSR, CVPR Workshops 2017) and sub-pixel enlargement
(Shi et al., ESPCN, CVPR 2016). With the same number of operations it is faster than a UNetSPSR of few features, whose
last layers work on the output's grid, and learns more in the same time.
"""

from __future__ import annotations

from dataclasses import asdict
from itertools import product

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .blocks import FullPrecisionConv2d, conv
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

    full_precision = ("tail",)

    def __init__(self, **options) -> None:
        super().__init__()
        chosen = ResidualOptions(**options)
        chosen.check()
        self.options = asdict(chosen)
        self.slices = chosen.slices
        self.head = conv(chosen.in_nc, chosen.nf)
        self.blocks = nn.ModuleList(ResidualBlock(chosen.nf) for _ in range(chosen.nb))
        self.tail = FullPrecisionConv2d(chosen.nf + chosen.out_nc, chosen.out_nc * chosen.scale**2, 3, padding=1)
        self._initialise()

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """(N, in_nc, H, W) in units of the window -> "sr" (N, out_nc, sH, sW), not clamped."""
        return self.decode(self.encode(x))

    def encode(self, x: Tensor) -> Tensor:
        """Features and the (middle) input itself, (N, nf + out_nc, H, W)."""
        features = self.head(x)
        for block in self.blocks:
            features = block(features)
        middle = x[:, self.slices : self.slices + 1] if self.slices else x
        return torch.cat((features.to(x.dtype), middle), 1)

    def decode(self, features: Tensor, positions=None) -> dict[str, Tensor]:
        """ "sr" (N, out_nc, s h, s w) of features (N, nf + out_nc, h, w)."""
        return {"sr": F.pixel_shuffle(self.tail(features), self.options["scale"])}

    def describe(self) -> NetworkSpec:
        """Facts that follow from the options."""
        nf, scale = self.options["nf"], self.options["scale"]
        weights = sum(layer.weight.numel() for layer in self.modules() if isinstance(layer, nn.Conv2d))
        return NetworkSpec(
            network="residual",
            options=dict(self.options),
            dimensions=2,
            scale=scale,
            channels=self.options["out_nc"],
            slices=self.slices,
            context=2 * len(self.blocks) + 2,
            decode_context=1,
            encode_flops=2.0 * (weights - self.tail.weight.numel()),
            encode_bytes=4.0 * (4 * nf + 2),
            decode_flops=2.0 * self.tail.weight.numel() / scale**2,
            decode_bytes=4.0 * (2 * nf + 3 * scale**2) / scale**2,
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
        channels, scale = self.options["out_nc"], self.options["scale"]
        offsets = [(part + 0.5) / scale - 0.5 for part in range(scale)]  # of the parts that a pixel becomes, from it
        profiles = [torch.tensor([max(0.0, -x), 1 - abs(x), max(0.0, x)]) for x in offsets]
        self.tail.weight[:, -channels:] = 0
        for channel, row, column in product(range(channels), range(scale), range(scale)):
            place = (channel * scale + row) * scale + column
            self.tail.weight[place, channel - channels] = torch.outer(profiles[row], profiles[column])
