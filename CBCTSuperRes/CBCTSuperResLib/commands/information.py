"""What a scan is, and what super-resolving it would give and need, before anything is computed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..blanks import find_blanks
from ..estimate import estimate
from ..grey.choice import choose_window
from ..memory import available_memory, readable
from ..models.card import read_card
from ..models.listing import DEFAULT_MODEL, find_model
from ..options import Options
from ..progress import duration_text
from ..volume import Volume


def facts_of_scan(
    path: str | Path,
    model: str | None = None,
    options: Options = Options(),
    spacing: Sequence[float] | None = None,
    series: str | None = None,
) -> dict:
    """Look at a scan without running a network; ready for JSON.

    Raises
    ------
    SuperResError
        As a run would.
    """
    volume = Volume.read(path, spacing=spacing, series=series)
    card = read_card(find_model(model or DEFAULT_MODEL))
    blanks = find_blanks(volume, options.blank)
    choice = choose_window(volume.voxels, blanks, options.window, card)
    need = estimate(volume.grid, volume.voxels.dtype, card, options)
    return {
        "scan": str(path),
        "size": list(volume.grid.size),
        "spacing_mm": list(volume.spacing),
        "type": str(volume.voxels.dtype),
        "bytes": volume.voxels.nbytes,
        "range": [float(volume.voxels.min()), float(volume.voxels.max())],
        "blank": {"share": blanks.share, "rule": blanks.rule},
        "window": [choice.window.lo, choice.window.hi],
        "window_reason": choice.reason,
        "warnings": [*volume.report.get("warnings", []), *choice.warnings],
        "model": card.line,
        "output_size": list(need.grid.size),
        "output_spacing_mm": list(need.grid.spacing),
        "output_type": str(need.dtype),
        "output_bytes": need.output_bytes,
        "memory_bytes": need.memory_bytes,
        "memory_free_bytes": available_memory(),
        "seconds": need.seconds,
        "seconds_measured": need.measured,
    }


def facts_text(facts: dict) -> str:
    """The facts for people."""
    source = "from earlier runs here" if facts["seconds_measured"] else "a guess until the first run here"
    lines = [
        ("Scan", facts["scan"]),
        ("Size", _grid_text(facts["size"], facts["spacing_mm"], facts["type"], facts["bytes"])),
        ("Grey values", "{:g} to {:g}".format(*facts["range"])),
        ("Blank", f"{100 * facts['blank']['share']:.1f} %. {facts['blank']['rule']}"),
        ("Window", facts["window_reason"]),
        *(("Warning", text) for text in facts["warnings"]),
        ("Model", facts["model"]),
        (
            "Result",
            _grid_text(facts["output_size"], facts["output_spacing_mm"], facts["output_type"], facts["output_bytes"]),
        ),
        ("Memory", f"about {readable(facts['memory_bytes'])}; {readable(facts['memory_free_bytes'])} are free"),
        ("Time", f"about {duration_text(facts['seconds'])} ({source})"),
    ]
    return "\n".join(f"{name + ':':<13}{text}" for name, text in lines)


def _grid_text(size: Sequence[int], spacing: Sequence[float], dtype: str, nbytes: int) -> str:
    voxels = " x ".join(map(str, size))
    return f"{voxels} voxels of {' x '.join(f'{s:.4g}' for s in spacing)} mm, {dtype}, {readable(nbytes)}"
