"""The graph of a model: its network as ONNX (https://onnx.ai), for engines that do without PyTorch, and other programs.

A graph beside its model file, `light.onnx` beside `light.safetensors`, holds no weights: it names their places in that
file, as ONNX's external data. Elsewhere it holds them. It says whose weights they are, and is never used with others.
Making one needs PyTorch and the package onnx; finding one needs nothing.
"""

from __future__ import annotations

import inspect
import re
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from ..core.atomic import replacing
from ..core.errors import DependencyError, ModelError
from ..networks.spec import NetworkSpec
from .card import ModelCard
from .folder import user_models_folder
from .header import read_header

if TYPE_CHECKING:
    from onnx import ModelProto

    from .model import Model

SUFFIX = ".onnx"
IMAGE = "image"  # name of the input; conditions have their own
BELONGS = "cbct_superres_belongs_to"
OPSET = 17  # of ONNX Runtime 1.13 and OpenVINO 2023
TRACED = (20, 28, 12)  # extents with which the network is traced; none is that of a probe
SMALLEST_PART = 64  # bytes of a weight from which on it is named, not held


def find_graph(card: ModelCard) -> Path | None:
    """The graph of a model: beside its file, or among those that were kept; None if there is none of these weights."""
    if card.path is None or not card.weights_sha256:
        return None
    for path in (Path(card.path).with_suffix(SUFFIX), kept_graph(card)):
        if path.is_file() and _belonging_of(path, card) is not None:
            return path
    return None


@contextmanager
def as_it_was_laid(graph: Path, card: ModelCard) -> Iterator[Path]:
    """A graph that an engine can read now: where a card that became longer or shorter has moved the weights in the
    model file since the graph was made, a copy beside weights that lie where it says.
    """
    found = _belonging_of(graph, card)
    header = read_header(card.path)
    if not found or int(found) == header.data_start:
        yield graph
        return
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        with Path(card.path).open("rb") as source, (Path(folder) / Path(card.path).name).open("wb") as moved:
            source.seek(header.data_start)
            moved.seek(int(found))
            shutil.copyfileobj(source, moved)
        yield Path(shutil.copy(graph, folder))


def kept_graph(card: ModelCard) -> Path:
    """Where the graph of a model is kept that has none beside its file; it need not exist."""
    return user_models_folder() / "Graphs" / f"{card.weights_sha256[:16]}{SUFFIX}"


def why_no_graph(spec: NetworkSpec) -> str:
    """Why a network cannot be a graph; "" if it can."""
    return "" if spec.scale else "networks of any factor are told where their voxels lie, which a graph is not"


def make_graph(model: Model, path: str | Path) -> Path:
    """Write the graph of a model that was saved; it appears whole or not at all.

    Inputs are the image, float32 (1, channels, *spatial), and by their names the conditions of `NetworkSpec`; outputs
    are those of `decode`.

    Raises
    ------
    ModelError
        If the network cannot be a graph, or the model was not saved.
    DependencyError
        If PyTorch or onnx is missing.
    OutputError
        If the file cannot be written.
    """
    path, card = Path(path), model.card
    if why := why_no_graph(model.spec):
        raise ModelError(f"The model {card.name} cannot be written as a graph: {why}.", "Compute it with PyTorch.")
    if card.path is None:
        raise ModelError(f"The model {card.name} was never saved.", "Save it first.")
    if model.network is None:
        raise DependencyError("Making a graph needs PyTorch.", "Install it, or get a graph that was made elsewhere.")
    try:
        import onnx
    except ImportError:
        raise DependencyError("Making a graph needs the package onnx.", "Install it with: pip install onnx") from None
    try:
        graph = onnx.load_from_string(_exported(model))
    except RuntimeError as error:  # of an operation that no graph has, for instance
        what = f"The model {card.name} cannot be written as a graph: {error}."
        raise ModelError(what, "Compute it with PyTorch.") from error
    del graph.metadata_props[:]
    onnx.helper.set_model_props(graph, {BELONGS: _belonging(card, path)})
    graph.producer_name, graph.producer_version = "CBCT Super-Resolution", ""
    if _is_beside(card, path):
        _name_weights(graph, card)
    with replacing(path) as scratch:
        scratch.write_bytes(graph.SerializeToString(deterministic=True))
    return path


