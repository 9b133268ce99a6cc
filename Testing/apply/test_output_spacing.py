"""A voxel size is asked for: which factors that means, which model makes it, and what is said where it cannot be."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from CBCTSuperResLib import Options, Volume, super_resolve
from CBCTSuperResLib.apply.factors import chosen_because, result_name, scales
from CBCTSuperResLib.apply.plan import make_plan
from CBCTSuperResLib.core.errors import OptionError
from CBCTSuperResLib.core.volume import Grid
from CBCTSuperResLib.models.card import ModelCard, read_card
from CBCTSuperResLib.models.folder import DEFAULT_MODEL, default_model, find_model, user_models_folder
from CBCTSuperResLib.networks import build_network
from CBCTSuperResLib.networks.spec import NetworkSpec
from helpers import make_grid, position_error_mm
from stub_networks import interpolating_points, register, stub_model

THICK = (0.3, 0.3, 1.5)
SLICES = NetworkSpec("slices", context=8)
POINTS = NetworkSpec("points", dimensions=3, scale=None, scale_range=((1, 6), (1, 4), (1, 4)), context=8)


def card(spec: NetworkSpec, name: str = "m") -> ModelCard:
    return ModelCard(name, spec, window=(0.0, 1000.0))


@pytest.fixture
def any_size(monkeypatch):
    """A model of any size among the user's own, whose name is nothing special."""
    register(monkeypatch)
    model = stub_model(interpolating_points(), name="zebra")
    model.save(user_models_folder() / "zebra.safetensors")
    return model


def test_a_voxel_size_means_the_factors_to_it():
    for asked, spacing, factors in (
        (0.15, (0.3, 0.3, 0.3), (2, 2, 2)),
        (0.3, THICK, (1, 1, 5)),
        ((0.2, 0.2, 0.5), THICK, (1.5, 1.5, 3)),
        ("cubic", THICK, (1, 1, 5)),
        (0.1, (0.29999, 0.3, 0.3001), (3, 3, 3)),  # files round spacings
        (0.3 / 3.3, (0.3, 0.3, 0.3), (3.3, 3.3, 3.3)),
    ):
        found = scales(card(POINTS), Options(output_spacing=asked), spacing)
        np.testing.assert_allclose(found, factors, rtol=1e-12)
    assert scales(card(SLICES), Options(output_spacing=(0.15, 0.15, 1.5)), THICK) == (2, 2, 1)
    assert scales(card(SLICES), Options(output_spacing=0.15, planes="isotropic"), (0.3, 0.3, 0.3)) == (2, 2, 2)


def test_the_extent_is_kept_and_the_true_voxel_size_is_that_of_whole_voxels():
    """75 voxels of 0.3 mm by 2.5 are 187.5, so that 188 voxels share 22.5 mm."""
    grid = make_grid((75, 31, 20), THICK)
    plan = make_plan(grid, np.dtype("int16"), card(POINTS), Options(output_spacing=(0.12, 0.2, 0.4)))
    assert plan.grid.size == (188, 47, 75)
    np.testing.assert_allclose(plan.grid.spacing, np.multiply((75, 31, 20), THICK) / (188, 47, 75), rtol=1e-12)
    assert position_error_mm(plan.grid, grid.resampled((188, 47, 75))) <= 1e-9


