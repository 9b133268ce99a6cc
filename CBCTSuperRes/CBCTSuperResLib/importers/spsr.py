"""The layout of SPSR's and UNetSPSR's generator files: which tensor is called what.

The names are facts of the file format (Ma et al., CVPR 2020). Of the first convolution after the enlargement a file
holds two equal copies, and it holds the two fixed kernels of the gradient map.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from math import log2
from pathlib import Path

import torch
from torch import Tensor, nn

from ..core.atomic import replacing
from ..core.errors import ModelError
from ..models.model import Model
from ..models.weights import misfit
from ..networks import build_network

SIGNS = ("f_HR_conv1.0.weight", "b_fea_conv.0.weight", "HR_conv0_new.0.weight", "get_g_nopadding.weight_h")
ALIAS = "HR_conv0_new.0"
KERNELS = {
    "get_g_nopadding.weight_h": [[0.0, 0.0, 0.0], [-1.0, 0.0, 1.0], [0.0, 0.0, 0.0]],
    "get_g_nopadding.weight_v": [[0.0, -1.0, 0.0], [0.0, 0.0, 0.0], [0.0, 1.0, 0.0]],
}
ORDER = (
    *("HR_conv0_new", "HR_conv1_new", "model", "get_g_nopadding", "b_fea_conv"),
    *(f"{part}_{k}" for k in (1, 2, 3, 4) for part in ("b_concat", "b_block")),
    *("b_LR_conv", "b_module", "conv_w", "f_concat", "f_block", "f_HR_conv0", "f_HR_conv1"),
)
SHORTEST_OFFICIAL_TRUNK = 20


def detect(tensors: Mapping[str, Tensor]) -> bool:
    """Whether tensors come from an SPSR generator; an ESRGAN shares its trunk's names but none of these."""
    return any(sign in tensors for sign in SIGNS)


def build(
    tensors: Mapping[str, Tensor], scale: int | None = None, taps: Sequence[int] | None = None
) -> tuple[nn.Module, list[str]]:
    """The network with the weights of a file, and notes for the user.

    Parameters
    ----------
    tensors : mapping
        By the names of the file.
    scale, taps
        See `importers.import_checkpoint`.

    Raises
    ------
    ModelError
        If the tensors are not exactly those of a generator.
    """
    options = read_options(tensors, scale)
    try:
        network = build_network("unetspsr", **options, taps=taps)
    except ValueError as error:
        raise ModelError(f"The file does not fit the network: {error}", "Check scale and taps.") from None
    weights, notes = _without_copies(tensors, options["scale"])
    names = file_names(network)
    expected = {names[own]: tensor for own, tensor in network.state_dict().items()}
    problems = misfit(expected, weights)
    if problems:
        facts = ", ".join(f"{name} {value}" for name, value in options.items())
        raise ModelError(f"The tensors in the file are not those of a UNetSPSR with {facts}:\n{problems}")
    network.load_state_dict({own: weights[name] for own, name in names.items()})
    if taps is None and options["nb"] < SHORTEST_OFFICIAL_TRUNK:
        notes.append(
            f"the trunk has only {options['nb']} RRDBs; taps {list(network.taps)} are assumed, name others with taps"
        )
    return network, notes


def read_options(tensors: Mapping[str, Tensor], scale: int | None = None) -> dict[str, int]:
    """Options of the network as the names and shapes of its tensors tell them."""

    def numbers(pattern: str) -> list[int]:
        return [int(match[1]) for match in map(re.compile(pattern).match, tensors) if match]

    def size(name: str, axis: int) -> int:
        if name not in tensors:
            raise ModelError(f"The file is incomplete: {name} is missing, from which the network's size is read.")
        shape = tuple(tensors[name].shape)
        if len(shape) != 4:
            raise ModelError(f"{name} in the file has the shape {shape}; it should have four axes.")
        return shape[axis]

    # Counted in the gradient branch, so that the copy may stand for a missing model.* entry.
    last = max(numbers(r"b_module\.(\d+)\.weight"), default=2)
    if last < 2 or last % 3 != 2:
        raise ModelError(
            f"The file is incomplete: the last tensor of the gradient branch's enlargement is b_module.{last}."
        )
    steps = (last - 2) // 3
    in_file = 2**steps
    scale = in_file if scale is None else scale
    if scale < 1 or int(log2(scale)) != steps:
        raise ModelError(
            f"The file holds {steps} enlargement(s) by two, for a factor of {in_file}; {scale} does not fit."
        )
    return {
        "nf": size("model.0.weight", 0),
        "nb": min(max(numbers(r"model\.1\.sub\.(\d+)\.RDB\d\."), default=-1) + 1, len(tensors)),
        "gc": size("model.1.sub.0.RDB1.conv1.0.weight", 0),
        "in_nc": size("model.0.weight", 1),
        "out_nc": size("f_HR_conv1.0.weight", 0),
        "scale": scale,
    }


