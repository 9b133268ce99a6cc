"""A residual network of volumes, three ways of enlarging them, and the discriminator that belongs to it.

Sánchez and Vilaplana, Brain MRI super-resolution using 3D generative adversarial networks (MIDL 2018), after SRGAN
(Ledig et al., CVPR 2017). Enlargement: nearest voxels and convolutions (Odena et al., Deconvolution and checkerboard
artifacts, 2016); sub-pixel convolution (Shi et al., ESPCN, CVPR 2016); or a transposed convolution that begins as the
checkerboard-free sub-pixel convolution (Aitken et al., 2017). Written from the descriptions.

As published, both networks see grey values from -1 to 1; what goes in and comes out here is 0 to 1. Ours is the skip:
the linear enlargement of the input, which the network corrects. Without it, it is the published generator.
"""

from __future__ import annotations

from dataclasses import asdict

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .blocks import full_precision
from .discriminator_options import SRGAN3DDiscriminatorOptions
from .options import SRGAN3DOptions
from .spec import NetworkSpec

SLOPE = 0.25  # of the generator's leaky ReLUs
JUDGES_SLOPE = 0.3  # of the discriminator's
DEVIATION = 0.02  # of the first weights
CALM = 0.1  # how much smaller than usual the first weights are where a block, or the generator, ends without batch norm
WIDE = 64  # features while enlarging
SHUFFLED = WIDE // 8


