"""What the networks of a training cost: parameters, operations, and numbers kept for the backward pass. No torch.

Each network is written down as its convolutions; see networks/ for what they do. Areas are relative to the HR patch.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from .options import UNET, DiscriminatorOptions, TrainingOptions
from .options.network_keys import RESIDUAL

DENSE_BLOCKS = 3  # in an RRDB


@dataclass(frozen=True)
class Cost:
    """Of one network.

    Attributes
    ----------
    parameters : int
    flops : float
        Of one forward pass, for each HR pixel: two for each weight and each pixel that it is applied to.
    kept : float
        Numbers kept until the backward pass, for each HR pixel.
    peak : float
        Further numbers, for each HR pixel, that are alive while the backward pass is at its widest layer.
    """

    parameters: int
    flops: float
    kept: float
    peak: float


@dataclass(frozen=True)
class Layer:
    """A convolution from `inputs` to `outputs` channels whose output has `area` of the HR patch's pixels."""

    inputs: int
    outputs: int
    area: float
    kernel: int = 3
    bias: bool = True

    @property
    def weights(self) -> int:
        return self.inputs * self.outputs * self.kernel**2

    @property
    def parameters(self) -> int:
        return self.weights + (self.outputs if self.bias else 0)


def generator_cost(options: TrainingOptions) -> Cost:
    """The generator (networks/unetspsr.py or residual.py)."""
    if options.network_G.which_model_G == RESIDUAL:
        return _residual_cost(options)
    nf, nb, gc, scale = options.network_G.nf, options.network_G.nb, options.network_G.gc, options.scale
    low = 1 / scale**2
    wide = 2 * nf
    trunk = 2 * nf + nb * _kept_by_rrdb(nf, gc)
    branch = 2 * nf + 4 * (wide + _kept_by_rrdb(wide, gc) + nf)
    joined = 2 * wide
    enlarged = sum(2 * 2 * nf * area for area in _areas_of_steps(scale))
    fused = 3 * nf + wide + _kept_by_rrdb(wide, gc) + 2 * nf
    kept = low * (trunk + branch + joined) + enlarged + fused
    return _cost(list(_generator_layers(options)), kept, peak=2 * (wide + 4 * gc))


def _residual_cost(options: TrainingOptions) -> Cost:
    """Each block keeps its input and what is between its layers."""
    g, low = options.network_G, 1 / options.scale**2
    layers = [Layer(g.in_nc, g.nf, low), *[Layer(g.nf, g.nf, low)] * (2 * g.nb)]
    layers.append(Layer(g.nf + g.out_nc, g.out_nc * options.scale**2, low))
    return _cost(layers, kept=low * (2 * g.nf * (g.nb + 1)) + 2 * g.out_nc, peak=2 * g.nf * low)


def discriminator_cost(network: DiscriminatorOptions, edge: int) -> Cost:
    """A discriminator of images of `edge` pixels (networks/unet_discriminator.py, vgg_discriminator.py)."""
    nf = network.nf
    if network.which_model_D == UNET:
        down = nf * (1 + 2 / 4 + 4 / 16 + 8 / 64)
        up = nf * (8 / 16 + 4 / 16 + 4 / 4 + 2 / 4 + 2 + 1 + 1 + 1 + 1)
        return _cost(list(_unet_layers(network)), down + up, peak=4 * nf)
    layers = list(_vgg_layers(network))
    kept = sum(2 * layer.outputs * layer.area for layer in layers) - layers[0].outputs
    last = layers[-1].outputs * 16
    head = last * 100 + 100 + 100 + 1
    norms = sum(2 * layer.outputs for layer in layers[1:])
    cost = _cost(layers, kept, peak=4 * nf)
    return Cost(cost.parameters + head + norms, cost.flops + 2 * head / edge**2, cost.kept, cost.peak)


def feature_cost() -> Cost:
    """VGG19 up to conv5_4 (networks/vgg19.py); its weights are frozen. Each pooling keeps 8-byte positions."""
    layers = list(_vgg19_layers())
    pooled = sum(channels / area for channels, area in ((64, 4), (128, 16), (256, 64), (512, 256)))
    kept = 3 + sum(layer.outputs * layer.area for layer in layers) + 3 * pooled
    return _cost(layers, kept, peak=2 * 64)


def _cost(layers: list[Layer], kept: float, peak: float) -> Cost:
    return Cost(
        sum(layer.parameters for layer in layers), sum(2.0 * layer.weights * layer.area for layer in layers), kept, peak
    )


def _kept_by_rrdb(features: int, growth: int) -> int:
    """Each dense block keeps its output, four growing joins and four activations."""
    joins = sum(features + n * growth for n in (1, 2, 3, 4))
    return DENSE_BLOCKS * (features + joins + 4 * growth)


def _rrdb(features: int, growth: int, area: float) -> Iterator[Layer]:
    for _ in range(DENSE_BLOCKS):
        for n in range(4):
            yield Layer(features + n * growth, growth, area)
        yield Layer(features + 4 * growth, features, area)


def _areas_of_steps(scale: int) -> list[float]:
    """The area after each enlargement."""
    steps = [3] if scale == 3 else [2] * (scale.bit_length() - 1)
    areas, size = [], 1
    for step in steps:
        size *= step
        areas.append((size / scale) ** 2)
    return areas


def _generator_layers(options: TrainingOptions) -> Iterator[Layer]:
    g = options.network_G
    nf, gc, low = g.nf, g.gc, 1 / options.scale**2
    for inputs in (g.in_nc, g.channels):  # of the trunk and of the gradient branch
        yield Layer(inputs, nf, low)
        yield Layer(nf, nf, low)
        yield from (Layer(nf, nf, area) for area in _areas_of_steps(options.scale))
        yield Layer(nf, nf, 1)
        yield Layer(nf, nf, 1)
    for _ in range(g.nb):
        yield from _rrdb(nf, gc, low)
    for _ in range(4):
        yield from _rrdb(2 * nf, gc, low)
        yield Layer(2 * nf, nf, low)
    yield Layer(nf, g.out_nc, 1, kernel=1)
    yield from _rrdb(2 * nf, gc, 1)
    yield Layer(2 * nf, nf, 1)
    yield Layer(nf, nf, 1)
    yield Layer(nf, g.out_nc, 1)


def _unet_layers(network: DiscriminatorOptions) -> Iterator[Layer]:
    nf = network.nf
    yield Layer(network.in_nc, nf, 1)
    for n, area in ((1, 1 / 4), (2, 1 / 16), (4, 1 / 64)):
        yield Layer(n * nf, 2 * n * nf, area, kernel=4, bias=False)
    for n, area in ((8, 1 / 16), (4, 1 / 4), (2, 1)):
        yield Layer(n * nf, n * nf // 2, area, bias=False)
    yield Layer(nf, nf, 1, bias=False)
    yield Layer(nf, nf, 1, bias=False)
    yield Layer(nf, 1, 1)


def _vgg_layers(network: DiscriminatorOptions) -> Iterator[Layer]:
    inputs, area = network.in_nc, 1.0
    for n in (1, 2, 4, 8, 8):
        outputs = n * network.nf
        yield Layer(inputs, outputs, area)
        area /= 4
        yield Layer(outputs, outputs, area, kernel=4)
        inputs = outputs


def _vgg19_layers() -> Iterator[Layer]:
    inputs, area = 3, 1.0
    for outputs, count in ((64, 2), (128, 2), (256, 4), (512, 4), (512, 4)):
        for _ in range(count):
            yield Layer(inputs, outputs, area)
            inputs = outputs
        area /= 4