def file_names(network: nn.Module) -> dict[str, str]:
    """Names of our tensors -> names in the file, without the copy and the kernels."""
    steps, blocks = len(network.up), len(network.trunk)
    modules = {
        "head": "model.0",
        "trunk_end": f"model.1.sub.{blocks}",
        "hr0": _first_hr_convolution(steps),
        "hr1": "HR_conv1_new.0",
        "branch_head": "b_fea_conv.0",
        "branch_end": "b_LR_conv.0",
        "branch_hr0": f"b_module.{3 * steps}",
        "branch_hr1": f"b_module.{3 * steps + 2}",
        "branch_out": "conv_w.0",
        "fusion_block": "f_block",
        "fusion_reduce": "f_concat.0",
        "fusion_hr": "f_HR_conv0.0",
        "fusion_out": "f_HR_conv1.0",
    }
    modules |= {f"trunk.{i}": f"model.1.sub.{i}" for i in range(blocks)}
    modules |= {f"up.{u}.conv": f"model.{3 + 3 * u}" for u in range(steps)}
    modules |= {f"branch_up.{u}.conv": f"b_module.{1 + 3 * u}" for u in range(steps)}
    modules |= {f"branch_block.{k}": f"b_block_{k + 1}" for k in range(len(network.taps))}
    modules |= {f"branch_reduce.{k}": f"b_concat_{k + 1}.0" for k in range(len(network.taps))}
    names = {}
    for own in network.state_dict():
        home = next(module for module in modules if own.startswith(f"{module}."))
        rest = re.sub(r"\.rdb(\d)\.conv(\d)\.", r".RDB\1.conv\2.0.", own.removeprefix(home))
        names[own] = modules[home] + rest
    return names


def export_checkpoint(model: Model, path: str | Path) -> Path:
    """Write a UNetSPSR model as the generator file that SPSR and UNetSPSR read, with the tensors in their order.

    The weights are written as they are, bit by bit. Trunks of fewer than 20 RRDBs, other taps than 5, 10, 15, 20 and
    other growths than 32 cannot be described in such a file; the public code would not run them as trained.

    Raises
    ------
    ModelError
        If the model is of another network, or sees neighbouring slices.
    OutputError
        If the file cannot be written.
    """
    path = Path(path)
    if model.spec.network != "unetspsr":
        raise ModelError(f"A model of the network {model.spec.network} has no SPSR layout.")
    if model.spec.slices:
        raise ModelError("SPSR's layout has no place for neighbouring slices, which this model sees.")
    options = model.network.options
    if tuple(options["taps"]) != (5, 10, 15, 20) or options["gc"] != 32:
        message = "%s: the public SPSR code knows only taps 5, 10, 15, 20 and gc 32; this model has taps %s and gc %s"
        logging.getLogger(__name__).warning(message, path.name, list(options["taps"]), options["gc"])
    names = file_names(model.network)
    tensors = {names[own]: tensor.detach().cpu().clone() for own, tensor in model.network.state_dict().items()}
    original = _first_hr_convolution(len(model.network.up))
    tensors |= {f"{ALIAS}.{kind}": tensors[f"{original}.{kind}"] for kind in ("weight", "bias")}
    tensors |= {name: torch.tensor(kernel)[None, None] for name, kernel in KERNELS.items()}

    def place(name: str) -> tuple:
        group, _, rest = name.partition(".")
        return ORDER.index(group), [int(part) for part in re.findall(r"\d+", rest)], name.endswith(".bias")

    with replacing(path) as scratch:
        torch.save({name: tensors[name] for name in sorted(tensors, key=place)}, scratch)
    return path


def _without_copies(tensors: Mapping[str, Tensor], scale: int) -> tuple[dict[str, Tensor], list[str]]:
    weights, notes = dict(tensors), []
    for name, kernel in KERNELS.items():
        found = weights.pop(name, None)
        if found is None:
            notes.append(f"{name} is missing; the fixed kernel is used")
        elif found.numel() != 9 or not torch.equal(found.reshape(3, 3), torch.tensor(kernel)):
            raise ModelError(
                f"{name} in the file is not the gradient kernel of SPSR, so its gradient map is another one."
            )
    original = _first_hr_convolution(int(log2(scale)))
    for kind in ("weight", "bias"):
        copy, name = weights.pop(f"{ALIAS}.{kind}", None), f"{original}.{kind}"
        if copy is not None and name not in weights:
            weights[name] = copy
            notes.append(f"{name} is missing; its copy {ALIAS}.{kind} is used")
        elif copy is not None and not torch.equal(copy, weights[name]):
            notes.append(f"{name} and its copy {ALIAS}.{kind} differ; {name} is used, as SPSR does")
    return weights, notes


def _first_hr_convolution(steps: int) -> str:
    return f"model.{2 + 3 * steps}"
