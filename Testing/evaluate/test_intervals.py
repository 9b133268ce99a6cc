"""Calibration of error bars: quantiles that are known, coverage on scans that were not calibrated with."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from CBCTSuperResLib import Options, Volume, super_resolve
from CBCTSuperResLib.cli import main
from CBCTSuperResLib.core.errors import InputError, ModelError, OptionError
from CBCTSuperResLib.evaluate import intervals
from CBCTSuperResLib.evaluate.intervals import calibrate_intervals, settings_of
from CBCTSuperResLib.models.card import read_card
from CBCTSuperResLib.models.folder import find_model
from CBCTSuperResLib.models.intervals import Intervals
from CBCTSuperResLib.networks import NETWORKS, Registered, build_network
from helpers import make_grid
from stub_networks import CubicTwice, stub_model

SCANNER = {"data": {"degradation": {"blur": [0.4, 0.85, 1.4], "noise": [0.004, 0.03]}}}
NARROW = {"data": {"degradation": {"blur": [0.9, 0.9], "noise": [0.004, 0.03]}}}


class Sure(CubicTwice):
    """Cubic enlargement that claims a deviation of 2.5 % of the window everywhere."""

    def describe(self):
        outputs = {"sr": "image", "log_variance": "log_variance"}
        return replace(super().describe(), network="sure", outputs=outputs)

    def decode(self, features, positions=None):
        image = super().decode(features)["sr"]
        return {"sr": image, "log_variance": torch.full_like(image, 2 * np.log(0.025))}


@pytest.fixture(autouse=True)
def _registered(monkeypatch):
    monkeypatch.setitem(NETWORKS, "sure", Registered(f"{__name__}:Sure"))
    torch.set_num_threads(1)


@pytest.fixture
def small(monkeypatch):
    """Drawn scans that take no time."""
    monkeypatch.setattr(intervals, "SHAPE", (4, 96, 96))
    monkeypatch.setattr(intervals, "SPACINGS", (0.08, 0.12, 0.17))
    monkeypatch.setattr(intervals, "NOISES", (0.005, 0.02))
    monkeypatch.setattr(intervals, "BONE_SPACINGS", (0.05, 0.08))


def pair(error: float, seed: int = 0):
    """A scan, and a truth that a cubic enlargement misses by Gaussian errors of so many grey values."""
    random = np.random.default_rng(seed)
    voxels = (1000 * random.random((3, 48, 44))).astype(np.float32)
    scan = Volume(voxels, make_grid((44, 48, 3), (0.25, 0.25, 0.25)))
    result = super_resolve(scan, stub_model(CubicTwice()), Options(window=(0.0, 1000.0), device="cpu", blank="none"))
    return scan, Volume(result.voxels + error * random.standard_normal(result.voxels.shape), result.grid)


def test_given_scans_give_the_quantile_of_their_errors():
    """Errors of 50 grey values where 25 are claimed: 3.29 deviations on either side hold 90 %."""
    found = calibrate_intervals(stub_model(Sure()), [pair(50.0)], device="cpu")
    known = Intervals.from_json(found.model.card.intervals)
    assert known.quantiles[0][0] == pytest.approx(2 * 1.645, rel=0.05)
    assert known.made_on == "1 given scan with a truth" and len(known.blur) == len(known.noise) == 1
    (share,) = found.coverage.values()
    assert share == pytest.approx(0.9, abs=1e-3)
    assert known.doubt(known.blur[0], known.noise[0]) == ""


def test_several_given_scans_share_a_quantile_and_span_their_blur_and_noise():
    scans = [pair(50.0, seed) for seed in range(2)]
    scans[1] = (Volume(scans[1][0].voxels * 0.5 + 250, scans[1][0].grid), scans[1][1])
    found = calibrate_intervals(stub_model(Sure()), scans, device="cpu")
    known = Intervals.from_json(found.model.card.intervals)
    assert len(found.coverage) == 2 and len({q for row in known.quantiles for q in row}) == 1
    assert known.textured is None and known.evenness_met == pytest.approx((1, 1))  # of one that claims the same
    with pytest.raises(InputError, match="at most 5"):
        calibrate_intervals(stub_model(Sure()), scans * 3, device="cpu")


def test_files_of_one_name_in_several_folders_all_count(tmp_path):
    """Errors of 20 and of 80 grey values where 25 are claimed: the quantile lies between theirs."""
    files = []
    for error in (80.0, 20.0):
        for role, volume in zip(("coarse", "fine"), pair(error), strict=True):
            (tmp_path / f"{error:g}").mkdir(exist_ok=True)
            volume.write(tmp_path / f"{error:g}" / f"{role}.nrrd")
        files.append((tmp_path / f"{error:g}" / "coarse.nrrd", tmp_path / f"{error:g}" / "fine.nrrd"))
    found = calibrate_intervals(stub_model(Sure()), files, device="cpu")
    assert list(found.coverage) == [str(scan) for scan, _ in files]
    wide, narrow = found.coverage.values()  # each by the interval of the other's errors
    assert wide == pytest.approx(0.319, abs=0.02) and narrow > 0.999  # 1.645 x 20 / 80 deviations hold 31.9 %
    assert Intervals.from_json(found.model.card.intervals).made_on == "2 given scans with a truth"


def test_scans_of_another_place_and_too_few_voxels_are_refused():
    scan, truth = pair(50.0)
    elsewhere = replace(truth.grid, origin=np.array([900.0, 0.0, 0.0]))
    with pytest.raises(InputError, match="Scan 1: Only"):
        calibrate_intervals(stub_model(Sure()), [(scan, Volume(truth.voxels, elsewhere))], device="cpu")
    with pytest.raises(InputError, match="can be compared"):
        dark = Volume(np.zeros_like(truth.voxels), truth.grid)
        calibrate_intervals(stub_model(Sure()), [(scan, dark)], device="cpu")


def test_drawn_scans_give_a_quantile_for_each_blur_and_noise_that_holds_for_other_scans(small):
    model = stub_model(Sure(), window=(26000.0, 46000.0), training=NARROW)
    found = calibrate_intervals(model, device="cpu")
    known = Intervals.from_json(found.model.card.intervals)
    assert (known.blur, known.noise) == ((0.45,), (0.005, 0.02))
    assert known.quantiles[0][0] < known.quantiles[0][1] and "drawn jaws" in known.made_on
    assert len(found.coverage) == 3 and all(0.85 < share < 0.95 for share in found.coverage.values())
    assert "trabecular" in known.made_on and known.textured > 1.5 * max(known.quantiles[0])
    assert np.allclose(known.evenness, 1) and known.evenness_met == (1, 1)
    assert (known.contrast, known.least) == (0.4, 0.006)
    again = calibrate_intervals(found.model, device="cpu")  # what is known already changes nothing
    assert again.model.card.intervals == found.model.card.intervals


def test_the_drawn_scans_are_those_that_the_model_learned_from():
    card = stub_model(Sure(), training=SCANNER).card
    assert settings_of(card) == ((0.2, 0.45, 0.7), (0.005, 0.02))
    wide = {"data": {"degradation": {"blur": [0.1, 2.1], "noise": [0.0, 0.03], "strong_noise": [0.0, 0.07]}}}
    wide["data"]["degradation"]["strong_share"] = 0.4
    card = stub_model(Sure(), training=wide).card
    assert settings_of(card) == ((0.05, 0.2, 0.45, 0.7, 0.95, 1.05), (0.005, 0.02, 0.035, 0.055))
    assert settings_of(stub_model(Sure()).card) == ((0.425,), (0.005,))


def test_a_model_without_error_bars_is_told_what_it_can_do_instead():
    with pytest.raises(ModelError, match="disagreement.*log_variance"):
        calibrate_intervals(stub_model(CubicTwice()), device="cpu")


def test_the_command_writes_the_table_into_the_model(small, tmp_path, capsys):
    torch.manual_seed(0)
    network = build_network("perceptual2d", nf=4, nb=1, log_variance=True)
    stub_model(network, window=(26000.0, 46000.0), training=NARROW).save(tmp_path / "m.safetensors")
    assert main(["models", "calibrate", str(tmp_path / "m.safetensors"), "--intervals", "--device", "cpu"]) == 0
    text = capsys.readouterr().out
    assert "Share that they hold of other scans" in text and "noise 2.0%" in text
    card = read_card(tmp_path / "m.safetensors")
    assert Intervals.from_json(card.intervals).noise == (0.005, 0.02)
    wrong = ["models", "calibrate", str(tmp_path / "m.safetensors"), "--pair", "a.nrrd", "b.nrrd"]
    assert main(wrong) == OptionError.exit_code
    before = find_model("light-bars").read_bytes()
    assert main(["models", "calibrate", "light-bars", "--intervals"]) == OptionError.exit_code
    assert "light-bars came with the program" in capsys.readouterr().err
    assert find_model("light-bars").read_bytes() == before


def test_the_shipped_error_bars_belong_to_lights_image_and_hold_on_a_jaw_that_nothing_was_calibrated_with():
    from CBCTSuperResLib.acquisition.phantom import WINDOW, jaw_scans
    from CBCTSuperResLib.models.model import Model

    bars, light = Model.load("light-bars"), Model.load("light")
    options = Options(window=WINDOW, device="cpu", dtype="float32", blank="none", uncertainty=2)
    width, held = WINDOW[1] - WINDOW[0], []
    for seed in (77, 78):
        fine, coarse = jaw_scans((8, 128, 128), 0.11, seed=seed, blank=None)
        result = super_resolve(coarse, bars, options)
        truth, half = fine.voxels.astype(float), 1.645 * result.error_bars["predictive deviation"].voxels
        counts = (truth > WINDOW[0] + 0.02 * width) & (truth < WINDOW[1] - 0.02 * width)
        counts[:, :8] = counts[:, -8:] = counts[:, :, :8] = counts[:, :, -8:] = False
        held.append((np.abs(result.voxels - truth) <= half)[counts])
    assert np.mean(np.concatenate(held)) == pytest.approx(0.9, abs=0.04)
    assert np.array_equal(result.voxels, super_resolve(coarse, light, replace(options, uncertainty=0)).voxels)
    known = Intervals.from_json(bars.card.intervals)
    assert known.doubt(0.425, 0.02) == "" and "blur" in known.doubt(1.0, 0.02) and "noise" in known.doubt(0.425, 0.09)
