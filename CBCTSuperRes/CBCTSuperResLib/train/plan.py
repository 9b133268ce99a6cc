"""What a training will take: parameters, memory, time, and what is missing, before anything is computed.

Operations and memory are counted in a forward pass of each network on torch's meta device, where tensors have shapes
and no values; how often a step passes through each network, its recipe says. Time is guessed from the operations, or
measured with a few steps of one random patch on the device; what was measured here before is not guessed again.

Formulas
--------
Every trained weight needs 4 bytes for itself, its gradient and each of Adam's two moments, and the generator's for the
running mean; every image 4 bytes (2.4 with a short type) for each number that the networks keep for the backward pass,
and twice those of the largest tensor while the backward pass is there. A forward pass counts once, the backward pass
twice.
"""

from __future__ import annotations

import os
import time
from contextlib import closing
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property, lru_cache
from importlib import import_module
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from ..core.errors import SuperResError
from ..core.memory import available_memory, readable
from ..core.progress import duration_text
from .checks import TrainingDevice, missing, training_device
from .data.pictures import has_files
from .option_values import keys_of
from .options import TrainingOptions
from .pace import Pace, known_pace
from .ranks import Processes
from .recipes import RECIPES
from .recipes.recipe import build_recipe
from .step import Precision, Steps

PROGRAM_BYTES = {"cpu": 0.4e9, "cuda": 0.7e9}
ALLOCATOR = 1.2  # what an allocator takes beyond what is asked for
BYTES = {"float32": 4.0, "bfloat16": 2.4, "float16": 2.4}
USABLE = 0.9
IMAGES_SHARE = 0.25  # of free memory that decoded images may take, unless cache_gb says otherwise
GUESSED_FLOPS = {"cpu": 25e9, "float32": 20e12, "bfloat16": 80e12, "float16": 80e12}  # a core; a GPU
LONG_S = 5.0
REPEATS = 3
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
    pace : Pace
        What a step takes: measured, now or before, or guessed from the number of operations.
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
    pace: Pace
    work: Work = field(repr=False)

    @property
    def share(self) -> int:
        """Images of a step that each process computes."""
        return self.work.share

    @property
    def measured(self) -> bool:
        """Whether the time was measured."""
        return self.pace.is_measured

    @property
    def seconds_per_step(self) -> float:
        return self.pace.seconds_per_step

    @property
    def seconds(self) -> float:
        """All iterations; those of the warm-up are shorter."""
        return self.pace.seconds(self.options.train)

    def text(self) -> str:
        """Everything for people, a fact a line."""
        options, data = self.options, self.options.datasets["train"]
        flops = self.work.flops(self.micro_batch)
        names = build_recipe(options, weights=False).names
        shares = {names.get(role, role): 100 * part / sum(flops.values()) for role, part in flops.items()}
        parts = ", ".join(f"{name} {share:.0f} %" for name, share in shares.items())
        sizes = {names.get(role, role): cost.parameters / 1e6 for role, cost in self.work.costs.items()}
        counts = ", ".join(f"{name} {size:.3g} M" for name, size in sizes.items())
        free = "" if self.free_bytes is None else f" ({readable(self.free_bytes)} are free)"
        times = self.share // self.micro_batch
        micro_batches = "one micro-batch" if times == 1 else f"{times} micro-batches of {self.micro_batch}"
        patches = f"patches of {data.HR_size} x {data.HR_size} fine pixels"
        if RECIPES[options.model].trains == "blocks":
            patches = f"blocks of {' x '.join(map(str, data.block_shape[::-1]))} fine voxels"
        lines = [
            f"Training {options.name}: {options.model}, x{options.scale}, {options.train.niter} steps of "
            f"{data.batch_size} {patches}.",
            f"Parameters: {counts}.",
            f"Device: {self.device}, {_counted(self.processes, 'process')}, precision {options.train.precision}.",
            f"Memory: about {readable(self.memory_bytes)} a process{free}, its {self.share} patches in "
            f"{micro_batches}.",
            f"Time: about {_pace(self.seconds_per_step)} a step ({'measured' if self.measured else 'guessed'}), "
            f"{_long(self.seconds)} in all.",
            f"A step is spent on: {parts}.",
            f"Folder: {options.run_folder}",
            *(f"Note: {note}" for note in options.notes),
        ]
        for title, sentences in (("Missing", self.missing), ("Problems", self.problems)):
            if sentences:
                lines += [f"{title}:", *(f"  - {sentence}" for sentence in sentences)]
        return "\n".join(lines)


