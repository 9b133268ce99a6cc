"""ArSSR: a volume as a function of any place in it (Wu et al., JBHI 2023, arXiv:2110.14476).

An encoder makes features of each voxel of a block; a decoder of fully connected layers turns the features at any place,
interpolated linearly, and what it is told of the place into a grey value. One network thus serves any real factor, each
axis its own. Names of weights are those of the published files.

The original tells its decoder where in the whole volume a place lies, interpolates towards zeros beyond the volume and
cuts its output at 0; all this can be chosen, for its weights. Ours tells the decoder what recurs in every voxel: the
offset to the nearest voxel, as a point on a circle, so that it has no jump half way to the next, and the size of an
output voxel (Chen et al., LIIF, 2021); and the decoder's output is what linear interpolation lacks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from math import pi

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .blocks import full_precision, maps_of, with_conditions
from .options import ArSSROptions
from .spec import NetworkSpec

AXES = 3
CHUNK = 1 << 15  # output voxels that are decoded at a time where no gradients are wanted
CALM = 0.1  # first weights of the last layer of a residual, relative to others


def conv(inputs: int, outputs: int, kernel: int = 3) -> nn.Conv3d:
    """Convolution with bias that keeps the size; outside the block is zero."""
    return nn.Conv3d(inputs, outputs, kernel, padding=kernel // 2)


class DenseLayer(nn.Module):
    """The features before it, and as many more as it has outputs."""

    def __init__(self, inputs: int, growth: int) -> None:
        super().__init__()
        self.conv = conv(inputs, growth)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, k, j, i) -> (N, C + growth, k, j, i)."""
        return torch.cat((x, F.relu(self.conv(x))), 1)


class ResidualDenseBlock(nn.Module):
    """Densely connected layers, fused, and the block's input (Zhang et al., RDN, 2018)."""

    def __init__(self, features: int, layers: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(DenseLayer(features * (n + 1), features) for n in range(layers))
        self.lff = conv(features * (layers + 1), features, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, features, k, j, i) -> the same shape."""
        dense = x
        for layer in self.layers:
            dense = layer(dense)
        return x + self.lff(dense)


class RDN(nn.Module):
    """Residual dense blocks, all of whose outputs are fused."""

    def __init__(self, inputs: int, features: int, outputs: int, blocks: int = 8, layers: int = 3) -> None:
        super().__init__()
        self.sfe1, self.sfe2 = conv(inputs, features), conv(features, features)
        self.rdbs = nn.ModuleList(ResidualDenseBlock(features, layers) for _ in range(blocks))
        self.gff = nn.Sequential(conv(blocks * features, features, 1), conv(features, features))
        self.output = conv(features, outputs)
        self.context = 4 + blocks * layers
        self.alive = 8 * features + outputs  # numbers for each voxel while it runs without gradients

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, k, j, i) -> (N, outputs, k, j, i)."""
        first = self.sfe1(x)
        features, fused = self.sfe2(first), 0.0
        fuse = self.gff[0]
        for block, weight in zip(self.rdbs, fuse.weight.split(first.shape[1], 1), strict=True):
            features = block(features)
            fused = fused + F.conv3d(features, weight)  # the same as fusing all at the end, which would keep all
        fused = fused + fuse.bias[:, None, None, None]
        return self.output(self.gff[1](fused) + first)


class ResCNN(nn.Module):
    """Blocks of six convolutions, each with a path past it; the input is added to all features (Du et al., 2020)."""

    def __init__(self, inputs: int, features: int, outputs: int, blocks: int = 3) -> None:
        super().__init__()
        self.conv_start = nn.Sequential(conv(inputs, features), nn.ReLU(inplace=True))
        self.names = [f"block{n}" for n in range(1, blocks + 1)]
        for name in self.names:
            layers = [part for _ in range(6) for part in (conv(features, features), nn.ReLU(inplace=True))]
            self.add_module(name, nn.Sequential(*layers))
        self.conv_end = nn.Sequential(conv(features, outputs))
        self.context = 2 + 6 * blocks
        self.alive = 3 * features + outputs

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, k, j, i) -> (N, outputs, k, j, i); of the inputs the image comes first."""
        features = self.conv_start(x)
        for name in self.names:
            features = features + self.get_submodule(name)(features)
        return x[:, :1] + self.conv_end(features)


class Residual(nn.Module):
    """x + conv(relu(conv(x)))."""

    def __init__(self, features: int) -> None:
        super().__init__()
        first = nn.Sequential(conv(features, features), nn.ReLU(inplace=True))
        self.m = nn.Sequential(first, nn.Sequential(conv(features, features)))

    def forward(self, x: Tensor) -> Tensor:
        """(N, features, k, j, i) -> the same shape."""
        return x + self.m(x)


class SRResNet(nn.Module):
    """Residual blocks without normalisation (Ledig et al., 2017; Lim et al., EDSR, 2017)."""

    def __init__(self, inputs: int, features: int, outputs: int, blocks: int = 18) -> None:
        super().__init__()
        head, middle, end = conv(inputs, features), conv(features, features), conv(features, outputs)
        trunk = (Residual(features) for _ in range(blocks))
        self.features = nn.Sequential(nn.Sequential(head), *trunk, nn.Sequential(middle), nn.Sequential(end))
        self.context = 3 + 2 * blocks
        self.alive = 2 * features + outputs

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, k, j, i) -> (N, outputs, k, j, i)."""
        return self.features(x)


