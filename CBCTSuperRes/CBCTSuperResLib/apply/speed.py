"""How fast models were on this machine: what the estimated time of the next run is made of.

`super_resolve` and `apply_to_file` write nothing of this; the command and the worker record a report when it is done.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..models.card import ModelCard
from ..models.machine_record import MachineRecord

SHORTEST_S = 0.5  # less says more of the start than of the speed
SPEEDS = MachineRecord("speed.json", "speed")


def record_speed(report: dict) -> None:
    """Remember how fast a model was, from the report of `apply_to_file`. Failing to is no failure.

    What several devices or a cluster took says nothing of one.
    """
    run = report["super_resolution"]
    seconds, voxels = run["seconds"]["computing"], run["network_voxels"] * run.get("relative_cost", 1.0)
    is_lone_piece = run["roi"] is not None and run["pieces"] < 2  # which is mostly margin
    if seconds < SHORTEST_S or not voxels or is_lone_piece or not run["model_sha256"] or "parts" in run:
        return
    device = "cpu" if run["device"].startswith("cpu") else "any"
    engine = report.get("options", {}).get("engine", "auto")
    SPEEDS.put(_key(run["model_sha256"], device, engine), voxels / seconds)


def known_speed(card: ModelCard, device: str, engine: str = "auto") -> float | None:
    """Voxels that a model's network took in a second, see `Plan.network_voxels`; None if nothing is known.

    Of a network of any real factor, at its usual ones, see `relative_cost`.

    Parameters
    ----------
    device, engine : str
        As in `Options`; where it is not known, the speed of the CPU is taken, or that of the usual engine.
    """
    speeds = SPEEDS.values()
    for asked in (engine, "auto"):
        for kind in ("cpu",) if device == "cpu" else ("any", "cpu"):
            speed = speeds.get(_key(card.weights_sha256, kind, asked))
            if isinstance(speed, float | int) and speed > 0:
                return float(speed)
    return None


def relative_cost(card: ModelCard, factors: Sequence[float]) -> float:
    """Work for a voxel of the scan at factors along (i, j, k), as a share of that at the model's usual ones."""
    spec = card.spec
    if spec.scale or not spec.flops_per_voxel(factors[: spec.dimensions]):
        return 1.0
    usual = card.offered(None)
    return spec.flops_per_voxel(factors[: spec.dimensions]) / spec.flops_per_voxel(usual[: spec.dimensions])


def _key(weights_sha256: str, device: str, engine: str) -> str:
    return f"{weights_sha256[:16]} {device}" + ("" if engine == "auto" else f" {engine}")
