"""The quality card: each figure against a value known by construction, and what a user is told."""

from __future__ import annotations

import json
from dataclasses import replace
from math import erf

import numpy as np
import pytest
from CBCTSuperResLib import Options, Volume, super_resolve
from CBCTSuperResLib.acquisition.phantom import (
    WINDOW,
    jaw_phantom,
    jaw_scans,
    oblique_grid,
    to_grey,
)
from CBCTSuperResLib.acquisition.scanner import ALL_AXES, Acquisition, gaussian_blur
from CBCTSuperResLib.apply.conditions import usual_conditions
from CBCTSuperResLib.apply.file import apply_to_file
from CBCTSuperResLib.apply.plan import make_plan
from CBCTSuperResLib.apply.quality import quality_card
from CBCTSuperResLib.apply.quality_measures import SLICES
from CBCTSuperResLib.apply.tiles import Axis
from CBCTSuperResLib.cli.apply import result_text
from CBCTSuperResLib.core.interpolate import enlarge_slice
from CBCTSuperResLib.measure.slice_pairs import SlicePair, degraded, edge_widths, noise_of, noise_pieces, slab_weights
from CBCTSuperResLib.scan.field_of_view import find_blanks
from helpers import make_grid
from stub_networks import CubicTwice, Sharpened, register, stub_model

KEYS = ["consistency", "noise", "edge_width", "outside_window", "outside_domain"]
UNITS = ["x noise", "grey values", "mm", "share", "share"]
OPTIONS = Options(window=WINDOW, device="cpu")
MODEL = stub_model(CubicTwice(), window=WINDOW)
SHAPE, SPACING, NOISE = (12, 224, 224), 0.12, 0.02


@pytest.fixture(scope="module")
def scans():
    return jaw_scans(SHAPE, SPACING, seed=3, noise=NOISE)


def axes_of(volume, result):
    return [Axis(n, 0, n, m) for n, m in zip(volume.voxels.shape, result.shape, strict=True)]


def card_of(volume, result, model=MODEL, options=OPTIONS):
    plan = make_plan(volume.grid, volume.voxels.dtype, model.card, options).with_scan(volume)
    return quality_card(
        volume, result, axes_of(volume, result), plan.choice, plan.blanks, model.card, usual_conditions(model.card)
    )


def figures(card):
    return {figure["key"]: figure for figure in card["figures"]}


def cubic(volume):
    rows, columns = (2 * n for n in volume.voxels.shape[1:])
    return np.stack([enlarge_slice(s.astype(np.float32), (rows, columns)) for s in volume.voxels])


def pair_of(coarse, fine, neighbour=None, window=(-1e9, 1e9)):
    coarse, fine = np.asarray(coarse, np.float32), np.asarray(fine, np.float32)
    return SlicePair(
        coarse, coarse if neighbour is None else neighbour, fine[None], np.ones(1), np.ones(coarse.shape, bool), window
    )


def test_the_truth_agrees_with_its_scan_and_is_sharper_and_less_noisy(scans):
    fine, coarse = scans
    card = card_of(coarse, fine.voxels)
    found = figures(card)
    assert found["consistency"]["value"] == pytest.approx(1.0, abs=0.08)
    assert card["noise_share_of_window"] == pytest.approx(NOISE, rel=0.1)
    assert found["noise"]["before"] == pytest.approx(NOISE * 20000, rel=0.1)
    assert found["noise"]["value"] < 0.4 * found["noise"]["before"]
    assert found["edge_width"]["value"] < 0.6 * found["edge_width"]["before"]
    assert not card["warnings"] and not any(f["attention"] for f in card["figures"][:3])


@pytest.mark.parametrize("noise", [0.01, 0.05])
def test_the_noise_of_a_scan_is_found(noise):
    _, coarse = jaw_scans(SHAPE, SPACING, seed=5, noise=noise)
    assert card_of(coarse, cubic(coarse))["noise_share_of_window"] == pytest.approx(noise, rel=0.12)


def test_detail_that_the_scan_does_not_have_is_told(scans):
    fine, coarse = scans
    invented = fine.voxels.astype(np.float32)
    invented[:, ::8, :] += 6000
    card = card_of(coarse, invented)
    assert figures(card)["consistency"]["value"] > 1.3 and figures(card)["consistency"]["attention"]
    assert any("the scan does not" in text for text in card["warnings"])


