"""The networks of SR-CycleGAN: from coarse slices of one scanner to fine ones of another, and back, without pairs.

Zheng et al., "SR-CycleGAN: super-resolution of clinical CT to micro-CT level with multi-modality super-resolution
loss", J. Med. Imaging 9(2), 2022, after Zhu et al. (CycleGAN, ICCV 2017). As published all of them normalise over the
whole image (instance norm), so that an image must never be cut: the context is global. Without norm it need not be.

The networks compute with values from -1 to 1; in and out go units of a window, from 0 to 1, each of its own scanner.

Instance norm takes from an image its mean and contrast, and the published layout must draw all grey values anew. With
`residual` the networks correct their input, which G enlarges and F averages over a kernel that it learns, and so begin
where interpolation is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from itertools import pairwise
from math import log2

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .discriminator_options import PatchDiscriminatorOptions
from .options import SRCycleGANOptions
from .spec import NetworkSpec

INITIAL_SD = 0.02
CALM = 0.03  # first weights of a residual's last layer, relative to others
SLOPE = 0.2
REACH = 2  # coarse pixels on either side that F averages over
BYTES = 4
DECODE_CONTEXT = 3  # coarse pixels, for cubic interpolation and the convolutions on finer grids
NORMS: dict[str, Callable[[int], nn.Module]] = {"instance": nn.InstanceNorm2d, "none": lambda width: nn.Identity()}


class SRCycleGAN(nn.Module):
    """The enlarging generator, G: residual blocks on the coarse grid, then one doubling after the other.

    Parameters
    ----------
    **options
        Fields of `SRCycleGANOptions`.
    """

    minimum_size = 4  # the borders are reflected by three

    def __init__(self, **options) -> None:
        super().__init__()
        chosen = SRCycleGANOptions(**options)
        chosen.check()
        if chosen.residual is None:
            chosen = replace(chosen, residual=chosen.upsampling == "NN")
        self.options = asdict(chosen)
        nf, doublings, norm = chosen.nf, int(log2(chosen.scale)), NORMS[chosen.norm]
        layers: list[nn.Module] = [nn.ReflectionPad2d(3), nn.Conv2d(1, nf, 7), norm(nf), nn.PReLU()]
        layers += [ResidualBlock(nf, norm) for _ in range(chosen.nb)]
        layers += [nn.ReflectionPad2d(1), nn.Conv2d(nf, nf, 3), norm(nf), nn.PReLU()]
        self._encoding = len(layers)
        widths = [nf // 2**n for n in range(doublings + 1)]
        for wide, narrow in pairwise(widths):
            if chosen.upsampling == "PS":
                convolution = nn.Conv2d(wide, 2 * wide, 3, padding=1)
                layers += [convolution, norm(2 * wide), nn.PixelShuffle(2), nn.PReLU()]
            else:
                convolution = nn.Conv2d(wide, narrow, 3, padding=1)
                layers += [nn.UpsamplingNearest2d(scale_factor=2), convolution, norm(narrow), nn.PReLU()]
        layers += [nn.ReflectionPad2d(3), nn.Conv2d(widths[-1], 1, 7), nn.Tanh()]
        self.model = nn.Sequential(*layers)
        _initialise(self, chosen.residual, chosen.norm)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """(N, 1, H, W) in units of the coarse scanner's window -> "sr" (N, 1, sH, sW) in those of the fine one's."""
        return self.decode(self.encode(x))

    def encode(self, x: Tensor) -> Tensor:
        """Features on the coarse grid (N, F, H, W); with `residual`, the image is the last of them."""
        features = self.model[: self._encoding](2 * x - 1)
        return torch.cat((features, x), 1) if self.options["residual"] else features

    def decode(self, features: Tensor, positions=None) -> dict[str, Tensor]:
        """What `forward` returns, of what `encode` gave."""
        if not self.options["residual"]:
            return {"sr": (self.model[self._encoding :](features) + 1) / 2}
        correction = self.model[self._encoding :](features[:, :-1])
        x = F.interpolate(features[:, -1:], scale_factor=self.options["scale"], mode="bicubic", align_corners=False)
        return {"sr": x + correction / 2}

    def describe(self) -> NetworkSpec:
        """The facts that follow from the options."""
        chosen = SRCycleGANOptions(**self.options)
        nf, scale, doublings = chosen.nf, chosen.scale, int(log2(chosen.scale))
        decode = 0.0  # for one coarse pixel
        for n in range(doublings):
            wide = nf / 2**n
            of_one = 2 * 9 * wide * (2 * wide if chosen.upsampling == "PS" else 4 * wide / 2)
            decode += of_one * 4**n
        decode += scale**2 * 2 * 49 * nf / 2**doublings
        return NetworkSpec(
            network="srcyclegan",
            options=self.options,
            scale=(float(scale),) * 2,
            context="global" if chosen.norm == "instance" else 4 + 2 * chosen.nb + DECODE_CONTEXT,
            decode_context=0 if chosen.norm == "instance" else DECODE_CONTEXT,
            minimum_size=self.minimum_size,
            domain="other",
            encode_flops=2 * (49 * nf + 9 * nf**2 * (2 * chosen.nb + 1)),
            encode_bytes=BYTES * 5 * nf,
            decode_flops=decode / scale**2,
            decode_bytes=BYTES * 4 * (2 * nf / 2 ** (doublings - 1)),
        )


class SRCycleGANBack(nn.Module):
    """The way back, F: from fine slices to coarse ones of the other scanner; used in training alone.

    Parameters
    ----------
    **options
        Fields of `SRCycleGANOptions`; "upsampling" means nothing here, and "residual" is what was chosen for G.
    """

    def __init__(self, **options) -> None:
        super().__init__()
        chosen = SRCycleGANOptions(**options)
        chosen.check()
        self.options = asdict(chosen)
        nf, halvings, norm = chosen.nf, int(log2(chosen.scale)), NORMS[chosen.norm]

        def then(layer: nn.Module, width: int) -> list[nn.Module]:
            return [layer, norm(width), nn.ReLU()]

        layers: list[nn.Module] = [nn.ReflectionPad2d(3), *then(nn.Conv2d(1, nf, 7), nf)]
        for narrow in (nf, 2 * nf):
            layers += then(nn.Conv2d(narrow, 2 * narrow, 3, stride=2, padding=1), 2 * narrow)
        layers += [ResidualBlock(4 * nf, norm) for _ in range(chosen.nb)]
        for wide in (4 * nf, 2 * nf):
            up = nn.ConvTranspose2d(wide, wide // 2, 3, stride=2, padding=1, output_padding=1)
            layers += then(up, wide // 2)
        for n in range(halvings):
            narrow = nf * 2**n
            layers += then(nn.Conv2d(narrow, 2 * narrow, 3, stride=2, padding=1), 2 * narrow)
        layers += [nn.ReflectionPad2d(3), nn.Conv2d(nf * 2**halvings, 1, 7), nn.Tanh()]
        self.model = nn.Sequential(*layers)
        _initialise(self, chosen.residual, chosen.norm)
        if chosen.residual:
            self.blur = nn.Conv2d(1, 1, (2 * REACH + 1) * chosen.scale, stride=chosen.scale, bias=False)
            self.begin_with(0.0)

    def begin_with(self, blur: float) -> None:
        """Let F average as a scanner does: a Gaussian, and the mean of a coarse pixel.

        Parameters
        ----------
        blur : float
            Standard deviation of the Gaussian, in coarse pixels.
        """
        scale = self.options["scale"]
        places = torch.arange((2 * REACH + 1) * scale, dtype=torch.float64)
        apart = places[:, None] - (REACH * scale + torch.arange(scale))
        line = torch.exp(-0.5 * (apart / max(blur * scale, 1e-3)) ** 2).sum(1)
        line = line / line.sum()
        with torch.no_grad():
            self.blur.weight.copy_(torch.outer(line, line))

    def forward(self, x: Tensor) -> Tensor:
        """(N, 1, H, W) in units of the fine scanner's window -> (N, 1, H/s, W/s), rounded up, in those of the other."""
        drawn = self.model(2 * x - 1)
        if not self.options["residual"]:
            return (drawn + 1) / 2
        scale, (rows, columns) = self.options["scale"], x.shape[2:]
        reach = REACH * scale
        around = (reach, reach + -columns % scale, reach, reach + -rows % scale)
        return self.blur(F.pad(x, around, mode="replicate")) + drawn / 2


