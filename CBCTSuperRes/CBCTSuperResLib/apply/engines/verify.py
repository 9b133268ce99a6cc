"""Whether a model is as it was saved and computes what its card says, by whatever computes networks here."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ...core.errors import DependencyError, ModelError
from ...core.options import Options
from ...models.header import read_header
from ...models.model import Model
from . import TITLES
from .choice import network_for

FLOATS = {"F16": "<f2", "F32": "<f4", "F64": "<f8"}

Check = tuple[str, bool | None, str]


def verify_model(path_or_name: str | Path) -> list[Check]:
    """Check a model's file, its weights and what its network computes, with PyTorch or else with its graph.

    Returns
    -------
    list of tuple
        What was checked, whether it is right (None: it could not be checked), and details.

    Raises
    ------
    ModelError
        If there is no such model, or its file is damaged.
    """
    model = Model.load(path_or_name)
    if model.network is not None:
        return model.verify()
    outputs = "the outputs for the test input are as recorded"
    computed: tuple[bool | None, str]
    try:
        network, _ = network_for(model, Options(device="cpu", precision="fp32"))
        found = ", ".join(network.outputs) if model.card.self_check else "nothing is recorded"
        computed = (True, f"{found}, by {TITLES[network.engine]} {network.version}")
    except ModelError as error:
        computed = (False, str(error))
    except DependencyError as error:
        computed = (None, str(error))
    return [("the file is as it was saved", True, str(model.card.path)), _finite_weights(model), (outputs, *computed)]


def _finite_weights(model: Model) -> Check:
    header, content = read_header(model.card.path), Path(model.card.path).read_bytes()
    bad, count = [], 0
    for name, entry in header.tensors.items():
        piece = content[header.data_start + entry.start : header.data_start + entry.stop]
        if entry.dtype == "BF16":
            values = (np.frombuffer(piece, "<u2").astype(np.uint32) << 16).view(np.float32)
        else:
            values = np.frombuffer(piece, FLOATS.get(entry.dtype, "u1"))  # of whole numbers all are finite
        count += values.size
        if not np.isfinite(values).all():
            bad.append(name)
    return "all weights are finite", not bad, ", ".join(bad) or f"{count:,} weights"
