"""UNetSPSR's generator: super-resolution that is guided by a gradient branch.

Architecture: SPSR (Ma et al., Structure-Preserving Super Resolution with Gradient Guidance, CVPR 2020) with one
channel and a factor of two, as UNetSPSR uses it (Hosseinitabatabaei et al., Journal of Dental Research, 2025).
Written from the description of the network, not from its code, which has no licence. That neighbouring slices, and what
is known of the acquisition, may come along as channels is ours.
"""

from __future__ import annotations

from dataclasses import asdict
from itertools import accumulate
from math import ceil, log2
from operator import mul

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .blocks import (
    RRDB,
    FullPrecisionConv2d,
    ResidualDenseBlock,
    Scratch,
    Upsample,
    conv,
    full_precision,
    gradient_map,
    initialise,
    lrelu,
    maps_of,
    with_conditions,
)
from .options import UNetSPSROptions
from .spec import NetworkSpec


class UNetSPSR(nn.Module):
    """Two paths on the input's grid, fused on the output's.

    The trunk turns the image into features; the gradient branch does so with the image's gradient map and takes in
    the trunk's features at four taps. Both are enlarged and fused into the image; the gradient branch alone also gives
    the enlarged gradient map, which training compares with the true one.

    With `unshuffle` both paths work on folded pixels, and are unfolded before they are enlarged: as many features on a
    quarter of the places, and a quarter as many behind. So Real-ESRGAN folds what it enlarges by two (Wang et al.,
    ICCV Workshops 2021). With `skip` the features correct the input's linear interpolation, in full precision.

    Parameters
    ----------
    **options
        Fields of `UNetSPSROptions`.

    Raises
    ------
    ValueError
        If the options do not fit together.
    """

    full_precision = ("fusion_out",)

    def __init__(self, **options) -> None:
        super().__init__()
        chosen = UNetSPSROptions(**options)
        chosen.check()
        self.options = {**asdict(chosen), "taps": chosen.branch_taps}
        for ours, usual in (("slices", 0), ("conditions", ()), ("unshuffle", 1), ("skip", False)):
            if self.options[ours] == usual:
                del self.options[ours]
        self.taps, self.slices, self.conditions = chosen.branch_taps, chosen.slices, tuple(chosen.conditions)
        self.unshuffle, self.skip = chosen.unshuffle, chosen.skip
        nf, nb, gc, in_nc, out_nc = chosen.nf, chosen.nb, chosen.gc, chosen.in_nc, chosen.out_nc
        steps = [3] if chosen.scale == 3 else [2] * int(log2(chosen.scale))
        part = chosen.unshuffle**2

        self.head = conv(part * in_nc + maps_of(self.conditions, 2), nf)
        self.trunk = nn.ModuleList(RRDB(nf, gc) for _ in range(nb))
        self.trunk_end = conv(nf, nf)

        self.branch_head = conv(part if self.slices else part * in_nc, nf)
        self.branch_block = nn.ModuleList(RRDB(2 * nf, gc) for _ in self.taps)
        self.branch_reduce = nn.ModuleList(conv(2 * nf, nf) for _ in self.taps)
        self.branch_end = conv(nf, nf)

        nf = nf // part
        self.up = nn.ModuleList(Upsample(nf, step) for step in steps)
        self.hr0 = conv(nf, nf)
        self.hr1 = conv(nf, nf)

        self.branch_up = nn.ModuleList(Upsample(nf, step) for step in steps)
        self.branch_hr0 = conv(nf, nf)
        self.branch_hr1 = conv(nf, nf)
        self.branch_out = conv(nf, out_nc, kernel=1)

        self.fusion_block = RRDB(2 * nf, gc)
        self.fusion_reduce = conv(2 * nf, nf)
        self.fusion_hr = conv(nf, nf)
        self.fusion_out = FullPrecisionConv2d(nf, out_nc, 3, padding=1)
        initialise(self)

    def forward(self, x: Tensor, conditions: dict[str, Tensor] | None = None) -> dict[str, Tensor]:
        """Enlarge an image.

        Parameters
        ----------
        x : Tensor, shape (N, in_nc, H, W)
            Grey values in units of the window, float32 or float64.
        conditions : dict of Tensor, optional
            See networks/__init__.py; needed where the options name some.

        Returns
        -------
        dict
            "sr" (N, out_nc, sH, sW), "branch" (N, out_nc, sH, sW): the enlarged gradient map that the branch predicts,
            and "gradient" (N, in_nc, H, W), or (N, 1, H, W) where there are neighbouring slices: the gradient map of
            the (middle) input. None is clamped.
        """
        gradient = gradient_map(self.middle(x))
        return {**self.decode(self.encode(x, conditions, gradient)), "gradient": gradient}

    def middle(self, x: Tensor) -> Tensor:
        """The slice that is enlarged, (N, 1, H, W); all channels where there are no neighbouring slices."""
        return x[:, self.slices : self.slices + 1] if self.slices else x

    def encode(self, x: Tensor, conditions: dict[str, Tensor] | None = None, gradient: Tensor | None = None) -> Tensor:
        """Features (N, 2 nf / unshuffle^2, H, W) on the input's grid: the trunk's, then the gradient branch's.

        With `skip` the (middle) input itself is behind them.
        The branch advances as the trunk reaches each tap, so that no tap's features are kept waiting.
        """
        folded = F.pixel_unshuffle(x, self.unshuffle)
        first = trunk = self.head(with_conditions(folded, self.conditions, conditions))
        gradient = gradient_map(self.middle(x)) if gradient is None else gradient
        branch_first = branch = self.branch_head(F.pixel_unshuffle(gradient, self.unshuffle))
        stage = 0
        for number, block in enumerate(self.trunk, start=1):
            trunk = block(trunk)
            while stage < len(self.taps) and self.taps[stage] == number:
                joined = self.branch_block[stage](torch.cat((branch, trunk), 1))
                branch = self.branch_reduce[stage](joined)
                stage += 1
        both = torch.cat((self.trunk_end(trunk) + first, self.branch_end(branch) + branch_first), 1)
        both = F.pixel_shuffle(both, self.unshuffle)
        return torch.cat((both.to(x.dtype), self.middle(x)), 1) if self.skip else both

    def decode(self, features: Tensor, positions=None) -> dict[str, Tensor]:
        """Enlarge and fuse what `encode` gave, of h x w pixels; "sr" and "branch", both (N, out_nc, s h, s w)."""
        image = None
        if self.skip:
            features, image = features.split([features.shape[1] - self.options["out_nc"], self.options["out_nc"]], 1)
        trunk, branch = features.chunk(2, 1)
        trunk, branch = trunk.contiguous(), branch.contiguous()
        for up, branch_up in zip(self.up, self.branch_up, strict=True):
            trunk, branch = up(trunk), branch_up(branch)
        trunk = self.hr1(lrelu(self.hr0(trunk)))
        branch = self.branch_hr1(lrelu(self.branch_hr0(branch)))
        fused = self.fusion_reduce(self.fusion_block(torch.cat((branch, trunk), 1)))
        enlarged = self.fusion_out(lrelu(self.fusion_hr(fused)))
        if image is not None:
            with full_precision(image):
                scale = float(self.options["scale"])
                enlarged = enlarged + F.interpolate(image, scale_factor=scale, mode="bilinear", align_corners=False)
        return {"sr": enlarged, "branch": self.branch_out(branch)}

    def prepare_for_inference(self, device: torch.device) -> None:
        """On the CPU all dense blocks take turns in one memory, so that joining their channels copies nothing."""
        scratch = Scratch() if device.type == "cpu" else None
        for module in self.modules():
            if isinstance(module, ResidualDenseBlock):
                module.scratch = scratch

    def describe(self) -> NetworkSpec:
        """Facts that follow from the options; the context of `encode` is left to calibration."""
        nf, gc, scale, part = self.options["nf"], self.options["gc"], self.options["scale"], self.unshuffle**2
        encode = (self.head, self.trunk, self.trunk_end)
        encode += (self.branch_head, self.branch_block, self.branch_reduce, self.branch_end)
        at_full_size = (self.hr0, self.hr1, self.branch_hr0, self.branch_hr1, self.branch_out)
        at_full_size += (self.fusion_block, self.fusion_reduce, self.fusion_hr, self.fusion_out)
        # What one output pixel depends on, in output pixels: one for each convolution, 15 for the RRDB, and more for
        # the convolutions before the last enlargement. Of these each pixel also costs less.
        radius, decode = 1 + 1 + 15 + 1 + 1 + 1, float(_weights(*at_full_size))
        for size, *ups in zip(accumulate((up.factor for up in self.up), mul), self.up, self.branch_up, strict=True):
            radius += scale // size
            decode += _weights(*ups) * (size / scale) ** 2
        return NetworkSpec(
            network="unetspsr",
            options={**self.options, "taps": list(self.taps)},
            dimensions=2,
            scale=scale,
            channels=1 if self.slices else self.options["in_nc"],
            slices=self.slices,
            conditions=self.conditions,
            decode_context=ceil(radius / scale),
            minimum_size=self.unshuffle,
            multiple=self.unshuffle,
            outputs={"sr": "image", "branch": "gradient", "gradient": "gradient"},
            encode_flops=2.0 * _weights(*encode) / part,
            encode_bytes=4.0 * (7 * nf + 2 * (2 * nf + 4 * gc) + 2 * nf) / part,
            decode_flops=2.0 * decode,
            decode_bytes=4.0 * (5 * (nf // part) + 2 * (2 * (nf // part) + 4 * gc)),
        )


def _weights(*modules: nn.Module) -> int:
    """Number of the convolutions' weights: each costs two operations for each pixel that it is applied to."""
    return sum(layer.weight.numel() for part in modules for layer in part.modules() if isinstance(layer, nn.Conv2d))