def test_kept_noise_is_told():
    _, coarse = jaw_scans(SHAPE, SPACING, seed=3, noise=0.06)
    card = card_of(coarse, cubic(coarse))
    assert figures(card)["consistency"]["value"] < 0.6
    assert any("noise was kept" in text for text in card["warnings"])


def test_more_noise_is_told(scans):
    _, coarse = scans
    result = cubic(coarse)
    result += np.random.default_rng(0).normal(0, 600, result.shape)
    assert "The result is noisier than the scan." in card_of(coarse, result)["warnings"]


def test_a_scan_without_noise_is_compared_with_a_share_of_the_window():
    fine, coarse = jaw_scans(SHAPE, SPACING, seed=3, noise=0)
    card = card_of(coarse, fine.voxels)
    assert "hardly any noise" in figures(card)["consistency"]["text"] and not card["warnings"]


def test_cubic_interpolation_is_no_sharper_than_itself(scans):
    _, coarse = scans
    width = figures(card_of(coarse, cubic(coarse)))["edge_width"]
    assert width["value"] == pytest.approx(width["before"], rel=0.03)


@pytest.mark.parametrize("sigma", [1.0, 1.5])
@pytest.mark.parametrize("angle", [0.0, 0.4, 1.2])
def test_the_width_of_a_gaussian_edge_is_that_of_its_formula(sigma, angle):
    """From 20 to 80 % a Gaussian edge takes 2 x 0.8416 standard deviations; pixels are averages, a 1/12 more each."""

    def edge(size, blur):
        y, x = (np.arange(size) + 0.5) / size * 60 - 30, ((np.arange(size) + 0.5) / size * 60 - 30)
        distance = np.cos(angle) * x[None, :] + np.sin(angle) * y[:, None]
        return 1000 * (0.5 + 0.5 * np.vectorize(erf)(distance / (np.sqrt(2) * blur)))

    widths = edge_widths(pair_of(edge(60, sigma), edge(120, sigma / 2)), 100)
    assert widths.shape[1] >= 5
    before, after = np.median(widths, axis=1)
    assert before == pytest.approx(2 * 0.8416 * sigma, rel=0.06)
    assert after == pytest.approx(2 * 0.8416 * sigma / 2, rel=0.06)


def test_lines_are_no_edges():
    image = np.zeros((60, 60), np.float32)
    image[:, 30] = 1000
    assert edge_widths(pair_of(image, image.repeat(2, 0).repeat(2, 1)), 100).shape[1] == 0


def test_noise_is_measured_where_the_neighbour_is_flat():
    random = np.random.default_rng(0)
    image, neighbour = (random.normal(500, 10, (96, 96)) for _ in range(2))
    for noisy in (image, neighbour):
        noisy[:, 40:] += 300 * np.sin(np.arange(56))
    pieces = noise_pieces(pair_of(image, image.repeat(2, 0).repeat(2, 1), neighbour))
    before, after = noise_of(pieces)
    assert pieces.shape == (3, 144)
    assert before == pytest.approx(10, rel=0.08) and after == pytest.approx(10, rel=0.08)
    assert noise_of(pieces[:, :3]) is None


def test_slopes_are_no_noise():
    y, x = np.mgrid[:64, :64]
    image = 3.0 * x - 2.0 * y + np.random.default_rng(1).normal(0, 4, x.shape)
    before, _ = noise_of(noise_pieces(pair_of(image, image)))
    assert before == pytest.approx(4, rel=0.15)


@pytest.mark.parametrize("sigma", [0.6, 0.85])
def test_degrading_is_that_of_the_grading_protocol(sigma):
    fine = np.random.default_rng(0).uniform(size=(10, 40, 36)).astype(np.float32)
    expected = Acquisition(blur=sigma, noise=0).degrade(fine, clip=False)
    found = degraded(pair_of(expected[3], fine[3]), (sigma, sigma))
    assert np.abs(found - expected[3]).max() <= 1e-5
    expected = Acquisition("isotropic", sigma, 0).degrade(fine, clip=False)
    for place in range(5):
        box, weights = slab_weights(place, 2, 10, sigma)
        assert weights.sum() == pytest.approx(1)
        pair = replace(pair_of(expected[place], fine[0]), slab=fine[box], weights=weights)
        assert np.abs(degraded(pair, (sigma, sigma)) - expected[place]).max() <= 1e-5


