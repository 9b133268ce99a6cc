"""The path from volume to super-resolved volume."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest
from CBCTSuperResLib import (
    Grid,
    Options,
    Volume,
    super_resolve,
)
from CBCTSuperResLib.acquisition.phantom import jaw_scans
from CBCTSuperResLib.apply import plan as planning
from CBCTSuperResLib.apply import run
from CBCTSuperResLib.apply.plan import make_plan
from CBCTSuperResLib.apply.speed import known_speed, record_speed
from CBCTSuperResLib.core.errors import Cancelled, InputError, OptionError
from CBCTSuperResLib.core.resources import resource_folder
from CBCTSuperResLib.measure.fidelity import psnr
from helpers import make_grid, position_error_mm
from stub_networks import CubicTwice, stub_model, tiny_model

WINDOW = (300.0, 1500.0)
PLAIN = Options(window=WINDOW, device="cpu")


def scan(shape=(7, 46, 50), blank=True, seed=0, dtype="uint16") -> Volume:
    """Noisy structures in a cylindrical field of view, with values outside the window, at an oblique place."""
    k, j, i = np.meshgrid(*map(np.arange, shape), indexing="ij")
    values = 900 + 500 * np.sin(i / 3 + k) * np.cos(j / 5) + 900 * (np.hypot(i - 30, j - 20) < 4)
    values += np.random.default_rng(seed).normal(0, 30, shape)
    values = np.clip(values, 1, None)
    if blank:
        values[np.hypot(i - (shape[2] - 1) / 2, j - (shape[1] - 1) / 2) > 0.48 * min(shape[1:])] = 0
    return Volume(values.astype(dtype), make_grid(shape[::-1], (0.25, 0.25, 0.3)))


def plan_of(volume, model, options=PLAIN):
    return make_plan(volume.grid, volume.voxels.dtype, model.card, options)


@pytest.fixture(scope="module")
def model():
    return tiny_model()


@pytest.fixture(scope="module")
def volume():
    return scan()


@pytest.fixture(scope="module")
def full(volume, model):
    return super_resolve(volume, model, PLAIN)


def test_the_result_covers_the_same_extent_with_twice_the_samples_in_plane(volume, full):
    assert full.voxels.shape == (7, 92, 100) and full.voxels.dtype == volume.voxels.dtype
    assert position_error_mm(full.grid, volume.grid.resampled((100, 92, 7))) <= 1e-6


def test_the_input_is_left_as_it_is(model):
    volume = scan()
    before = volume.voxels.copy()
    volume.voxels.flags.writeable = False
    super_resolve(volume, model, Options(window=WINDOW, smooth=0.5, device="cpu"))
    np.testing.assert_array_equal(volume.voxels, before)


def test_the_result_is_deterministic(volume, model, full):
    np.testing.assert_array_equal(super_resolve(volume, model, PLAIN).voxels, full.voxels)


def test_the_network_matters(volume, full):
    other = super_resolve(volume, tiny_model(seed=1), PLAIN)
    assert np.mean(other.voxels != full.voxels) > 0.5


def test_blank_voxels_are_restored_along_the_cylinder(volume, full):
    j, i = (np.arange(n) / 2 - 0.25 for n in full.voxels.shape[1:])
    blank = full.report["blank"]
    assert blank["kind"] == "cylinder" and blank["value"] == 0
    distance = np.hypot((j - 22.5)[:, None], i - 24.5)
    outside = full.voxels == 0
    assert outside[:, distance > 0.48 * 46 + 0.8].all()
    assert not outside[:, distance < 0.48 * 46 - 0.8].any()
    assert (outside == outside[0]).all()


def test_the_corner_does_not_show_where_the_field_of_view_ends(volume, model):
    """The network gets filled corners, so what the blank value was cannot change what it sees."""
    other = volume.voxels.copy()
    other[other == 0] = 60000
    a, b = (super_resolve(Volume(v, volume.grid), model, PLAIN).voxels for v in (volume.voxels, other))
    np.testing.assert_array_equal(a[a != 0], b[a != 0])


def test_slices_without_data_are_not_computed(model):
    volume = scan((9, 40, 40), blank=False)
    voxels = volume.voxels.copy()
    voxels[6:] = 0
    result = super_resolve(Volume(voxels, volume.grid), model, Options(window=WINDOW, blank=0, device="cpu"))
    assert result.report["pieces"] == 6
    assert (result.voxels[6:] == 0).all() and result.voxels[:6].any(axis=(1, 2)).all()


def test_an_empty_field_of_view_still_ends_with_full_progress(model):
    volume, seen = scan((4, 40, 40)), []
    options = Options(window=WINDOW, roi=((0, 4), (0, 4), (0, 4)), device="cpu")
    result = super_resolve(volume, model, options, lambda fraction, message: seen.append(fraction))
    assert (result.voxels == 0).all() and seen[-1] == 1.0 and result.report["pieces"] == 0


@pytest.mark.parametrize("smooth", [0.0, 0.5])
@pytest.mark.parametrize("roi", [((10, 33), (5, 46), (2, 5)), ((0, 9), (0, 17), (0, 7)), ((20, 21), (20, 21), (3, 4))])
def test_a_roi_is_the_crop_of_the_full_result(volume, model, roi, smooth):
    options = {"window": WINDOW, "smooth": smooth, "dtype": "float32", "device": "cpu"}
    whole = super_resolve(volume, model, Options(**options))
    part = super_resolve(volume, model, Options(roi=roi, **options))
    (i0, i1), (j0, j1), (k0, k1) = roi
    crop = whole.voxels[k0:k1, 2 * j0 : 2 * j1, 2 * i0 : 2 * i1]
    assert np.abs(part.voxels - crop).max() <= 1e-5 * (WINDOW[1] - WINDOW[0])
    expected = whole.grid.cropped((2 * i0, 2 * j0, k0), (2 * i1, 2 * j1, k1))
    assert position_error_mm(part.grid, expected) <= 1e-6


@pytest.mark.parametrize("tile", [16, 25])
def test_tiles_change_nothing(volume, model, full, tile):
    options = {"window": WINDOW, "dtype": "float32", "device": "cpu"}
    whole, tiled = (super_resolve(volume, model, Options(tile=t, **options)).voxels for t in (0, tile))
    assert np.abs(whole - tiled).max() <= 1e-5 * (WINDOW[1] - WINDOW[0])


def test_progress_grows_and_ends_at_one(volume, model):
    seen = []
    super_resolve(volume, model, PLAIN, lambda fraction, message: seen.append((fraction, message)))
    fractions = [fraction for fraction, _ in seen]
    assert fractions == sorted(fractions) and fractions[0] == 0 and fractions[-1] == 1
    assert len(seen) >= 7 and all(message for _, message in seen)


def test_what_progress_raises_ends_the_run(volume, model):
    def progress(fraction, message):
        if fraction > 0.3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        super_resolve(volume, model, PLAIN, progress)


@pytest.mark.parametrize("calls", [0, 40])
def test_a_run_can_be_cancelled(volume, model, calls):
    asked = []

    def cancelled():
        asked.append(1)
        return len(asked) > calls

    with pytest.raises(Cancelled):
        super_resolve(volume, model, PLAIN, cancelled=cancelled)
    assert len(asked) == calls + 1


def test_the_result_is_written_into_the_memory_that_is_given(volume, model, full, tmp_path):
    asked = []

    def allocate(shape, dtype):
        asked.append((tuple(shape), np.dtype(dtype)))
        return np.memmap(tmp_path / "result.raw", dtype, "w+", shape=tuple(shape))

    result = super_resolve(volume, model, PLAIN, allocate=allocate)
    assert isinstance(result.voxels, np.memmap) and asked == [((7, 92, 100), np.dtype("uint16"))]
    np.testing.assert_array_equal(result.voxels, full.voxels)


@pytest.mark.parametrize(
    ("voxels", "words"),
    [
        (np.full((5, 20, 20), np.nan, np.float32), "NaN"),
        (np.full((5, 20, 20), 7, np.int16), "same value"),
        (np.random.default_rng(0).integers(0, 4, (5, 20, 20)).astype(np.uint8), "label map"),
        (np.zeros((1, 20, 20), np.int16), "single slice"),
        (np.zeros((5, 20, 20), bool), "grey values"),
    ],
)
def test_volumes_that_are_no_scans_are_refused(model, voxels, words):
    with pytest.raises(InputError, match=words):
        super_resolve(Volume(voxels, Grid(voxels.shape[::-1])), model, PLAIN)


@pytest.mark.parametrize("options", [{"roi": ((0, 99), (0, 5), (0, 5))}, {"scale": 3.0}, {"window": (5.0, 5.0)}])
def test_options_that_do_not_fit_are_refused(volume, model, options):
    with pytest.raises(OptionError):
        super_resolve(volume, model, Options(**{"window": WINDOW, **options}))


def test_the_report_says_what_was_done(volume, model):
    noted = Volume(volume.voxels, volume.grid, report={"warnings": ["The file records no spacing."]})
    report = super_resolve(noted, model, PLAIN).report
    assert json.loads(json.dumps(report)) == report
    assert report["model"] == "stub" and report["window"] == list(WINDOW) and report["precision"] == "fp32"
    assert set(report["blank"]) == {"kind", "value", "share", "rule"}
    assert report["warnings"][0] == "The file records no spacing."
    assert report["output_size"] == [100, 92, 7] and report["pieces"] == 7


def test_the_padding_value_stays_with_the_volume(volume, model):
    padded = Volume(volume.voxels, volume.grid, padding_value=0.0)
    result = super_resolve(padded, model, PLAIN)
    assert result.padding_value == 0 and "padding value" in result.report["blank"]["rule"]


def test_a_scan_that_was_looked_at_once_is_not_looked_at_again(volume, model, full, monkeypatch):
    plan = plan_of(volume, model).with_scan(volume)
    for name in ("check_voxels", "find_blanks", "choose_window"):
        monkeypatch.setattr(planning, name, None)
    np.testing.assert_array_equal(super_resolve(volume, model, plan=plan).voxels, full.voxels)


def test_known_blanks_leave_only_the_window_to_be_chosen(volume, model, monkeypatch):
    known = plan_of(volume, model).with_scan(volume)
    monkeypatch.setattr(planning, "find_blanks", None)
    again = plan_of(volume, model, Options(window=(0.0, 2000.0))).with_scan(volume, blanks=known.blanks)
    assert again.blanks is known.blanks and again.choice.window.hi == 2000


def test_a_lone_piece_of_a_roi_says_nothing_of_the_speed(volume, monkeypatch):
    model = stub_model(CubicTwice(), weights_sha256="a" * 64)
    for last, expected in ((4, None), (5, (2 + 20 + 2) ** 2 * 2 / 8)):  # with what is read around it
        options = Options(window=WINDOW, roi=((10, 30), (10, 30), (3, last)), device="cpu")
        report = super_resolve(volume, model, options).report
        report["seconds"]["computing"] = 8.0
        record_speed({"super_resolution": report})
        assert known_speed(model.card, "cpu") == expected


def test_opencv_gets_its_threads_back(volume, model):
    before = cv2.getNumThreads()
    super_resolve(volume, model, PLAIN)
    assert cv2.getNumThreads() == before


def test_opencv_gets_its_threads_back_from_runs_at_the_same_time(volume, model, monkeypatch):
    """The first begins and ends before the second does; neither may leave what the other has set."""
    monkeypatch.setattr(run.cv2, "getNumThreads", lambda: count[0])
    monkeypatch.setattr(run.cv2, "setNumThreads", lambda n: count.__setitem__(0, n))
    count, first, second = [4], run._one_opencv_thread(), run._one_opencv_thread()
    first.__enter__()
    second.__enter__()
    assert count == [1]
    first.__exit__(None, None, None)
    assert count == [1], "the second run still goes on"
    second.__exit__(None, None, None)
    assert count == [4]


@pytest.mark.parametrize("error", [MemoryError(), ValueError("no"), np.linalg.LinAlgError("singular")])
def test_a_result_that_cannot_be_judged_is_there_with_a_warning(volume, model, full, monkeypatch, error):
    def fail(*_):
        raise error

    monkeypatch.setattr(run, "quality_card", fail)
    result = super_resolve(volume, model, PLAIN)
    np.testing.assert_array_equal(result.voxels, full.voxels)
    assert "quality of the result could not be measured" in result.report["warnings"][-1]
    assert set(result.report["quality"]) == set(full.report["quality"]) and result.report["quality"]["figures"] == []
    assert json.loads(json.dumps(result.report)) == result.report


@pytest.mark.parametrize("blur", [1e9, -1.0, float("nan"), float("inf")])
def test_a_card_with_an_absurd_blur_costs_no_result(volume, full, blur):
    training = {"data": {"degradation": {"blur": [0.5, blur, 1.0], "noise": [0.0, 0.02]}}}
    result = super_resolve(volume, tiny_model(training=training), PLAIN)
    np.testing.assert_array_equal(result.voxels, full.voxels)
    assert result.report["quality"]["blur_pixels"] == 0.85


def test_big_endian_and_strided_voxels_give_the_same(volume, model, full):
    swapped = super_resolve(Volume(volume.voxels.astype(">u2"), volume.grid), model, PLAIN)
    np.testing.assert_array_equal(swapped.voxels, full.voxels)
    strided = np.asfortranarray(volume.voxels)
    np.testing.assert_array_equal(super_resolve(Volume(strided, volume.grid), model, PLAIN).voxels, full.voxels)


def test_a_model_of_unknown_halo_runs_on_whole_slices(volume, full):
    np.testing.assert_array_equal(super_resolve(volume, tiny_model(context="unknown"), PLAIN).voxels, full.voxels)


@pytest.fixture(scope="module")
def conformance_model():
    from CBCTSuperResLib.models.model import Model

    path = resource_folder() / "Models" / "light.safetensors"
    return Model.load(path) if path.is_file() else stub_model(CubicTwice(), window=(26000.0, 46000.0))


@pytest.mark.parametrize("gain", [0.9, 1.1])
def test_the_same_jaw_in_other_grey_values_gives_the_same_result(conformance_model, gain):
    """Raw 16 bit, Hounsfield-like values, and another gain and offset: within 0.3 dB of each other."""
    fine, coarse = jaw_scans((6, 128, 128), 0.2, seed=3)
    kinds = {
        "raw": lambda raw: raw,
        "hu": lambda raw: np.rint((raw.astype(np.float64) - 30000) * 0.18 - 100).astype(np.int16),
        "gain": lambda raw: np.clip(np.rint(gain * raw.astype(np.float64) + 600), 0, 65535).astype(np.uint16),
    }
    inside = fine.voxels > 0
    quality = {}
    for name, kind in kinds.items():
        voxels = kind(coarse.voxels)
        voxels[coarse.voxels == 0] = 0 if name != "hu" else -8000
        result = super_resolve(Volume(voxels, coarse.grid), conformance_model, Options(dtype="float32", device="cpu"))
        truth = kind(fine.voxels).astype(np.float64)
        width = float(kind(np.array([45999], np.uint16))[0]) - float(kind(np.array([26001], np.uint16))[0])
        quality[name] = psnr(result.voxels / width, truth / width, mask=inside)
    assert max(quality.values()) - min(quality.values()) <= 0.3, quality
    assert min(quality.values()) > 18
