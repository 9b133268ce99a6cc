"""Error bars measured: do 90 % intervals hold, do wide ones lie where the errors are, what do warning masks hold?

    python Testing/grading/error_bars.py MODEL --out FOLDER [--public-data FOLDER]

writes rows.json and table.md. Jaws, blurs and noises are none that the model was calibrated with (halfway between those
that it was); blur and noise are estimated from each scan, as for a user. Voxels that the window cuts off do not count.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from itertools import pairwise, product
from pathlib import Path

import numpy as np

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from CBCTSuperResLib.acquisition.phantom import FINE_BLUR, WINDOW, coarse_scan, jaw_phantom, oblique_grid
from CBCTSuperResLib.acquisition.scanner import ALL_AXES, P2, Acquisition, gaussian_blur
from CBCTSuperResLib.apply.plan import MISCLASSIFIED, PREDICTIVE
from CBCTSuperResLib.apply.run import super_resolve
from CBCTSuperResLib.core.atomic import write_text
from CBCTSuperResLib.core.errors import SuperResError
from CBCTSuperResLib.core.options import BONE, USUAL_PASSES, WARNING, Options
from CBCTSuperResLib.core.volume import Grid
from CBCTSuperResLib.measure.bone import bone_threshold
from CBCTSuperResLib.models.intervals import GAUSSIAN, Intervals
from CBCTSuperResLib.models.model import Model
from CBCTSuperResLib.train.data.public import public_scans

from grading.cases import HELD_OUT, Case, held_out_bone, in_robust_window

SHAPE = (6, 192, 192)
BORDER, CUT = 8, 0.02
WRONG = 0.1  # of the window: an error that makes a voxel on the other side of bone's threshold a structure
REALISATIONS = 6  # of the noise: for the masks, and for the best that any deviation could do


@dataclass(frozen=True)
class Measured:
    """Of one scan, voxels that count: truth, result and deviation, in units of the window, and the chance to lie on the
    other side of bone's threshold, in per cent.
    """

    truth: np.ndarray
    result: np.ndarray
    deviation: np.ndarray
    misclassified: np.ndarray

    @property
    def error(self) -> np.ndarray:
        return np.abs(self.result - self.truth)

    @property
    def coverage(self) -> float:
        """Share of the voxels within result +- 1.645 deviations."""
        return float(np.mean(self.error <= GAUSSIAN * self.deviation))

    @property
    def rank_correlation(self) -> float:
        return _rank_correlation(self.error, self.deviation)

    @property
    def other_side(self) -> np.ndarray:
        """Which voxels lie on the other side of bone's threshold than their truth."""
        bone = bone_threshold(self.truth)
        return (self.result > bone) != (self.truth > bone)

    def mask(self, flagged: np.ndarray) -> dict[str, float]:
        """Of a warning mask: its share of the volume, and what it holds of wrong structure and of the other side."""
        there = self.other_side
        wrong = there & (self.error > WRONG)
        return {
            "flagged": float(flagged.mean()),
            "voxels_wrong": int(wrong.sum()),
            "held_of_wrong": float(flagged[wrong].mean()) if wrong.any() else float("nan"),
            "held_of_other_side": float(flagged[there].mean()) if there.any() else float("nan"),
            "other_side": float(there.mean()),
        }

    @staticmethod
    def of_all(found: Sequence[Measured]) -> Measured:
        """Voxels of several scans together."""
        return Measured(*(np.concatenate([getattr(of, name.name) for of in found]) for name in fields(Measured)))


def measured(model: Model, truth: np.ndarray, grid: Grid, acquisition: Acquisition, seed: int) -> Measured:
    """Scan a fine image (k, j, i) in [0, 1], super-resolve it and compare."""
    scan = coarse_scan(truth, grid, seed, acquisition, None, dtype="float32")
    options = Options(window=WINDOW, device="cpu", dtype="float32", blank="none", uncertainty=USUAL_PASSES)
    options = replace(options, warning_above=BONE)
    result = super_resolve(scan, model, options)
    low, width = WINDOW[0], WINDOW[1] - WINDOW[0]
    counts = (truth > CUT) & (truth < 1 - CUT)
    counts[:, :BORDER] = counts[:, -BORDER:] = counts[:, :, :BORDER] = counts[:, :, -BORDER:] = False
    voxels = (result.voxels.astype(np.float64) - low) / width
    deviation, chance = (result.error_bars[name].voxels[counts] for name in (PREDICTIVE, MISCLASSIFIED))
    return Measured(truth[counts], voxels[counts], deviation / width, chance)


def unseen_jaws(shape: Sequence[int] = SHAPE) -> Iterator[Case]:
    """Jaws of seeds that are neither trained nor calibrated with."""
    for name, (spacing, seed) in HELD_OUT.items():
        field = gaussian_blur(jaw_phantom(shape, spacing, seed), FINE_BLUR, ALL_AXES)
        yield Case(name, np.clip(field, 0, 1), (spacing,) * 3)


