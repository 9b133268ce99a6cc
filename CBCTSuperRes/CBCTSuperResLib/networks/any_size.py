"""A light 3-D network of any real factor along each axis, made for thick slices.

All heavy work is done on the input's grid: residual blocks of a convolution within the slices and one across them (Qiu
et al., P3D, ICCV 2017) on folded pixels (FFDNet: Zhang et al., IEEE TIP 2018), told blur and noise as constant maps
(SRMD: Zhang et al., CVPR 2018). Output voxels are made of features between the input's voxels, of where in a voxel they
lie and how large they are (LIIF: Chen et al., CVPR 2021), but axis by axis: first the slices become as many as the
output has, and are looked at once more, then rows and columns. Features are interpolated by learned kernels of the
place, which is told by waves with a voxel's width as period, so that nothing jumps between two voxels. What is constant
stays so: neither the grid of the scan nor that of the folded pixels shows where there is nothing. What comes out is
added to cubic interpolation: untrained, the network interpolates.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .blocks import full_precision, maps_of, with_conditions
from .options import AnySizeOptions
from .spec import NetworkSpec

SLOPE = 0.1
CALM = 0.1  # how much smaller than usual the first weights are where a block ends
CUBIC = -0.75  # Keys' a, as of torch and OpenCV
WAVES = 2  # periods in a voxel that tell where in it a place is
PLACE_WIDTH = 32  # features of the layers that a place goes through
TAPS = 2  # voxels on either side that interpolation looks at
REACH = 3  # voxels beyond a place that its output depends on: those taps, and the layer within slices
PIECE = 1 << 20  # numbers that are worked on at once where memory is to be saved
PART = 1 << 16  # output voxels that are decoded at once where nothing is trained: what a processor's cache holds


class WithinAndAcross(nn.Module):
    """x + conv across slices(leaky ReLU(conv within slices(x))), for (N, k, j, i, features)."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.within = nn.Conv2d(features, features, 3, padding=1)
        self.across = nn.Conv2d(features, features, (3, 1), padding=(1, 0))

    def forward(self, x: Tensor) -> Tensor:
        """Into x's own memory where no gradient is wanted."""
        if torch.is_grad_enabled():
            return x + across_slices(self.across, F.leaky_relu(within_slices(self.within, x), SLOPE))
        inner = F.leaky_relu(within_slices(self.within, x), SLOPE, inplace=True)
        for rows in _pieces(x.shape[2], x[:, :, 0].numel()):  # which do not see each other across slices
            x[:, :, rows] += across_slices(self.across, inner[:, :, rows])
        return x


def within_slices(layer: nn.Conv2d, x: Tensor) -> Tensor:
    """A 2-D layer on every slice of (N, k, j, i, features); no copy, and fast on processors, unlike a 3-D one."""
    return layer(x.flatten(0, 1).permute(0, 3, 1, 2)).permute(0, 2, 3, 1).unflatten(0, x.shape[:2])


def across_slices(layer: nn.Conv2d, x: Tensor) -> Tensor:
    """A layer of height 3 and width 1 on (N, k, j, i, features), whose height are the slices."""
    return layer(x.flatten(2, 3).permute(0, 3, 1, 2)).permute(0, 2, 3, 1).unflatten(2, x.shape[2:4])


