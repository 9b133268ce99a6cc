"""What the networks of a training cost: parameters, operations, and numbers kept for the backward pass. No torch.

Each network is written down as its convolutions; see networks/ for what they do. Areas are relative to the HR patch.

How long an iteration takes here: a few with one random patch.

What a training will take: parameters, memory, time, and what is missing, before anything is computed.

Formulas
--------
An image needs 4 bytes (2.4 with a short type) for every number that the networks keep for the backward pass and for
those alive at its widest layer; the step's widest moment is the generator's update:
    HR pixels * (kept by G + peak of G + kept by each D + kept by VGG19).
Every trained weight needs 4 bytes for itself, its gradient, each of Adam's two moments, and the running mean; a
discriminator's four more for the normalised weights of its passes. A step's operations are 3 forward passes of the
generator (one forward, two backward), 9 of each discriminator (3 in the generator's update, 6 in its own) and 3 of
VGG19; accumulated parts add the passes that relativistic losses need beforehand.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property

import torch

from ..core.errors import SuperResError
from ..core.memory import available_memory, readable
from ..core.progress import duration_text
from .checks import UNET, TrainingDevice, missing, training_device
from .options import DiscriminatorOptions, TrainingOptions
from .ranks import Processes
from .recipes import build_recipe
from .step import Precision, Steps

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
    if options.network_G.network == "residual":
        return _residual_cost(options)
    g, scale = options.network_G.options, options.scale
    nf, nb, gc = g.nf, g.nb, g.gc
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
    g, low = options.network_G.options, 1 / options.scale**2
    layers = [Layer(g.in_nc, g.nf, low), *[Layer(g.nf, g.nf, low)] * (2 * g.nb)]
    layers.append(Layer(g.nf + g.out_nc, g.out_nc * options.scale**2, low))
    return _cost(layers, kept=low * (2 * g.nf * (g.nb + 1)) + 2 * g.out_nc, peak=2 * g.nf * low)


def discriminator_cost(network: DiscriminatorOptions, edge: int) -> Cost:
    """A discriminator of images of `edge` pixels (networks/unet_discriminator.py, vgg_discriminator.py)."""
    nf = network.options.nf
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
    g = options.network_G.options
    nf, gc, low = g.nf, g.gc, 1 / options.scale**2
    for inputs in (g.in_nc, options.network_G.channels):  # of the trunk and of the gradient branch
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
    nf = network.options.nf
    yield Layer(network.options.in_nc, nf, 1)
    for n, area in ((1, 1 / 4), (2, 1 / 16), (4, 1 / 64)):
        yield Layer(n * nf, 2 * n * nf, area, kernel=4, bias=False)
    for n, area in ((8, 1 / 16), (4, 1 / 4), (2, 1)):
        yield Layer(n * nf, n * nf // 2, area, bias=False)
    yield Layer(nf, nf, 1, bias=False)
    yield Layer(nf, nf, 1, bias=False)
    yield Layer(nf, 1, 1)


def _vgg_layers(network: DiscriminatorOptions) -> Iterator[Layer]:
    inputs, area = network.options.in_nc, 1.0
    for n in (1, 2, 4, 8, 8):
        outputs = n * network.options.nf
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


LONG_S = 5.0
REPEATS = 3


def seconds_of_a_patch(options: TrainingOptions, where: TrainingDevice) -> tuple[float, TrainingOptions]:
    """Time of an iteration with a batch of one patch, after the warm-up, without a feature loss.

    Returns
    -------
    seconds : float
    options : TrainingOptions
        What was timed.
    """
    train = replace(options.train, feature_weight=0.0, warmup_iters=0)
    if not any((train.pixel_weight, train.pixel_branch_weight, train.gradient_pixel_weight, train.gan_weight)):
        train = replace(train, pixel_weight=1.0)
    timed = replace(options, train=train)
    device = torch.device(str(TrainingDevice(where.type, where.ids[:1])))
    with torch.random.fork_rng(devices=where.ids[:1]):
        return _time(timed, device), timed


def _time(options: TrainingOptions, device: torch.device) -> float:
    recipe = build_recipe(options)
    networks = {role: network.to(device) for role, network in recipe.build().items()}
    precision = Precision(options.train.precision, device)
    steps = Steps(recipe, networks, recipe.optimizers(networks), precision, Processes())
    size, network = options.datasets["train"].HR_size, options.network_G.options
    high = torch.rand(1, network.out_nc, size, size, device=device)
    low = torch.rand(1, network.options.in_nc, size // options.scale, size // options.scale, device=device)
    seconds = []
    for number in range(1, 2 + REPEATS):
        began = time.perf_counter()
        steps.make(number, [{"LR": low, "HR": high}])
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds.append(time.perf_counter() - began)
        if seconds[-1] > LONG_S:
            break
    return min(seconds)


PROGRAM_BYTES = {"cpu": 0.4e9, "cuda": 0.7e9}
ALLOCATOR = 1.2  # what an allocator takes beyond what is asked for
BYTES = {"float32": 4.0, "bfloat16": 2.4, "float16": 2.4}
USABLE = 0.9
IMAGES_SHARE = 0.25  # of free memory that decoded images may take, unless cache_gb says otherwise
GUESSED_FLOPS = {"cpu": 25e9, "float32": 20e12, "bfloat16": 80e12, "float16": 80e12}  # a core; a GPU
DAY = 86400


@dataclass(frozen=True)
class Plan:
    """What a training will take.

    Attributes
    ----------
    options : TrainingOptions
    device : TrainingDevice
    processes : int
    missing : list of str
        Sentences about files that are named or needed and not there; `train` refuses to begin with any.
    problems : list of str
        Sentences about a device or memory that does not do.
    micro_batch : int
        Images that each process computes at a time.
    memory_bytes : int
        What a process holds at its peak: of the GPU's memory, or of the computer's.
    free_bytes : int or None
        What is free for it; None if unknown.
    seconds_per_step : float
    measured : bool
        Whether that was measured; otherwise it is guessed from the number of operations.
    work : Work
        What the figures are made of.
    """

    options: TrainingOptions
    device: TrainingDevice
    processes: int
    missing: list[str]
    problems: list[str]
    micro_batch: int
    memory_bytes: int
    free_bytes: int | None
    seconds_per_step: float
    measured: bool
    work: Work = field(repr=False)

    @property
    def share(self) -> int:
        """Images of a step that each process computes."""
        return self.work.share

    @property
    def seconds(self) -> float:
        """All iterations; those of the warm-up are shorter."""
        train = self.options.train
        warm_up = self.seconds_per_step * self.work.warm_up_share(self.micro_batch)
        return train.warmup_iters * warm_up + (train.niter - train.warmup_iters) * self.seconds_per_step

    def text(self) -> str:
        """Everything for people, a fact a line."""
        return "\n".join([*self._facts(), *_listed("Missing", self.missing), *_listed("Problems", self.problems)])

    def _facts(self) -> list[str]:
        options, data = self.options, self.options.datasets["train"]
        parts = self.work.parts(self.micro_batch)
        whole = sum(parts.values())
        counts = ", ".join(f"{name} {cost.parameters / 1e6:.3g} M" for name, cost in self.work.costs.items())
        free = "" if self.free_bytes is None else f" ({readable(self.free_bytes)} are free)"
        times = self.share // self.micro_batch
        parts_text = "one micro-batch" if times == 1 else f"{times} micro-batches of {self.micro_batch}"
        how = "measured" if self.measured else "guessed"
        return [
            f"Training {options.name}: {options.model}, x{options.scale}, {options.train.niter} steps of "
            f"{data.batch_size} patches of {data.HR_size} x {data.HR_size} HR pixels.",
            f"Parameters: {counts}.",
            f"Device: {self.device}, {self.processes} process(es), precision {options.train.precision}.",
            f"Memory: about {readable(self.memory_bytes)} a process{free}, its {self.share} patches in {parts_text}.",
            f"Time: about {_pace(self.seconds_per_step)} a step ({how}), {_long(self.seconds)} in all.",
            f"Of a step: {', '.join(f'{name} {100 * part / whole:.0f} %' for name, part in parts.items())}.",
            f"Folder: {options.run_folder}",
            *(f"Note: {note}" for note in options.notes),
        ]


@dataclass(frozen=True)
class Work:
    """Operations and memory of a process, by network.

    Attributes
    ----------
    options : TrainingOptions
    share : int
        Images of a step that the process computes.
    """

    options: TrainingOptions
    share: int

    @cached_property
    def costs(self) -> dict[str, Cost]:
        """The networks that take part, by role."""
        options, train = self.options, self.options.train
        edge = options.datasets["train"].HR_size
        costs = {"G": generator_cost(options)}
        if train.gan_weight:
            costs["D"] = discriminator_cost(options.network_D, edge)
        if train.gradient_gan_weight:
            costs["D_grad"] = discriminator_cost(options.network_D, edge)
        if train.feature_weight:
            costs["VGG19"] = feature_cost()
        return costs

    def memory(self, micro_batch: int, device: str) -> float:
        """Bytes at the peak, for so many images at a time."""
        train = self.options.train
        trained = {role: cost for role, cost in self.costs.items() if role != "VGG19"}
        weights = sum(cost.parameters * (8 if role != "G" else 4) for role, cost in trained.items())
        weights += self.costs["G"].parameters if train.ema_decay else 0
        weights += self.costs["VGG19"].parameters if "VGG19" in self.costs else 0
        numbers = sum(cost.kept for cost in self.costs.values()) + self.costs["G"].peak
        images = micro_batch * self._pixels * numbers * BYTES[train.precision]
        return PROGRAM_BYTES[device] + ALLOCATOR * (4 * weights + images)

    def parts(self, micro_batch: int) -> dict[str, float]:
        """Operations of a step after the warm-up, by network."""
        ahead = micro_batch < self.share
        adversaries = any(role.startswith("D") for role in self.costs)
        passes = {"G": 3 + (ahead and adversaries), "D": 9 + 3 * ahead, "VGG19": 3}
        images = self.share * self._pixels
        return {role: images * cost.flops * passes[role.removesuffix("_grad")] for role, cost in self.costs.items()}

    def warm_up_share(self, micro_batch: int) -> float:
        """How long a step of the warm-up takes, as a share of a later one: the generator alone."""
        alone = 3 * self.share * self._pixels * self.costs["G"].flops
        return min(1.0, alone / sum(self.parts(micro_batch).values()))

    @property
    def _pixels(self) -> int:
        return self.options.datasets["train"].HR_size ** 2


def plan(
    options: TrainingOptions, device: str | None = "auto", *, processes: int | None = None, measure: bool = False
) -> Plan:
    """Plan a training; torch is needed only to look for CUDA devices, and to measure.

    Parameters
    ----------
    device : str or None
        As `training_device` takes it.
    processes : int, optional
        On all machines; default: one for each GPU, one on the CPU.
    measure : bool
        Make a few iterations with one random patch to see how long they take.
    """
    problems: list[str] = []
    where = _device(options, device, problems)
    processes = processes or max(1, len(where.ids))
    work = Work(options, _share(options, processes, problems))
    free = _free(where, problems)
    budget = None if free is None else _budget(options, where, free / (processes if where.type == "cpu" else 1))
    micro_batch = _micro_batch(options, work, where.type, budget, problems)
    absent = missing(options)
    seconds = _guessed_seconds(options, work, where.type, micro_batch, processes)
    measured = measure and not problems
    if measured:
        pass  # NOIMPORT

        patch, timed = seconds_of_a_patch(options, where)
        parts = work.parts(micro_batch)
        seconds = patch * sum(parts.values()) / sum(Work(timed, 1).parts(1).values())
    needed = int(work.memory(micro_batch, where.type))
    return Plan(options, where, processes, absent, problems, micro_batch, needed, free, seconds, measured, work)


def _device(options: TrainingOptions, device: str | None, problems: list[str]) -> TrainingDevice:
    try:
        return training_device(options, device)
    except SuperResError as error:
        problems.append(f"{error} (The figures here are for the CPU.)")
        return TrainingDevice("cpu")


def _share(options: TrainingOptions, processes: int, problems: list[str]) -> int:
    batch = options.datasets["train"].batch_size
    if batch % processes:
        problems.append(f"datasets.train.batch_size {batch} cannot be shared evenly by {processes} processes.")
    return max(1, batch // processes)


def _free(device: TrainingDevice, problems: list[str]) -> int | None:
    """Free bytes of the computer, or of the fullest GPU."""
    if device.type == "cpu":
        return available_memory()
    import torch

    try:
        return min(torch.cuda.mem_get_info(number)[0] for number in device.ids)
    except RuntimeError as error:
        problems.append(f"{device} cannot be used: {error}.")
        return None


def _budget(options: TrainingOptions, device: TrainingDevice, free: float) -> float:
    """What of the free memory the computing may take; decoded images lie in the computer's."""
    if device.type == "cuda":
        return USABLE * free
    cache = options.datasets["train"].cache_gb
    return USABLE * free - (IMAGES_SHARE * free if cache is None else min(1e9 * cache, IMAGES_SHARE * free))


