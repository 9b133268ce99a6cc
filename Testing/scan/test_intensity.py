"""Windows are exact, and the automatic one follows the tissues from scanner to scanner."""

from __future__ import annotations

from dataclasses import astuple
from types import SimpleNamespace

import numpy as np
import pytest
from CBCTSuperResLib.core.errors import InputError, OptionError
from CBCTSuperResLib.core.volume import Grid
from CBCTSuperResLib.io.volume import Volume
from CBCTSuperResLib.scan.blank_region import BlankRegion
from CBCTSuperResLib.scan.field_of_view import find_blanks
from CBCTSuperResLib.scan.tissue import TissueLevels, levels_of, sample_voxels
from CBCTSuperResLib.scan.window import PRESETS, Window
from CBCTSuperResLib.scan.window_choice import choose_window
from hypothesis import given
from hypothesis import strategies as st

RAW = TissueLevels(22000.0, 29000.0, 40000.0)
CARD_WINDOW = (20000.0, 45000.0)
CARD = SimpleNamespace(window=CARD_WINDOW, levels=RAW.in_window(Window(*CARD_WINDOW)))


def head(seed: int = 0) -> np.ndarray:
    """A noisy head of soft tissue with a bony shell in air, raw 16-bit levels as floats, shape (30, 80, 72)."""
    rng = np.random.default_rng(seed)
    k, j, i = np.ix_(np.linspace(-0.7, 0.7, 30), np.linspace(-1, 1, 80), np.linspace(-1, 1, 72))
    radius = np.sqrt(k**2 + (j / 0.9) ** 2 + (i / 0.8) ** 2)
    scan = np.where(radius < 1, RAW.soft, RAW.air)
    scan = np.where(np.abs(radius - 0.75) < 0.08, RAW.bone, scan)
    return scan + rng.normal(0, 500, scan.shape)


def levels_in(voxels: np.ndarray, blank: BlankRegion | None = None) -> TissueLevels:
    return levels_of(sample_voxels(voxels, blank))


def as_volume(voxels: np.ndarray) -> Volume:
    return Volume(voxels, Grid(voxels.shape[::-1]))


@given(
    lo=st.integers(-(2**31), 2**31),
    width=st.integers(1, 2**23),
    parts=st.lists(st.floats(0, 1), min_size=1, max_size=20),
)
def test_integers_inside_a_window_survive_the_way_there_and_back(lo, width, parts):
    values = np.array([lo, lo + width] + [lo + int(part * width) for part in parts])
    window = Window(lo, lo + width)
    back = np.rint(window.from_unit(window.to_unit(values)))
    np.testing.assert_array_equal(back.astype(np.int64), values)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.float32, np.float64])
def test_every_type_survives_the_way_there_and_back(dtype):
    values = np.arange(1, 256, dtype=dtype)
    window = Window(-7, 300)
    unit = window.to_unit(values)
    assert unit.dtype == np.float32
    np.testing.assert_array_equal(np.rint(window.from_unit(unit)).astype(dtype), values)


def test_the_whole_range_of_16_bits_survives():
    values = np.arange(-32768, 32768).astype(np.int16)
    window = Window(-32768, 32767)
    np.testing.assert_array_equal(np.rint(window.from_unit(window.to_unit(values))), values)


def test_values_outside_the_window_are_clipped():
    unit = Window(0, 100).to_unit(np.array([-50, 0, 25, 100, 400], dtype=np.int16))
    np.testing.assert_array_equal(unit, np.array([0, 0, 0.25, 1, 1], dtype=np.float32))


def test_unit_values_are_written_where_they_are_asked_for():
    out = np.empty((2, 3), np.float32)
    values = np.arange(6, dtype=np.uint16).reshape(2, 3)
    assert Window(0, 5).to_unit(values, out) is out
    np.testing.assert_allclose(out, values / 5, rtol=1e-7)


def test_mapping_does_not_touch_the_input():
    values = np.arange(6, dtype=np.float32)
    values.flags.writeable = False
    Window(1, 2).to_unit(values)
    unit = Window(0, 5).to_unit(values)
    unit.flags.writeable = False
    Window(0, 5).from_unit(unit)


def test_wide_windows_are_mapped_back_in_double_precision():
    assert Window(0, 2**21).from_unit(np.zeros(1, np.float32)).dtype == np.float64
    assert Window(0, 65535).from_unit(np.zeros(1, np.float32)).dtype == np.float32


def test_shares_below_and_above_are_told_apart():
    values = np.arange(10)
    assert Window(2, 8).clipped_shares(values) == (0.2, 0.1)
    assert Window(2, 8).clipped_share(values) == pytest.approx(0.3)


