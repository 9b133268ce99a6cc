"""The account of a run that goes with its result, in memory and beside a file; ready for JSON."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from pathlib import Path

from .. import NOTICE, __version__
from ..core.memory import peak_memory
from ..core.packages import installed_version
from ..io.volume import Volume
from .plan import Plan
from .speed import relative_cost


def make_report(plan: Plan, **measured) -> dict:
    """What was done, by what, with which choices, and what to beware of.

    Parameters
    ----------
    plan : Plan
        With the scan's facts.
    **measured
        What only the run knows: device, precision, tile, notes, pieces, seconds and whatever else is to be told; by
        its keys in the report.
    """
    spec, choice = plan.card.spec, plan.choice
    return {
        "model": plan.card.name,
        "model_sha256": plan.card.weights_sha256,
        "network": spec.network,
        "planes": "blocks" if plan.way == "blocks" else plan.options.planes,
        "scale": list(plan.scales),
        "relative_cost": round(relative_cost(plan.card, plan.scales), 4),
        "roi": plan.options.roi,
        "window": [choice.window.lo, choice.window.hi],
        "window_reason": choice.reason,
        **({"output_window": list(plan.card.output_window)} if plan.card.output_window else {}),
        "clipped_share": round(choice.clipped_share, 5),
        "tissue_levels": {name: getattr(choice.levels, name) for name in ("air", "soft", "bone")},
        "blank": plan.blanks.to_json(),
        "smooth_pixels": plan.smooth,
        "scanner": plan.scanner.to_json(),
        "scanner_text": plan.scanner.sentences(choice.window.width),
        "conditions": plan.conditions.to_json(),
        "sharpness": plan.options.sharpness,
        "back_projection": plan.back_projection,
        "halo": spec.context if spec.can_be_cut else None,
        "ensemble": plan.options.ensemble,
        "warnings": list(plan.warnings),
        "output_size": list(plan.grid.size),
        "output_spacing_mm": list(plan.grid.spacing),
        "peak_memory_bytes": peak_memory(),
        "notice": NOTICE,
        **measured,
    }


def identity(path: str | Path) -> dict:
    """What tells whether a file, or a folder of slices, is still the one that a report speaks of."""
    path = Path(path)
    files = sorted(p for p in path.iterdir() if p.is_file()) if path.is_dir() else [path]
    facts = [p.stat() for p in files]
    return {
        "path": str(path.absolute()),
        "files": len(files),
        "bytes": sum(f.st_size for f in facts),
        "modified": max((f.st_mtime for f in facts), default=0.0),
    }


def facts_of(path: str | Path, volume: Volume) -> dict:
    """What a report says of a volume in a file."""
    grid = volume.grid
    return {**identity(path), "size": grid.size, "spacing_mm": grid.spacing, "type": str(volume.voxels.dtype)}


def reading_facts(spacing: Sequence[float] | None, series: str | None, override: bool = False) -> dict:
    """What a report says of how its scan was to be read."""
    return {"spacing": spacing and list(spacing), "series": series, **({"override": True} if override else {})}


def versions() -> dict[str, str]:
    """Versions of this library, of Python and of the packages that shape the result."""
    found = {"CBCTSuperResLib": __version__, "python": platform.python_version(), "platform": platform.platform()}
    packages = ("torch", "onnxruntime", "openvino", "numpy", "SimpleITK", "safetensors")
    return found | {package: version for package in packages if (version := installed_version(package))}
