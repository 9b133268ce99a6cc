"""The results table of models, on data that no training has seen: for model cards and for README.

    python -m CBCTSuperResLib.evaluation.table MODEL [MODEL ...] --public-data FOLDER --json rows.json --picture p.png
    python -m CBCTSuperResLib.evaluation.table MODEL "GAN phase=OTHER" --public-data FOLDER --into-card NEW_FILE

The public scans and their hashes are those of Resources/Models/sources.json; without the folder only phantoms are
measured. Worker-side: needs torch.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from ..calibrate import calibrate
from ..engine import Engine
from ..errors import OptionError, SuperResError
from ..model import Model
from ..passes import slab_around
from ..tiles import Axis, plan_tiles
from .compare import (
    NOISE,
    STRONG_NOISE,
    Case,
    Enlarge,
    compare,
    compare_on_noise,
    held_out_bone,
    held_out_phantoms,
    in_robust_window,
)
from .gallery import gallery
from .pictures import write_png
from .public import public_scans


def enlarger(model: Model, device: str = "auto") -> Enlarge:
    """A function that enlarges coarse slices (k, rows, columns) in [0, 1] in-plane with a model, as Apply does."""
    engine, factor = Engine(model.network, model.spec, device, "fp32"), int(model.spec.scale)

    def enlarge(scan: np.ndarray) -> np.ndarray:
        scan = np.ascontiguousarray(scan, np.float32)
        axes = [Axis(n, 0, n, factor * n) for n in scan.shape[1:]]
        (whole,) = plan_tiles(axes, None, 0)
        slabs = (slab_around(scan, k, model.spec.slices) for k in range(len(scan)))
        return np.stack([engine.run(slab if model.spec.slices else slab[0], axes, whole) for slab in slabs])

    return enlarge


def held_out_cases(public_data: Path | None) -> Iterator[Case]:
    """Phantoms of seeds that are never drawn, the tooth, and the slices of trabecular bone that are not trained on."""
    yield from held_out_phantoms()
    if public_data is None:
        return
    scans = public_scans()
    yield Case(scans["tooth"].title, in_robust_window(scans["tooth"].read(public_data)))
    bone = scans["trabecular"]
    yield from held_out_bone(bone.read(public_data), bone.train_slices[1])


def results_table(methods: Mapping[str, Enlarge], public_data: Path | None) -> Iterator[list[dict]]:
    """The rows of each case in turn, each with a value for "cubic" and for every method."""
    for case in held_out_cases(public_data):
        yield compare(case, methods)
    for noise in (NOISE, STRONG_NOISE):
        yield compare_on_noise(methods, noise)


def as_markdown(rows: Sequence[dict]) -> str:
    """A table with a line for each data and measure, and a column for each method."""
    methods = [key for key in rows[0] if key not in ("data", "metric")]
    lines = [["data", "measure", *methods], ["---"] * (2 + len(methods))]
    lines += [[row["data"], row["metric"], *(f"{row[method]:g}" for method in methods)] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def with_results(model: Model, rows: Sequence[dict], name: str) -> Model:
    """The model with a card whose results are these rows, in which its own column is called "model".

    The columns of other models stay under their names. The halo is calibrated if it was not.
    """
    rows = [{("model" if key == name else key): value for key, value in row.items()} for row in rows]
    model = model if model.spec.halo is not None else calibrate(model)
    return Model(model.network, replace(model.card, results=rows))


def _named(models: Sequence[str]) -> dict[str, Model]:
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


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Measure models against cubic interpolation on held-out data.")
    parser.add_argument("models", nargs="+", metavar="MODEL", help="name or file, or NAME=FILE to call it so")
    parser.add_argument("--public-data", type=Path, metavar="FOLDER", help="folder with the scans of sources.json")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows here")
    parser.add_argument("--picture", type=Path, metavar="FILE.png", help="draw a detail of every case here")
    parser.add_argument("--into-card", type=Path, metavar="FILE", help="write the first model here, with the rows")
    given = parser.parse_args(arguments)
    try:
        models = _named(given.models)
        methods = {name: enlarger(model, given.device) for name, model in models.items()}
        rows = []
        for part in results_table(methods, given.public_data):
            rows += part
            print(as_markdown(part), flush=True)
        if given.json:
            given.json.write_text(json.dumps(rows, indent=1), encoding="utf-8")
        if given.picture:
            write_png(gallery(held_out_cases(given.public_data), methods), given.picture)
        if given.into_card:
            first = next(iter(models))
            print(with_results(models[first], rows, first).save(given.into_card))
    except SuperResError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