@pytest.mark.parametrize("bounds", [(5, 5), (6, 5), (np.nan, 1), (0, np.inf), (-1e308, 1e308)])
def test_a_window_that_spans_nothing_or_is_not_finite_is_refused(bounds):
    with pytest.raises(OptionError):
        Window(*bounds)


def test_the_accuitomo_preset_is_the_published_one():
    assert (PRESETS["accuitomo170"].lo, PRESETS["accuitomo170"].hi) == (26000, 46000)


def test_a_choice_holds_plain_numbers_for_reports():
    chosen = choose_window(head(), None, None, CARD)
    numbers = (*astuple(chosen.levels), chosen.window.lo, chosen.window.hi, chosen.clipped_below, chosen.clipped_above)
    assert {type(number) for number in numbers} == {float}


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_is_a_valid_window(name):
    chosen = choose_window(head(), None, name, CARD)
    assert (chosen.window.lo, chosen.window.hi) == (PRESETS[name].lo, PRESETS[name].hi)
    assert name in chosen.reason


def test_levels_are_found_in_a_noisy_head():
    levels = levels_in(head().astype(np.uint16))
    assert levels.air == pytest.approx(RAW.air, abs=150)
    assert levels.soft == pytest.approx(RAW.soft, abs=150)
    assert levels.bone == pytest.approx(RAW.bone, abs=150)


@given(gain=st.floats(0.01, 100), offset=st.floats(-1e5, 1e5))
def test_levels_follow_gain_and_offset(gain, offset):
    scan = head()[::2, ::2, ::2]
    before, after = levels_in(scan), levels_in(gain * scan + offset)
    for a, b in zip((before.air, before.soft, before.bone), (after.air, after.soft, after.bone), strict=True):
        assert b == pytest.approx(gain * a + offset, abs=0.01 * gain * (RAW.bone - RAW.air))


@pytest.mark.parametrize(
    ("gain", "offset", "dtype"),
    [
        (1.0, 0.0, np.uint16),
        (1.1, 0.0, np.uint16),
        (0.9, 2000.0, np.uint16),
        (1.0, -2200.0, np.uint16),
        (1 / 7, -22000 / 7 - 1000, np.int16),
        (1 / 100, -190.0, np.uint8),
        (1e-4, -1.0, np.float32),
    ],
    ids=["raw", "gain +10 %", "gain -10 %", "offset -10 %", "HU", "8 bit", "float"],
)
@pytest.mark.parametrize("request_", [None, "auto"])
def test_the_same_tissue_gets_the_same_unit_value_on_every_scanner(gain, offset, dtype, request_):
    scan = head()
    same = gain * scan + offset
    same = np.rint(same).astype(dtype) if np.issubdtype(dtype, np.integer) else same.astype(dtype)
    window = choose_window(same, None, request_, CARD).window
    for level in (RAW.air, RAW.soft, RAW.bone):
        expected = (level - CARD_WINDOW[0]) / (CARD_WINDOW[1] - CARD_WINDOW[0])
        assert (gain * level + offset - window.lo) / window.width == pytest.approx(expected, abs=0.01)


@pytest.mark.parametrize(("share", "value"), [(0.001, 65535), (0.02, 65535), (0.02, 60000)])
def test_metal_does_not_move_the_levels(share, value):
    scan = head()
    metal = np.random.default_rng(1).random(scan.shape) < share
    found = levels_in(np.where(metal, value, scan).astype(np.uint16))
    assert (found.air, found.soft, found.bone) == pytest.approx((RAW.air, RAW.soft, RAW.bone), abs=200)


def test_metal_saturated_at_12_bits_does_not_move_the_levels():
    scan = (head() - RAW.air) / 7 - 1000
    metal = np.random.default_rng(1).random(scan.shape) < 0.01
    clean, crowned = levels_in(scan), levels_in(np.where(metal, 3071, scan))
    assert crowned.bone == pytest.approx(clean.bone, abs=30)
    assert crowned.soft == pytest.approx(clean.soft, abs=30)


def test_clamped_air_is_found_at_its_level():
    scan = np.maximum(head(), RAW.air)
    assert levels_in(scan).air == pytest.approx(RAW.air, abs=200)


def test_a_little_bone_is_still_bone():
    rng = np.random.default_rng(2)
    tissue = rng.choice(3, size=(40, 60, 60), p=[0.6, 0.38, 0.02])
    scan = np.array([-1000, 40, 1200])[tissue] + rng.normal(0, 100, tissue.shape)
    found = levels_in(scan.astype(np.int16))
    assert (found.air, found.soft, found.bone) == pytest.approx((-1000, 40, 1200), abs=60)