ENCODERS = {"RDN": RDN, "ResCNN": ResCNN, "SRResNet": SRResNet}


class Decoder(nn.Module):
    """Fully connected layers in two stages: two(v + one(v)), with a ReLU after every layer, perhaps but the last."""

    def __init__(self, inputs: int, depth: int, width: int, ends_at_zero: bool) -> None:
        super().__init__()
        layers = depth // 2
        self.stage_one = _stage([inputs, *[width] * (layers - 1), inputs])
        self.stage_two = _stage([inputs, *[width] * (layers - 1), 1])
        if not ends_at_zero:
            del self.stage_two[-1]

    def forward(self, v: Tensor) -> Tensor:
        """(..., inputs) -> (..., 1), in full precision."""
        hidden = self.stage_two[: self.last](v + self.stage_one(v))
        with full_precision(hidden):
            return self.stage_two[self.last :](hidden.to(self.stage_two[self.last].weight.dtype))

    @property
    def last(self) -> int:
        """Place of the last layer in the second stage."""
        return (len(self.stage_two) - 1) // 2 * 2


def _stage(sizes: Sequence[int]) -> nn.Sequential:
    layers = []
    for inputs, outputs in zip(sizes, sizes[1:], strict=False):
        layers += [nn.Linear(inputs, outputs), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)


