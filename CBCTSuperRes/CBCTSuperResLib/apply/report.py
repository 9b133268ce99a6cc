"""The account of a run that goes with its result."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..core.devices import describe_device
from ..core.memory import peak_memory
from ..core.options import Options
from ..core.volume import Grid
from ..io.volume import Volume
from .plan import scales, warnings_for

if TYPE_CHECKING:
    from ..models.model import Model
    from ..scan.blank_region import BlankRegion
    from ..scan.window_choice import WindowChoice
    from .engine import Engine


def make_report(
    volume: Volume,
    grid: Grid,
    model: Model,
    options: Options,
    choice: WindowChoice,
    blanks: BlankRegion,
    engine: Engine,
    smooth: float,
    pieces: int,
    seconds: dict[str, float],
) -> dict:
    """What was done, by what, with which choices, and what to beware of; ready for JSON."""
    spec = model.card.spec
    return {
        "model": model.card.name,
        "model_sha256": model.card.weights_sha256,
        "network": spec.network,
        "planes": options.planes if spec.dimensions == 2 else "blocks",
        "scale": list(scales(model.card, options)),
        "roi": options.roi,
        "window": [choice.window.lo, choice.window.hi],
        "window_reason": choice.reason,
        "clipped_share": round(choice.clipped_share, 5),
        "tissue_levels": {name: getattr(choice.levels, name) for name in ("air", "soft", "bone")},
        "blank": blanks.to_json(),
        "smooth_pixels": smooth,
        "device": describe_device(engine.device),
        "precision": engine.precision,
        "tile": engine.tile,
        "halo": spec.context if spec.can_be_cut else None,
        "ensemble": options.ensemble,
        "pieces": pieces,
        "notes": list(engine.notes),
        "warnings": [
            *volume.report.get("warnings", ()),
            *choice.warnings,
            *warnings_for(volume, model.card, options),
        ],
        "output_size": list(grid.size),
        "output_spacing_mm": list(grid.spacing),
        "seconds": {name: round(value, 3) for name, value in seconds.items()},
        "peak_memory_bytes": peak_memory(),
        "notice": "Fine detail is predicted by a network; not for diagnosis.",
    }