def _micro_batch(options: TrainingOptions, work: Work, device: str, budget: float | None, problems: list[str]) -> int:
    """What was chosen, otherwise the most images at a time that fit and divide a process's share."""
    chosen = options.datasets["train"].micro_batch
    if chosen and work.share % chosen:
        problems.append(
            f"datasets.train.micro_batch {chosen} does not divide the {work.share} patches of each process."
        )
        chosen = None
    sizes = [chosen] if chosen else _sizes(options, work.share)
    fitting = [size for size in sizes if budget is None or work.memory(size, device) <= budget]
    if fitting:
        return fitting[0]
    problems.append(
        f"The memory is too small: {sizes[-1]} patch(es) at a time need about "
        f"{readable(work.memory(sizes[-1], device))}, and {readable(max(0.0, budget))} can be used. Choose a smaller "
        "datasets.train.HR_size or smaller networks" + (", or a smaller micro_batch." if chosen else ".")
    )
    return sizes[-1]


def _sizes(options: TrainingOptions, share: int) -> list[int]:
    """Possible micro-batches, largest first; batch norm needs the whole batch at once."""
    if options.network_D.options.has_batch_norm and (options.train.gan_weight or options.train.gradient_gan_weight):
        return [share]
    return [size for size in range(share, 0, -1) if share % size == 0]


def _guessed_seconds(options: TrainingOptions, work: Work, device: str, micro_batch: int, processes: int) -> float:
    speed = GUESSED_FLOPS[options.train.precision]
    if device == "cpu":
        speed = GUESSED_FLOPS["cpu"] * (os.cpu_count() or 1) / processes
    return sum(work.parts(micro_batch).values()) / speed


def _listed(title: str, sentences: list[str]) -> list[str]:
    return [f"{title}:", *(f"  - {sentence}" for sentence in sentences)] if sentences else []


def _pace(seconds: float) -> str:
    return f"{seconds * 1e3:.0f} ms" if seconds < 1 else f"{seconds:.1f} s" if seconds < 100 else duration_text(seconds)


def _long(seconds: float) -> str:
    return duration_text(seconds) if seconds < 2 * DAY else f"{seconds / DAY:.0f} days"