class EvenConv2d(nn.Conv2d):
    """A layer for all pixels of a fold, whose answers to what is constant are the same for each of them.

    Otherwise even tissue would show a pattern of the fold's size.
    """

    def __init__(self, pixels: int, features: int, outputs: int) -> None:
        super().__init__(features, pixels * outputs, 3, padding=1)
        self._each = (pixels, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """(N, features, j, i) -> (N, pixels * outputs, j, i)."""
        weight, bias = self.weight.unflatten(0, self._each), self.bias.unflatten(0, self._each)
        means = weight.mean((-2, -1), keepdim=True)
        weight = (weight - means + means.mean(0)).flatten(0, 1)
        return F.conv2d(x, weight, bias.mean(0).repeat(self._each[0]), padding=1)


class Place(nn.Module):
    """How much of the features' first and second differences along an axis is added to them, at places along it.

    Features are thus interpolated by kernels of four voxels that are learned and reproduce what is constant: where
    nothing changes, no place looks different from another.
    """

    def __init__(self, features: int) -> None:
        super().__init__()
        self.inner = nn.Linear(2 * WAVES + 2, PLACE_WIDTH)
        self.outer = nn.Linear(PLACE_WIDTH, 2 * features)

    def forward(self, places: Tensor, step: Tensor) -> tuple[Tensor, Tensor]:
        """Places (n,) in voxels and their distance -> two tensors (n, features)."""
        angles = 2 * torch.pi * torch.arange(1, WAVES + 1, device=places.device) * places[:, None]
        known = torch.cat((angles.sin(), angles.cos(), torch.stack((step, step.log())).expand(len(places), 2)), 1)
        weight = self.inner.weight.dtype
        return self.outer(F.leaky_relu(self.inner(known.to(weight)), SLOPE)).chunk(2, 1)


class AnySizeNet(nn.Module):
    """See the module.

    Parameters
    ----------
    **options
        Fields of `AnySizeOptions`.

    Raises
    ------
    ValueError
        If the options do not fit together.
    """

    full_precision = ("tail",)

    def __init__(self, **options) -> None:
        super().__init__()
        chosen = AnySizeOptions(**options)
        chosen.check()
        self.options = asdict(chosen)
        self.fold = chosen.unshuffle
        nf, inner = chosen.nf, chosen.decoder_features
        self.head = nn.Conv2d(self.fold**2 + maps_of(chosen.conditions, 3), nf, 3, padding=1)
        self.blocks = nn.ModuleList(WithinAndAcross(nf) for _ in range(chosen.nb))
        self.body_end = EvenConv2d(self.fold**2, nf, inner)
        self.places = nn.ModuleList(Place(inner) for _ in range(3))
        self.slices = nn.Conv2d(inner, inner, 3, padding=1)
        self.hidden = nn.Linear(inner, inner)
        self.tail = nn.Linear(inner, 1)
        self._initialise()

    def forward(
        self, x: Tensor, conditions: Mapping[str, Tensor] | None = None, positions: Sequence[Tensor] | None = None
    ) -> dict[str, Tensor]:
        """(N, 1, k, j, i) in units of the window -> "sr" (N, 1, places along each axis), not clamped."""
        if positions is None:  # told as the second argument where the network has no conditions
            conditions, positions = None, conditions
        return self.decode(self.encode(x, conditions), positions)

    def encode(self, x: Tensor, conditions: Mapping[str, Tensor] | None = None) -> Tensor:
        """Features and the image itself behind them: (N, decoder_features + 1, k, j, i)."""
        told = with_conditions(self._folded(x), self.options["conditions"], conditions)
        features = within_slices(self.head, told.permute(0, 2, 3, 4, 1))
        del told  # its memory is given back
        for block in self.blocks:
            features = block(features)
        image = x.permute(0, 2, 3, 4, 1)
        if torch.is_grad_enabled() or x.is_meta:
            features = self._unfolded(within_slices(self.body_end, features))
            return torch.cat((features.to(x.dtype), image), -1).permute(0, 4, 1, 2, 3)
        found = image.new_empty(*image.shape[:-1], self.options["decoder_features"] + 1)
        found[..., -1:] = image
        for slices in _pieces(len(found[0]), found[:, 0].numel()):
            found[:, slices, ..., :-1] = self._unfolded(within_slices(self.body_end, features[:, slices]))
        return found.permute(0, 4, 1, 2, 3)

    def decode(
        self, features: Tensor, positions: Sequence[Tensor], steps: Sequence[Tensor] | None = None
    ) -> dict[str, Tensor]:
        """ "sr" (N, 1, *places) at places along each axis, in voxels.

        `steps` are extents of an output voxel in input voxels; without them, distances of neighbouring places.
        """
        features, positions = _needed(features.permute(0, 2, 3, 4, 1), positions)
        inner, image = features[..., :-1], features[..., -1:].float()
        for axis, (places, length) in enumerate(zip(positions, image.shape[1:4], strict=True), start=1):
            image = _sampled(image, axis, _cubic_weights(places, length))
        inner = inner.to(self.hidden.weight.dtype)
        steps = [_step(places) for places in positions] if steps is None else steps
        count = len(positions[0])
        part = count if torch.is_grad_enabled() else max(1, PART // (len(positions[1]) * len(positions[2])))
        parts = []
        for first in range(0, count, part):
            places = [positions[0][first : first + part], *positions[1:]]
            parts.append(self._residual(inner, places, steps))
        return {"sr": (image + torch.cat(parts, 1)).permute(0, 4, 1, 2, 3)}

    def _residual(self, inner: Tensor, positions: Sequence[Tensor], steps: Sequence[Tensor]) -> Tensor:
        """What is added to cubic interpolation, (N, *places, 1)."""
        for axis, (places, step) in enumerate(zip(positions, steps, strict=True), start=1):
            inner = _interpolated(inner, axis, places, self.places[axis - 1](places, step))
            if axis == 1:
                inner = inner + within_slices(self.slices, F.leaky_relu(inner, SLOPE))
        inner = F.leaky_relu(self.hidden(F.leaky_relu(inner, SLOPE)), SLOPE)
        with full_precision(inner):
            return self.tail(inner.to(self.tail.weight.dtype))

    def describe(self) -> NetworkSpec:
        """Facts that follow from the options."""
        chosen = AnySizeOptions(**self.options)
        nf, inner, fold = chosen.nf, chosen.decoder_features, self.fold
        encoder = [self.head, self.body_end, *self.blocks.modules()]
        weights = sum(layer.weight.numel() for layer in encoder if isinstance(layer, nn.Conv2d))
        pointwise = self.hidden.weight.numel() + self.tail.weight.numel()
        return NetworkSpec(
            network="any_size",
            options=dict(self.options),
            dimensions=3,
            scale=None,
            scale_range=((1.0, chosen.most_across), *[(1.0, chosen.most_within)] * 2),
            context=fold * (len(self.blocks) + 2) + 3,
            decode_context=3,
            minimum_size=fold,
            multiple=fold,
            conditions=tuple(chosen.conditions),
            encode_flops=2.0 * weights / fold**2,
            encode_bytes=4.0 * (max(2 * nf / fold**2, nf / fold**2 + inner + 1) + 6),
            decode_flops=2.0 * (pointwise + self.slices.weight.numel()),  # the latter if only slices become more
            decode_bytes=4.0 * 4,
        )

    def _folded(self, x: Tensor) -> Tensor:
        """(N, 1, k, j, i) -> (N, fold^2, k, j / fold, i / fold)."""
        return F.pixel_unshuffle(x.transpose(1, 2), self.fold).transpose(1, 2)

    def _unfolded(self, x: Tensor) -> Tensor:
        """(N, k, j / fold, i / fold, C fold^2) -> (N, k, j, i, C)."""
        n, k, rows, columns, _ = x.shape
        x = x.reshape(n, k, rows, columns, self.fold, self.fold, -1).transpose(3, 4)
        return x.reshape(n, k, rows * self.fold, columns * self.fold, -1)

    @torch.no_grad()
    def _initialise(self) -> None:
        """He-normal weights, small where blocks end; what a place says begins as nothing, and so does the output."""
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(layer.weight, a=SLOPE)
                nn.init.zeros_(layer.bias)
        for layer in (*(block.across for block in self.blocks), *(place.outer for place in self.places)):
            layer.weight.mul_(CALM)
        nn.init.zeros_(self.tail.weight)


def _pieces(length: int, numbers: int) -> Iterator[slice]:
    """Parts of an axis, of each of whose places so many numbers are held, that take little memory."""
    step = max(1, PIECE // max(1, numbers))
    return (slice(first, min(length, first + step)) for first in range(0, length, step))


def _needed(features: Tensor, positions: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
    """What of (N, k, j, i, features) is looked at for places along each axis, and the places seen from there."""
    if features.is_meta:  # costs are only counted
        return features, list(positions)
    seen = []
    for axis, places in enumerate(positions, start=1):
        last = features.shape[axis] - 1
        start = min(max(int(places.min().floor()) - REACH, 0), last)
        stop = max(min(int(places.max().ceil()) + REACH, last), start)
        features = features.narrow(axis, start, stop + 1 - start)
        seen.append(places - start)
    return features, seen


def _step(places: Tensor) -> Tensor:
    """Distance of neighbouring places, in voxels; 1 where there is only one."""
    return places[1] - places[0] if len(places) > 1 else places.new_ones(())


def _interpolated(x: Tensor, axis: int, places: Tensor, shares: Sequence[Tensor]) -> Tensor:
    """(N, k, j, i, features), linear between voxels along an axis, and of its differences what `shares` say.

    Differences are central, x[n + 1] - x[n - 1] and x[n - 1] - 2 x[n] + x[n + 1], and linear between voxels as well;
    the last voxels are repeated.

    Parameters
    ----------
    places : Tensor, shape (n,)
        In voxels.
    shares : two Tensors, shape (n, features)
    """
    first = places.floor()
    after = (places - first).to(x.dtype)[:, None]
    before, nothing = 1 - after, torch.zeros_like(after)
    kernels = (  # of the voxels n - 1 to n + 2: the place itself, first and second differences there
        (nothing, -before, before),
        (before, -after, after - 2 * before),
        (after, before, before - 2 * after),
        (nothing, after, after),
    )
    if not x.is_meta and not after.any():  # places are voxels: the last is not looked at
        kernels = kernels[:3]
    found = None
    for tap, (itself, slope, bend) in enumerate(kernels, start=-1):
        voxels = x.index_select(axis, (first.long() + tap).clamp(0, x.shape[axis] - 1))
        weight = (itself + slope * shares[0] + bend * shares[1])[(..., *[None] * (3 - axis), slice(None))]
        if found is None:
            found = voxels * weight
        elif torch.is_grad_enabled():
            found = torch.addcmul(found, voxels, weight)
        else:
            found.addcmul_(voxels, weight)
    return found


def _cubic_weights(places: Tensor, length: int) -> Tensor | slice:
    """Matrix (places, length) of an interpolation that repeats the last voxels; a slice where places are voxels."""
    if places.is_meta:
        return places.new_empty(len(places), length)
    start = int(places[0])
    if 0 <= start <= length - len(places) and bool((places - start == torch.arange(len(places)).to(places)).all()):
        return slice(start, start + len(places))
    first = places.floor()
    matrix = places.new_zeros(len(places), length)
    for tap in range(1 - TAPS, TAPS + 1):
        voxels = (first.long() + tap).clamp(0, length - 1)
        matrix.scatter_add_(1, voxels[:, None], _cubic((places - first - tap).abs())[:, None])
    return matrix


def _cubic(t: Tensor) -> Tensor:
    """Keys (1981), as torch and OpenCV have it."""
    near, far = ((CUBIC + 2) * t - (CUBIC + 3)) * t * t + 1, ((CUBIC * t - 5 * CUBIC) * t + 8 * CUBIC) * t - 4 * CUBIC
    return torch.where(t <= 1, near, torch.where(t < 2, far, torch.zeros_like(t)))


def _sampled(x: Tensor, axis: int, weights: Tensor | slice) -> Tensor:
    """(N, k, j, i, features), interpolated along an axis."""
    if isinstance(weights, slice):
        return x.narrow(axis, weights.start, weights.stop - weights.start)
    weights, rest = weights.to(x.dtype), x.shape[axis + 1 :]
    return (weights @ x.flatten(axis + 1)).unflatten(-1, rest) if axis < 3 else weights @ x