def others(public_data: Path) -> Iterator[Case]:
    """Slices of bone that are not trained on, and the tooth; the middle of each."""
    scans = public_scans()
    bone = scans["trabecular"]
    cases = [Case("human molar", in_robust_window(scans["tooth"].read(public_data)), (0.2,) * 3)]
    cases += held_out_bone(bone.read(public_data), bone.train_slices[1], (2, 4))
    for case in cases:
        inner = [
            slice(max(0, (n - most) // 2), (n + most) // 2) for n, most in zip(case.truth.shape, SHAPE, strict=True)
        ]
        part = case.truth[tuple(inner)]
        rows, columns = (n - n % 2 for n in part.shape[1:])
        yield Case(case.name, np.ascontiguousarray(part[:, :rows, :columns], np.float32), case.spacing_mm)


def grade(model: Model, public_data: Path | None, quick: bool = False) -> list[dict]:
    """A row for each object, blur and noise."""
    rows, shape = [], (4, 96, 96) if quick else SHAPE
    settings = [(0.85, 0.02)] if quick else settings_between(Intervals.from_json(model.card.intervals))
    cases = [*unseen_jaws(shape), *(others(public_data) if public_data else ())]
    for case in cases:
        grid = oblique_grid(case.truth.shape, case.spacing_mm)
        for number, (blur, noise) in enumerate(settings):
            found = measured(model, case.truth, grid, Acquisition(blur=blur, noise=noise), 500 + number)
            rows.append({"data": case.name, "blur": blur, "noise": noise, "coverage": found.coverage})
            print(f"{case.name}, blur {blur:g}, noise {noise:.1%}: {found.coverage:.3f}", file=sys.stderr)
        found, *more = (measured(model, case.truth, grid, P2, 900 + n) for n in range(1 if quick else REALISATIONS))
        whole = Measured.of_all([found, *more])
        rows.append(
            {
                "data": case.name,
                "protocol": "P2",
                "coverage": found.coverage,
                "rank": found.rank_correlation,
                "mask": whole.mask(whole.deviation > WARNING),
                "widest": whole.mask(_highest_twentieth(whole.deviation)),
                "bone": whole.mask(_highest_twentieth(whole.misclassified)),
                "expected_on_the_other_side": float(whole.misclassified.mean() / 100),
            }
        )
    return rows


def _highest_twentieth(told: np.ndarray) -> np.ndarray:
    return told > np.quantile(told, 0.95)


def settings_between(known: Intervals) -> list[tuple[float, float]]:
    """Blurs, in fine pixels, and noises halfway between those that the model was calibrated with."""
    blurs, noises = ([(a + b) / 2 for a, b in pairwise(knots)] or [*knots] for knots in (known.blur, known.noise))
    return [(round(2 * blur, 4), round(noise, 4)) for blur, noise in product(blurs, noises)]


def best_rank(model: Model, case: Case, realisations: int = REALISATIONS) -> float:
    """The rank correlation of the error with its root mean square over other realisations of the noise.

    No deviation that is told from one scan can do much better: this one knows the truth.
    """
    grid = oblique_grid(case.truth.shape, case.spacing_mm)
    first, *rest = (measured(model, case.truth, grid, P2, 900 + n).error for n in range(realisations + 1))
    return _rank_correlation(first, np.sqrt(np.mean(np.square(rest), axis=0)))


def _rank_correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Spearman's, without ties in mind."""
    ranks = [np.argsort(np.argsort(values)) for values in (a, b)]
    return float(np.corrcoef(*ranks)[0, 1])


def as_table(rows: Sequence[dict]) -> str:
    """Markdown: coverage by object, blur and noise; then the figures of P2."""
    lines = [
        "| object | coverage of 90 % intervals: mean over blurs and noises | lowest | highest |",
        "|---|---|---|---|",
    ]
    for name in dict.fromkeys(row["data"] for row in rows):
        values = [row["coverage"] for row in rows if row["data"] == name and "blur" in row]
        lines.append(f"| {name} | {np.mean(values):.3f} | {min(values):.3f} | {max(values):.3f} |")
    head = [
        "object, P2",
        "coverage",
        "rank correlation",
        "best possible",
        f"flagged above {WARNING}",
        "holds of what is wrong",
    ]
    head += ["widest 5 % hold", "5 % likeliest misclassified hold", "voxels that are wrong"]
    head += ["of the other side they hold", "expected there", "are there"]
    lines += ["", f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for row in rows:
        if "rank" in row:
            mask, bone = row["mask"], row["bone"]
            best = f"{row['best_rank']:.3f}" if "best_rank" in row else ""
            cells = [row["data"], f"{row['coverage']:.3f}", f"{row['rank']:.3f}", best]
            cells += [f"{mask['flagged']:.2%}", f"{mask['held_of_wrong']:.1%}", f"{row['widest']['held_of_wrong']:.1%}"]
            cells += [f"{bone['held_of_wrong']:.1%}", f"{bone['voxels_wrong']}", f"{bone['held_of_other_side']:.1%}"]
            cells += [f"{row['expected_on_the_other_side']:.2%}", f"{bone['other_side']:.2%}"]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("model", help="name or file of a model with error bars")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--public-data", type=Path, help="folder of the public scans")
    parser.add_argument("--quick", action="store_true", help="small jaws, one blur and noise")
    parsed = parser.parse_args(arguments)
    try:
        model = Model.load(parsed.model)
        rows = grade(model, parsed.public_data, parsed.quick)
        if not parsed.quick:
            best = {case.name: best_rank(model, case) for case in unseen_jaws()}
            rows = [{**row, "best_rank": best[row["data"]]} if row["data"] in best else row for row in rows]
    except SuperResError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    parsed.out.mkdir(parents=True, exist_ok=True)
    write_text(parsed.out / "rows.json", json.dumps(rows, indent=1))
    write_text(parsed.out / "table.md", as_table(rows))
    print(as_table(rows))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