def plan(
    options: TrainingOptions, device: str | None = "auto", *, processes: int | None = None, measure: bool = False
) -> Plan:
    """Plan a training. What is wrong with device, memory or files is told, not raised.

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
    try:
        where = training_device(options, device)
    except SuperResError as error:
        problems.append(f"{error} (The figures here are for the CPU.)")
        where = TrainingDevice("cpu")
    processes = processes or max(1, len(where.ids))
    batch = options.datasets["train"].batch_size
    if batch % processes:
        problems.append(f"datasets.train.batch_size {batch} cannot be shared evenly by {processes} processes.")
    work = Work(options, max(1, batch // processes))
    free = None
    if where.type == "cpu":
        free = available_memory()
    else:
        try:
            free = min(torch.cuda.mem_get_info(number)[0] for number in where.ids)
        except RuntimeError as error:
            problems.append(f"{where} cannot be used: {error}.")
    usable = None
    if free is not None:
        usable = USABLE * free / (processes if where.type == "cpu" else 1)
        if where.type == "cpu":  # where decoded images lie as well
            images, cache = IMAGES_SHARE * free / processes, options.datasets["train"].cache_gb
            usable -= images if cache is None else min(1e9 * cache, images)
    micro_batch = _micro_batch(options, work, where.type, usable, problems)
    pace = known_pace(options) if device in (None, "auto") and not measure else None
    if pace is None:
        alone, flops = (sum(work.flops(micro_batch, in_warm_up=early).values()) for early in (True, False))
        is_measured = measure and not problems
        if is_measured:
            timed, seconds = _timed_patch(options, where)
            seconds *= flops / sum(Work(timed, 1).flops(1).values())
        else:
            cores = (os.cpu_count() or 1) / processes
            speed = GUESSED_FLOPS["cpu"] * cores if where.type == "cpu" else GUESSED_FLOPS[options.train.precision]
            seconds = flops / speed
        pace = Pace(seconds, min(1.0, alone / flops), is_measured)
    needed = int(work.memory(micro_batch, where.type))
    return Plan(options, where, processes, missing(options), problems, micro_batch, needed, free, pace, work)


def _micro_batch(options: TrainingOptions, work: Work, device: str, usable: float | None, problems: list[str]) -> int:
    """What was chosen, otherwise the most images at a time that fit and divide a process's share."""
    chosen, share = options.datasets["train"].micro_batch, work.share
    if chosen and share % chosen:
        problems.append(f"datasets.train.micro_batch {chosen} does not divide the {share} patches of each process.")
        chosen = None
    sizes = [chosen] if chosen else [size for size in range(share, 0, -1) if share % size == 0]
    if not chosen and not build_recipe(options, weights=False).may_be_in_parts:
        sizes = [share]
    for size in sizes:
        if usable is None or work.memory(size, device) <= usable:
            return size
    problems.append(
        f"The memory is too small: {sizes[-1]} patch(es) at a time need about "
        f"{readable(work.memory(sizes[-1], device))}, and {readable(max(0.0, usable))} can be used. Choose a smaller "
        "datasets.train.HR_size or smaller networks" + (", or a smaller micro_batch." if chosen else ".")
    )
    return sizes[-1]


