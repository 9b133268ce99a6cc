"""Which engine computes a model: the one that is asked for, or else the one that was the fastest here."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from ...core.errors import DependencyError, ModelError, OptionError, SuperResError
from ...core.options import Options
from ...models.card import ModelCard
from ...models.graph import as_it_was_laid, find_graph, kept_graph, make_graph, why_no_graph
from . import TITLES, installed_engines
from .speed_records import fastest_engine

if TYPE_CHECKING:
    from ...models.model import Model
    from .graphs import GraphNetwork
    from .pytorch import TorchNetwork

GRAPH_ENGINES = ("onnxruntime", "openvino")


def network_for(
    model: Model,
    options: Options,
    voxels: float = 0.0,
    scan_noise: float = 0.0,
    cancelled: Callable[[], bool] | None = None,
) -> tuple[TorchNetwork | GraphNetwork, str]:
    """The model's network on an engine, and what a report should say of that; "" if it is the usual one.

    Parameters
    ----------
    model : Model
    options : Options
    voxels : float
        That the network will see: what another engine saves must be more than its start costs.
    scan_noise : float
        As for `Engine`.
    cancelled : callable, optional

    Raises
    ------
    DependencyError
        If the engine is not installed, or none is.
    OptionError
        If it cannot do what the options ask for.
    ModelError
        If it does not compute what the model's card says.
    """
    asked, only_torch = options.engine, why_only_torch(model.card, options)
    if asked in GRAPH_ENGINES:
        if only_torch:
            raise OptionError(f"{TITLES[asked]} cannot do this: {only_torch}.", "Choose engine torch, or auto.")
        return _on_graph_engine(asked, model, options, cancelled), ""
    if asked == "auto" and not only_torch:
        if model.network is None:
            return _without_torch(model, options, voxels, scan_noise, cancelled)
        usual = _on_torch(model, options.device, cancelled)
        found = fastest_engine(model.card, options.precision, scan_noise, voxels)
        if found and usual.device_type == "cpu":  # where they were compared
            try:
                return _on_graph_engine(found.engine, model, options, cancelled), found.reason
            except SuperResError as error:
                return usual, f"PyTorch computes: {error.what}"
        return usual, ""
    if model.network is None:
        raise DependencyError(
            "PyTorch is needed and not installed"
            + (f": {only_torch}." if only_torch else ", as engine torch was asked for."),
            "Install it with: pip install torch; in Slicer, press Apply in the module, which offers to do it.",
        )
    return _on_torch(model, options.device, cancelled), ""


def exact_network(
    model: Model, network: TorchNetwork | GraphNetwork, cancelled: Callable[[], bool] | None = None
) -> TorchNetwork | None:
    """What a network on another engine is to be compared with; None if it is PyTorch's, or that is not installed."""
    if model.network is None or network.engine == "torch":
        return None
    return _on_torch(model, "cpu", cancelled)


def why_only_torch(card: ModelCard, options: Options) -> str:
    """Why no engine but PyTorch can do this; "" if others can."""
    if options.device.startswith("cuda"):
        return f"the device is {options.device}, and others compute on the CPU"
    if options.precision in ("fp16", "tf32"):
        return f"the precision is {options.precision}"
    if options.uncertainty and card.spec.stochastic:
        return "error bars of this model are made of random draws"
    why = why_no_graph(card.spec)
    return f"the model is {card.name}, and {why}" if why else ""


def keep_graph(model: Model) -> None:
    """Keep the graph of a model in the user's folder, if it has none, so that it is made once; failing to is no error.

    For what writes files anyway: `super_resolve` makes a graph for itself, and keeps nothing.
    """
    if model.network is None or model.card.path is None or find_graph(model.card) is not None:
        return
    path = kept_graph(model.card)
    with suppress(SuperResError, OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        make_graph(model, path)


def _on_torch(model: Model, device: str, cancelled: Callable[[], bool] | None) -> TorchNetwork:
    from .pytorch import TorchNetwork

    return TorchNetwork(model.network, model.spec, device, cancelled)


def _without_torch(
    model: Model, options: Options, voxels: float, scan_noise: float, cancelled: Callable[[], bool] | None
) -> tuple[GraphNetwork, str]:
    """By the engine that was the fastest, or the first that is there."""
    there = [engine for engine in GRAPH_ENGINES if engine in installed_engines()]
    if not there:
        raise DependencyError(
            "Neither PyTorch nor ONNX Runtime is installed; one of them computes networks.",
            "Install one with: pip install onnxruntime (small), or pip install torch; in Slicer, press Apply in the "
            "module, which offers to do it.",
        )
    found = fastest_engine(model.card, options.precision, scan_noise, voxels, against_torch=False)
    engine = found.engine if found and found.engine in there else there[0]
    return _on_graph_engine(engine, model, options, cancelled), f"{TITLES[engine]} computes: PyTorch is not installed."


def _on_graph_engine(engine: str, model: Model, options: Options, cancelled: Callable[[], bool] | None) -> GraphNetwork:
    from .graphs import OnnxRuntimeNetwork, OpenVinoNetwork

    kind = {"onnxruntime": OnnxRuntimeNetwork, "openvino": OpenVinoNetwork}[engine]
    if engine not in installed_engines():
        raise DependencyError(
            f"{TITLES[engine]} is not installed.", f"Install it with: pip install {engine}; or choose another engine."
        )
    if options.precision not in ("auto", *kind.precisions):
        raise OptionError(
            f"{TITLES[engine]} computes here in {' or '.join(kind.precisions)}, not in {options.precision}.",
            "Choose another precision or engine, or leave one of them on auto.",
        )
    path = find_graph(model.card)
    if path is not None:
        with as_it_was_laid(path, model.card) as laid:
            network = kind(laid, model.spec, cancelled)
    elif model.network is None:
        raise DependencyError(
            f"The model {model.card.name} has no graph, which {TITLES[engine]} computes.",
            "Install PyTorch (pip install torch), or make one where it is installed: cbct-superres models export MODEL "
            "GRAPH.onnx",
        )
    else:
        with tempfile.TemporaryDirectory() as folder:
            network = kind(make_graph(model, Path(folder) / "graph.onnx"), model.spec, cancelled)
    if problems := network.problems(model.card):
        raise ModelError(
            f"{TITLES[engine]} does not compute what the card of {model.card.name} says: {'; '.join(problems)}.",
            "Choose engine torch.",
        )
    return network
