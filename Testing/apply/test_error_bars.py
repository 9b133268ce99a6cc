"""Error bars: the network's own deviations in grey values, calibrated, and only where they mean something."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from CBCTSuperResLib import Options, Volume, super_resolve
from CBCTSuperResLib.acquisition.phantom import cylinder
from CBCTSuperResLib.apply.calibration import calibrate
from CBCTSuperResLib.apply.engine import Engine
from CBCTSuperResLib.apply.error_bars import local_contrast, marked_of
from CBCTSuperResLib.apply.file import apply_to_file
from CBCTSuperResLib.apply.plan import MISCLASSIFIED, make_plan
from CBCTSuperResLib.apply.quality import error_bars_figure
from CBCTSuperResLib.apply.tiles import Axis, plan_tiles
from CBCTSuperResLib.cli import make_parser
from CBCTSuperResLib.cli.apply import options_from_arguments, result_text
from CBCTSuperResLib.core.errors import ModelError, OptionError
from CBCTSuperResLib.measure.bone import bone_threshold
from CBCTSuperResLib.models.card import ModelCard
from CBCTSuperResLib.models.intervals import GAUSSIAN, Intervals
from CBCTSuperResLib.networks import build_network
from CBCTSuperResLib.scan.window import Window
from helpers import make_grid
from scipy.stats import norm
from stub_networks import CubicTwice, stub_model
from torch.nn import functional as F

OPTIONS = Options(
    window=(0.0, 1000.0), device="cpu", dtype="float32", blank="none", uncertainty=4, back_projection="off"
)
PREDICTIVE, INTRINSIC, PARAMETER = "predictive deviation", "intrinsic deviation", "parameter deviation"
KNOTS = {"blur": (0.3, 0.6), "noise": (0.0, 0.04), "quantiles": ((2.0, 3.0), (4.0, 5.0)), "made_on": "drawn scans"}


KINDS = {
    **KNOTS,
    **{"quantiles": ((1.0, 2.0), (1.0, 2.0)), "evenness": ((0.2, 0.4), (0.2, 0.4)), "textured": 3.0},
    "evenness_met": (0.15, 0.8),
}


class Knowing(CubicTwice):
    """Cubic enlargement that claims a deviation of 1 % of the window and a tenth of the image."""

    def describe(self):
        outputs = {"sr": "image", "spread": "log_variance"}
        return replace(super().describe(), network="knowing", outputs=outputs)

    def decode(self, features, positions=None):
        image = super().decode(features)["sr"]
        return {"sr": image, "spread": 2 * torch.log(0.01 + 0.1 * image.abs())}


def drawing(**options):
    """A network of random weights with dropout, and perhaps a log-variance."""
    torch.manual_seed(0)
    network = build_network("perceptual2d", **{"nf": 6, "nb": 2, "dropout": 0.4, "log_variance": True, **options})
    for layer in network.modules():
        if isinstance(layer, torch.nn.Conv2d):
            layer.reset_parameters()
    return stub_model(network.eval())


def scan(shape=(3, 40, 36), noise=20.0, dtype="float32") -> Volume:
    random = np.random.default_rng(0)
    voxels = 500 + 300 * np.sin(np.arange(shape[-1]) / 4) + random.normal(0, noise, shape)
    return Volume(voxels.astype(dtype), make_grid(shape[::-1], (0.25, 0.25, 0.25)))


def test_a_models_own_deviation_comes_in_grey_values_and_costs_no_pass():
    volume, model = scan(), stub_model(Knowing())
    result = super_resolve(volume, model, OPTIONS)
    assert set(result.error_bars) == {PREDICTIVE, INTRINSIC} and result.disagreement is None
    image = super_resolve(volume, model, replace(OPTIONS, uncertainty=0)).voxels
    assert np.array_equal(result.voxels, image)
    found = result.error_bars[PREDICTIVE]
    inner = (slice(None), slice(4, -4), slice(4, -4))  # at the borders enlarging is padded otherwise
    within = (image > 10) & (image < 990)
    expected = 1000 * (0.01 + 0.1 * image / 1000)
    assert np.allclose(found.voxels[inner][within[inner]], expected[inner][within[inner]], rtol=1e-4)
    assert np.array_equal(found.voxels, result.error_bars[INTRINSIC].voxels)
    assert found.grid == result.grid and found.voxels.dtype == np.float32
    plans = [make_plan(volume.grid, volume.voxels.dtype, model.card, replace(OPTIONS, uncertainty=n)) for n in (0, 4)]
    assert plans[0].network_voxels == plans[1].network_voxels
    assert plans[1].map_bytes == 2 * found.voxels.nbytes


def test_draws_and_log_variance_add_to_the_predictive_deviation():
    volume, model = scan(), drawing()
    result = super_resolve(volume, model, replace(OPTIONS, smooth=0.0))
    bars = {name: volume.voxels / 1000 for name, volume in result.error_bars.items()}
    assert list(bars) == [PREDICTIVE, INTRINSIC, PARAMETER]
    np.testing.assert_allclose(bars[PREDICTIVE] ** 2, bars[INTRINSIC] ** 2 + bars[PARAMETER] ** 2, rtol=1e-4)
    engine, draws = Engine(model.network, model.spec, "cpu"), []
    axes = [Axis(n, 0, n, 2 * n) for n in volume.voxels.shape[1:]]
    (whole,) = plan_tiles(axes, None, 0)
    picture = np.clip(volume.voxels[1] / 1000, 0, 1)
    for number in range(4):
        with engine.one_pass(draw=number):
            draws.append(engine.run_outputs(picture, axes, whole, ["sr", "log_variance"]))
    images, spreads = (np.stack(found) for found in zip(*draws, strict=True))
    np.testing.assert_allclose(bars[PARAMETER][1], images.std(axis=0, ddof=1), atol=2e-6)
    np.testing.assert_allclose(bars[INTRINSIC][1], np.sqrt(np.exp(spreads).mean(axis=0)), rtol=1e-4)
    alone = super_resolve(volume, model, replace(OPTIONS, smooth=0.0, uncertainty=0))
    assert np.array_equal(alone.voxels, result.voxels)  # the result itself is drawn without dropout


def test_dropout_alone_gives_the_parameter_deviation_alone():
    result = super_resolve(scan(), drawing(log_variance=False), OPTIONS)
    assert set(result.error_bars) == {PREDICTIVE, PARAMETER}
    assert np.array_equal(result.error_bars[PREDICTIVE].voxels, result.error_bars[PARAMETER].voxels)
    assert result.error_bars[PREDICTIVE].voxels.mean() > 1


def test_tiles_change_nothing_and_blank_voxels_have_no_error_bars():
    volume = scan((2, 60, 60), dtype="uint16")
    mask = np.broadcast_to(cylinder(volume.voxels.shape), volume.voxels.shape)
    volume = Volume(np.where(mask, volume.voxels, 0).astype(np.uint16), volume.grid)
    options = replace(OPTIONS, blank="auto", dtype=None)
    whole, cut = (super_resolve(volume, drawing(), replace(options, tile=tile)).error_bars for tile in (0, 16))
    for name, found in whole.items():
        assert np.abs(cut[name].voxels - found.voxels).max() <= 2e-2
        assert not found.voxels[:, :4, :4].any() and found.voxels[:, 40:80, 40:80].all()


def test_calibrated_deviations_are_multiplied_by_what_was_found_for_such_scans():
    volume = scan()
    plain, calibrated = (
        super_resolve(volume, stub_model(Knowing(), intervals=intervals), OPTIONS)
        for intervals in ({}, {**KNOTS, "quantiles": ((2 * GAUSSIAN,) * 2,) * 2})
    )
    ratio = calibrated.error_bars[PREDICTIVE].voxels / plain.error_bars[PREDICTIVE].voxels
    assert np.allclose(ratio, 2, rtol=1e-5)
    assert "never compared" in plain.report["warnings"][-1] and not plain.report["error_bars"]["holds"]
    facts = calibrated.report["error_bars"]
    assert facts["factor"] == 2 and facts["calibrated_on"] == "drawn scans"
    figure = next(f for f in calibrated.report["quality"]["figures"] if f["key"] == "error_bars")
    assert figure["value"] == facts["percentile_95"] > facts["median"] > 0 and "+-" in figure["text"]
    window = Window(0.0, 60000.0)
    wide = error_bars_figure({**facts, "median": 1074.0, "percentile_95": 20310.0, "warning_above": 11400.0}, window)
    assert "+- 1070 grey values" in wide["text"] and "+- 20300 (34 % of" in wide["text"] and "e+" not in wide["text"]


def test_quantiles_are_interpolated_between_scans_and_doubted_beyond_them():
    intervals = Intervals.from_json(KNOTS)
    assert [intervals.factor(*at) * GAUSSIAN for at in ((0.3, 0), (0.45, 0.02), (0.6, 0.04), (2, 1))] == [2, 3.5, 5, 5]
    assert intervals.doubt(0.45, 0.02) == intervals.doubt(0.25, 0.042) == ""
    assert "blur is 0.9 voxels" in intervals.doubt(0.9, 0.02) and "0.3 voxels to 0.6" in intervals.doubt(0.9, 0.02)
    assert "noise is 6.00% of the window" in intervals.doubt(0.5, 0.06)
    assert Intervals.from_json(intervals.to_json()) == intervals


def test_scans_that_texture_fills_have_a_quantile_of_their_own():
    """At a noise of 0.02 drawn jaws have an evenness of 0.3: theirs is 1.5 up to 0.345, and from 0.405 on it is 3."""
    known = Intervals.from_json(KINDS)
    found = [known.factor(0.45, 0.02, evenness) * GAUSSIAN for evenness in (None, 0.1, 0.34, 0.375, 0.41, 0.9)]
    assert found == pytest.approx([1.5, 1.5, 1.5, 2.25, 3, 3])
    assert known.factor(0.45, 0.02, 0.1, is_sure=False) * GAUSSIAN == pytest.approx(3)  # it has no place in the table
    wide = Intervals.from_json({**KINDS, "quantiles": ((4.0, 4.0), (4.0, 4.0))})
    assert wide.factor(0.45, 0.02, 0.9) * GAUSSIAN == pytest.approx(4)  # never narrower than a jaw's
    assert known.strangeness(0.13) == known.strangeness(0.99) == ""
    assert "evenness 0.10, known from 0.15 to 0.80" in known.strangeness(0.1) and known.strangeness(1.01)
    assert Intervals.from_json(known.to_json()) == known
    assert set(Intervals.from_json(KNOTS).to_json()) == {*KNOTS, "voxels"}


def test_a_scan_is_told_from_a_jaw_by_how_evenly_its_deviations_are_spread():
    """`Knowing` claims more where it is brighter: a bright spot in even tissue, or values all over the window."""
    known, options = {**KINDS, "blur": (0.0, 2.0), "noise": (0.0, 1.0)}, replace(OPTIONS, uncertainty=2)
    known["evenness"] = ((0.4, 0.4), (0.4, 0.4))
    random, reports = np.random.default_rng(0), {}
    spot = np.full((3, 40, 36), 30.0)
    spot[:, 10:24, 10:24] = 950
    for name, voxels in {"spot": spot, "texture": random.uniform(100, 900, spot.shape)}.items():
        volume = Volume(voxels.astype("float32"), make_grid((36, 40, 3), (0.25, 0.25, 0.25)))
        model = stub_model(Knowing(), intervals=known)
        result = super_resolve(volume, model, replace(options, scanner_blur=0.25))
        plain = super_resolve(volume, stub_model(Knowing()), replace(options, scanner_blur=0.25))
        facts = reports[name] = result.report["error_bars"]
        ratio = result.error_bars[PREDICTIVE].voxels / plain.error_bars[PREDICTIVE].voxels
        assert np.allclose(ratio, facts["factor"], rtol=1e-4)
        figure = next(f for f in result.report["quality"]["figures"] if f["key"] == "error_bars")
        assert ("x for this scan: texture fills it" in figure["text"]) is (name == "texture")
    assert reports["spot"]["scaled_for_this_scan"] == 1 and reports["texture"]["scaled_for_this_scan"] > 1.4
    assert reports["spot"]["evenness"] < 0.5 < reports["texture"]["evenness"]


def test_narrow_error_bars_follow_the_local_contrast_and_the_widest_tenth_stays():
    """`Knowing` claims more where it is brighter: across an edge between dark tissues its bars hardly differ."""
    voxels = np.full((5, 60, 60), 100.0)
    voxels[:, :, 30:] = 140  # an edge between tissues that are nearly alike
    voxels[:, :24, :24] = 900
    volume = Volume(voxels.astype("float32"), make_grid((60, 60, 5), (0.25, 0.25, 0.25)))
    table = {"blur": (0.0, 2.0), "noise": (0.0, 1.0), "quantiles": ((GAUSSIAN, GAUSSIAN),) * 2}
    plain, following = (
        super_resolve(volume, stub_model(Knowing(), intervals={**KNOTS, **table, **more}), OPTIONS)
        for more in ({}, {"contrast": 0.7})
    )
    ratio = following.error_bars[PREDICTIVE].voxels / plain.error_bars[PREDICTIVE].voxels
    assert np.allclose(ratio, following.error_bars[INTRINSIC].voxels / plain.error_bars[INTRINSIC].voxels, rtol=1e-5)
    assert np.allclose(ratio[:, 4:40, 4:40], 1)  # bright: the widest bars
    edge, flat = ratio[2, 80, 58:62].mean(), ratio[2, 80, 90:110].mean()
    assert edge > 2 * flat and flat == pytest.approx(1, abs=0.01)
    assert following.report["error_bars"]["contrast"] == 0.7 and plain.report["error_bars"]["contrast"] == 0
    texture = {**KINDS, **table, "evenness": ((0.01, 0.01), (0.01, 0.01)), "evenness_met": (0.01, 1), "contrast": 0.7}
    filled = super_resolve(volume, stub_model(Knowing(), intervals=texture), OPTIONS)
    assert filled.report["error_bars"]["contrast"] == 0  # where texture fills a scan contrast tells nothing


def test_a_specimen_in_few_slices_of_a_scan_or_in_none_has_its_result_too():
    table = {"blur": (0.0, 2.0), "noise": (0.0, 1.0), "quantiles": ((GAUSSIAN, GAUSSIAN),) * 2, "contrast": 0.7}
    model = stub_model(Knowing(), intervals={**KNOTS, **table})
    for few in (False, True):
        voxels = np.zeros((40, 12, 12), np.float32)
        voxels[20] = 1000  # cut off by the window, as air is
        if few:
            voxels[1:3, 3:9, 3:9] = np.linspace(200, 700, 36).reshape(6, 6)  # none of twelve slices evenly apart
        found = super_resolve(Volume(voxels, make_grid((12, 12, 40), (0.25, 0.25, 0.25))), model, OPTIONS)
        assert np.isfinite(found.error_bars[PREDICTIVE].voxels).all()


def test_the_least_deviation_is_added_in_squares_to_all_that_have_any():
    volume, table = scan(), {"blur": (0.0, 2.0), "noise": (0.0, 1.0)}
    plain, least = (
        super_resolve(volume, stub_model(Knowing(), intervals={**KNOTS, **table, **more}), OPTIONS).error_bars
        for more in ({}, {"least": 0.02})
    )
    expected = np.hypot(plain[PREDICTIVE].voxels, 20)
    assert np.allclose(least[PREDICTIVE].voxels, expected, rtol=1e-4)
    assert np.allclose(least[INTRINSIC].voxels, expected, rtol=1e-4)
    voxels = np.where(cylinder(volume.voxels.shape), volume.voxels, 0).astype(np.uint16)
    known, options = {**KNOTS, **table, "least": 0.02, "contrast": 0.4}, replace(OPTIONS, blank="auto", dtype=None)
    blank = super_resolve(Volume(voxels, volume.grid), stub_model(Knowing(), intervals=known), options)
    found = blank.error_bars[PREDICTIVE].voxels
    assert np.isfinite(found).all() and not found[:, :4, :4].any() and found[:, 30:50, 30:50].min() >= 20


def test_the_contrast_of_a_place_is_seen_along_all_axes():
    window = Window(0.0, 100.0)
    ramps = np.indices((7, 20, 22)) * 5.0
    found = [local_contrast(ramp, 3, window)[10, 11] for ramp in ramps]
    assert found == pytest.approx([0.05] * 3, rel=1e-3)
    assert local_contrast(np.full((1, 1, 9), 5, np.int16), 0, window).max() == 0


def test_a_scan_of_another_kind_than_any_calibrated_one_is_said_to_be_one():
    known = {**KNOTS, "blur": (0.0, 2.0), "noise": (0.0, 1.0), "evenness_met": (0.1, 0.2)}
    report = super_resolve(scan(), stub_model(Knowing(), intervals=known), OPTIONS).report
    assert any("hardly hold" in text and "another kind of object" in text for text in report["warnings"])
    assert not report["error_bars"]["holds"]


def test_outside_the_calibrated_scans_a_run_says_that_the_bars_do_not_hold():
    model = stub_model(Knowing(), intervals={**KNOTS, "noise": (0.2, 0.3)})
    report = super_resolve(scan(), model, OPTIONS).report
    assert any("do not hold: the scan's noise" in text for text in report["warnings"])
    assert report["error_bars"]["holds"] is False and report["error_bars"]["doubts"]
    milder = super_resolve(scan(), stub_model(Knowing(), intervals=KNOTS), replace(OPTIONS, sharpness=50)).report
    assert any("sharpness" in text for text in milder["error_bars"]["doubts"])


@pytest.mark.parametrize(
    "wrong",
    [
        {"blur": (0.6, 0.3)},
        {"quantiles": ((1.0,), (2.0,))},
        {"quantiles": ((1.0, float("nan")), (2.0, 3.0))},
        {"noise": ()},
        {"noise": "none"},
        {"textured": 3.0},
        {"textured": 3.0, "evenness": ((0.2, 0.4),)},
        {"textured": 3.0, "evenness": ((0.2, 0.4), (0.0, 0.4))},
        {"evenness": ((0.2, 0.4), (0.2, 0.4))},
        {"evenness_met": (0.2,)},
        {"textured": "much"},
        {"contrast": float("inf")},
        {"least": -0.1},
    ],
)
def test_a_card_with_broken_intervals_is_refused(wrong):
    with pytest.raises(ModelError, match="intervals"):
        ModelCard("m", CubicTwice().describe(), intervals={**KNOTS, **wrong})
    for known in (KNOTS, KINDS):
        assert ModelCard("m", CubicTwice().describe(), intervals=known).to_json()["intervals"] == known


def test_a_card_says_in_words_where_its_error_bars_do_not_hold():
    words = stub_model(Knowing(), intervals=KNOTS).card.error_bars
    assert "drawn scans" in words and "blur of 0.3 to 0.6 voxels" in words and "noise of 0.0% to 4.0%" in words
    assert "do not hold" in words and "Never calibrated" in stub_model(Knowing()).card.error_bars
    assert stub_model(CubicTwice()).card.error_bars == ""


def test_a_model_that_tells_nothing_shows_its_disagreement_and_says_so_where_a_mask_is_asked_for():
    volume, model = scan(), stub_model(CubicTwice())
    assert super_resolve(volume, model, OPTIONS).disagreement is not None
    with pytest.raises(OptionError, match="has none.*disagreement_above"):
        super_resolve(volume, model, replace(OPTIONS, warning_above=0.1))
    with pytest.raises(OptionError, match="warning_above"):
        super_resolve(volume, drawing(), replace(OPTIONS, disagreement_above=10.0))


def test_the_halo_is_measured_of_the_log_variance_as_of_the_image():
    """One that looks ten pixels far for its spread, and two for its image."""

    class Wide(Knowing):
        def describe(self):
            return replace(super().describe(), context="unknown")

        def encode(self, x):
            return torch.cat((x, F.avg_pool2d(F.pad(x, (10,) * 4, mode="replicate"), 21, stride=1)), 1)

        def decode(self, features, positions=None):
            image, mean = (CubicTwice.decode(self, part)["sr"] for part in features.split(1, 1))
            return {"sr": image, "spread": mean - 5}

    narrow, wide = (calibrate(stub_model(network), device="cpu").spec.context for network in (Knowing(), Wide()))
    assert narrow == 2 and wide >= 20


def test_in_three_planes_nothing_is_told_and_the_disagreement_is_measured():
    model = stub_model(Knowing())
    result = super_resolve(scan((9, 20, 18)), model, replace(OPTIONS, planes="isotropic"))
    assert result.disagreement is not None and not result.error_bars
    with pytest.raises(OptionError, match="in three planes"):
        make_plan(scan().grid, np.dtype("f4"), model.card, replace(OPTIONS, planes="isotropic", warning_above=0.1))


def test_files_lie_beside_the_result_with_a_mask_above_the_threshold(tmp_path):
    volume = scan(dtype="int16")
    volume.write(tmp_path / "scan.nrrd")
    options = replace(OPTIONS, dtype=None, warning_above=0.05)
    report = apply_to_file(tmp_path / "scan.nrrd", tmp_path / "out.nii.gz", stub_model(Knowing()), options)
    names = [PREDICTIVE, INTRINSIC, "warning mask"]
    assert sorted(p.name for p in tmp_path.glob("out *")) == sorted(f"out {name}.nii.gz" for name in names)
    assert set(report["beside"]) == set(names)
    predictive, mask = (
        sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / f"out {name}.nii.gz"))) for name in names[::2]
    )
    assert mask.dtype == np.uint8 and np.array_equal(mask, predictive > 50) and 0 < mask.mean() < 1
    facts = json.loads((tmp_path / "out.nii.gz.json").read_text())["super_resolution"]["error_bars"]
    assert facts["warning_above"] == 50 and facts["share_above"] == pytest.approx(mask.mean(), abs=0.02)
    text = result_text(report, "out.nii.gz")
    assert "Error bars: +-" in text and "Warning mask in" in text


def test_the_widest_twentieth_can_be_marked_and_a_mask_without_anything_says_where_that_begins(tmp_path):
    scan((4, 40, 36), dtype="int16").write(tmp_path / "scan.nrrd")
    marked = {}
    for above in (0.19, "auto"):
        options = replace(OPTIONS, dtype=None, warning_above=above)
        report = apply_to_file(tmp_path / "scan.nrrd", tmp_path / f"{above}.nrrd", stub_model(Knowing()), options)
        mask = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / f"{above} warning mask.nrrd")))
        marked[above] = mask.mean()
        figure = next(f for f in report["super_resolution"]["quality"]["figures"] if f["key"] == "error_bars")
        facts = report["super_resolution"]["error_bars"]
        assert ("the widest twentieth begins at" in figure["text"]) is (above == 0.19)
    assert marked[0.19] == 0 and marked["auto"] == pytest.approx(0.05, abs=0.003)
    assert facts["warning_above"] == facts["widest_above"]


def test_no_voxel_is_marked_for_a_chance_that_is_not_worth_a_word():
    chances, deviations = np.zeros((4, 50, 50), np.float32), np.ones((4, 50, 50), np.float32)
    chances[0, :2] = 30.0  # of fewer voxels than a twentieth
    name, above = marked_of({MISCLASSIFIED: chances, PREDICTIVE: deviations}, "bone", 1000.0)
    assert name == MISCLASSIFIED and above == pytest.approx(0.1)
    chances[:, :10] = 20.0
    assert marked_of({MISCLASSIFIED: chances, PREDICTIVE: deviations}, "bone", 1000.0)[1] == pytest.approx(20.0)


def test_where_bone_may_be_misjudged_is_told_in_per_cent_and_its_likeliest_twentieth_is_marked(tmp_path):
    """`Knowing` claims 1 % of the window and a tenth of the image: at a threshold of 500 every deviation of 60."""
    volume, model = scan((4, 40, 36), dtype="int16"), stub_model(Knowing())
    volume.write(tmp_path / "scan.nrrd")
    for above, threshold in (("bone=500", 500.0), ("bone", None)):
        options = replace(OPTIONS, dtype=None, warning_above=above)
        report = apply_to_file(tmp_path / "scan.nrrd", tmp_path / "out.nrrd", model, options)
        image, chance, deviation, mask = (
            sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / f"out{name}.nrrd"))).astype(float)
            for name in ("", " bone misclassification", f" {PREDICTIVE}", " warning mask")
        )
        facts = report["super_resolution"]["error_bars"]
        within = image[(image > 20) & (image < 980)]
        threshold = threshold or bone_threshold(within)
        assert facts["bone_above"] == pytest.approx(threshold, rel=0.02)
        side = norm.cdf(-np.abs(image - facts["bone_above"]) / deviation)
        assert np.allclose(chance, 100 * side, atol=0.01) and chance.max() > 45
        assert np.array_equal(mask > 0, chance > chance[mask > 0].min() - 1e-6)
        assert mask.mean() == pytest.approx(0.05, abs=0.005) and facts["marked"] == "bone misclassification"
        assert facts["bone_misclassified"] == pytest.approx(side.mean(), rel=0.02)
        figure = next(f for f in report["super_resolution"]["quality"]["figures"] if f["key"] == "error_bars")
        assert f"bone's threshold, {facts['bone_above']:g}" in figure["text"]
        assert f"{100 * side.mean():.2g} % of the voxels are expected to" in figure["text"]


def test_blank_voxels_are_never_marked_and_another_model_refuses_what_it_cannot_tell():
    volume = scan((2, 60, 60), dtype="uint16")
    mask = np.broadcast_to(cylinder(volume.voxels.shape), volume.voxels.shape)
    volume = Volume(np.where(mask, volume.voxels, 0).astype(np.uint16), volume.grid)
    options = replace(OPTIONS, blank="auto", dtype=None, warning_above="bone=1")
    whole, cut = (super_resolve(volume, drawing(), replace(options, tile=tile)).error_bars for tile in (0, 16))
    found = whole["bone misclassification"].voxels
    assert np.abs(found - cut["bone misclassification"].voxels).max() < 0.1
    assert not found[:, :4, :4].any() and found[:, 40:80, 40:80].max() > 0
    with pytest.raises(OptionError, match="warning_above"):
        super_resolve(volume, stub_model(CubicTwice()), options)


def test_the_command_takes_the_threshold(capsys):
    parse = lambda *words: options_from_arguments(make_parser().parse_args(["apply", "a", "b", *words]))  # noqa: E731
    assert parse("--uncertainty").warning_above == 0.19
    assert parse("--uncertainty", "--warning-above", "0.1").warning_above == 0.1
    for words in ("auto", "bone", "bone=-200", "bone=1.5e3"):
        assert parse("--uncertainty", "--warning-above", words).warning_above == words
    for words in ("abc", "bone=", "bone=much", "bone=nan", "bones"):
        with pytest.raises(SystemExit):
            parse("--uncertainty", "--warning-above", words)
        assert f"'{words}' is neither a share of the window nor auto, bone or bone=GREY" in capsys.readouterr().err
    with pytest.raises(OptionError, match="warning_above is widest"):
        Options(uncertainty=4, warning_above="widest")
    for words in (("--warning-above", "0.1"), ("--uncertainty", "--warning-above", "0")):
        with pytest.raises(OptionError):
            parse(*words)