def test_what_no_model_can_make_is_refused_with_what_it_can():
    for spec, options, spacing, words in (
        (POINTS, {"output_spacing": 0.05}, (0.3, 0.3, 0.3), "from 1 to 4 x 4 x 6, not 6 for voxels of 0.05 mm"),
        (POINTS, {"output_spacing": 0.05}, (0.3, 0.3, 0.3), "Ask for 0.075 x 0.075 x 0.05 to 0.3 mm"),
        (POINTS, {"output_spacing": 0.5}, (0.3, 0.3, 0.3), "use resampling"),
        (POINTS, {"scale": 0.5}, None, "Below 1, voxels become larger"),
        (POINTS, {"scale": (7, 7, 1)}, None, "from 1 to 4 x 4 x 6, not 7 x 7 x 1"),
        (SLICES, {"scale": (7, 7, 1)}, None, "slices by 2, not by 7."),
        (POINTS, {"output_spacing": 0.3}, (0.3, 0.3, 0.3), "0.3 mm already: nothing would become finer"),
        (SLICES, {"output_spacing": 0.3}, THICK, "slices by 2, not by 1 x 1 x 5 for voxels of 0.3 mm"),
        (SLICES, {"output_spacing": 0.3}, THICK, "Ask for 0.15 x 0.15 x 1.5 mm"),
        (SLICES, {"scale": (2, 2, 2)}, None, "leaves the slices' distance as it is"),
    ):
        with pytest.raises(OptionError) as caught:
            scales(card(spec), Options(**options), spacing)
        assert words in str(caught.value), str(caught.value)


def test_a_factor_that_adds_no_voxel_is_refused():
    grid = make_grid((33, 32, 6), THICK)
    for options in ({"scale": (1, 1, 1.01)}, {"output_spacing": (0.299, 0.3, 1.49)}):
        with pytest.raises(OptionError, match="33 x 32 x 6 voxels gets none more by 1.* x 1 x 1.*--scale 1"):
            make_plan(grid, np.dtype("int16"), card(POINTS), Options(**options))
    assert make_plan(grid, np.dtype("int16"), card(POINTS), Options(scale=(1, 1, 1.1))).grid.size == (33, 32, 7)
    part = Options(scale=(1.1, 1, 1), roi=((0, 2), (0, 2), (0, 2)))
    assert make_plan(grid, np.dtype("int16"), card(POINTS), part).grid.size == (2, 2, 2)  # of the same result


def test_options_that_make_no_sense_are_refused():
    for options, words in (
        ({"scale": 2, "output_spacing": 0.2}, "Both a factor and a voxel size"),
        ({"output_spacing": 0}, "more than 0"),
        ({"output_spacing": (0.2, -0.2, 0.2)}, "more than 0"),
        ({"output_spacing": (0.2, 0.2)}, "or three, along i, j and k"),
        ({"output_spacing": float("nan")}, "voxel size in mm"),
        ({"output_spacing": "fine"}, "voxel size in mm"),
        ({"scale": float("inf")}, "Give one factor"),
    ):
        with pytest.raises(OptionError) as caught:
            Options(**options)
        assert words in str(caught.value), options
    for size in (0.2, (0.1, 0.2, 0.3), "cubic"):
        options = Options(output_spacing=size)
        assert Options.from_json(json.loads(json.dumps(options.to_json()))) == options


def test_a_result_is_named_after_the_size_that_is_asked_for():
    for size, name in (
        (0.2, "Jaw SR 0.2 mm"),
        ((0.2, 0.2, 0.2), "Jaw SR 0.2 mm"),
        ((0.15, 0.15, 0.3), "Jaw SR 0.15x0.15x0.3 mm"),
        ("cubic", "Jaw SR cubic"),
    ):
        assert result_name("Jaw", None, Options(output_spacing=size)) == name