def test_a_noise_free_volume_has_its_three_levels():
    scan = np.zeros((10, 20, 20), np.int16)
    scan[2:, 5:, 5:] = 100
    scan[5:, 10:, 10:] = 400
    assert levels_in(scan) == TissueLevels(0, 100, 400)


def test_a_volume_of_two_values_has_levels_that_ascend():
    scan = np.zeros((10, 20, 20), np.uint8)
    scan[5:] = 200
    levels = levels_in(scan)
    assert levels.air == 0 and levels.bone == 200
    assert levels.air <= levels.soft <= levels.bone


def test_one_odd_voxel_is_enough_for_levels():
    scan = np.full((20, 40, 40), 7, np.uint16)
    scan[10, 20, 20] = 9
    assert np.isfinite(choose_window(scan, None, "auto", CARD).window.width)


def test_blank_voxels_do_not_count():
    scan = head()
    framed = np.zeros((30, 100, 92))
    framed[:, 10:90, 10:82] = scan
    blank = find_blanks(as_volume(framed))
    assert blank.kind == "box"
    found, plain = levels_in(framed, blank), levels_in(scan)
    assert (found.air, found.soft, found.bone) == (plain.air, plain.soft, plain.bone)


def test_large_volumes_are_sampled_without_changing_the_levels():
    scan = np.repeat(np.repeat(head()[:, ::2, ::2], 5, axis=1), 15, axis=2).astype(np.uint16)
    assert scan.size > 2_000_000
    levels = levels_in(scan)
    assert (levels.air, levels.soft, levels.bone) == pytest.approx((RAW.air, RAW.soft, RAW.bone), abs=200)


def test_a_scan_that_fits_gets_the_models_window():
    chosen = choose_window(head().astype(np.uint16), None, None, CARD)
    assert (chosen.window.lo, chosen.window.hi) == CARD_WINDOW
    assert chosen.window.source == "model"
    assert "fits" in chosen.reason and not chosen.warnings


def test_a_scan_of_the_models_scanner_without_air_gets_the_models_window():
    rng = np.random.default_rng(3)
    bone = rng.random((30, 60, 60)) < 0.35
    scan = np.where(bone, RAW.bone, RAW.soft) + rng.normal(0, 900, bone.shape)
    chosen = choose_window(scan, None, None, CARD)
    assert chosen.window.source == "model" and "hardly any air" in chosen.reason
    assert choose_window(1.2 * scan, None, None, CARD).window.source == "automatic"


def test_a_scan_that_does_not_fit_gets_its_own_window_and_a_reason():
    chosen = choose_window((head() / 10).astype(np.uint16), None, None, CARD)
    assert chosen.window.source == "automatic"
    assert chosen.window.lo == pytest.approx(2000, abs=30) and chosen.window.hi == pytest.approx(4500, abs=30)
    assert "does not fit the model's window [20000, 45000]" in chosen.reason
    assert str(chosen.window) in chosen.reason


def test_a_window_whose_air_is_saturated_fits_a_scan_with_darker_air():
    window = Window(26000, 46000)
    card = SimpleNamespace(window=(26000, 46000), levels=TissueLevels(0.0, 0.15, 0.7))
    scan = head()
    assert choose_window(scan, None, None, card).window.source == "model"
    automatic = choose_window((scan - 26000) / 20000, None, "auto", card).window
    assert (automatic.lo, automatic.hi) == pytest.approx((0, 1), abs=0.01)
    assert window.clipped_shares(scan)[0] > 0.1


def test_a_model_without_window_and_levels_gets_the_automatic_window():
    chosen = choose_window(head(), None, None, SimpleNamespace(window=None, levels=None))
    assert chosen.window.source == "automatic"
    assert "holds all that the scan shows." in chosen.reason and chosen.clipped_share < 1e-4
    assert choose_window(head(), None, None, None).window == chosen.window


def test_a_window_without_levels_is_taken_where_the_tissues_fill_it():
    card = SimpleNamespace(window=CARD_WINDOW, levels=None)
    assert choose_window(head(), None, None, card).window.source == "model"
    assert choose_window(head() / 20, None, None, card).window.source == "automatic"
    assert choose_window(head() * 2, None, None, card).window.source == "automatic"


def test_the_models_window_can_be_forced():
    chosen = choose_window(head() / 10, None, "model", CARD)
    assert (chosen.window.lo, chosen.window.hi) == CARD_WINDOW
    with pytest.raises(OptionError, match="no window"):
        choose_window(head(), None, "model", SimpleNamespace(window=None, levels=None))