class ArSSR(nn.Module):
    """The encoder, and the decoder at any places.

    Parameters
    ----------
    **options
        Fields of `ArSSROptions`.

    Raises
    ------
    ValueError
        If the options do not fit together.
    """

    def __init__(self, **options) -> None:
        super().__init__()
        chosen = ArSSROptions(**options)
        chosen.check()
        self.options = asdict(chosen)
        inputs = 1 + maps_of(chosen.conditions, AXES)
        self.encoder = ENCODERS[chosen.encoder_name](inputs, chosen.encoder_width, chosen.feature_dim, chosen.blocks)
        self.is_absolute = chosen.coordinates == "absolute"
        told = AXES if self.is_absolute else 3 * AXES
        self.decoder = Decoder(
            chosen.feature_dim + told, chosen.decoder_depth, chosen.decoder_width, chosen.output == "relu"
        )
        self.full_precision = (f"decoder.stage_two.{self.decoder.last}",)
        if chosen.residual:
            with torch.no_grad():
                last = self.decoder.stage_two[self.decoder.last]
                last.weight.mul_(CALM)
                last.bias.zero_()

    def forward(
        self,
        x: Tensor,
        conditions: dict[str, Tensor] | None = None,
        positions: Sequence[Tensor] = (),
    ) -> dict[str, Tensor]:
        """(N, 1, k, j, i) in units of the window -> "sr" at the positions; see `decode`."""
        return self.decode(self.encode(x, conditions), positions)

    def encode(self, x: Tensor, conditions: dict[str, Tensor] | None = None) -> Tensor:
        """Features (N, F, k, j, i); with `residual`, the image is the last of them."""
        features = self.encoder(with_conditions(x, self.options["conditions"], conditions))
        return torch.cat((features, x), 1) if self.options["residual"] else features

    def decode(
        self,
        features: Tensor,
        positions: Sequence[Tensor],
        whole: Sequence[tuple[int, int]] | None = None,
        steps: Sequence[Tensor] | None = None,
    ) -> dict[str, Tensor]:
        """ "sr" (N, 1, K, J, I) at the grid of positions.

        Parameters
        ----------
        features : Tensor
            What `encode` gave.
        positions : three Tensors
            In voxels of the tile; 0 is the centre of its first voxel.
        whole : three (int, int), optional
            For each axis the voxels of the whole volume before the tile, and its extent; the tile is all there is if
            not given. Only absolute coordinates depend on it.
        steps : three Tensors, optional
            Extents of an output voxel, in voxels of the tile; the distances of neighbouring positions if not given.
        """
        channels_last = features.permute(0, 2, 3, 4, 1)
        told = self._told(positions, features.shape[2:], whole, steps or [None] * AXES)
        pieces = self._pieces(len(features), positions)
        if len(pieces) == 1:
            found = self._decoded(channels_last, positions, told)
        else:
            sizes = (len(features), *(len(along) for along in positions), 1)
            found = features.new_empty(sizes, dtype=next(self.decoder.stage_two[self.decoder.last].parameters()).dtype)
            for piece in pieces:
                places, known = (
                    [along[part] for along, part in zip(of, piece, strict=True)] for of in (positions, told)
                )
                found[(slice(None), *piece)] = self._decoded(channels_last, places, known)
        return {"sr": found.permute(0, 4, 1, 2, 3)}

    def _decoded(self, features: Tensor, positions: Sequence[Tensor], told: Sequence[Tensor]) -> Tensor:
        """(N, K, J, I, 1) of features (N, k, j, i, F)."""
        for axis, along in enumerate(positions, start=1):
            features = _sampled(features, axis, along, self.options["padding"] == "zeros")
        shape = features.shape[1:-1]
        grids = [
            part.view([-1 if n == axis else 1 for n in range(AXES)] + [part.shape[1]]).expand(*shape, -1)
            for axis, part in enumerate(told)
        ]
        known = torch.cat(grids, -1).to(features.dtype).expand(len(features), *shape, -1)
        if not self.options["residual"]:
            return self.decoder(torch.cat((features, known), -1))
        found = self.decoder(torch.cat((features[..., :-1], known), -1))
        return features[..., -1:].to(found.dtype) + found

    def _told(
        self,
        positions: Sequence[Tensor],
        lengths: Sequence[int],
        whole: Sequence[tuple[int, int]] | None,
        steps: Sequence[Tensor | None],
    ) -> list[Tensor]:
        """What the decoder is told of the places along each axis, one row for each."""
        if self.is_absolute:
            whole = whole or [(0, length) for length in lengths]
            return [
                (2 * (along + (before + 0.5)) / length - 1)[:, None]
                for along, (before, length) in zip(positions, whole, strict=True)
            ]
        told = []
        for along, size in zip(positions, steps, strict=True):
            if size is None:  # of an output voxel, in input voxels
                size = along[-1:] - along[:1] if len(along) > 1 else along.new_ones(1)
                size = size / max(1, len(along) - 1)
            size = size.expand(len(along))
            told.append(torch.stack((torch.sin(2 * pi * along), torch.cos(2 * pi * along), size), 1))
        return told

    @staticmethod
    def _pieces(images: int, positions: Sequence[Tensor]) -> list[tuple[slice, slice, slice]]:
        """Parts of the output that are decoded at once: all of it where gradients keep everything anyway."""
        k, j, i = (len(along) for along in positions)
        slices = rows = CHUNK // max(1, images * i)
        if torch.is_grad_enabled() or positions[0].device.type == "meta":
            slices, rows = k, j
        else:
            slices, rows = max(1, slices // j), max(1, min(j, rows))
        return [
            (slice(first, first + slices), slice(row, row + rows), slice(0, i))
            for first in range(0, k, slices)
            for row in range(0, j, rows)
        ]

    def describe(self) -> NetworkSpec:
        """Facts that follow from the options."""
        chosen = ArSSROptions(**self.options)
        convolutions = sum(layer.weight.numel() for layer in self.encoder.modules() if isinstance(layer, nn.Conv3d))
        layers = [layer for layer in self.decoder.modules() if isinstance(layer, nn.Linear)]
        return NetworkSpec(
            network="arssr",
            options=dict(self.options),
            dimensions=AXES,
            scale=None,
            scale_range=tuple(chosen.factors),
            context=self.encoder.context + 1,
            decode_context=1,
            absolute=self.is_absolute,
            conditions=tuple(chosen.conditions),
            encode_flops=2.0 * convolutions,
            encode_bytes=4.0 * (self.encoder.alive + 3),
            decode_flops=2.0 * sum(layer.weight.numel() for layer in layers),
            decode_bytes=8.0,
        )


def _sampled(features: Tensor, axis: int, along: Tensor, zeros: bool) -> Tensor:
    """Features (N, k, j, i, C) at positions along one of the axes 1 to 3, interpolated linearly."""
    last = features.shape[axis] - 1
    if not zeros:
        along = along.clamp(0, last)
    below = along.floor()
    share = (along - below).to(features.dtype).view([-1 if n == axis else 1 for n in range(5)])
    below = below.long()
    ends = [features.index_select(axis, (below + step).clamp(0, last)) for step in (0, 1)]
    if not zeros:
        return torch.lerp(*ends, share)
    within = [((below + step >= 0) & (below + step <= last)).view(share.shape) for step in (0, 1)]
    return ends[0] * ((1 - share) * within[0]) + ends[1] * (share * within[1])
