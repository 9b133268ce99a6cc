"""Models against cubic interpolation on data that no training has seen: the tables of README and of the model cards.

    python Testing/grading MODEL ["GAN phase=FILE" ...] --public-data FOLDER --out FOLDER

writes rows.json, tables.md, summary.md, goals.md and picture.png; with --into-card a model file with the rows in its
card. The same command and data give the same figures; `make bench-quality` runs it for the shipped models. The public
scans and their hashes are those of Resources/Models/sources.json; without the folder only phantoms are measured.
Worker-side: needs torch.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from zlib import crc32

import numpy as np
from CBCTSuperResLib.acquisition.anatomy import STANDARD_LEVELS
from CBCTSuperResLib.acquisition.scanner import P2, P3, Acquisition
from CBCTSuperResLib.core.atomic import write_text
from CBCTSuperResLib.core.errors import OptionError, SuperResError
from CBCTSuperResLib.evaluate.contenders import CUBIC
from CBCTSuperResLib.io.pictures import write_picture
from CBCTSuperResLib.measure.catalogue import (
    MEASURES,
    Measure,
    Truth,
    View,
)
from CBCTSuperResLib.measure.edges import edge_response
from CBCTSuperResLib.measure.trust import negative_control
from CBCTSuperResLib.models.model import Model

from grading.canals import canal_phantom, count_canals
from grading.cases import Case, held_out_cases
from grading.gallery import gallery
from grading.goals import goals_text, judge
from grading.methods import Method, cubic_method, model_method
from grading.tables import as_markdown, as_summary, with_results

STRONG_NOISE = 0.06
JITTER = 0.2  # of the blur, either way
CANAL_SEEDS = (901, 902, 903)
INSERT_EDGE, INSERT_RADIUS = 96, 21.3
RUNS_FOR_STABILITY = 4


def grade(methods: Mapping[str, Method], public_data: Path | None) -> Iterator[list[dict]]:
    """Tables, one after the other; each is a list of rows with "data", "metric", "protocol" and a value a method."""
    methods = {CUBIC: cubic_method, **methods}
    for case in held_out_cases(public_data):
        for protocol in (P2, P3):
            yield grade_case(case, methods, protocol)
    yield grade_canals(methods)
    for noise in (P2.noise, STRONG_NOISE):
        yield grade_noise(methods, noise)
    yield grade_inserts(methods)
    yield grade_stability(methods)


def grade_case(
    case: Case,
    methods: Mapping[str, Method],
    protocol: Acquisition,
    measures: Sequence[Measure] = MEASURES,
) -> list[dict]:
    """All measures of all methods on one scan, blurred by 0.85 voxels give or take a fifth."""
    truth, seed = protocol.even(case.truth), crc32(case.name.encode())
    blur = protocol.blur * (1 + JITTER * np.random.default_rng(seed).uniform(-1, 1))
    acquisition = replace(protocol, blur=blur)
    coarse = acquisition.degrade(truth, seed)
    known = Truth(truth, case.spacing_mm and case.spacing_mm[::-1])
    views = {name: View(enlarge(coarse, protocol), known, coarse, acquisition) for name, enlarge in methods.items()}
    data = f"{case.name}, {protocol.protocol}, blur {blur:.2f} voxels, noise {100 * protocol.noise:g} %"
    rows = [_row(data, protocol, m.name, m.digits, {n: m.of(view) for n, view in views.items()}) for m in measures]
    return [row for row in rows if any(row[name] is not None for name in methods)]


def grade_canals(methods: Mapping[str, Method], seeds: Sequence[int] = CANAL_SEEDS) -> list[dict]:
    """Root canals of 0.2 to 0.4 mm at 0.25 mm in-plane, over several jaws."""
    totals = {name: np.zeros(4, int) for name in methods}
    for seed in seeds:
        phantom = canal_phantom(seed)
        coarse = P2.degrade(phantom.truth, seed)
        for name, enlarge in methods.items():
            counts = count_canals(enlarge(coarse, P2), phantom)
            totals[name] += (counts.found, counts.canals, counts.false, counts.free)
    (_, canals, _, free) = next(iter(totals.values()))
    data = f"{canals} cross-sections of canals, {free} of roots without, P2, noise {100 * P2.noise:g} %"
    found = {name: total[0] / canals for name, total in totals.items()}
    false = {name: 100 * total[2] / free for name, total in totals.items()}
    return [_row(data, P2, "canals_found", 3, found), _row(data, P2, "canals_false", 1, false)]


def grade_noise(methods: Mapping[str, Method], noise: float) -> list[dict]:
    """Flat tissue with noise: what is left of it, and how much is taken for another tissue."""
    results = {name: negative_control(lambda scan, m=m: m(scan, P2), noise) for name, m in methods.items()}
    data = f"flat tissue, P2, noise {100 * noise:g} %"
    return [
        _row(data, P2, "noise_left", 2, {name: 100 * r.noise for name, r in results.items()}),
        _row(data, P2, "voxels_beyond", 0, {name: r.crossed for name, r in results.items()}),
    ]


def grade_inserts(methods: Mapping[str, Method]) -> list[dict]:
    """Sharpness of the edge of round inserts in soft tissue, at three contrasts and two noises."""
    rows = []
    for contrast in (0.1, 0.3, 0.6):
        for noise in (P2.noise / 2, P2.noise):
            truth, centre = _insert(contrast)
            coarse = replace(P2, noise=noise).degrade(truth, seed=1)
            edges = {n: edge_response(m(coarse, P2).mean(axis=0), centre, INSERT_RADIUS) for n, m in methods.items()}
            data = f"insert of contrast {contrast:g}, P2, noise {100 * noise:g} %"
            rows.append(_row(data, P2, "mtf50", 2, {n: e.transfer.crossing(0.5) for n, e in edges.items()}))
            rows.append(_row(data, P2, "overshoot", 1, {n: 100 * e.overshoot for n, e in edges.items()}))
    return rows


def grade_stability(methods: Mapping[str, Method]) -> list[dict]:
    """How much a result changes from one noise to the next, in units of the noise of the scan."""
    phantom = canal_phantom(CANAL_SEEDS[0], slices=8, edge=160)
    spread = {}
    for name, enlarge in methods.items():
        runs = [enlarge(P2.degrade(phantom.truth, seed), P2) for seed in range(RUNS_FOR_STABILITY)]
        spread[name] = float(np.sqrt(np.mean(np.var(runs, axis=0, ddof=1)))) / P2.noise
    return [_row(f"roots of a jaw, P2, noise {100 * P2.noise:g} %", P2, "instability", 2, spread)]


def _insert(contrast: float) -> tuple[np.ndarray, tuple[float, float]]:
    """Slices with a disc, anti-aliased, at a place between the pixels."""
    centre = (INSERT_EDGE / 2 - 0.7, INSERT_EDGE / 2 + 0.2)
    rows, columns = np.indices((INSERT_EDGE, INSERT_EDGE))
    disc = np.clip(0.5 - (np.hypot(rows - centre[0], columns - centre[1]) - INSERT_RADIUS), 0, 1)
    slice_ = STANDARD_LEVELS.soft + contrast * disc
    return np.repeat(slice_[None].astype(np.float32), 16, axis=0), centre


def _row(data: str, protocol: Acquisition, metric: str, digits: int, values: Mapping[str, float]) -> dict:
    rounded = {name: None if np.isnan(value) else round(float(value), digits) for name, value in values.items()}
    return {"data": data, "protocol": protocol.protocol, "metric": metric, **rounded}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Grade models against cubic interpolation on held-out data.")
    parser.add_argument("models", nargs="+", metavar="MODEL", help="name or file, or NAME=FILE to call it so")
    parser.add_argument("--public-data", type=Path, metavar="FOLDER", help="folder with the scans of sources.json")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    parser.add_argument("--ensemble", type=int, default=1, help="flips and rotations to average: 1, 2, 4 or 8")
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="for all that is written")
    parser.add_argument("--into-card", type=Path, metavar="FILE", help="write the first model here, with the rows")
    given = parser.parse_args(arguments)
    try:
        models = named_models(given.models)
        methods = {name: model_method(model, given.device, given.ensemble) for name, model in models.items()}
        rows = []
        for table in grade(methods, given.public_data):
            rows += table
            print(as_markdown(table), flush=True)
        _write(given.out, rows, list(models))
        write_picture(gallery(held_out_cases(given.public_data), methods), given.out / "picture.png")
        if given.into_card:
            first = next(iter(models))
            print(with_results(models[first], rows, first).save(given.into_card))
    except SuperResError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


def named_models(models: Sequence[str]) -> dict[str, Model]:
    """Models by the name before "=", or by their own."""
    found = {}
    for given in models:
        name, _, file = given.rpartition("=")
        model = Model.load(file)
        name = name or model.name
        if name in found:
            raise OptionError(f"Two models are called {name!r}.", "Give one of them another name: NAME=FILE.")
        found[name] = model
    return found


def _write(folder: Path, rows: Sequence[dict], names: Sequence[str]) -> None:
    """Rows as JSON and as tables, a summary and a judgement for each model."""
    folder.mkdir(parents=True, exist_ok=True)
    verdicts = "\n\n".join(f"{name}\n\n{goals_text(judge(rows, name))}" for name in names)
    summaries = "\n\n".join(f"{name}\n\n{as_summary(rows, name)}" for name in names)
    texts = {
        "rows.json": json.dumps(rows, indent=1),
        "tables.md": as_markdown(rows),
        "summary.md": summaries,
        "goals.md": verdicts,
    }
    for name, text in texts.items():
        write_text(folder / name, text + "\n")
    print(verdicts)