def test_the_default_model_is_the_first_that_offers_what_is_asked(any_size):
    usual = read_card(find_model(DEFAULT_MODEL))
    cubic = (0.3, 0.3, 0.3)
    for options, spacing in (
        ({}, THICK),
        ({"planes": "isotropic"}, cubic),
        ({"scale": 2}, None),
        ({"output_spacing": (0.15, 0.15, 1.5)}, THICK),
    ):
        assert default_model(Options(**options), spacing).name == usual.name, options
    assert chosen_because(usual, Options(scale=2), cubic) == ""
    for options, spacing, factors in (
        ({"output_spacing": "cubic"}, (0.3, 0.3, 0.9), "1 x 1 x 3"),
        ({"scale": 3}, cubic, "3"),
        ({"scale": (1, 1, 2.2)}, cubic, "1 x 1 x 2.2"),
    ):
        options = Options(**options)
        found = default_model(options, spacing)
        assert found.offered(options.factors(spacing)) and found.name != usual.name
        assert f"{usual.name} does not enlarge by {factors}." in chosen_because(found, options, spacing)
    twice = Options(output_spacing=0.15)
    for spacing, is_choice in ((cubic, True), ((0.3, 0.3, 0.9), False)):  # thick slices are not for three planes
        reason = chosen_because(default_model(twice, spacing), twice, spacing)
        assert ("closer to the truth" in reason and "--planes isotropic" in reason) is is_choice, reason
    with pytest.raises(OptionError, match=f"No model enlarges by 50.*{DEFAULT_MODEL}, 2 in slices.*zebra, 1 to 4"):
        default_model(Options(scale=50.0))


def test_a_model_that_makes_another_kind_of_image_is_no_default(monkeypatch):
    register(monkeypatch)
    other = stub_model(build_network("stub_translator"), name="other")
    other.save(user_models_folder() / "other.safetensors")
    with pytest.raises(OptionError, match="No model enlarges by 8 "):
        default_model(Options(scale=(8, 8, 1.5)))
    with pytest.raises(OptionError, match="No model enlarges by 8"):
        default_model(Options(scale=(8, 8, 1)))


def test_voxels_finer_than_half_of_what_the_blur_supports_are_warned_of_with_the_figures(any_size):
    random = np.random.default_rng(0)
    volume = Volume(random.uniform(0, 1000, (6, 12, 12)).astype(np.float32), make_grid((12, 12, 6), (0.3, 0.3, 0.3)))
    plan = make_plan(volume.grid, volume.voxels.dtype, any_size.card, Options(output_spacing=0.1, scanner_blur=0.6))
    (told,) = [text for text in plan.with_scan(volume).warnings if "Finer voxels" in text]
    assert "0.1 mm, where it supports 0.29 mm" in told and "0.14 mm" in told
    for options in ({"output_spacing": 0.15, "scanner_blur": 0.6}, {"scale": (1, 1, 4), "scanner_blur": 0.6}):
        plan = make_plan(volume.grid, volume.voxels.dtype, any_size.card, Options(**options))
        assert not [text for text in plan.with_scan(volume).warnings if "Finer voxels" in text], options


def test_thick_slices_are_told_of_the_way_to_make_them_thinner():
    plan = make_plan(Grid((40, 40, 20), THICK), np.dtype("int16"), card(SLICES))
    assert any("such as 0.3 mm" in text for text in plan.warnings)
    thin = make_plan(Grid((40, 40, 20), THICK), np.dtype("int16"), card(POINTS), Options(output_spacing="cubic"))
    assert not any("mm apart" in text for text in thin.warnings)


def test_a_scan_of_thick_slices_becomes_cubic(any_size):
    random = np.random.default_rng(0)
    volume = Volume(random.uniform(0, 1000, (5, 9, 8)).astype(np.float32), make_grid((8, 9, 5), (0.3, 0.3, 1.0)))
    result = super_resolve(volume, any_size, Options(output_spacing="cubic", window=(0, 1000), blank="none"))
    assert result.voxels.shape == (17, 9, 8)
    np.testing.assert_allclose(result.grid.spacing, (0.3, 0.3, 5 / 17))
    assert result.report["output_spacing_mm"] == list(result.grid.spacing)
    by_factor = super_resolve(
        volume, any_size, Options(scale=(1, 1, 10 / 3), window=(0, 1000), blank="none", back_projection="off")
    )
    assert np.array_equal(result.voxels, by_factor.voxels)
    assert replace(by_factor.grid, direction=result.grid.direction).size == result.grid.size