class PatchDiscriminator(nn.Module):
    """Says of every patch of 70 pixels whether it is real (Isola et al., CVPR 2017).

    Parameters
    ----------
    **options
        Fields of `PatchDiscriminatorOptions`.
    """

    def __init__(self, **options) -> None:
        super().__init__()
        chosen = PatchDiscriminatorOptions(**options)
        self.options = asdict(chosen)
        nf = chosen.nf
        layers: list[nn.Module] = [nn.Conv2d(1, nf, 4, stride=2, padding=1), nn.LeakyReLU(SLOPE)]
        for n, stride in enumerate((2, 2, 1)):
            width = nf * 2 ** (n + 1)
            layers += [nn.Conv2d(width // 2, width, 4, stride=stride, padding=1), nn.InstanceNorm2d(width)]
            layers.append(nn.LeakyReLU(SLOPE))
        layers.append(nn.Conv2d(8 * nf, 1, 4, padding=1))
        self.model = nn.Sequential(*layers)
        _initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 1, H, W), at least 24 high and wide, in units of a window -> (N, 1, about H/8, about W/8)."""
        return self.model(2 * x - 1)


class ResidualBlock(nn.Module):
    """x + norm(conv(relu(norm(conv x)))), with reflected borders."""

    def __init__(self, nf: int, norm: Callable[[int], nn.Module]) -> None:
        super().__init__()
        layers = [nn.ReflectionPad2d(1), nn.Conv2d(nf, nf, 3), norm(nf)]
        again = [nn.ReflectionPad2d(1), nn.Conv2d(nf, nf, 3), norm(nf)]
        self.conv_block = nn.Sequential(*layers, nn.ReLU(), *again)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv_block(x)


def _initialise(network: nn.Module, is_residual: bool = False, norm: str = "instance") -> None:
    """As published; without norm, features would vanish in that: He-normal weights, small where blocks end."""
    layers = [module for module in network.modules() if isinstance(module, nn.Conv2d | nn.ConvTranspose2d)]
    for layer in layers:
        if norm == "instance":
            nn.init.normal_(layer.weight, 0.0, INITIAL_SD)
        else:
            nn.init.kaiming_normal_(layer.weight)
        nn.init.zeros_(layer.bias)
    with torch.no_grad():
        if norm != "instance":
            for block in network.modules():
                if isinstance(block, ResidualBlock):
                    block.conv_block[-2].weight.mul_(0.1)
        if is_residual:
            layers[-1].weight.mul_(CALM)
