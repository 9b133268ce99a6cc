"""How long steps of a training take on this computer: measured once, remembered, and told of every training alike.

Two trainings are alike if a step costs the same: the same networks, losses, patches, precision and device; how many
steps there are, how fast they learn and from what does not matter. `plan` measures, the worker records; a bare Slicer
reads.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from hashlib import sha256

from ..core.gpus import count_gpus
from ..models.machine_record import MachineRecord
from .options import TrainingOptions, TrainOptions

PACES = MachineRecord("training_pace.json", "pace", most=200)
SHAPES = ("batch_size", "micro_batch", "HR_size")
OF_THE_SCHEDULE = ("lr_", "beta", "weight_decay", "warmup_iters", "Branch", "manual_seed", "niter", "val_freq")


@dataclass(frozen=True)
class Pace:
    """What a step takes.

    Attributes
    ----------
    seconds_per_step : float
        After the warm-up.
    warm_up_share : float
        Of that, what a step of the warm-up takes.
    is_measured : bool
        Or reckoned from the speed of another training, as measuring would have taken too long.
    """

    seconds_per_step: float
    warm_up_share: float = 1.0
    is_measured: bool = True

    def seconds(self, train: TrainOptions) -> float:
        """All steps of a training."""
        return self.seconds_per_step * (train.warmup_iters * self.warm_up_share + train.niter - train.warmup_iters)


def known_pace(options: TrainingOptions) -> Pace | None:
    """What was measured here of a training like this one; None if nothing was."""
    try:
        seconds, share, is_measured = PACES.values()[_key(options)]
        return Pace(float(seconds), float(share), bool(is_measured))
    except (KeyError, TypeError, ValueError):
        return None


def record_pace(options: TrainingOptions, pace: Pace) -> None:
    """Remember what was measured. Failing to is no failure."""
    PACES.put(_key(options), [pace.seconds_per_step, pace.warm_up_share, pace.is_measured])


def computes_on(options: TrainingOptions) -> str:
    """Where a training would compute here: "cpu", or "cuda" with the number of GPUs."""
    wanted, numbers = options.device, options.gpu_ids
    if wanted == "cpu" or (wanted == "auto" and (numbers == () or (numbers is None and not count_gpus()))):
        return "cpu"
    return f"cuda {len(numbers or (0,))}"


def _key(options: TrainingOptions) -> str:
    values = options.to_json()
    train = {name: value for name, value in values["train"].items() if not name.startswith(OF_THE_SCHEDULE)}
    train = {name: bool(value) if name.endswith("_weight") else value for name, value in train.items()}
    dataset = values["datasets"].get("train") or {}
    cost = {
        **{name: values[name] for name in ("model", "scale", "network_G", "network_D")},
        "shapes": [dataset.get(name) for name in SHAPES],
        "train": train,
        "device": computes_on(options),
    }
    return sha256(json.dumps(cost, sort_keys=True).encode()).hexdigest()[:16]