class FullPrecisionConv3d(nn.Conv3d):
    """A convolution in the precision of its weights, for the last layer: see `FullPrecisionConv2d`."""

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, k, j, i) of any precision -> (N, C', k, j, i)."""
        with full_precision(x):
            return super().forward(x.to(self.weight.dtype))


def conv(inputs: int, outputs: int) -> nn.Conv3d:
    """Convolution of 3 x 3 x 3 with bias that keeps the size; outside the volume is zero."""
    return nn.Conv3d(inputs, outputs, 3, padding=1)


def voxel_shuffle(x: Tensor) -> Tensor:
    """(N, 8 C, k, j, i) -> (N, C, 2k, 2j, 2i): voxel (2k + s, 2j + t, 2i + u) is channel (4t + 2s + u) C + c."""
    n, channels, *size = x.shape
    x = x.view(n, 2, 2, 2, channels // 8, *size)  # N, t, s, u, C, k, j, i
    x = x.permute(0, 4, 5, 2, 6, 1, 7, 3)  # N, C, k, s, j, t, i, u
    return x.reshape(n, channels // 8, *(2 * length for length in size))


class ResidualBlock(nn.Module):
    """x + norm(conv(leaky ReLU(norm(conv(x)))))."""

    def __init__(self, features: int, batch_norm: bool) -> None:
        super().__init__()
        self.conv1, self.bn1 = conv(features, features), norm(features, batch_norm)
        self.conv2, self.bn2 = conv(features, features), norm(features, batch_norm)

    def forward(self, x: Tensor) -> Tensor:
        """(N, features, k, j, i) -> the same shape."""
        return x + self.bn2(self.conv2(F.leaky_relu(self.bn1(self.conv1(x)), SLOPE, inplace=True)))


class SubPixel(nn.Module):
    """Convolution and leaky ReLU, then eight channels become a cube of 2 x 2 x 2 voxels."""

    features = SHUFFLED
    fine_reach = 0  # voxels of its own output that its convolutions there look at

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.conv1 = conv(inputs, WIDE)

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, k, j, i) -> (N, 8, 2k, 2j, 2i)."""
        return voxel_shuffle(F.leaky_relu(self.conv1(x), SLOPE, inplace=True))


class NearestConvolutions(nn.Module):
    """Convolution, each voxel repeated, convolution; both with a leaky ReLU."""

    features = WIDE
    fine_reach = 1

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = conv(inputs, WIDE), conv(WIDE, WIDE)

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, k, j, i) -> (N, 64, 2k, 2j, 2i)."""
        x = F.interpolate(F.leaky_relu(self.conv1(x), SLOPE, inplace=True), scale_factor=2.0, mode="nearest")
        return F.leaky_relu(self.conv2(x), SLOPE, inplace=True)


class CheckerboardFree(nn.Module):
    """A transposed convolution whose eight sub-lattices begin equal, so that it begins without a pattern of its own."""

    features = WIDE
    fine_reach = 0

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.deconv = nn.ConvTranspose3d(inputs, WIDE, 6, stride=2, padding=2)

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, k, j, i) -> (N, 64, 2k, 2j, 2i)."""
        return F.leaky_relu(self.deconv(x), SLOPE, inplace=True)


class SRGAN3D(nn.Module):
    """Features of the volume on its own grid, enlarged once or twice by two.

    Parameters
    ----------
    **options
        Fields of `SRGAN3DOptions`.

    Raises
    ------
    ValueError
        If the options do not fit together.
    """

    full_precision = ("convlast",)

    def __init__(self, **options) -> None:
        super().__init__()
        chosen = SRGAN3DOptions(**options)
        chosen.check()
        self.options = asdict(chosen)
        features, batch_norm = chosen.feature_size, chosen.batch_norm
        self.conv1, self.bn1 = conv(1, features), norm(features, batch_norm)
        self.rb = nn.ModuleList(ResidualBlock(features, batch_norm) for _ in range(chosen.residual_blocks))
        self.conv2, self.bn2 = conv(features, features), norm(features, batch_norm)
        enlarge = CheckerboardFree if chosen.subpixel_NN else NearestConvolutions if chosen.nn else SubPixel
        self.up = nn.ModuleDict({"1": enlarge(features)})
        if chosen.scale == 4:
            self.up["2"] = enlarge(enlarge.features)
        self.convlast = FullPrecisionConv3d(enlarge.features, 1, 3, padding=1)
        first_weights(self, chosen.batch_norm)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """(N, 1, k, j, i) in units of the window -> "sr" (N, 1, s k, s j, s i), not clamped."""
        return self.decode(self.encode(x))

    def encode(self, x: Tensor) -> Tensor:
        """Features (N, feature_size, k, j, i), with the skip also the input behind them."""
        first = F.leaky_relu(self.bn1(self.conv1(2 * x - 1)), SLOPE, inplace=True)
        features = first
        for block in self.rb:
            features = block(features)
        features = self.bn2(self.conv2(features)) + first
        return torch.cat((features, x.to(features.dtype)), 1) if self.options["skip"] else features

    def decode(self, features: Tensor, positions=None) -> dict[str, Tensor]:
        """ "sr" (N, 1, s k, s j, s i) of what `encode` gave."""
        fine = features[:, : self.options["feature_size"]]
        for step in self.up.values():
            fine = step(fine)
        fine = self.convlast(fine)
        fine = torch.tanh(fine) if self.options["nn"] else fine
        if not self.options["skip"]:
            return {"sr": (fine + 1) / 2}
        scale, image = float(self.options["scale"]), features[:, -1:].to(fine.dtype)
        return {"sr": fine / 2 + F.interpolate(image, scale_factor=scale, mode="trilinear")}

    def describe(self) -> NetworkSpec:
        """Facts that follow from the options."""
        f, scale, steps = self.options["feature_size"], self.options["scale"], list(self.up.values())
        voxels = [scale**3 // 8 ** (len(steps) - n) for n in range(len(steps) + 1)]  # per input voxel, after each step
        enlarging = sum(
            _weights(layer) * (after if layer is getattr(step, "conv2", None) else before)
            for step, before, after in zip(steps, voxels, voxels[1:], strict=False)
            for layer in step.children()
        )
        wide = 2 * WIDE + steps[0].features + 4
        return NetworkSpec(
            network="srgan3d",
            options=dict(self.options),
            dimensions=3,
            scale=scale,
            context=2 * len(self.rb) + 2 + self._reach,
            decode_context=self._reach,
            encode_flops=2.0 * sum(map(_weights, (self.conv1, *self.rb, self.conv2))),
            encode_bytes=4.0 * (4 * f + 2),
            decode_flops=2.0 * (enlarging + _weights(self.convlast) * scale**3) / scale**3,
            decode_bytes=4.0 * wide,
        )

    @property
    def _reach(self) -> int:
        """Input voxels that enlarging and the last convolution look at beyond their own."""
        reach = 1
        for step in self.up.values():
            reach = -(-(reach + step.fine_reach) // 2) + 1
        return reach


class SRGAN3DDiscriminator(nn.Module):
    """Four halvings of the volume, then two full layers over what is left: at each place, over their mean, or over all.

    Parameters
    ----------
    **options
        Fields of `SRGAN3DDiscriminatorOptions`.

    Raises
    ------
    ValueError
        If the options do not fit together.
    """

    def __init__(self, **options) -> None:
        super().__init__()
        chosen = SRGAN3DDiscriminatorOptions(**options)
        chosen.check()
        self.judge, self._size = chosen.judge, tuple(chosen.size)
        inputs = chosen.in_nc
        for number in range(1, 9):
            outputs = chosen.feature_size * 2 ** ((number - 1) // 2)
            self.add_module(f"conv{number}", nn.Conv3d(inputs, outputs, 3, stride=2 - number % 2))
            if number > 1:
                self.add_module(f"bn{number}", norm(outputs, chosen.batch_norm))
            inputs = outputs
        places = 1
        for length in self._size if self.judge == "dense" else ():
            places *= -(-length // 16)
        self.dense1 = nn.Linear(inputs * places, 32 * chosen.feature_size)
        self.dense2 = nn.Linear(32 * chosen.feature_size, 1)
        first_weights(self, chosen.batch_norm)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_nc, k, j, i) in units of the window -> logits (N, places), or (N, 1) of the whole volume.

        Raises
        ------
        ValueError
            If the size is not that of a dense judge.
        """
        size = tuple(x.shape[:1:-1])
        if self.judge == "dense" and size != self._size:
            raise ValueError(f"the discriminator judges {self._size} voxels, not {size}")
        x = 2 * x - 1
        for number in range(1, 9):
            layer = getattr(self, f"conv{number}")
            x = layer(F.pad(x, _padding(x, layer.stride[0])))
            x = getattr(self, f"bn{number}")(x) if number > 1 else x
            x = F.leaky_relu(x, JUDGES_SLOPE, inplace=True)
        if self.judge == "dense":
            x = x.movedim(1, -1).flatten(1)[:, None]
        else:
            x = x.flatten(2).mT if self.judge == "patch" else x.mean((2, 3, 4))[:, None]
        return self.dense2(F.leaky_relu(self.dense1(x), JUDGES_SLOPE))[..., 0]


def norm(features: int, batch_norm: bool) -> nn.Module:
    """Batch norm, or nothing in its place."""
    return nn.BatchNorm3d(features) if batch_norm else nn.Identity()


@torch.no_grad()
def first_weights(network: nn.Module, batch_norm: bool) -> None:
    """Normal weights: of deviation 0.02, as published, where batch norm brings the features to scale, otherwise He's.

    Without batch norm, residual blocks and the generator's end begin small. Weights of `CheckerboardFree` are those of
    3 x 3 x 3, each repeated.
    """
    for name, layer in network.named_modules():
        if not isinstance(layer, nn.Conv3d | nn.ConvTranspose3d | nn.Linear):
            continue
        weight = layer.weight
        if isinstance(layer, nn.ConvTranspose3d):
            weight = torch.empty(*weight.shape[:2], *(length // 2 for length in layer.kernel_size))
        inputs = weight[:, 0].numel() if isinstance(layer, nn.ConvTranspose3d) else weight[0].numel()
        he = (2 / (1 + SLOPE**2) / inputs) ** 0.5
        weight.normal_(0, DEVIATION if batch_norm or name in ("convlast", "dense2") else he)
        if not batch_norm and (name == "convlast" or (name.startswith("rb.") and name.endswith(".conv2"))):
            weight.mul_(CALM)
        if isinstance(layer, nn.ConvTranspose3d):
            layer.weight.copy_(F.interpolate(weight, scale_factor=2.0, mode="nearest"))
        layer.bias.zero_()


def _padding(x: Tensor, stride: int) -> list[int]:
    """Zeros before and after each axis, last axis first, with which a convolution gives ceil(n / stride) voxels."""
    pads = []
    for length in x.shape[:1:-1]:
        missing = 2 if stride == 1 or length % 2 else 1
        pads += [missing // 2, missing - missing // 2]
    return pads


def _weights(module: nn.Module) -> int:
    """Numbers that are multiplied for one place: all weights but those of norms and biases."""
    return sum(weight.numel() for weight in module.parameters() if weight.dim() == 5)