def test_a_given_window_is_kept_and_its_clipped_shares_are_told():
    scan = head()
    chosen = choose_window(scan, None, (27000, 35000), CARD)
    assert (chosen.window.lo, chosen.window.hi, chosen.window.source) == (27000, 35000, "given")
    assert chosen.clipped_below == pytest.approx(np.mean(scan < 27000))
    assert chosen.clipped_above == pytest.approx(np.mean(scan > 35000))
    assert chosen.clipped_share == pytest.approx(chosen.clipped_below + chosen.clipped_above)


def test_what_a_window_clips_is_told_of_the_part_that_is_computed_and_the_whole_scan_decides_the_window():
    scan, box = head(), ((0, 3), (2, 9), (1, 12))
    part = scan[tuple(slice(*ends) for ends in box)]
    window = tuple(float(value) for value in np.percentile(part, (70, 90)))
    chosen, whole = (choose_window(scan, None, window, CARD, where) for where in (box, None))
    assert chosen.clipped_below == pytest.approx(np.mean(part < window[0])) != whole.clipped_below
    assert chosen.clipped_above == pytest.approx(np.mean(part > window[1])) != whole.clipped_above
    assert "of the ROI" in chosen.warnings[0] and chosen.levels == whole.levels
    assert choose_window(scan, None, "auto", CARD, box).window == choose_window(scan, None, "auto", CARD).window
    blanks = find_blanks(Volume(scan, Grid(scan.shape[::-1])), float(part.min()))
    measured = part[part != part.min()]
    chosen = choose_window(scan, blanks, window, CARD, box)
    assert chosen.clipped_below == pytest.approx(np.mean(measured < window[0]))


def test_a_window_that_clips_most_of_the_scan_is_a_warning_not_an_error():
    chosen = choose_window(head(), None, (0, 100), CARD)
    assert len(chosen.warnings) == 1
    assert "clips 100 % of the scan" in chosen.warnings[0]


@pytest.mark.parametrize("request_", [(5, 1), (1, 1), (0, np.nan), (1,), (1, 2, 3), "brightest", ("a", "b"), 7])
def test_a_window_that_makes_no_sense_is_refused(request_):
    with pytest.raises(OptionError):
        choose_window(head(), None, request_, CARD)


def test_an_unknown_preset_is_answered_with_the_list():
    with pytest.raises(OptionError, match="accuitomo170.*full16"):
        choose_window(head(), None, "brightest", CARD)


@pytest.mark.parametrize("request_", [None, "auto", "model", "full16", (0, 10)])
def test_a_constant_volume_is_refused(request_):
    with pytest.raises(InputError, match="same value, 7"):
        choose_window(np.full((4, 5, 6), 7, np.int16), None, request_, CARD)


def test_a_volume_of_blanks_only_is_refused():
    scan = np.zeros((4, 5, 6), np.int16)
    everything = BlankRegion("values", "", 0.0, 1.0, voxels=scan)
    with pytest.raises(InputError, match="blank"):
        levels_in(scan, everything)


def test_numbers_that_are_none_are_refused():
    scan = head()
    scan[3, 4, 5] = np.nan
    with pytest.raises(InputError, match="not numbers"):
        levels_in(scan)


@pytest.mark.parametrize(
    ("name", "air", "soft", "bone"),
    [
        ("tooth.nrrd", (370, 430), (780, 870), (1120, 1240)),
        ("trabecular_microct.nrrd", (10, 40), (50, 120), (140, 190)),
        ("head_anisotropic.nrrd", (80, 130), (1000, 1100), (1600, 2200)),
    ],
)
def test_real_scans_have_the_levels_one_reads_from_their_histograms(shared_data, name, air, soft, bone):
    volume = Volume.read(shared_data / name)
    levels = levels_in(volume.voxels, find_blanks(volume))
    for level, (low, high) in zip((levels.air, levels.soft, levels.bone), (air, soft, bone), strict=True):
        assert low <= level <= high


@pytest.mark.parametrize("name", ["tooth.nrrd", "trabecular_microct.nrrd", "head_anisotropic.nrrd"])
def test_real_scans_with_another_gain_get_an_equivalent_window(shared_data, name):
    volume = Volume.read(shared_data / name)
    blank = find_blanks(volume)
    plain = choose_window(volume.voxels, blank, "auto", CARD).window
    scaled = choose_window(1.1 * volume.voxels.astype(np.float32) - 300, blank, "auto", CARD).window
    assert (scaled.lo + 300) / 1.1 == pytest.approx(plain.lo, abs=0.01 * plain.width)
    assert (scaled.hi + 300) / 1.1 == pytest.approx(plain.hi, abs=0.01 * plain.width)