def _exported(model: Model) -> bytes:
    """The network as ONNX with its weights."""
    import torch
    from torch import nn

    spec, network = model.spec, model.network

    class Whole(nn.Module):
        """`encode` and `decode`, whose weights keep their names."""

        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, image, *told):
            conditions = dict(zip(spec.conditions, told, strict=True))
            features = network.encode(image, conditions) if conditions else network.encode(image)
            return network.decode(features)

    sizes = [n + -n % spec.multiple for n in (max(n, spec.minimum_size) for n in TRACED[: spec.dimensions])]
    inputs = (
        torch.zeros(1, spec.input_channels, *sizes),
        *(torch.zeros(1, spec.dimensions if name == "blur" else 1) for name in spec.conditions),
    )
    whole = Whole().eval()
    names = list(whole(*inputs))
    axes = {axis: f"extent_{axis}" for axis in range(2, 2 + spec.dimensions)}
    enlarged = {axis: f"enlarged_{axis}" for axis in axes}
    extra = {"dynamo": False} if "dynamo" in inspect.signature(torch.onnx.export).parameters else {}
    # Gradients stay possible: without them networks write into memory that a graph does not know.
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings(), torch.enable_grad():
        warnings.simplefilter("ignore")  # of torch, that another way of exporting is newer
        target = Path(folder) / "graph.onnx"
        torch.onnx.export(
            whole,
            inputs,
            str(target),
            opset_version=OPSET,
            input_names=[IMAGE, *spec.conditions],
            output_names=names,
            dynamic_axes={IMAGE: axes, **dict.fromkeys(names, enlarged)},
            **extra,
        )
        return target.read_bytes()


def _name_weights(graph: ModelProto, card: ModelCard) -> None:
    """Put the places of weights in the model file in place of those that are stored there as they are."""
    import onnx

    header, content = read_header(card.path), Path(card.path).read_bytes()
    for weight in graph.graph.initializer:
        entry = header.tensors.get(weight.name.removeprefix("network."))
        if entry is None or entry.stop - entry.start < SMALLEST_PART:
            continue
        start, stop = header.data_start + entry.start, header.data_start + entry.stop
        values = onnx.numpy_helper.to_array(weight).tobytes()
        if values == content[start:stop]:  # neither rounded to half nor folded into another layer
            weight.ClearField("float_data")
            weight.raw_data = values
            onnx.external_data_helper.set_external_data(weight, Path(card.path).name, start, stop - start)
            weight.ClearField("raw_data")


def _is_beside(card: ModelCard, path: Path) -> bool:
    return path.resolve() == Path(card.path).resolve().with_suffix(SUFFIX)


def _belonging(card: ModelCard, path: Path) -> str:
    """What a graph says of the weights that it holds, or of the file whose bytes it names."""
    if not _is_beside(card, path):
        return f"weights {card.weights_sha256}"
    return f"weights {card.weights_sha256} from byte {read_header(card.path).data_start} of {Path(card.path).name}"


def _belonging_of(path: Path, card: ModelCard) -> str | None:
    """The byte from which on a graph looks for the weights in the file of its model; "" if it holds them; None if they
    are others, or lie in a file of another name.
    """
    named = f" from byte ([0-9]+) of {re.escape(Path(card.path).name)}".encode()
    found = re.search(rb"weights " + card.weights_sha256.encode() + rb"(?:" + named + rb")?", path.read_bytes())
    if found is None or not (found[1] or path == kept_graph(card)):
        return None
    return (found[1] or b"").decode()
