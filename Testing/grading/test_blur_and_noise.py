"""Protocol PB: the scanners, the classical methods and what is said of a model."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("skimage", reason="scikit-image is not installed")

from CBCTSuperResLib.acquisition.scanner import P2  # noqa: E402
from CBCTSuperResLib.measure.fidelity import psnr  # noqa: E402

from grading.blur_and_noise import (  # noqa: E402
    BASELINES,
    CHOSEN,
    SLICES,
    Cell,
    as_summary,
    as_table,
    cells,
    draw,
    gallery,
    grade,
    middle,
    objects,
    wiener,
)
from grading.cases import Case  # noqa: E402
from grading.methods import chosen_card  # noqa: E402

SHARP, SOFT = Cell(0.4, 0.0, 0.0, 0.0), Cell(1.6, 0.01, 0.0, 0.0)


@pytest.fixture(scope="module")
def jaw():
    return next(objects(None))


def test_every_blur_meets_every_noise_and_correlations_only_noise():
    found = list(cells())
    assert len(found) == 6 * (1 + 3 * 4) and len(set(found)) == len(found)
    assert all(cell.noise or cell.within == cell.across == 0 for cell in found)
    some = list(cells("some"))
    assert len(some) == 6 * (1 + 2) and set(some) < set(found) and {cell.noise for cell in some} == {0, 0.02, 0.05}
    assert len(list(cells("quick"))) == 2 * (1 + 4)


def test_noise_has_the_correlations_that_the_cell_says():
    flat = np.full((40, 120, 120), 0.5, np.float32)
    for cell in (Cell(0.0, 0.02, 0.0, 0.7), Cell(0.0, 0.02, 0.6, 0.0)):
        noise = cell.scan(flat, seed=1) - 0.5
        within = np.mean(noise[:, :, 1:] * noise[:, :, :-1]) / noise.var()
        across = np.mean(noise[1:] * noise[:-1]) / noise.var()
        assert noise.std() == pytest.approx(0.02, rel=0.03)
        assert within == pytest.approx(cell.within, abs=0.03) and across == pytest.approx(cell.across, abs=0.03)


def test_the_middle_of_an_object_is_measured_and_models_see_the_whole_scan(jaw):
    seen = []

    def model(scan, cell, part):
        seen.append((scan.shape, part))
        return np.zeros((SLICES, 128, 128), np.float32)

    list(grade({"model": model}, [jaw], [SHARP]))
    assert seen == [((40, 160, 160), (slice(14, 26), slice(48, 112), slice(48, 112)))]
    assert middle((10, 47, 51)) == (slice(0, 10), slice(0, 47), slice(0, 51))


def test_wiener_undoes_a_known_blur_and_stays_calm_in_noise(jaw):
    inner = (slice(None), slice(8, -8), slice(8, -8))
    for cell, least in ((Cell(1.6, 0.0, 0.0, 0.0), 4.0), (SOFT, 1.0)):
        truth = jaw.truth[:SLICES, 96:224, 96:224]
        scan = cell.scan(truth, seed=2)
        better, cubic = (psnr(f(scan, cell)[inner], truth[inner]) for f in (wiener, BASELINES["cubic"]))
        assert better > cubic + least, cell


def test_a_table_says_where_a_model_loses(jaw, tmp_path):
    truth = jaw.truth[14:26, 96:224, 96:224]
    models = {"truth": lambda scan, cell, part: truth, "grey": lambda scan, cell, part: 0 * truth + 0.5}
    rows = list(grade(models, [jaw], [SHARP, SOFT, Cell(0.4, 0.01, 0.0, 0.0), Cell(1.6, 0.0, 0.0, 0.0)]))
    assert as_table(rows).count("drawn jaw") == 4
    assert "not below it in 100%" in as_summary(rows, "truth") and "not below it in 0%" in as_summary(rows, "grey")
    assert "more than 0.2 below it in 0)" in as_summary(rows, "truth")
    assert "more than 0.2 below it in 4)" in as_summary(rows, "grey")
    draw(rows, "truth", tmp_path / "maps.png")
    assert (tmp_path / "maps.png").stat().st_size > 10_000


def test_the_model_that_the_scan_chooses_is_one_more_and_computed_only_where_it_was_not_yet(jaw):
    truth, computed = jaw.truth[14:17, 96:192, 96:192], []

    def stub(name: str, level: float):
        return lambda *_: computed.append(name) or truth * level

    models = {"first": stub("first", 0.9), "second": stub("second", 0.8)}
    third, blurs = stub("third", 0.95), {0.4: "first", 1.6: "third", 2.0: "second"}
    choices = lambda scan, cell: (blurs[cell.blur], third)  # noqa: E731
    rows = list(grade(models, [Case("jaw", truth)], [Cell(blur, 0.0, 0.0, 0.0) for blur in blurs], choices))
    assert computed == ["first", "second", "first", "second", "third", "first", "second"]
    for row, name in zip(rows, blurs.values(), strict=True):
        assert row["chosen"] == name and list(row["psnr"]) == [*BASELINES, *models, CHOSEN]
        if name in models:
            assert all(row[figure][CHOSEN] == row[figure][name] for figure in ("psnr", "energy", "thickness"))
    assert rows[1]["energy"][CHOSEN] == pytest.approx(0.95, abs=0.01) and rows[1]["thickness"][CHOSEN] is not None
    assert as_summary(rows, CHOSEN).startswith(f"{CHOSEN}: 3 cells (first in 1, third in 1, second in 1); over cubic")
    assert as_table(rows).splitlines()[3].endswith("| third |") and f"| {CHOSEN} |" in as_table(rows)


def test_a_soft_scan_chooses_the_model_that_is_told_and_one_of_the_usual_blur_does_not(jaw):
    for blur, name in ((0.85, "light"), (1.6, "adaptive")):
        scan = Cell(blur, 0.01, 0.6, 0.7).scan(jaw.truth, seed=3)
        assert chosen_card(scan, P2).name == name, blur


def test_thickness_of_bone_is_compared_where_the_truth_is_thick(jaw):
    truth = jaw.truth[14:26, 96:224, 96:224]
    swollen = np.maximum.reduce([np.roll(truth, (j, i), (1, 2)) for j in (-1, 0, 1) for i in (-1, 0, 1)])
    models = {"truth": lambda *_: truth, "swollen": lambda *_: swollen, "grey": lambda *_: 0 * truth}
    (row,) = grade(models, [jaw], [Cell(2.0, 0.0, 0.0, 0.0)])
    thickness = row["thickness"]
    assert thickness["truth"] == 0 and thickness["grey"] is None and set(thickness) == {"cubic", *models}
    assert thickness["swollen"] > abs(thickness["cubic"]) > 1, thickness
    assert "in 100%" in as_summary([row], "truth").partition("thickness")[2]
    assert "in 0%" in as_summary([row], "swollen").partition("thickness")[2]


def test_a_picture_shows_a_soft_and_a_noisy_scan_before_and_after(jaw):
    def model(scan, cell, part):
        return BASELINES["cubic"](scan[part], cell)

    picture = gallery({"a model": model}, [jaw])
    lines = np.array_split(picture, 2)
    panels = [np.array_split(line, 5, axis=1) for line in lines]  # coarse, cubic, Wiener, the model, the truth
    for coarse, cubic, sharpened, same, truth in panels:
        body = [panel[30:-10, 8:-8].astype(float) for panel in (coarse, cubic, sharpened, same, truth)]
        shape = [min(one.shape[axis] for one in body) for axis in (0, 1)]
        coarse, cubic, sharpened, same, truth = (one[: shape[0], : shape[1]] for one in body)
        assert np.abs(cubic - same).mean() < 6 < np.abs(cubic - truth).mean()
    assert not np.array_equal(lines[0], lines[1])