@pytest.mark.parametrize("factor", [1.5, 2.4])
def test_weights_across_slices_stay_within_a_result_of_any_scale(factor):
    slices = round(7 * factor)
    centres = []
    for place in range(7):
        box, weights = slab_weights(place, slices / 7, slices, 0.85)
        assert 0 <= box.start < box.stop <= slices and weights.sum() == pytest.approx(1)
        centres.append((np.arange(box.start, box.stop) @ weights + 0.5) / (slices / 7) - 0.5)
    assert centres[1:-1] == pytest.approx(range(1, 6), abs=0.03)


def test_isotropic_results_are_compared_in_three_dimensions():
    field = gaussian_blur(np.clip(jaw_phantom((24, 128, 128), SPACING, 3), 0, 1), 0.45, ALL_AXES)
    coarse = Acquisition("isotropic", noise=NOISE).degrade(field, seed=1)
    scan = Volume(to_grey(coarse), oblique_grid(coarse.shape, 2 * SPACING))
    assert figures(card_of(scan, to_grey(field)))["consistency"]["value"] == pytest.approx(1.0, abs=0.08)
    wrong = figures(card_of(scan, np.roll(to_grey(field), 3, axis=0)))
    assert wrong["consistency"]["value"] > 1.3


def test_figures_and_words_are_as_documented(scans):
    fine, coarse = scans
    card = card_of(coarse, fine.voxels)
    assert list(figures(card)) == KEYS and [f["unit"] for f in card["figures"]] == UNITS
    for figure in card["figures"]:
        assert figure["label"] and figure["text"] and len(figure["hint"]) > 40 and isinstance(figure["attention"], bool)
        assert ("before" in figure) == (figure["key"] in ("noise", "edge_width"))
    words = json.dumps(card).lower()
    assert "safe" not in words and "0.85 pixels of the result" in card["assumptions"]
    assert json.loads(words) and card_of(coarse, fine.voxels)["figures"] == card["figures"]


class Watched:
    """A result that tells which of its slices were read."""

    def __init__(self, voxels):
        self._voxels, self.shape, self.read = voxels, voxels.shape, 0

    def __getitem__(self, part):
        self.read += len(self._voxels[part])
        return self._voxels[part]


def test_only_a_few_slices_are_read():
    volume = Volume(
        np.random.default_rng(0).integers(100, 900, (60, 24, 24)).astype(np.uint16), make_grid((24, 24, 60))
    )
    result = Watched(volume.voxels.repeat(2, 1).repeat(2, 2))
    card = card_of(volume, result, options=Options(window=(0, 1000), blank="none"))
    assert result.read == len(card["slices"]) == SLICES
    assert card["slices"][0] < 8 and card["slices"][-1] > 51


def test_the_domain_is_told(scans):
    fine, coarse = scans
    training = {"data": {"degradation": {"blur": [0.5, 0.7, 0.9], "noise": [0.0, 0.005], "strong_share": 0}}}
    model = stub_model(CubicTwice(), window=WINDOW, voxel_size_mm=(0.05, 0.1), training=training)
    card = card_of(coarse, fine.voxels, model)
    domain = figures(card)["outside_domain"]
    assert domain["value"] == 1.0 and domain["attention"]
    assert (
        "pixels of 0.24 mm" in domain["text"] and "of the window, where it learned from up to 0.5 %" in domain["text"]
    )
    assert card["blur_pixels"] == 0.7
    assert not any("noise" in text for text in card["warnings"])  # the plan has said so, with the scan's own estimate
    inside = card_of(coarse, fine.voxels, stub_model(CubicTwice(), window=WINDOW, voxel_size_mm=(0.05, 0.3)))
    window = figures(inside)["outside_window"]
    assert figures(inside)["outside_domain"]["value"] < 0.05
    assert 0 < window["value"] < 1 and f"{100 * window['value']:.1f} %" in window["text"]


