"""Protocol PB: every blur with every noise, against cubic interpolation and classical deconvolution.

    python Testing/grading/blur_and_noise.py MODEL [NAME=FILE ...] --public-data FOLDER --out FOLDER

writes rows.json, table.md, a picture of each object before and after, and heat maps: by blur and noise, what each model
gains over cubic interpolation and over the best of the others. One more row says what Apply gains: "as the scan
chooses", in each cell, one of the shipped models. The classical methods are told the true blur and noise; a model has
what is estimated from the scan of the whole object and, with --told, once more the true blur. The middle of each object
is measured. Without the public scans only a drawn jaw is. Worker-side: needs torch; the baselines need scikit-image.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from zlib import crc32

import numpy as np
from scipy.fft import dctn, idctn
from skimage.restoration import denoise_nl_means

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from CBCTSuperResLib.acquisition.phantom import FINE_BLUR, jaw_phantom
from CBCTSuperResLib.acquisition.scanner import (
    ALL_AXES,
    IN_PLANE,
    P2,
    block_mean,
    correlate_slices,
    correlated_noise,
    gaussian_blur,
)
from CBCTSuperResLib.core.atomic import replacing, write_text
from CBCTSuperResLib.core.errors import SuperResError
from CBCTSuperResLib.evaluate.drawing import liveliest
from CBCTSuperResLib.io.pictures import comparison, enlarge_nearest, write_picture
from CBCTSuperResLib.measure.bone import bone_threshold, thickness_between, thickness_map
from CBCTSuperResLib.measure.fidelity import psnr
from CBCTSuperResLib.models.model import Model
from CBCTSuperResLib.train.data.public import public_scans

from grading.cases import Case, in_robust_window
from grading.grading import named_models
from grading.methods import chosen_card, cubic_method, model_method

BLURS = (0.0, 0.4, 0.85, 1.2, 1.6, 2.0)  # fine pixels
NOISES = (0.0, 0.01, 0.02, 0.05)  # of the window
SMOOTHS = {0.0: 0.0, 0.6: 0.7}  # lag-1 correlation within slices, and the Gaussian (coarse pixels) that makes it
ACROSS = (0.0, 0.7)
SLICES, EDGE = 12, 128  # of the middle of each object, in fine voxels
JAW = (40, 320, 320)
BORDER = 8
SKULL_SEED = 903
SMOOTH = 0.7  # fine voxels, of what thickness is measured in: specks of noise are no structures
EVERY = 3  # slices, of which one is measured so: discs take their time
THICK = 2.0  # fine voxels: thinner structures do not count
CHOSEN = "as the scan chooses"

SHOWN_EDGE, SHOWN_GAP = 64, 6  # fine pixels of a panel, pixels between rows of them

Enlarge = Callable[[np.ndarray, "Cell", tuple[slice, ...]], np.ndarray]  # of a scan, the part (k, j, i) that is wanted


@dataclass(frozen=True)
class Cell:
    """One setting of the scanner: blur in fine pixels, noise in units of the window, correlations of its noise."""

    blur: float
    noise: float
    within: float
    across: float

    def scan(self, truth: np.ndarray, seed: int) -> np.ndarray:
        """The coarse scan (k, j / 2, i / 2) of a fine image (k, j, i) in [0, 1]; not clipped."""
        blurred = gaussian_blur(truth, self.blur, IN_PLANE) if self.blur else truth
        coarse = block_mean(blurred, IN_PLANE)
        if not self.noise:
            return coarse
        noise = correlated_noise(coarse.shape, 1.0, SMOOTHS[self.within], IN_PLANE, seed)
        return coarse + np.float32(self.noise) * correlate_slices(noise, self.across)


def cells(which: str = "all") -> Iterator[Cell]:
    """Settings of the scanner; correlations only where there is noise.

    "all" of them; "some": every blur, noise of 0, 2 and 5 %, correlated in both ways, as scanners make it; "quick": of
    these two blurs, and noise up to 2 %, but every correlation.
    """
    blurs, noises = {
        "all": (BLURS, NOISES),
        "some": (BLURS, NOISES[::2] + NOISES[3:]),
        "quick": (BLURS[2::2], NOISES[::2]),
    }[which]
    for blur, noise, within, across in product(blurs, noises, SMOOTHS, ACROSS):
        is_wanted = True if noise else within == across == 0
        if which == "some" and noise:
            is_wanted = within > 0 and across > 0
        if is_wanted:
            yield Cell(blur, noise, within, across)


def wiener(scan: np.ndarray, cell: Cell, noise: float | None = None) -> np.ndarray:
    """Wiener deconvolution of each slice with the true blur, on the fine grid; as published (Wiener 1949).

    Half-sample symmetric cosines continue an image beyond its border and put fine pixels where they belong. The power
    of the image itself is what a scan's own spectrum holds above the noise, as a power law of the frequency.
    """
    sd = cell.noise if noise is None else noise
    slices, rows, columns = scan.shape
    frequency = [np.arange(n) / (2 * n) for n in (rows, columns)]  # cycles per coarse pixel
    fine = [f / 2 for f in frequency]  # per fine pixel
    response = np.multiply.outer(*(np.exp(-2 * (np.pi * cell.blur * f) ** 2) * np.cos(np.pi * f) for f in fine))
    radius = np.hypot(*np.meshgrid(*frequency, indexing="ij"))
    spectrum = np.exp(-4 * (np.pi * SMOOTHS[cell.within]) ** 2 * radius**2)  # of smoothed noise
    noise_power = sd**2 * spectrum / spectrum.mean() + 1e-7
    result = np.zeros((slices, 2 * rows, 2 * columns), np.float32)
    for image, enlarged in zip(scan, result, strict=True):
        waves = dctn(image.astype(np.float64), norm="ortho")
        known = (radius > 0.02) & (radius < 0.35)
        power = np.maximum(waves[known] ** 2 - noise_power[known], 0.1 * noise_power[known])
        slope, level = np.polyfit(np.log(radius[known]), np.log(power / response[known] ** 2), 1)
        signal = np.exp(level) * np.maximum(radius, 0.01) ** min(slope, -1.0)
        signal[0, 0] = np.inf
        gain = 1 / (response + noise_power / signal / response)
        wide = np.zeros(enlarged.shape)
        wide[:rows, :columns] = 2 * waves * gain
        enlarged[...] = idctn(wide, norm="ortho")
    return result


def denoised_wiener(scan: np.ndarray, cell: Cell) -> np.ndarray:
    """Non-local means (Buades et al. 2005), then Wiener deconvolution of what is left."""
    if not cell.noise:
        return wiener(scan, cell)
    smooth = {"patch_size": 5, "patch_distance": 5, "h": 0.7 * cell.noise, "sigma": cell.noise, "fast_mode": True}
    return wiener(np.stack([denoise_nl_means(image, **smooth) for image in scan]), cell, 0.4 * cell.noise)


def unsharp(scan: np.ndarray, cell: Cell) -> np.ndarray:
    """Cubic interpolation and what a Gaussian as wide as the blur takes from it, once more."""
    enlarged = cubic(scan, cell)
    return 2 * enlarged - gaussian_blur(enlarged, max(cell.blur, 0.5), IN_PLANE)


def cubic(scan: np.ndarray, cell: Cell) -> np.ndarray:
    """Cubic interpolation."""
    return cubic_method(scan, P2)


BASELINES: dict[str, Callable[[np.ndarray, Cell], np.ndarray]] = {
    "cubic": cubic,
    "Wiener": wiener,
    "NLM + Wiener": denoised_wiener,
    "unsharp": unsharp,
}


def objects(public_data: Path | None) -> Iterator[Case]:
    """Tooth and held-out bone where they are at hand, and a drawn jaw of a seed that is never trained on."""
    field = gaussian_blur(jaw_phantom(JAW, 0.12, SKULL_SEED), FINE_BLUR, ALL_AXES)
    yield Case("drawn jaw", np.clip(0.05 + 0.75 * field, 0, 1))
    if public_data is None:
        return
    scans = public_scans()
    yield Case("tooth", in_robust_window(scans["tooth"].read(public_data)))
    bone = scans["trabecular"]
    yield Case("held-out bone", in_robust_window(bone.read(public_data), bone.train_slices[1]))


def middle(shape: Sequence[int]) -> tuple[slice, slice, slice]:
    """The voxels of a scan (k, j, i) of an object that are measured, around its middle."""
    wanted = zip(shape, (SLICES, EDGE // 2, EDGE // 2), strict=True)
    return tuple(slice(max(0, (n - most) // 2), min(n, max(0, (n - most) // 2) + most)) for n, most in wanted)


def grade(
    models: Mapping[str, Enlarge],
    cases: Sequence[Case],
    which: Sequence[Cell],
    choose: Callable[[np.ndarray, Cell], tuple[str, Enlarge]] | None = None,
) -> Iterator[dict]:
    """A row for each object and cell: PSNR (dB), gradient energy (of the truth's) and thickness error (%) by method.

    Thickness of hard tissue by discs, slice by slice, of cubic interpolation and the models alone.

    Parameters
    ----------
    choose : callable, optional
        Tells of a scan which model Apply takes: its name and what computes it where it is none of `models`. Then a row
        has the figures of that model as those of `CHOSEN`, too, and its name as "chosen".
    """
    inner = (slice(None), slice(BORDER, -BORDER), slice(BORDER, -BORDER))
    for cell, case in product(which, cases):
        slices, rows, columns = part = middle([n // d for n, d in zip(case.truth.shape, (1, 2, 2), strict=True)])
        truth = case.truth[slices, 2 * rows.start : 2 * rows.stop, 2 * columns.start : 2 * columns.stop][inner]
        scan = cell.scan(np.asarray(case.truth, np.float32), crc32(f"{case.name} {cell}".encode()))
        results = {name: enlarge(scan[part], cell) for name, enlarge in BASELINES.items()}
        results |= {name: enlarge(scan, cell, part) for name, enlarge in models.items()}
        row = {"data": case.name, **vars(cell), "psnr": {}, "energy": {}, "thickness": {}}
        if choose:
            row["chosen"], enlarge = choose(scan, cell)
            if row["chosen"] not in models:
                results[CHOSEN] = enlarge(scan, cell, part)
        threshold = bone_threshold(gaussian_blur(truth, SMOOTH, IN_PLANE))
        thick = _thickness(truth, threshold)
        for name, result in results.items():
            found = np.clip(result, 0, 1)[inner]
            row["psnr"][name] = round(psnr(found, truth), 2)
            row["energy"][name] = round(_energy(found) / _energy(truth), 3)
            if name not in BASELINES or name == "cubic":
                error = thickness_between(_thickness(found, threshold), thick, THICK).error
                row["thickness"][name] = None if np.isnan(error) else round(100 * error, 1)
        if choose and CHOSEN not in results:
            for figures in (row["psnr"], row["energy"], row["thickness"]):
                figures[CHOSEN] = figures[row["chosen"]]
        yield row


SHOWN = (Cell(1.6, 0.01, 0.6, 0.7), Cell(0.85, 0.05, 0.6, 0.7))  # a soft scan, and a noisy one


def gallery(models: Mapping[str, Enlarge], cases: Sequence[Case]) -> np.ndarray:
    """The liveliest place of each object, scanned in two ways: coarse, cubic, Wiener, models, truth; uint8.

    Captions tell blur and noise, and PSNR of the slice's measured part. Models are as in `grade`.
    """
    lines = []
    for case, cell in product(cases, SHOWN):
        slices, rows, columns = part = middle([n // d for n, d in zip(case.truth.shape, (1, 2, 2), strict=True)])
        truth = case.truth[slices, 2 * rows.start : 2 * rows.stop, 2 * columns.start : 2 * columns.stop]
        scan = cell.scan(np.asarray(case.truth, np.float32), crc32(f"{case.name} {cell}".encode()))
        shown = len(truth) // 2
        place = liveliest(truth[shown], SHOWN_EDGE)
        coarse = enlarge_nearest(scan[part][shown], 2)[place]
        panels = {f"{case.name}: blur {cell.blur:g}, noise {100 * cell.noise:g} %": coarse}
        results = {name: BASELINES[name](scan[part], cell) for name in ("cubic", "Wiener")}
        results |= {name: enlarge(scan, cell, part) for name, enlarge in models.items()}
        for name, result in results.items():
            image = np.clip(result[shown], 0, 1)
            panels[f"{name} {psnr(image, truth[shown]):.1f} dB"] = image[place]
        lines.append(comparison({**panels, "truth": truth[shown][place]}))
    width = max(line.shape[1] for line in lines)
    ends = [((0, SHOWN_GAP), (0, width - line.shape[1])) for line in lines]
    return np.vstack([np.pad(line, end, constant_values=255) for line, end in zip(lines, ends, strict=True)])


def _energy(image: np.ndarray) -> float:
    return float(sum(np.mean(np.diff(image, axis=axis) ** 2) for axis in IN_PLANE)) ** 0.5


def _thickness(image: np.ndarray, threshold: float) -> np.ndarray:
    some = gaussian_blur(image[::EVERY], SMOOTH, IN_PLANE)
    return thickness_map(some, threshold, (1.0, 1.0, 1.0), planes=True)


def gain(row: dict, model: str) -> float:
    """PSNR over that of the best baseline, in dB."""
    return row["psnr"][model] - max(row["psnr"][name] for name in BASELINES)


def as_table(rows: Sequence[dict]) -> str:
    """Markdown: a line a cell, object by object."""
    rows = sorted(rows, key=lambda row: row["data"])
    names = list(rows[0]["psnr"])
    models = [name for name in names if name not in BASELINES]
    head = ["object", "blur", "noise %", "within", "across", *names, *(f"{m}: energy" for m in models)]
    head += [f"{name}: thickness %" for name in ("cubic", *models)]
    head += ["chosen"] if CHOSEN in names else []
    lines = [head, ["---"] * len(head)]
    for row in rows:
        setting = [row["data"], *(f"{v:g}" for v in (row["blur"], 100 * row["noise"], row["within"], row["across"]))]
        figures = [f"{row['psnr'][n]:.2f}" for n in names] + [f"{row['energy'][m]:.2f}" for m in models]
        errors = [row["thickness"][name] for name in ("cubic", *models)]
        line = [*setting, *figures, *("" if error is None else f"{error:+.1f}" for error in errors)]
        lines.append([*line, row["chosen"]] if CHOSEN in names else line)
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def as_summary(rows: Sequence[dict], model: str) -> str:
    """How often a model is above the best baseline, and by how much; edges and thickness at noise up to 3 %."""
    calm = [row for row in rows if row["noise"] <= 0.03]
    gains = np.array([gain(row, model) for row in rows])
    over_cubic = np.array([row["psnr"][model] - row["psnr"]["cubic"] for row in rows])
    energy = np.array([row["energy"][model] for row in calm])
    errors = [(row["thickness"][model], row["thickness"]["cubic"]) for row in calm]
    errors = np.abs([pair for pair in errors if None not in pair] or [(np.nan, np.nan)])
    thin = (errors[:, 0] <= 6) & (errors[:, 0] <= errors[:, 1] / 4)
    shares = Counter(row["chosen"] for row in rows) if model == CHOSEN else {}
    which = f" ({', '.join(f'{name} in {count}' for name, count in shares.items())})" if shares else ""
    return (
        f"{model}: {len(rows)} cells{which}; over cubic {over_cubic.mean():+.2f} dB (worst {over_cubic.min():+.2f}, "
        f"more than 0.2 below it in {np.count_nonzero(over_cubic < -0.2)}); over the best baseline {gains.mean():+.2f} "
        f"dB (worst {gains.min():+.2f}, not below it in {np.mean(gains >= 0):.0%}); "
        f"gradient energy at noise up to 3 %: {energy.min():.2f} to {energy.max():.2f}, "
        f"{np.mean((energy >= 0.88) & (energy <= 1.12)):.0%} within 0.88 to 1.12; thickness error there "
        f"{errors[:, 0].mean():.1f} % (cubic {errors[:, 1].mean():.1f}), at most 6 % and a quarter of cubic's in "
        f"{np.mean(thin):.0%}"
    )


def draw(rows: Sequence[dict], model: str, path: Path) -> None:
    """Heat maps by blur and noise, two for each object: gain over cubic, and over the best baseline."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    names = list(dict.fromkeys(row["data"] for row in rows))
    blurs, noises = (sorted({row[key] for row in rows}) for key in ("blur", "noise"))
    gains = {
        "over cubic": lambda row: row["psnr"][model] - row["psnr"]["cubic"],
        "over the best classical method": lambda row: gain(row, model),
    }
    size = (max(6.0, 3.6 * len(names)), 1.7 + 1.1 * len(noises))
    figure, axes = pyplot.subplots(2, len(names), figsize=size, layout="constrained", squeeze=False)
    for (label, measure), line in zip(gains.items(), axes, strict=True):
        for axis, name in zip(line, names, strict=True):
            table = np.full((len(noises), len(blurs)), np.nan)
            for place in np.ndindex(table.shape):
                cell = (name, noises[place[0]], blurs[place[1]])
                found = [measure(row) for row in rows if (row["data"], row["noise"], row["blur"]) == cell]
                table[place] = np.mean(found) if found else np.nan
            shown = axis.imshow(table, cmap="RdBu", vmin=-4, vmax=4, origin="lower", aspect="auto")
            for (row, column), value in np.ndenumerate(table):
                colour = "white" if abs(value) > 2.2 else "black"
                axis.text(column, row, f"{value:+.1f}", ha="center", va="center", fontsize=8, color=colour)
            axis.set_title(f"{name}: {label}", fontsize=9)
            axis.set_xticks(range(len(blurs)), [f"{b:g}" for b in blurs])
            axis.set_yticks(range(len(noises)), [f"{100 * n:g}" for n in noises])
    figure.supxlabel("blur (fine pixels)", fontsize=9)
    figure.supylabel("noise (% of the window)", fontsize=9)
    figure.colorbar(shown, ax=axes, label="dB", shrink=0.8)
    title = f"{model}: PSNR\nthe best of Wiener, NLM + Wiener, unsharp and cubic is told the true blur and noise"
    figure.suptitle(title, fontsize=9)
    with replacing(path) as scratch:
        figure.savefig(scratch, format="png", dpi=100)
    pyplot.close(figure)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("models", nargs="+", metavar="MODEL", help="name or file, or NAME=FILE to call it so")
    parser.add_argument("--public-data", type=Path, metavar="FOLDER", help="folder with the scans of sources.json")
    parser.add_argument("--told", action="store_true", help="each model once more, given the true blur")
    parser.add_argument(
        "--quick", dest="cells", action="store_const", const="quick", help="two blurs and two noises only"
    )
    parser.add_argument(
        "--cells", choices=("all", "some", "quick"), default="all", help="how many settings of the scanner"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="for all that is written")
    given = parser.parse_args(arguments)
    try:
        loaded = named_models(given.models)
        models = {name: _as_applied(model) for name, model in loaded.items()}
        if given.told:
            models |= {f"{name}, told": _as_applied(model, is_told=True) for name, model in loaded.items()}
        given.out.mkdir(parents=True, exist_ok=True)
        rows, cases = [], list(objects(given.public_data))
        write_picture(gallery(models, cases), given.out / "picture.png")
        for row in grade(models, cases, list(cells(given.cells)), _chooser(loaded)):
            rows.append(row)  # hours, if all of them: what there is can be looked at
            write_text(given.out / "rows.json", json.dumps(rows, indent=1) + "\n")
    except SuperResError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    names = [*models, CHOSEN]
    summaries = "\n\n".join(as_summary(rows, name) for name in names)
    write_text(given.out / "table.md", f"{summaries}\n\n{as_table(rows)}\n")
    for name in names:
        draw(rows, name, given.out / f"heat-maps {name}.png")
    print(summaries)
    return 0


def _as_applied(model: Model, is_told: bool = False) -> Enlarge:
    enlarge = model_method(model, is_told=is_told)
    return lambda scan, cell, part: enlarge(
        scan, replace(P2, blur=cell.blur), tuple((one.start, one.stop) for one in part[::-1])
    )


def _chooser(loaded: Mapping[str, Model]) -> Callable[[np.ndarray, Cell], tuple[str, Enlarge]]:
    """What `grade` asks for Apply's own choice: one of these models, or, where that is none of them, loaded once."""
    by_weights = {model.card.weights_sha256: (name, _as_applied(model)) for name, model in loaded.items()}

    def choose(scan: np.ndarray, cell: Cell) -> tuple[str, Enlarge]:
        card = chosen_card(scan, replace(P2, blur=cell.blur))
        if card.weights_sha256 not in by_weights:
            name = f"{card.name} (installed)" if card.name in loaded else card.name
            by_weights[card.weights_sha256] = name, _as_applied(Model.load(card.path))
        return by_weights[card.weights_sha256]

    return choose


if __name__ == "__main__":
    sys.exit(main())
