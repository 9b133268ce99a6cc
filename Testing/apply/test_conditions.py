"""Blur and noise of the scanner: what a model is told of them, what is said, and how sharp a result is wanted."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from CBCTSuperResLib import Options, Volume, super_resolve
from CBCTSuperResLib.acquisition.estimate import FWHM, BlurAlongAxis, EstimatedAcquisition
from CBCTSuperResLib.acquisition.noise_level import NoiseLevel
from CBCTSuperResLib.acquisition.phantom import WINDOW, jaw_scans
from CBCTSuperResLib.apply import plan as planning
from CBCTSuperResLib.apply.conditions import (
    CAUTION,
    GRAIN,
    LESS_CAUTION,
    LITTLE_BLUR,
    TRABECULAR_CAUTION,
    conditions_of,
)
from CBCTSuperResLib.apply.plan import make_plan
from CBCTSuperResLib.cli import make_parser
from CBCTSuperResLib.cli.apply import options_from_arguments
from CBCTSuperResLib.core.errors import OptionError
from CBCTSuperResLib.core.interpolate import enlarge_slice
from CBCTSuperResLib.networks.spec import NetworkSpec
from helpers import make_grid
from stub_networks import Lopsided, Sharpened, Stub, TranslatorNet, stub_model

SPACING = (0.2, 0.25, 0.2)
TRAINING = {
    "data": {"degradation": {"scale": 2, "blur": [0.4, 1.0, 1.6], "noise": [0.0, 0.04], "strong_share": 0.0}},
}  # fine pixels, two to a voxel: 0.2, 0.5 and 0.8 voxels
PLAIN = Options(window=(0, 1000), blank="none", device="cpu", back_projection="off")


class Told(Stub):
    """Gives back what it was told: the blur along rows in even rows, along columns in odd ones, minus the noise."""

    def describe(self) -> NetworkSpec:
        return NetworkSpec("told", scale=2, context=2, decode_context=2, conditions=("blur", "noise"))

    def encode(self, x, conditions):
        blur = torch.zeros_like(x)
        blur[..., ::2, :], blur[..., 1::2, :] = conditions["blur"][0, 0], conditions["blur"][0, 1]
        return blur - conditions["noise"][0, 0]

    def decode(self, features, positions=None):
        return {"sr": features.repeat_interleave(2, -1).repeat_interleave(2, -2)}


def scan(shape=(3, 20, 24)) -> Volume:
    voxels = np.random.default_rng(0).integers(100, 900, shape).astype(np.float32)
    return Volume(voxels, make_grid(shape[::-1], SPACING))


def scanner(
    rows=0.6, columns=0.5, noise=0.02, is_sure=True, corner=0.05, spectrum=(None, None), **values
) -> EstimatedAcquisition:
    """Whose axes have a spectrum of their own where they are not sure."""
    count, doubt = (90, "") if is_sure else (9, "only 9 edges")
    found = zip((0.1, rows, columns), (0.1, rows, columns) if is_sure else (None, *spectrum), strict=True)
    axes = [BlurAlongAxis(sd, 0.05, sd, other, count, is_sure, doubt) for sd, other in found]
    level = NoiseLevel(1000 * noise, 1.0, 0.4, 0.0, corner=corner)
    return EstimatedAcquisition(SPACING, tuple(axes), level, **values)


def estimating(monkeypatch, found: EstimatedAcquisition) -> None:
    monkeypatch.setattr(planning, "estimate", lambda *_: found)


def plan_for(model, **options):
    volume = scan()
    return make_plan(volume.grid, volume.voxels.dtype, model.card, replace(PLAIN, **options)).with_scan(volume)


def told(result) -> tuple[float, float]:
    """Blur along rows and columns, minus the noise, that `Told` was told."""
    return float(result.voxels[0, 0, 0]) / 1000, float(result.voxels[0, 2, 0]) / 1000


def test_a_model_is_told_what_the_scan_tells_for_sure(monkeypatch):
    estimating(monkeypatch, scanner(0.6, 0.5, 0.02))
    result = super_resolve(scan(), stub_model(Told(), training=TRAINING), PLAIN)
    rows, columns = (np.sqrt(sd**2 - CAUTION**2) for sd in (0.6, 0.5))
    assert told(result) == pytest.approx((rows - 0.02, columns - 0.02), abs=1e-4)
    report = result.report
    assert report["conditions"]["source"] == "estimated" and report["conditions"]["blur"][:2] == [0.5, 0.6]
    assert report["conditions"]["told_blur"] == pytest.approx([columns, rows, 0.2], abs=1e-4)
    assert report["scanner"]["blur_fwhm_mm"] == pytest.approx(
        [0.5 * 0.2 * FWHM, 0.6 * 0.25 * FWHM, 0.1 * 0.2 * FWHM], abs=1e-3
    )
    assert any("supports" in text for text in report["scanner_text"])
    assert report["quality"]["blur_pixels"] == pytest.approx(2 * 0.55)
    assert "estimated from the scan" in report["quality"]["assumptions"]


def test_a_scan_that_is_not_sure_is_taken_for_a_usual_one(monkeypatch):
    estimating(monkeypatch, scanner(0.7, 0.7, is_sure=False))
    model = stub_model(Told(), training=TRAINING)
    cautious = np.sqrt(0.5**2 - LESS_CAUTION**2)
    assert told(super_resolve(scan(), model, PLAIN)) == pytest.approx((cautious - 0.02,) * 2, abs=1e-5)
    conditions = plan_for(model).conditions
    assert conditions.source == "usual" and "only 9 edges" in conditions.reason


def test_a_blur_that_is_not_sure_is_warned_of_where_edges_look_unlike_the_one_that_is_taken(monkeypatch):
    for network in (Told(), Sharpened()):
        model = stub_model(network, training=TRAINING)  # its usual blur: 0.5 voxels
        for blur, word in ((0.8, "has more, edges may stay soft"), (0.2, "has less, edges may be drawn too sharp")):
            estimating(monkeypatch, scanner(blur, blur, is_sure=False))
            (warning,) = plan_for(model).conditions.warnings
            assert f"look like {blur * FWHM * 0.225:.2g} mm, and {0.5 * FWHM * 0.225:.2g} mm is taken" in warning
            assert word in warning
        for found in (scanner(0.6, 0.6, is_sure=False), scanner(None, None, is_sure=False)):
            estimating(monkeypatch, found)
            assert not plan_for(model).conditions.warnings


def test_a_blur_that_only_the_spectrum_tells_is_taken_cautiously_and_counts_as_not_sure(monkeypatch):
    told, untold = stub_model(Told(), training=TRAINING), stub_model(Sharpened(), training=TRAINING)
    for spectrum, in_mm in (((0.5, 0.7), 0.14), ((0.6, None), 0.15)):  # rows are 0.25 mm apart, columns 0.2 mm
        estimating(monkeypatch, scanner(0.9, 0.2, is_sure=False, spectrum=spectrum))
        conditions = plan_for(told).conditions
        assert conditions.source == "doubtful" and not conditions.is_known
        expected = np.array([in_mm / 0.25, in_mm / 0.2])
        assert conditions.blur[1:] == pytest.approx(expected)
        assert conditions.told_blur[1:] == pytest.approx(np.sqrt(expected**2 - CAUTION**2))
        assert "only 9 edges" in conditions.reason and "what it seems to be is taken" in conditions.reason
        report = super_resolve(scan(), told, PLAIN).report
        assert "not for sure" in report["quality"]["assumptions"]
    found = scanner(0.9, 0.2, is_sure=False, spectrum=(0.5, 0.7))
    columns = BlurAlongAxis(0.6, 0.05, 0.6, 0.6, 90, True)
    for noise in (0.02, 0.05):  # of one axis that is sure noise hides nothing
        level = replace(found.noise, sd=1000 * noise)
        estimating(monkeypatch, replace(found, blur=(*found.blur[:2], columns), noise=level))
        conditions = plan_for(told).conditions
        assert conditions.source == "doubtful" and conditions.blur[1:] == pytest.approx((0.6 * 0.2 / 0.25, 0.6))
    estimating(monkeypatch, scanner(0.9, 0.9, is_sure=False, spectrum=(0.9, 0.9)))
    assert "is stronger than" in plan_for(untold).conditions.warnings[0]
    estimating(monkeypatch, scanner(0.9, 0.9, is_sure=False, spectrum=(0.45, 0.5)))
    (warning,) = plan_for(untold).conditions.warnings  # of it alone: it may be the usual one, 0.5 voxels
    assert warning.startswith("The scanner's blur is not sure")
    for unclear in ({"noise": 0.05}, {"crowding": 0.4, "fullness": 0.7}):
        estimating(monkeypatch, scanner(0.9, 0.9, is_sure=False, spectrum=(0.9, 0.9), corner=0.3, **unclear))
        assert plan_for(told).conditions.source == "usual"


def test_more_is_held_back_of_the_blur_of_trabecular_bone_and_its_grain_says_more_than_its_edges(monkeypatch):
    model, bone = stub_model(Told(), training=TRAINING), {"crowding": 0.4, "fullness": 0.7}
    estimating(monkeypatch, scanner(1.1, 1.05, corner=0.005, **bone))
    conditions = plan_for(model).conditions
    expected = [np.sqrt(sd**2 - TRABECULAR_CAUTION**2) for sd in (1.1, 1.05)]
    assert conditions.source == "estimated" and conditions.cautious_blur[1:] == pytest.approx(expected)
    estimating(monkeypatch, scanner(0.8, 0.45, corner=0.005, **bone))
    expected = np.sqrt(0.5**2 - LESS_CAUTION**2), np.sqrt(0.45**2 - CAUTION**2)  # the usual one's, another object's
    assert plan_for(model).conditions.cautious_blur[1:] == pytest.approx(expected)
    estimating(monkeypatch, scanner(0.95, 0.9, noise=0.035, **bone))
    assert plan_for(model).conditions.source == "little"
    estimating(monkeypatch, scanner(0.95, 0.9, noise=0.035, **{**bone, "fullness": 0.4}))
    assert plan_for(model).conditions.source == "estimated"


def test_little_blur_is_told_where_grain_is_too_fine_for_the_usual_one_and_less_noise(monkeypatch):
    model = stub_model(Told(), training=TRAINING)  # its usual blur: 0.5 voxels; noise: 0.02
    estimating(monkeypatch, scanner(0.8, 0.7, noise=0.035, is_sure=False, crowding=0.4, fullness=0.7))
    conditions = plan_for(model, back_projection="auto").conditions
    assert conditions.source == "little" and not conditions.is_known and "finer than" in conditions.reason
    assert conditions.blur == conditions.cautious_blur == conditions.told_blur == (LITTLE_BLUR,) * 3
    assert conditions.noise == 0.035 and conditions.told_noise == 0.02  # the usual one, above sqrt(0.035^2 - GRAIN^2)
    estimating(monkeypatch, scanner(0.8, 0.7, noise=0.045, is_sure=False, crowding=0.4, fullness=0.7))
    assert plan_for(model).conditions.told_noise == pytest.approx(np.sqrt(0.045**2 - GRAIN**2))
    estimating(monkeypatch, scanner(0.8, 0.7, noise=0.035, is_sure=False, crowding=0.4, fullness=0.7))
    (warning,) = conditions.warnings
    assert "is taken, as its grain is so fine. If the scanner has more, edges may stay soft" in warning
    result = super_resolve(scan(), model, replace(PLAIN, back_projection="auto"))
    assert told(result) == pytest.approx((LITTLE_BLUR - conditions.told_noise,) * 2, abs=1e-4)
    assert result.report["back_projection"] is False and result.report["conditions"]["source"] == "little"
    assert "fine grain of the scan suggests" in result.report["quality"]["assumptions"]
    (warning,) = plan_for(stub_model(Sharpened(), training=TRAINING)).conditions.warnings
    assert "may have little blur" in warning and "worse than interpolation. The model adaptive can." in warning


def test_grain_says_nothing_where_it_may_be_noise_or_the_blur_is_known_better(monkeypatch):
    model = stub_model(Told(), training=TRAINING)
    fine = {"noise": 0.035, "crowding": 0.4, "fullness": 0.7}
    others = {"crowding": 0.1}, {"fullness": 0.4}, {"softness_mm": 0.1}, {"corner": 0.005}, {"corner": 0.3}
    for differs in ({"noise": 0.06}, {"noise": 0.015}, *others):
        values = {**fine, **differs}
        estimating(monkeypatch, scanner(0.8, 0.7, is_sure=False, **values))
        conditions = plan_for(model).conditions
        assert conditions.source == "usual" and conditions.told_noise == min(values["noise"], 0.04), differs
    estimating(monkeypatch, scanner(0.8, 0.7, is_sure=False, **fine))
    given = plan_for(model, scanner_blur=0.25).conditions
    assert given.source == "given" and given.told_noise == 0.035


def test_less_is_held_back_where_the_scan_tells_how_soft_its_objects_are(monkeypatch):
    estimating(monkeypatch, scanner(0.6, 0.5, softness_mm=0.04))
    model = stub_model(Told(), training=TRAINING)
    expected = [np.sqrt(sd**2 - LESS_CAUTION**2) for sd in (0.6, 0.5)]
    conditions = plan_for(model).conditions
    assert conditions.told_blur[1:] == conditions.cautious_blur[1:] == pytest.approx(expected)
    assert LESS_CAUTION < CAUTION and conditions.blur[1:] == (0.6, 0.5)
    given = plan_for(model, scanner_blur=0.25).conditions
    assert given.cautious_blur == given.blur


def test_noise_that_may_be_texture_is_told_to_be_no_more_than_usual(monkeypatch):
    found = scanner(noise=0.04)
    for error, sure in ((1.0, 0.04), (8.0, 0.02)):  # grey values
        estimating(monkeypatch, replace(found, noise=replace(found.noise, error=error)))
        assert plan_for(stub_model(Told(), training=TRAINING)).conditions.told_noise == pytest.approx(sure)
    estimating(monkeypatch, replace(scanner(noise=0.01), noise=replace(found.noise, sd=10.0, error=8.0)))
    assert plan_for(stub_model(Told(), training=TRAINING)).conditions.told_noise == pytest.approx(0.01)


def test_weak_noise_of_a_sharp_scan_may_be_texture_and_is_kept_unless_less_noise_is_all_that_is_asked_for(monkeypatch):
    model, sharp, soft = stub_model(Told(), training=TRAINING), (0.4, 0.35), (0.8, 0.8)
    for blur, noise, expected in (
        (sharp, 0.007, 0.0), (sharp, 0.02, 0.02), (sharp, 0.009, 0.006), (soft, 0.007, 0.007),
    ):  # fmt: skip
        estimating(monkeypatch, scanner(*blur, noise))
        conditions = plan_for(model).conditions
        assert conditions.told_noise == pytest.approx(expected) and conditions.noise == pytest.approx(noise)
        assert ("may be texture and is kept" in conditions.reason) == (expected < noise)
    conditions = conditions_of(model.card, PLAIN, scan().grid, scanner(*sharp, 0.007), 1000, is_denoised=True)
    assert conditions.told_noise == pytest.approx(0.007)
    quiet = stub_model(Told(), training={"data": {"degradation": {"blur": [0.4, 1.0, 1.6], "noise": [0.0, 0.01]}}})
    estimating(monkeypatch, replace(scanner(*sharp), noise=None))
    conditions = plan_for(quiet).conditions  # nothing looks like noise: what the model usually meets is told
    assert conditions.told_noise == pytest.approx(0.005) and "texture" not in conditions.reason


def test_what_is_given_in_mm_counts_more_than_what_the_scan_tells(monkeypatch):
    estimating(monkeypatch, scanner(0.6, 0.6))
    model = stub_model(Told(), training=TRAINING)
    for width in (0.25, (0.25, 0.25, 0.3)):
        conditions = plan_for(model, scanner_blur=width).conditions
        assert conditions.source == "given"
        assert conditions.blur[1:] == pytest.approx((0.25 / 0.25 / FWHM, 0.25 / 0.2 / FWHM))
        assert conditions.told_blur[0] == pytest.approx(np.max(width) / 0.2 / FWHM)


def test_what_lies_beyond_the_models_range_is_clamped_and_said(monkeypatch):
    estimating(monkeypatch, scanner(1.2, 1.2, noise=0.08))
    model = stub_model(Told(), training=TRAINING)
    conditions = plan_for(model).conditions
    assert conditions.told_blur[1:] == (0.8, 0.8) and conditions.blur[1:] == (1.2, 1.2)
    assert conditions.told_noise == 0.04
    assert ["beyond what the model learned" in text for text in conditions.warnings] == [True, False]
    assert "noise, 8 % of the window" in conditions.warnings[1] and "made of noise" in conditions.warnings[1]
    assert set(conditions.warnings) <= set(plan_for(model).warnings)
    estimating(monkeypatch, scanner(0.0, 0.0))
    conditions = plan_for(model).conditions
    assert conditions.told_blur[1:] == (0.2, 0.2) and "sharper than what the model learned" in conditions.warnings[0]


def test_a_width_that_no_scanner_has_is_clamped_and_said(monkeypatch):
    estimating(monkeypatch, scanner())
    conditions = plan_for(stub_model(Sharpened()), scanner_blur=100.0).conditions
    assert conditions.blur == (5.0, 5.0, 5.0) and "No scanner has so much" in conditions.reason


def test_a_model_that_cannot_be_told_warns_where_the_blur_is_not_its_own(monkeypatch):
    model = stub_model(Sharpened(), training=TRAINING)
    for blur, expected in ((0.5, []), (0.6, []), (0.7, ["stronger"]), (0.3, ["weaker"])):
        seen = float(np.hypot(blur, CAUTION))  # with what objects' softness may have added
        estimating(monkeypatch, scanner(seen, seen))
        warnings = plan_for(model).conditions.warnings
        assert [word for text in warnings for word in ("stronger", "weaker") if word in text] == expected, blur
        assert all("model adaptive can" in text for text in warnings)
    for is_sure in (True, False):
        estimating(monkeypatch, scanner(0.9, 0.9, is_sure=is_sure))
        assert not plan_for(stub_model(Sharpened())).conditions.warnings  # nobody knows what it learned from


def test_a_sharpening_kernel_is_warned_of(monkeypatch):
    estimating(monkeypatch, scanner(0.5, 0.5, overshoot=0.08, is_sharpened=True))
    assert "overshoot by 8 %" in plan_for(stub_model(Told(), training=TRAINING)).conditions.warnings[0]


def test_a_scan_is_estimated_once_and_its_parts_are_as_the_whole(monkeypatch):
    calls = []
    monkeypatch.setattr(planning, "estimate", lambda *_: calls.append(1) or scanner())
    plan = plan_for(stub_model(Told(), training=TRAINING))
    part = plan.within(((0, 8), (0, 8), (0, 1)))
    assert part.conditions is plan.conditions and len(calls) == 1
    super_resolve(scan(), stub_model(Told(), training=TRAINING), plan=part)
    assert len(part.tiles) < len(plan.tiles)
    assert len(calls) == 1


def test_a_phantom_is_told_for_sure_by_its_own_scan():
    _, coarse = jaw_scans((48, 192, 192), 0.1, seed=901, noise=0.02)
    model = stub_model(Told(), window=WINDOW)
    plan = make_plan(coarse.grid, coarse.voxels.dtype, model.card, Options(window=WINDOW)).with_scan(coarse)
    assert plan.conditions.source == "estimated"
    assert plan.conditions.blur[1:] == pytest.approx((0.425, 0.425), abs=0.08)
    assert plan.conditions.noise == pytest.approx(0.02, rel=0.1)


def test_sharpness_goes_from_interpolation_to_the_models_answer():
    volume = scan()
    results = [
        super_resolve(volume, stub_model(Lopsided()), replace(PLAIN, sharpness=percent)).voxels
        for percent in (0, 25, 100)
    ]
    cubic = np.stack([enlarge_slice(image, (40, 48)) for image in volume.voxels])
    np.testing.assert_allclose(results[0], np.clip(cubic, -20, 1020), atol=0.02)
    assert np.abs(results[2] - results[0]).max() > 50
    np.testing.assert_allclose(results[1], cubic + 0.25 * (results[2] - cubic), atol=0.02)


def test_a_milder_result_has_no_seams_and_a_roi_is_its_crop():
    volume = scan((3, 40, 44))
    mild = replace(PLAIN, sharpness=60)
    whole = super_resolve(volume, stub_model(Lopsided()), replace(mild, tile=0)).voxels
    tiles = super_resolve(volume, stub_model(Lopsided()), replace(mild, tile=16)).voxels
    np.testing.assert_allclose(tiles, whole, atol=0.01)
    part = super_resolve(volume, stub_model(Lopsided()), replace(mild, roi=((8, 40), (4, 30), (1, 3)))).voxels
    np.testing.assert_allclose(part, whole[1:3, 8:60, 16:80], atol=0.01)


def test_another_kind_of_image_has_no_sharpness():
    with pytest.raises(OptionError, match="another kind of image"):
        plan_for(stub_model(TranslatorNet()), sharpness=50)


@pytest.mark.parametrize(
    "values",
    [
        {"scanner_blur": -0.1},
        {"scanner_blur": (0.2, 0.2)},
        {"scanner_blur": (0.2, 0.2, float("nan"))},
        {"scanner_blur": float("inf")},
        {"sharpness": -1},
        {"sharpness": 101},
        {"sharpness": float("nan")},
    ],
)
def test_values_that_make_no_sense_are_refused(values):
    with pytest.raises(OptionError, match=next(iter(values))):
        Options(**values)


def test_the_command_has_both_options():
    def options(*words):
        return options_from_arguments(make_parser().parse_args(["info", "scan.nrrd", *words]))

    assert options() == Options() and options("--scanner-blur", "auto").scanner_blur is None
    assert options("--scanner-blur", "0.3").scanner_blur == 0.3
    chosen = options("--scanner-blur", ".3,.3,.4", "--sharpness", "70")
    assert chosen.scanner_blur == (0.3, 0.3, 0.4) and chosen.sharpness == 70
    assert Options.from_json({**chosen.to_json(), "scanner_blur": [0.3, 0.3, 0.4]}) == chosen
    with pytest.raises(SystemExit):
        options("--scanner-blur", "wide")
