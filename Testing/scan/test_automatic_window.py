"""The automatic window cuts nothing off that carries edges, of whatever kind the scan is.

Each scan is drawn with a map of what it holds, so that "in or beside an object" is known exactly.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pytest
from CBCTSuperResLib.acquisition.phantom import WINDOW, jaw_phantom
from CBCTSuperResLib.acquisition.scanner import ALL_AXES, gaussian_blur
from CBCTSuperResLib.core.volume import Grid
from CBCTSuperResLib.io.volume import Volume
from CBCTSuperResLib.scan.field_of_view import find_blanks
from CBCTSuperResLib.scan.tissue import TissueLevels, sample_voxels, tissue_extent
from CBCTSuperResLib.scan.window import Window
from CBCTSuperResLib.scan.window_choice import choose_window
from scipy.ndimage import binary_dilation

SHAPE = (24, 72, 80)
MOST_CUT_OFF = 0.005
AIR = -1000.0


@dataclass
class Drawn:
    """A scan and what one knows of it: the noise-free levels of its darkest and brightest matter, and where edges are.

    `objects` are voxels in or beside whatever is not the background; metal is none of them.
    """

    voxels: np.ndarray
    darkest: float
    brightest: float
    objects: np.ndarray

    def changed(self, gain: float, offset: float, dtype: str) -> Drawn:
        """The same from a scanner of another gain and offset; a negative gain inverts the contrast."""
        grey = gain * self.voxels.astype(np.float64) + offset
        if np.issubdtype(np.dtype(dtype), np.integer):
            limits = np.iinfo(dtype)
            grey = np.clip(np.rint(grey), limits.min, limits.max)
        ends = sorted(gain * level + offset for level in (self.darkest, self.brightest))
        return Drawn(grey.astype(dtype), *ends, self.objects)


def scan_of(levels: np.ndarray, noise: float, background: float, metal: float = np.inf, seed: int = 0) -> Drawn:
    """A slightly blurred, noisy scan of a map of levels; what is at `metal` or brighter is not counted."""
    is_metal = levels >= metal
    rest = levels[~is_metal]
    objects = binary_dilation((levels != background) & ~is_metal, iterations=2)
    objects &= ~binary_dilation(is_metal, iterations=3)
    image = gaussian_blur(levels.astype(np.float32), 0.6, ALL_AXES)
    image += np.random.default_rng(seed).normal(0, noise, levels.shape).astype(np.float32)
    return Drawn(image, float(rest.min()), float(rest.max()), objects)


def ball(radius: float, centre: tuple[float, float, float] = (12, 36, 40)) -> np.ndarray:
    places = np.meshgrid(*(np.arange(n) for n in SHAPE), indexing="ij", sparse=True)
    return sum((place - c) ** 2 for place, c in zip(places, centre, strict=True)) < radius**2


def field(background: float = AIR) -> np.ndarray:
    return np.full(SHAPE, background)


def jaw(metal: bool = False) -> Drawn:
    """Air, soft tissue, bone, dentin, enamel and perhaps a crown, in raw 16-bit values."""
    unit = jaw_phantom(SHAPE, 0.25, 5, metal=metal)
    grey = WINDOW[0] + unit.astype(np.float64) * (WINDOW[1] - WINDOW[0])
    return scan_of(grey, 540, float(grey.min()), metal=52000)


def dry_skull() -> Drawn:
    """Bone from thin to thick in air, no soft tissue."""
    levels = field()
    levels[ball(30)], levels[ball(28)] = 700, AIR
    levels[:, 50:, 30:50] = 1500
    levels[8:16, 56:62, 36:44] = 2600  # enamel
    return scan_of(levels, 60, AIR)


def extracted_tooth() -> Drawn:
    """Enamel on dentin with a pulp of air."""
    levels = field()
    for radius, level in ((18, 2700), (15, 1500), (4, AIR)):
        levels[ball(radius)] = level
    return scan_of(levels, 80, AIR)


def small_tooth() -> Drawn:
    """The same, far from everything in much air: 0.6 % of the scan."""
    levels = field()
    for radius, level in ((6, 2700), (4.5, 1500)):
        levels[ball(radius, (8, 20, 22))] = level
    return scan_of(levels, 80, AIR)


def bone_specimen() -> Drawn:
    """Micro-CT of thin struts of bone in fluid, no air."""
    rng = np.random.default_rng(4)
    struts = gaussian_blur(rng.normal(size=SHAPE).astype(np.float32), 2.5, ALL_AXES)
    levels = np.where(struts > np.quantile(struts, 0.8), 165.0, 30.0)
    return scan_of(levels, 6, 30.0)


def cube_in_noise() -> Drawn:
    """Two tissues, and the bright one is small: 0.7 % of the scan."""
    levels = field(100.0)
    levels[6:16, 30:40, 30:40] = 1000
    return scan_of(levels, 30, 100.0)


def faint_bead_in_noise() -> Drawn:
    """An object too small and too faint to be a class of its own."""
    levels = field(100.0)
    levels[ball(3)] = 300
    return scan_of(levels, 30, 100.0)


def head_with_little_bone() -> Drawn:
    """Mostly air and soft tissue; bone and enamel are 1.5 % and might be taken for metal."""
    levels = field()
    levels[:, 20:60, 20:70] = 40
    levels[6:12, 30:40, 30:40] = 1300
    levels[6:12, 32:38, 32:38] = 2900
    return scan_of(levels, 50, AIR)


SCANS = [
    jaw,
    dry_skull,
    extracted_tooth,
    small_tooth,
    bone_specimen,
    cube_in_noise,
    faint_bead_in_noise,
    head_with_little_bone,
]


def window_of(drawn: Drawn, blank: str | float = "none") -> Window:
    volume = Volume(drawn.voxels, Grid(drawn.voxels.shape[::-1]))
    return choose_window(drawn.voxels, find_blanks(volume, blank), "auto", None).window


@pytest.mark.parametrize("scan", SCANS, ids=lambda scan: scan.__name__)
def test_nothing_that_carries_edges_is_cut_off(scan):
    drawn = scan()
    span = drawn.brightest - drawn.darkest
    kinds = {
        "as drawn": (1.0, 0.0, "float32"),
        "8 bit": (160 / span, 40 - 160 * drawn.darkest / span, "uint8"),
        "raw 16 bit": (23000 / span, 20000 - 23000 * drawn.darkest / span, "uint16"),
        "HU": (3500 / span, -1000 - 3500 * drawn.darkest / span, "int16"),
        "fractions": (0.8 / span, 0.1 - 0.8 * drawn.darkest / span, "float32"),
        "inverted": (-1.0, 500.0, "float32"),
    }
    for name, kind in kinds.items():
        changed = drawn.changed(*kind)
        window = window_of(changed)
        below, above = window.clipped_shares(changed.voxels[changed.objects])
        assert max(below, above) <= MOST_CUT_OFF, name
        below, above = window.clipped_shares(changed.voxels)
        assert max(below, above) <= MOST_CUT_OFF, name
        background = changed.brightest if name == "inverted" else changed.darkest
        beyond = window.hi - background if name == "inverted" else background - window.lo
        assert beyond >= 0.06 * span * abs(kind[0]), name
        assert window.width <= (2.3 if scan is faint_bead_in_noise else 1.65) * span * abs(kind[0]), name


def test_the_window_follows_gain_and_offset_of_the_scanner():
    for scan in SCANS:
        drawn = scan()
        plain, changed = (window_of(d) for d in (drawn, drawn.changed(1.7, -300, "float32")))
        assert (changed.lo + 300) / 1.7 == pytest.approx(plain.lo, abs=0.003 * plain.width)
        assert (changed.hi + 300) / 1.7 == pytest.approx(plain.hi, abs=0.003 * plain.width)


def test_a_large_blank_region_does_not_count():
    drawn = extracted_tooth()
    framed = np.zeros((24, 200, 200), np.float32)
    framed[:, 60:132, 60:140] = drawn.voxels
    window = window_of(Drawn(framed, drawn.darkest, drawn.brightest, drawn.objects), blank=0)
    assert window == window_of(drawn)


def test_metal_that_is_far_brighter_than_enamel_stays_outside_and_enamel_inside():
    for gain, offset, dtype in ((1, 0, "int16"), (6, 26000, "float32")):
        drawn = head_with_little_bone().changed(gain, offset, dtype)
        for metal in (9000, 30000):
            crowned = drawn.voxels.copy()
            crowned[18:21, 40:46, 50:58] = gain * metal + offset
            window = window_of(Drawn(crowned, drawn.darkest, drawn.brightest, drawn.objects))
            assert drawn.brightest <= window.hi < gain * 3200 + offset
            assert window.clipped_share(drawn.voxels[drawn.objects]) <= MOST_CUT_OFF
            assert "all that the scan shows but metal." in choose_window(crowned, None, "auto", None).reason


def test_metal_that_hardly_widens_the_window_stays_inside_as_it_may_be_enamel():
    drawn = jaw(metal=True)
    window = window_of(drawn.changed(1, 0, "uint16"))
    assert 49000 < window.hi <= 66000


def test_a_few_hot_and_dead_voxels_do_not_stretch_the_window():
    drawn = head_with_little_bone()
    odd = drawn.voxels.copy()
    odd.ravel()[::20011] = 60000
    odd.ravel()[::23011] = -60000
    window = window_of(Drawn(odd, drawn.darkest, drawn.brightest, drawn.objects))
    assert window.width <= 2 * window_of(drawn).width


def test_the_brightest_object_in_noise_is_no_metal_however_bright_it_is():
    for level in (1000, 10_000, 60_000):
        levels = field(100.0)
        levels[6:16, 30:40, 30:40] = level
        drawn = scan_of(levels, 30, 100.0)
        clamped = np.maximum(drawn.voxels, 130)  # a background clamped above its mean
        for voxels in (drawn.voxels, clamped, np.rint(drawn.voxels).astype(np.uint16)):
            assert window_of(Drawn(voxels, 100, level, drawn.objects)).hi >= level


def test_noise_around_air_falls_inside_on_both_sides_and_with_room():
    for noise in (20, 80, 200):
        levels = field()
        levels[ball(18)] = 1500
        drawn = scan_of(levels, noise, AIR)
        window = window_of(drawn)
        assert window.lo <= AIR - 0.09 * (1500 - AIR) and window.lo <= AIR - 3.3 * noise
        air = drawn.voxels[~drawn.objects]
        clipped = np.clip(air, window.lo, window.hi)
        assert abs(clipped.mean() - air.mean()) <= 0.001 * 0.01 * window.width


def card(window, levels) -> SimpleNamespace:
    return SimpleNamespace(window=window, levels=levels)


def test_the_models_window_is_left_where_it_would_cut_teeth_or_air_off():
    drawn = jaw()
    sample = drawn.voxels.astype(np.float64)
    own = TissueLevels(22000, 29000, 40000).in_window(Window(20000, 52000))
    fitting = choose_window(sample, None, None, card((20000, 52000), own))
    assert fitting.window.source == "model" and "fits" in fitting.reason
    for lo, hi, tissue in ((20000, 46000, "brightest"), (22000, 52000, "darkest")):
        cutting = choose_window(sample, None, None, card((lo, hi), own))
        assert cutting.window.source == "automatic"
        assert f"of the {tissue} tissue" in cutting.reason and str(cutting.window) in cutting.reason


def test_a_model_of_pairs_without_air_keeps_its_fixed_range_where_it_cuts_all_air_off_and_no_tooth():
    drawn = jaw()
    levels = TissueLevels(0.0, (29000 - 26000) / 26000, (40000 - 26000) / 26000)
    for known in (levels, None):
        assert choose_window(drawn.voxels, None, None, card((26000, 52000), known)).window.source == "model"
        halved = choose_window(drawn.voxels, None, None, card((22000, 52000), known))
        assert halved.window.source == "automatic" and "of the darkest tissue" in halved.reason
        toothless = choose_window(drawn.voxels, None, None, card((26000, 44000), known))
        assert toothless.window.source == "automatic" and "of the brightest tissue" in toothless.reason


def test_the_extent_says_how_much_of_the_outer_tissues_a_window_cuts_off():
    rng = np.random.default_rng(0)
    sample = np.concatenate([rng.normal(level, 10, 20_000) for level in (0, 500, 1000)])
    extent = tissue_extent(sample)
    assert extent.levels == pytest.approx((0, 1000), abs=1)
    assert extent.cut_off(Window(0, 1000)) == pytest.approx((0.5, 0.5), abs=0.02)
    assert extent.cut_off(Window(-50, 1050)) == (0, 0)
    assert -50 < extent.lowest < -30 and 1030 < extent.highest < 1050


@pytest.mark.parametrize(
    ("name", "brightest"),
    [
        ("tooth.nrrd", 1280),
        ("trabecular_microct.nrrd", 230),
        ("head_anisotropic.nrrd", 3300),
        ("thorax_spine_ct.nrrd", 1500),
        ("shoulder_ct.nrrd", 1600),
        ("cranium_ct.nrrd", 2500),
    ],
)
def test_real_scans_keep_their_bone_and_teeth(shared_data, name, brightest):
    volume = Volume.read(shared_data / name)
    blanks = find_blanks(volume)
    chosen = choose_window(volume.voxels, blanks, None, card((26000, 46000), TissueLevels(-0.199, 0.161, 0.702)))
    extent = tissue_extent(sample_voxels(volume.voxels, blanks))
    assert chosen.window.source == "automatic" and not chosen.warnings
    assert max(extent.cut_off(chosen.window)) <= 0.001 and chosen.clipped_share <= 0.001
    assert brightest <= chosen.window.hi <= 1.3 * float(volume.voxels.max())
