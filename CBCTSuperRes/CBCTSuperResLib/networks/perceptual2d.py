"""A slice network that may tell how sure it is: residual blocks, then one doubling after the other.

Three layouts share one file. "own" is ours: no normalisation, odd kernels, an interpolation that it corrects, and on
request a second last layer that gives the logarithm of the error's variance (Nix and Weigend, 1994; for enlarged
images Tanno et al., 2017, arXiv 1907.13418) and dropout of whole features in its blocks, whose draws tell what the
weights do not know (Gal and Ghahramani, 2016). "published" is the network that was trained by the perceptual loss of
Johnson et al. (2016) on cardiac slices: 9 x 9 first and last layers, 4 x 4 layers padded one before and two after,
batch norm, tanh. "srresnet" is its sibling, after Ledig et al. (SRGAN, 2017).

Each doubling is nearest enlargement (NN), a transposed convolution (TS) or a rearrangement of features (PS), with a
convolution. A transposed convolution whose kernel its stride does not divide evenly draws a checkerboard (Odena et al.,
2016); of ours, 4 by stride 2, all four phases begin alike.
"""

from __future__ import annotations

from dataclasses import asdict
from math import ceil, log2

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .blocks import LEAST, MOST, USUAL, FullPrecisionConv2d, conv, full_precision, maps_of, with_conditions
from .options import Perceptual2DOptions
from .spec import NetworkSpec

SLOPE = 0.1
CALM = 0.1  # how much smaller than usual the first weights are where a block or the network ends
NORM_EPS = 1e-3