def test_a_window_that_cuts_a_little_off_the_top_deserves_attention_as_that_may_be_enamel(scans):
    fine, coarse = scans
    measured = coarse.voxels[coarse.voxels > 0]
    for share, window, looked_at in ((0.01, None, True), (0.001, None, False), (0.0, "auto", False)):
        window = window or (float(measured.min()), float(np.quantile(measured, 1 - share)))
        found = figures(card_of(coarse, fine.voxels, options=replace(OPTIONS, window=window)))["outside_window"]
        assert found["attention"] is looked_at and found["value"] == pytest.approx(share, abs=2e-4)


def test_with_a_roi_the_card_and_the_report_speak_of_the_roi(scans):
    _, coarse = scans
    voxels = np.where(np.arange(112) < 64, 30000, 90).astype(np.uint16) + coarse.voxels % 7
    options = replace(OPTIONS, window=(29000, 31000), blank="none", roi=((0, 64), (0, 64), (0, 2)))
    report = super_resolve(Volume(voxels, coarse.grid), MODEL, options).report
    assert figures(report["quality"])["outside_window"]["value"] == report["clipped_share"] == 0
    assert not any("clips" in warning for warning in report["warnings"])


@pytest.mark.parametrize("shape", [(2, 5, 5), (2, 9, 70), (3, 16, 16), (9, 17, 15)])
def test_small_scans_get_a_card_that_says_what_is_not_known(shape):
    voxels = np.random.default_rng(0).integers(100, 900, shape).astype(np.uint16)
    result = super_resolve(
        Volume(voxels, make_grid(shape[::-1])),
        stub_model(CubicTwice()),
        Options(window=(0, 1000), device="cpu", blank="none"),
    )
    found = figures(result.report["quality"])
    assert found["edge_width"]["value"] is None and "could not be measured" in found["edge_width"]["text"]
    assert found["noise"]["value"] is None and "hardly any noise" not in found["consistency"]["text"]


def test_an_empty_part_of_a_scan_gets_a_card():
    voxels = np.full((4, 40, 40), 5, np.uint16)
    voxels[:, :, :20] = np.random.default_rng(0).integers(100, 900, (4, 40, 20))
    volume = Volume(voxels, make_grid((40, 40, 4)))
    options = Options(window=(0, 1000), device="cpu", blank=5, roi=((24, 40), (0, 40), (0, 4)))
    card = super_resolve(volume, stub_model(CubicTwice()), options).report["quality"]
    assert find_blanks(volume, 5) and figures(card)["noise"]["value"] is None and card["slices"] == [0, 1, 2, 3]


def test_a_roi_is_compared_with_its_part_of_the_scan(scans):
    _, coarse = scans
    roi = ((20, 100), (30, 112), (2, 10))
    usual = 0.425 * 2.3548 * coarse.spacing[0]  # mm, full width at half maximum
    result = super_resolve(coarse, MODEL, replace(OPTIONS, roi=roi, scanner_blur=usual))
    card = result.report["quality"]
    assert card["slices"][0] >= 2 and card["slices"][-1] < 10
    part = Volume(coarse.voxels[2:10, 30:112, 20:100], make_grid((80, 82, 8), coarse.spacing))
    alone = figures(card_of(part, result.voxels))
    for key in ("consistency", "noise", "edge_width"):
        assert figures(card)[key]["value"] == pytest.approx(alone[key]["value"], rel=0.02)


def test_files_get_the_card_in_their_report_and_the_terminal_prints_it(scans, tmp_path, monkeypatch):
    register(monkeypatch)
    _, coarse = scans
    coarse.write(tmp_path / "scan.nrrd")
    target = tmp_path / "result.nrrd"
    report = apply_to_file(tmp_path / "scan.nrrd", target, stub_model(Sharpened(), window=WINDOW), OPTIONS)
    written = json.loads((tmp_path / "result.nrrd.json").read_text(encoding="utf-8"))
    quality = report["super_resolution"]["quality"]
    assert written["super_resolution"]["quality"] == json.loads(json.dumps(quality))
    assert written["super_resolution"]["seconds"]["quality"] < 2
    printed = result_text(report, str(target))
    for figure in quality["figures"]:
        assert f"{figure['label']}: {figure['text']}" in printed
