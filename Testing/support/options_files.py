"""Option files for tests: the printed ones of UNetSPSR's README where they are at hand, and small ones of our own."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TINY = {
    "name": "tiny",
    "gpu_ids": [],
    "datasets": {
        "train": {"mode": "HR", "procedural": 4, "batch_size": 4, "HR_size": 32, "n_workers": 0},
        "val": {"mode": "HR", "procedural": 2},
    },
    "network_G": {"nf": 4, "nb": 4, "gc": 4},
    "network_D": {"nf": 4},
    "train": {"feature_weight": 0, "niter": 8},
}


def tiny(**changes) -> dict:
    """The table of a small training; `datasets__train__HR_size=40` changes datasets.train.HR_size."""
    values = json.loads(json.dumps(TINY))
    for name, value in changes.items():
        *path, key = name.split("__")
        block = values
        for part in path:
            block = block.setdefault(part, {})
        block[key] = value
    return values


def printed(number: int) -> str:
    """The training's (0) or the test's (1) JSON as printed in the README of UNetSPSR; skips where that is missing."""
    for folder in ROOT.parents:
        for seed in (folder / "shared" / "seeds").glob("000_*.txt"):
            return re.findall(r"```json\n(.*?)```", seed.read_text(encoding="utf-8", errors="replace"), re.DOTALL)[
                number
            ]
    pytest.skip("the README of UNetSPSR is not here: there is no folder shared/seeds beside the repository")


def printed_keys() -> set[str]:
    """The keys that the tables of that README explain."""
    text = next(
        (s for f in ROOT.parents for s in (f / "shared" / "seeds").glob("000_*.txt")),
        None,
    )
    if text is None:
        pytest.skip("the README of UNetSPSR is not here: there is no folder shared/seeds beside the repository")
    return set(re.findall(r"^\| `([\w.]+)`", text.read_text(encoding="utf-8", errors="replace"), re.MULTILINE))


GONE = {  # keys of our own in version 0.1.0 that no configuration changed, by block
    "": ["network_D_grad"],
    "datasets.train": ["clip_lr", "contrast", "brightness", "gamma"],
    "datasets.val": ["clip_lr"],
    "network_D": ["skip_connection"],
    "train": ["gan_relativistic", "gradient_padding", "D_update_ratio", "D_init_iters"],
}


def as_now(values: dict) -> dict:
    """The complete JSON of version 0.1.0's options as it is written now: without the keys that are gone, and with the
    newer ones, which by default mean what was done then.
    """
    values = json.loads(json.dumps(values))
    for place, names in GONE.items():
        block = values
        for part in filter(None, place.split(".")):
            block = block.get(part, {})
        for name in names:
            block.pop(name, None)
    for name, dataset in values["datasets"].items():
        if name.startswith("test"):
            dataset.pop("clip_lr", None)
        dataset["procedural_set"] = 1
        dataset["dataroot_mask"] = None
        if name == "train":
            dataset |= {"block_size": None, "block_step": None, "dataroot_mask_LR": None}
    values["path"]["log_dir"] = None
    network = values["network_G"]
    network["taps"] = network.pop("branch_taps", None)
    network["conditions"] = []
    network["unshuffle"] = 1
    if network["which_model_G"] == "residual_net":
        del network["taps"], network["gc"]
    else:
        network["skip"] = False
    return values