@dataclass(frozen=True)
class Work:
    """Operations and memory of a step in one process.

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
        uses = build_recipe(self.options, weights=False).uses(1)
        return {role: count(use.network, use.options, use.shape, use.targets) for role, use in uses.items()}

    def memory(self, micro_batch: int, device: str) -> float:
        """Bytes at the peak, for so many images at a time; see the formulas above."""
        train, recipe = self.options.train, build_recipe(self.options, weights=False)
        uses = recipe.uses(1)
        numbers = {role: (4 if use.trained else 1) * self.costs[role].parameters for role, use in uses.items()}
        weights = sum(numbers.values()) + (self.costs[recipe.exported].parameters if train.ema_decay else 0)
        weights += sum(self.costs[role].derived for role in uses)
        kept = sum(cost.kept for cost in self.costs.values()) + 2 * max(cost.largest for cost in self.costs.values())
        return PROGRAM_BYTES[device] + ALLOCATOR * (4 * weights + micro_batch * kept * BYTES[train.precision])

    def flops(self, micro_batch: int, *, in_warm_up: bool = False) -> dict[str, float]:
        """Operations of a step after the warm-up, or in it, by role."""
        uses = build_recipe(self.options, weights=False).uses(self.share // micro_batch, in_warm_up=in_warm_up)
        return {role: self.share * use.passes * self.costs[role].flops for role, use in uses.items()}


@dataclass(frozen=True)
class Cost:
    """Of one network and one image, as counted.

    Attributes
    ----------
    parameters : int
    flops : float
        Of a forward pass: two for each multiplication whose result is added.
    kept : int
        Numbers that depend on the image and are kept until the backward pass.
    largest : int
        Numbers of the largest tensor among them.
    derived : int
        Numbers that are computed from the weights in each pass and kept, such as normalised weights.
    """

    parameters: int
    flops: float
    kept: int
    largest: int
    derived: int


@lru_cache(maxsize=256)
def count(path: str, options: Any, shape: tuple[int, ...], targets: tuple[int, ...] = ()) -> Cost:
    """Count a forward pass on the meta device.

    Parameters
    ----------
    path : str
        "module:class" of the network.
    options : dataclass
        Its options.
    shape : tuple of int
        Of an image, channels first.
    targets : tuple of int
        How many places along each axis a network of any factor is asked for.
    """
    module, _, name = path.partition(":")
    with torch.device("meta"):
        network = getattr(import_module(module), name)(**asdict(options))
    weights = {id(parameter) for parameter in network.parameters()}
    saved: dict[int, list] = {}

    def keep(tensor: Tensor) -> Tensor:
        saved.setdefault(tensor.untyped_storage()._cdata, []).append(tensor)
        return tensor

    def told(images: int) -> dict[str, dict[str, Tensor] | list[Tensor]]:
        """What a network takes beside the images: conditions, positions."""
        sizes = {"blur": len(shape) - 1, "noise": 1}
        names = network.describe().conditions if hasattr(network, "describe") else ()
        conditions = {name: torch.empty(images, sizes[name], device="meta") for name in names}
        positions = [torch.empty(number, device="meta") for number in targets]
        return {name: value for name, value in (("conditions", conditions), ("positions", positions)) if value}

    def saved_by(images: int) -> tuple[int, int]:
        """Numbers of all tensors that a pass keeps, and of the largest."""
        saved.clear()
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            network(torch.empty(images, *shape, device="meta", requires_grad=True), **told(images))
        sizes = [
            tensors[0].untyped_storage().nbytes() // 4
            for tensors in saved.values()
            if not any(id(tensor) in weights for tensor in tensors)
        ]
        return sum(sizes), max(sizes)

    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network.eval()(torch.empty(1, *shape, device="meta"), **told(1))
    network.train()
    (one, largest), (two, _) = saved_by(1), saved_by(2)
    parameters = sum(parameter.numel() for parameter in network.parameters())
    return Cost(parameters, float(counter.get_total_flops()), two - one, largest, 2 * one - two)


def _timed_patch(options: TrainingOptions, where: TrainingDevice) -> tuple[TrainingOptions, float]:
    """What was timed, and the seconds of a step with a batch of one patch, after the warm-up, without features."""
    own = keys_of(type(options.train))
    train = replace(options.train, **{name: 0 for name in ("feature_weight", "warmup_iters") if name in own})
    if not any((train.pixel_weight, train.pixel_branch_weight, train.gradient_pixel_weight, train.gan_weight)):
        train = replace(train, pixel_weight=1.0)
    timed, device = replace(options, train=train), torch.device(str(TrainingDevice(where.type, where.ids[:1])))
    seconds = []
    with torch.random.fork_rng(devices=where.ids[:1]):
        recipe = build_recipe(timed)
        networks = {role: network.to(device) for role, network in recipe.build().items()}
        precision = Precision(train.precision, device)
        steps = Steps(recipe.step, networks, recipe.optimizers(networks), precision, Processes())
        batch = {name: images.to(device) for name, images in recipe.example_batch(1).items()}
        for number in range(1, 2 + REPEATS):
            began = time.perf_counter()
            steps.make(number, [batch])
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            seconds.append(time.perf_counter() - began)
            if seconds[-1] > LONG_S:
                break
    return timed, min(seconds)


def _counted(count: int, what: str) -> str:
    return f"1 {what}" if count == 1 else f"{count} {what}es"


def _pace(seconds: float) -> str:
    return f"{seconds * 1e3:.0f} ms" if seconds < 1 else f"{seconds:.1f} s" if seconds < 100 else duration_text(seconds)


def _long(seconds: float) -> str:
    return duration_text(seconds) if seconds < 2 * DAY else f"{seconds / DAY:.0f} days"


def look_into_files(options: TrainingOptions) -> list[str]:
    """Read the user's images as the first step would, and tell of them; drawn and public images are left alone.

    Raises
    ------
    SuperResError
        If the training would refuse to start.
    """
    dataset = options.dataset("train")
    if not has_files(dataset):
        return []
    alone = replace(dataset, procedural=0, procedural_share=None, public=())
    recipe = build_recipe(replace(options, datasets={**options.datasets, "train": alone}))
    with closing(recipe.open_source()) as source:
        told = [f"Images: {len(source)}, {source.clipped_share:.1%} of the grey values outside {source.window}."]
        told += source.warnings
    validation = recipe.open_validation()
    if validation:
        with closing(validation):
            told += validation.warnings
    return told
