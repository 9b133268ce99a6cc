"""Trainings of seconds: UNetSPSR's recipe with hardly any features, on procedural slices; also in processes that die.

The life of such a process is "auto" or "-" (no resuming), and may go on with how the process ends itself as `kill -9`
does: "auto@after:N" when the Nth iteration of this life is done, "auto@in:N.f" when about the fraction 0.f of the next
one is done, too, "auto@write:N" while this life's Nth checkpoint is half written, "auto@replace:N" when that is
complete but has not got its name.
"""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from pathlib import Path

import torch
from CBCTSuperResLib.train import checkpoints, run
from CBCTSuperResLib.train.curves import CurvesCsv
from CBCTSuperResLib.train.observer import Observer
from CBCTSuperResLib.train.options import TrainingOptions
from CBCTSuperResLib.train.options_file import read_options


def tiny_json(root: Path, **train) -> dict:
    """The JSON of a tiny training with all losses but the feature loss; `train` changes its train section."""
    network = {"which_model_D": "discriminator_unet_128", "nf": 4, "in_nc": 1}
    return {
        "name": "tiny",
        "use_tb_logger": False,
        "model": "unetspsr",
        "scale": 2,
        "gpu_ids": [],
        "datasets": {"train": {"mode": "HR", "procedural": 6, "HR_size": 16, "batch_size": 2, "n_workers": 2}},
        "path": {"root": str(root)},
        "network_G": {"which_model_G": "unetspsr_net", "nf": 4, "nb": 4, "gc": 4, "in_nc": 1, "out_nc": 1},
        "network_D": network,
        "train": {"manual_seed": 6, "niter": 4, "val_freq": 1000, "feature_weight": 0, "ema_decay": 0.9, **train},
        "logger": {"print_freq": 1, "save_checkpoint_freq": 2},
    }


def tiny_options(root: Path, *overrides: str, **train) -> TrainingOptions:
    return read_options(tiny_json(root, **train), overrides)


def tensors_of(value: object, name: str = "") -> dict[str, torch.Tensor]:
    """All tensors within a checkpoint's payload, by their place."""
    if isinstance(value, torch.Tensor):
        return {name: value}
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list | tuple) else ()
    return {place: tensor for key, inner in items for place, tensor in tensors_of(inner, f"{name}/{key}").items()}


def same_payload(one: dict, other: dict) -> bool:
    """Whether two checkpoints are equal bit for bit: networks, mean, optimisers, generators, results."""
    tensors, others = tensors_of(one), tensors_of(other)
    plain, plain_other = (json.dumps(p, default=lambda _: "tensor", sort_keys=True) for p in (one, other))
    return (
        tensors.keys() == others.keys()
        and all(torch.equal(tensors[name], others[name]) for name in tensors)
        and plain == plain_other
    )


def die() -> None:
    """What `kill -9` does."""
    os.kill(os.getpid(), signal.SIGKILL)


class DieAt(Observer):
    """Ends this process at the moment that a text describes."""

    def __init__(self, moment: str) -> None:
        self._kind, _, value = moment.partition(":")
        self._value = float(value)
        self._first = self._written = 0
        if self._kind == "write":
            self._patch("_write", before=self._write_half)
        if self._kind == "replace":
            self._patch("_write", after=die)

    def started(self, facts) -> None:
        self._first = facts.step

    def progress(self, number: int, seconds_per_step: float, remaining_s: float) -> None:
        if self._kind not in ("after", "in") or number - self._first != int(self._value):
            return
        if self._kind == "after":
            die()
        pause = self._value % 1 * seconds_per_step
        threading.Thread(target=lambda: (time.sleep(pause), die()), daemon=True).start()

    def _patch(self, name: str, before=None, after=None) -> None:
        original = getattr(checkpoints, name)

        def write(payload: dict, path: Path) -> None:
            self._written += 1
            due = self._written == self._value
            if due and before:
                before(original, payload, path)
            original(payload, path)
            if due and after:
                after()

        setattr(checkpoints, name, write)

    def _write_half(self, original, payload: dict, path: Path) -> None:
        original(payload, path)
        with path.open("r+b") as file:
            file.truncate(path.stat().st_size // 2)
        die()


def live(options: dict, life: str) -> None:
    """Train in this process, perhaps not to the end."""
    torch.set_num_threads(1)
    run.standard_observers = lambda options: [CurvesCsv()]  # drawing would take longer than training
    resume, _, moment = life.partition("@")
    observers = [DieAt(moment)] if moment else []
    run.train(read_options(options), resume=None if resume == "-" else resume, observers=observers)