class Perceptual2D(nn.Module):
    """The network of `Perceptual2DOptions`, in the layout that these name.

    Parameters
    ----------
    **options
        Fields of `Perceptual2DOptions`.

    Raises
    ------
    ValueError
        If the options do not fit together.
    """

    def __init__(self, **options) -> None:
        super().__init__()
        chosen = Perceptual2DOptions(**options)
        chosen.check()
        self.options = asdict(chosen)
        self.slices = chosen.slices
        nf, channels, own = chosen.nf, chosen.out_nc, chosen.layout == "own"
        doublings = range(1, int(log2(chosen.scale)) + 1)
        inputs = chosen.in_nc + maps_of(chosen.conditions, 2)
        if own:
            self.stem = Layer(inputs, nf, 3)
            self.res = nn.ModuleList(Block(Layer(nf, nf, 3), Layer(nf, nf, 3)) for _ in range(chosen.nb))
            self.dropout = nn.Dropout2d(chosen.dropout)
            self.up = nn.ModuleDict({str(n): Doubling(nf, nf, 3, chosen.upsampling) for n in doublings})
            self.head = FullPrecisionConv2d(nf, channels, 3, padding=1)
            if chosen.log_variance:
                self.variance = FullPrecisionConv2d(nf, channels, 3, padding=1)
            self._initialise()
        elif chosen.layout == "published":
            self.stem = Layer(inputs, nf, 9, norm=True)
            layers = [[Layer(nf, nf, 4, norm=True) for _ in range(2)] for _ in range(chosen.nb)]
            self.res = nn.ModuleList(Block(*pair) for pair in layers)
            self.up = nn.ModuleDict({str(n): Doubling(nf, nf, 4, chosen.upsampling, norm=True) for n in doublings})
            self.head = Layer(nf, channels, 9)
        else:
            wide = 4 * nf
            self.stem = Layer(inputs, nf, 9, slopes=nf)
            layers = [[Layer(nf, nf, 3, norm=True, slopes=s) for s in (nf, 0)] for _ in range(chosen.nb)]
            self.res = nn.ModuleList(Block(*pair) for pair in layers)
            self.post = Layer(nf, nf, 3, norm=True)
            ups, width = {}, nf
            for n in doublings:
                ups[str(n)] = Doubling(width, wide, 3, chosen.upsampling, slopes=True)
                width = nf if chosen.upsampling == "PS" else wide
            self.up = nn.ModuleDict(ups)
            self.head = Layer(width, channels, 9)

    @property
    def stochastic_layers(self) -> tuple[str, ...]:
        """Dropout, where there is any."""
        return ("dropout",) if self.options["dropout"] > 0 else ()

    @property
    def full_precision(self) -> tuple[str, ...]:
        """The last layers, whose rounding would show."""
        return ("head", *(("variance",) if self.options["log_variance"] else ()))

    def forward(self, x: Tensor, conditions: dict[str, Tensor] | None = None) -> dict[str, Tensor]:
        """(N, in_nc, H, W) in units of the window -> "sr" and perhaps "log_variance" (N, out_nc, sH, sW)."""
        return self.decode(self.encode(x, conditions))

    def encode(self, x: Tensor, conditions: dict[str, Tensor] | None = None) -> Tensor:
        """Features on the input's grid; in our layout the image to enlarge lies behind them."""
        seen = with_conditions(x, self.options["conditions"], conditions)
        if self.options["layout"] == "published":
            features = F.relu(self.stem(seen))
            for block in self.res:
                features = features + block.second(F.relu(block.first(features)))
            return features
        if self.options["layout"] == "srresnet":
            raw = self.stem.conv(self.stem.padded(seen))
            features = self.stem.prelu(raw)
            for block in self.res:
                features = features + block.second(block.first(features))
            return raw + self.post(features)
        features = F.leaky_relu(self.stem(seen), SLOPE)
        for block in self.res:
            inner = self.dropout(F.leaky_relu(block.first(features), SLOPE))
            features = features + block.second(inner)
        middle = x[:, self.slices : self.slices + 1] if self.slices else x
        return torch.cat((features.to(x.dtype), middle), 1)

    def decode(self, features: Tensor, positions=None) -> dict[str, Tensor]:
        """What `forward` returns, of what `encode` gave."""
        layout, channels = self.options["layout"], self.options["out_nc"]
        if layout != "own":
            for up in self.up.values():
                features = up(features) if layout == "srresnet" else F.relu(up(features))
            image = self.head(features)
            return {"sr": (torch.tanh(image) + 1) / 2 if layout == "published" else image}
        features, middle = features[:, :-channels], features[:, -channels:]
        for up in self.up.values():
            features = F.leaky_relu(up(features), SLOPE)
        with full_precision(middle):
            smooth = F.interpolate(
                middle.to(self.head.weight.dtype), scale_factor=float(self.options["scale"]), mode="bilinear"
            )
        found = {"sr": smooth + self.head(features)}
        if self.options["log_variance"]:
            found["log_variance"] = self.variance(features).clamp(LEAST, MOST)
        return found

    def describe(self) -> NetworkSpec:
        """Facts that follow from the options."""
        o, doublings = self.options, len(self.up)
        nf, scale, layout = o["nf"], o["scale"], o["layout"]
        first, inner, last = {"own": (1, 1, 1), "published": (4, 2, 4), "srresnet": (4, 1, 4)}[layout]
        doubling = 1.0 if o["upsampling"] == "TS" else 0.5  # reach in pixels of the grid that is doubled
        reach = sum((doubling + inner / 2) / 2**n for n in range(doublings)) + last / scale
        decode_context = max(ceil(reach), 1) + 1
        after = 1 if layout == "srresnet" else 0
        fine = sum(weights_of(up) / 4 ** (doublings - n) for n, up in enumerate(self.up.values(), start=1))
        fine += weights_of(self.head) + (weights_of(self.variance) if o["log_variance"] else 0)
        trunk = weights_of(self.stem) + sum(map(weights_of, self.res))
        trunk += weights_of(self.post) if layout == "srresnet" else 0
        return NetworkSpec(
            network="perceptual2d",
            options=dict(o),
            dimensions=2,
            scale=scale,
            channels=o["out_nc"],
            slices=self.slices,
            context=first + 2 * inner * len(self.res) + after + decode_context,
            decode_context=decode_context,
            outputs={"sr": "image", **({"log_variance": "log_variance"} if o["log_variance"] else {})},
            stochastic=o["dropout"] > 0,
            conditions=tuple(o["conditions"]),
            encode_flops=2.0 * trunk,
            encode_bytes=4.0 * 4 * nf,
            decode_flops=2.0 * fine,
            decode_bytes=4.0 * 3 * nf,
        )

    @torch.no_grad()
    def _initialise(self) -> None:
        """He-normal weights, small where blocks and network end, so that it begins as linear interpolation."""
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, a=SLOPE)
                nn.init.zeros_(layer.bias)
        for layer in (*(block.second.conv for block in self.res), self.head):
            layer.weight.mul_(CALM)
        for up in self.up.values():
            if up.mode == "TS":  # every output pixel sees four inputs; all four phases begin with the same weights
                phase = torch.empty(*up.deconv.weight.shape[:2], 2, 2)
                nn.init.kaiming_normal_(phase.transpose(0, 1), a=SLOPE)
                up.deconv.weight.copy_(phase.repeat_interleave(2, 2).repeat_interleave(2, 3))
                nn.init.zeros_(up.deconv.bias)
        if self.options["log_variance"]:
            self.variance.weight.mul_(CALM)
            self.variance.bias.fill_(USUAL)


