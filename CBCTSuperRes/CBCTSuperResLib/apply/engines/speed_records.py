"""What is remembered of how fast each engine computed a model on this machine; engine "auto" goes by it.

`speed_test` finds out; the command and the worker keep what it found.
"""

from __future__ import annotations

import platform
from contextlib import suppress
from dataclasses import asdict, dataclass

from ...models.card import ModelCard
from ...models.machine_record import MachineRecord
from . import TITLES, installed_engines

ENGINE_SPEEDS = MachineRecord("engines.json", "speed of the engines")
GAIN = 1.1  # how much faster than PyTorch another engine must have been
PRECISIONS = ("fp32", "bf16")


@dataclass(frozen=True)
class Measured:
    """What was found of an engine.

    Attributes
    ----------
    engine, version, precision : str
    voxels_per_second : float
        Voxels of the scan that the network saw; 0 if it failed.
    start_s : float
        What making it ready took.
    difference : float
        Largest difference from the first engine in float32, PyTorch where it is installed, in units of the window.
    psnr : float
        The same as peak signal-to-noise ratio, in dB of the window.
    problem : str
        Why it cannot be used; "" if it can.
    """

    engine: str
    version: str
    precision: str
    voxels_per_second: float = 0.0
    start_s: float = 0.0
    difference: float = 0.0
    psnr: float = 0.0
    problem: str = ""


@dataclass(frozen=True)
class Faster:
    """An engine that is worth taking, and why in words."""

    engine: str
    reason: str


def record_engines(card: ModelCard, found: list[Measured]) -> None:
    """Remember what was measured. Failing to is no failure."""
    ENGINE_SPEEDS.put(_key(card), [asdict(measured) for measured in found])


def known_engines(card: ModelCard) -> list[Measured]:
    """What was measured of a model on this machine, by the versions that are installed now."""
    versions = installed_engines()
    found, recorded = [], ENGINE_SPEEDS.values().get(_key(card))
    for values in recorded if isinstance(recorded, list) else ():
        with suppress(TypeError):
            found.append(Measured(**values))
    return [measured for measured in found if versions.get(measured.engine) == measured.version]


def fastest_engine(
    card: ModelCard, precision: str, scan_noise: float, voxels: float, against_torch: bool = True
) -> Faster | None:
    """The engine to take in place of PyTorch: measured on this machine to be faster, and to compute the same.

    Parameters
    ----------
    card : ModelCard
    precision : str
        As in `Options`. With "auto", bfloat16 counts where the scan has noise.
    scan_noise : float
    voxels : float
        That the network will see.
    against_torch : bool
        False for the fastest of the others.
    """
    allowed = {"fp32": ("fp32",), "bf16": ("bf16",)}.get(precision, PRECISIONS if scan_noise > 0 else ("fp32",))
    usable = [m for m in known_engines(card) if not m.problem and m.voxels_per_second > 0 and m.precision in allowed]
    usual = [m.voxels_per_second for m in usable if m.engine == "torch"]
    others = [m for m in usable if m.engine != "torch"]
    if not others or (against_torch and not usual):
        return None
    best = min(others, key=lambda m: m.start_s + voxels / m.voxels_per_second)
    if against_torch and GAIN * (best.start_s + voxels / best.voxels_per_second) >= voxels / max(usual):
        return None
    gain = best.voxels_per_second / max(usual) if usual else 1.0
    return Faster(best.engine, f"{TITLES[best.engine]} computes: it was {gain:.1f} times as fast as PyTorch here.")


def _key(card: ModelCard) -> str:
    return f"{card.weights_sha256[:16]} {platform.node()}"
