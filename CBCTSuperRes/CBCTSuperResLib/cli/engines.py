"""The command `cbct-superres engines`: which engines are installed, and how fast each computes a model here."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict

from ..apply.engines import TITLES, installed_engines
from ..apply.engines.speed_records import Measured, record_engines
from .terminal import Progress, add_command


def add_engines_command(commands) -> None:
    """Declare it."""
    engines = add_command(
        commands,
        "engines",
        "measure how fast PyTorch, ONNX Runtime and OpenVINO compute a model on this processor; engine auto goes by it",
        run_engines,
    )
    engines.add_argument("model", nargs="?", help="name or file (default: the model that apply would take)")
    engines.add_argument("--json", action="store_true", help="print JSON")


def run_engines(parsed: argparse.Namespace) -> None:
    """`cbct-superres engines`"""
    from ..apply.engines.choice import keep_graph
    from ..apply.engines.speed_test import measure_engines
    from ..models.folder import default_model
    from ..models.model import Model

    model = Model.load(parsed.model or default_model().path)
    keep_graph(model)
    with Progress(parsed.json) as progress:
        found = measure_engines(model, progress)
    record_engines(model.card, found)
    print(json.dumps([asdict(measured) for measured in found], indent=2) if parsed.json else engines_text(model, found))


def engines_text(model, found: list[Measured]) -> str:
    """What was measured, as a table for a terminal."""
    rows = [("engine", "precision", "voxels/s", "start", "against float32 of the first")]
    for measured in found:
        speed = f"{measured.voxels_per_second:,.0f}" if measured.voxels_per_second else "-"
        agrees = f"{measured.psnr:.0f} dB, at most {measured.difference:.1g} of the window"
        start = f"{measured.start_s:.1f} s" if measured.voxels_per_second else "-"
        name = f"{TITLES[measured.engine]} {measured.version}"
        rows.append((name, measured.precision, speed, start, measured.problem or agrees))
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    lines = ["  ".join([*(f"{cell:<{w}}" for cell, w in zip(row, widths, strict=False)), row[4]]) for row in rows]
    absent = [TITLES[name] for name in TITLES if name not in installed_engines()]
    lines += [f"Not installed: {', '.join(absent)} (pip install 'cbct-superres[fast]')"] if absent else []
    return "\n".join([f"Model {model.name} on the CPU; what is fastest is remembered for --engine auto.", *lines])