class Layer(nn.Module):
    """A convolution that keeps the size, perhaps batch norm, perhaps slopes of a PReLU behind it.

    An even kernel is padded by one pixel less before than after, which moves the image by half a pixel.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, *, norm: bool = False, slopes: int = 0) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel) if kernel % 2 == 0 else conv(inputs, outputs, kernel)
        if norm:
            self.bn = nn.BatchNorm2d(outputs, eps=NORM_EPS)
        if slopes:
            self.prelu = nn.PReLU(slopes)

    def padded(self, x: Tensor) -> Tensor:
        """With zeros around it where the kernel is even; otherwise the convolution does that itself."""
        kernel = self.conv.kernel_size[0]
        before, after = (kernel - 1) // 2, kernel // 2
        return F.pad(x, (before, after, before, after)) if kernel % 2 == 0 else x

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(self.padded(x))
        x = self.bn(x) if hasattr(self, "bn") else x
        return self.prelu(x) if hasattr(self, "prelu") else x


class Block(nn.Module):
    """The two layers of a residual block; the names of their tensors end with 1 and 2."""

    def __init__(self, first: Layer, second: Layer) -> None:
        super().__init__()
        self.add_module("1", first)
        self.add_module("2", second)

    @property
    def first(self) -> Layer:
        return self.get_submodule("1")

    @property
    def second(self) -> Layer:
        return self.get_submodule("2")


class Doubling(Layer):
    """Twice the pixels along both axes: before the layer (NN, TS), or after its convolution (PS and srresnet's NN)."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int, mode: str, *, norm: bool = False, slopes: bool = False
    ) -> None:
        rearranged = 4 if mode == "PS" else 1
        outputs = outputs if slopes else outputs * rearranged
        super().__init__(inputs, outputs, kernel, norm=norm, slopes=outputs // rearranged if slopes else 0)
        self.mode, self._after = mode, slopes or mode == "PS"
        if mode == "TS":
            self.deconv = nn.ConvTranspose2d(inputs, inputs, 4, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, F, H, W) -> (N, F', 2 H, 2 W)."""
        if not self._after:
            return super().forward(self.deconv(x) if self.mode == "TS" else _nearest(x))
        x = self.conv(x)
        if self.mode == "PS":  # blocks of features, one for each of the four pixels
            x = F.pixel_shuffle(x.unflatten(1, (4, -1)).transpose(1, 2).flatten(1, 2), 2)
        else:
            x = _nearest(x)
        return self.prelu(x) if hasattr(self, "prelu") else x


def _nearest(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2.0, mode="nearest")


def weights_of(module: nn.Module) -> int:
    """Multiplications of a module's convolutions for one pixel."""
    layers = [layer for layer in module.modules() if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d)]
    return sum(layer.weight.numel() // (4 if isinstance(layer, nn.ConvTranspose2d) else 1) for layer in layers)
