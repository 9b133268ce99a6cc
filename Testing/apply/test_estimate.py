"""What a run will give and cost, and what is refused before anything is computed."""

from __future__ import annotations

import json
import re
from collections import namedtuple
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from CBCTSuperResLib import (
    Grid,
    Options,
    Volume,
    super_resolve,
)
from CBCTSuperResLib.apply import memory_and_disk
from CBCTSuperResLib.apply.engine import Engine
from CBCTSuperResLib.apply.factors import result_name, scales
from CBCTSuperResLib.apply.memory_and_disk import check_disk, check_memory
from CBCTSuperResLib.apply.plan import Workers, make_plan
from CBCTSuperResLib.apply.speed import known_speed, record_speed
from CBCTSuperResLib.core.errors import InputError, OptionError, ResourceError
from CBCTSuperResLib.models.card import ModelCard
from CBCTSuperResLib.models.folder import user_models_folder
from CBCTSuperResLib.networks.spec import NetworkSpec
from helpers import make_grid, position_error_mm
from stub_networks import CubicTwice, LinearBlocks, stub_model

SLICES = NetworkSpec("unetspsr", scale=2, context=16, encode_flops=6e7, encode_bytes=4e3, decode_bytes=2.5e3)
BLOCKS = NetworkSpec("blocks", dimensions=3, scale=None, scale_range=(1.5, 4.0), context=8, encode_bytes=1e3)
GRID = Grid((400, 380, 300), (0.25, 0.25, 0.25))


def card(spec=SLICES, **values) -> ModelCard:
    return ModelCard(**{"name": "light", "spec": spec, "weights_sha256": "0" * 64, **values})


def report(model="0" * 64, voxels=10**6, seconds=10.0, device="cpu (2 of 2 cores)", roi=None, pieces=9) -> dict:
    """What `record_speed` reads of the report of a run."""
    run = {"model_sha256": model, "network_voxels": voxels, "seconds": {"computing": seconds}, "device": device}
    return {"super_resolution": {**run, "roi": roi, "pieces": pieces}}


def free(monkeypatch, memory):
    monkeypatch.setattr(memory_and_disk, "available_memory", lambda: int(memory))


@pytest.mark.parametrize(
    ("spec", "options", "size", "factors"),
    [
        (SLICES, {}, (800, 760, 300), (2, 2, 1)),
        (SLICES, {"planes": "isotropic"}, (800, 760, 600), (2, 2, 2)),
        (SLICES, {"roi": ((10, 20), (0, 380), (5, 6))}, (20, 760, 1), (2, 2, 1)),
        (BLOCKS, {}, (800, 760, 600), (2, 2, 2)),
        (BLOCKS, {"scale": 3.3}, (1320, 1254, 990), (3.3, 3.3, 3.3)),
        (BLOCKS, {"scale": 1.5, "roi": ((0, 5), (0, 7), (0, 1))}, (8, 11, 2), (1.5, 1.5, 1.5)),
    ],
)
def test_the_size_of_the_result_is_known_before(spec, options, size, factors):
    found = make_plan(GRID, np.dtype("uint16"), card(spec), Options(**options))
    assert found.grid.size == size and scales(card(spec), Options(**options)) == factors
    assert found.output_bytes == 2 * np.prod(size)


def test_the_grid_of_the_result_covers_the_roi():
    grid, roi = make_grid((40, 50, 60)), ((3, 17), (5, 50), (10, 21))
    cropped = grid.cropped([a for a, _ in roi], [b for _, b in roi])
    found = make_plan(grid, np.dtype("int16"), card(), Options(roi=roi))
    assert position_error_mm(found.grid, cropped.resampled((28, 90, 11))) <= 1e-9


def test_the_type_of_the_result_is_the_inputs_unless_one_is_chosen():
    assert make_plan(GRID, np.dtype("int16"), card()).dtype == np.int16
    assert make_plan(GRID, np.dtype("int16"), card(), Options(dtype="float32")).dtype == np.float32


def test_the_memory_is_that_of_input_result_and_one_tile():
    found = make_plan(GRID, np.dtype("uint16"), card())
    both = 2 * 400 * 380 * 300 * (1 + 4)
    assert both < found.memory_bytes < both + 2.5e9
    assert found.grid.size == (800, 760, 300) and not found.seconds_are_measured


def test_a_roi_needs_less_memory():
    roi = Options(roi=((0, 20), (0, 20), (0, 20)))
    whole, part = (make_plan(GRID, np.dtype("uint16"), card(), o) for o in (Options(), roi))
    assert part.memory_bytes < 0.9e9 + 2 * 400 * 380 * 300 < whole.memory_bytes
    assert part.seconds < whole.seconds / 1000


def test_a_model_of_unknown_context_needs_memory_for_everything_at_once():
    open_spec = replace(SLICES, context="unknown")
    options = Options(planes="isotropic")
    known, unknown = (make_plan(GRID, np.dtype("uint16"), card(s), options) for s in (SLICES, open_spec))
    assert unknown.memory_bytes > known.memory_bytes + 8e9


def plan_of(shape, **options):
    """The plan for a scan of 16-bit voxels of this shape (k, j, i)."""
    return make_plan(Grid(shape[::-1], (0.1, 0.1, 0.1)), np.dtype("uint16"), card(), Options(**options))


def test_a_result_that_does_not_fit_into_memory_is_refused_with_the_numbers(monkeypatch):
    free(monkeypatch, 5e9)
    with pytest.raises(ResourceError) as error:
        check_memory(plan_of((800, 800, 800), planes="isotropic"))
    for words in ("1600 x 1600 x 1600", "uint16", "8.2 GB", "5.0 GB", "ROI", "axial"):
        assert words in str(error.value)
    free(monkeypatch, 50e9)
    fitting = plan_of((800, 800, 800))
    check_memory(fitting)
    assert fitting.output_bytes == 2 * 4 * 800**3


def test_processes_that_do_not_fit_are_named_with_how_many_would(monkeypatch):
    grid, kind = Grid((400, 400, 400), (0.1, 0.1, 0.1)), np.dtype("uint16")
    free(monkeypatch, 7e9)
    devices = Options(device=",".join(["cpu"] * 16))
    for options, workers, words in [
        (Options(device="cpu"), Workers(16), r"workers compute: local:(\d+)\."),
        (devices, None, r"fewer devices: (\d+)\."),
    ]:
        plan = make_plan(grid, kind, card(), options, workers)
        with pytest.raises(ResourceError, match="16 processes that compute it, each") as error:
            check_memory(plan)
        fewer = int(re.search(words, str(error.value))[1])
        assert 1 < fewer < 16
        check_memory(make_plan(grid, kind, card(), Options(device="cpu"), Workers(fewer)))
        with pytest.raises(ResourceError):
            check_memory(make_plan(grid, kind, card(), Options(device="cpu"), Workers(fewer + 1)))
    check_memory(make_plan(grid, kind, card(), Options(device="cpu"), Workers(16, are_here=False)))
    free(monkeypatch, 1e9)
    with pytest.raises(ResourceError) as error:
        check_memory(plan)
    assert "fewer" not in str(error.value) and "ROI" in str(error.value)


def test_no_more_processes_are_counted_than_there_are_parts():
    """Of blocks, that is one for 16 slices."""
    grid, kind, options = Grid((60, 60, 40), (0.1, 0.1, 0.1)), np.dtype("uint16"), Options(scale=2, device="cpu")
    for spec, parts in [(SLICES, 40), (BLOCKS, 3)]:
        many, enough = (make_plan(grid, kind, card(spec), options, Workers(count)) for count in (64, parts))
        assert many.workers == len(many.parts) == parts and many.parts == enough.parts[: len(many.parts)]
        assert many.memory_bytes == enough.memory_bytes


def test_super_resolve_refuses_it_before_it_allocates(monkeypatch):
    free(monkeypatch, 1e8)
    voxels = np.random.default_rng(0).integers(0, 1000, (4, 20, 20)).astype(np.uint16)
    with pytest.raises(ResourceError):
        super_resolve(Volume(voxels, Grid((20, 20, 4))), stub_model(CubicTwice()), allocate=pytest.fail)


def test_a_result_that_does_not_fit_onto_the_disk_is_refused_with_the_numbers(monkeypatch, tmp_path):
    free(monkeypatch, 1e12)
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(memory_and_disk.shutil, "disk_usage", lambda folder: usage(0, 0, int(3e8)))
    with pytest.raises(ResourceError) as error:
        check_disk(plan_of((300, 400, 400)), tmp_path / "out.nrrd")
    for words in ("384 MB", "300 MB", str(tmp_path), "another disk"):
        assert words in str(error.value)
    check_disk(plan_of((100, 400, 400)), tmp_path / "out.nrrd")


@pytest.mark.parametrize("roi", [((0, 0), (0, 5), (0, 5)), ((5, 3), (0, 5), (0, 5)), ((-1, 5), (0, 5), (0, 5))])
def test_an_empty_or_outlying_roi_is_refused(roi):
    with pytest.raises(OptionError, match="along i"):
        make_plan(GRID, np.dtype("int16"), card(), Options(roi=roi))
    with pytest.raises(OptionError, match="0:300"):
        make_plan(GRID, np.dtype("int16"), card(), Options(roi=((0, 5), (0, 5), (299, 301))))


@pytest.mark.parametrize(("spec", "scale", "words"), [(SLICES, 3.0, "by 2, not by 3"), (BLOCKS, 4.1, "1.5 to 4")])
def test_a_scale_that_the_model_does_not_offer_is_refused(spec, scale, words):
    with pytest.raises(OptionError, match=words):
        make_plan(GRID, np.dtype("int16"), card(spec), Options(scale=scale))


def test_three_planes_need_nearly_cubic_voxels_and_a_whole_factor():
    far_apart = Grid((40, 40, 40), (0.2, 0.2, 0.301))
    with pytest.raises(InputError, match=r"1\.5"):
        make_plan(far_apart, np.dtype("int16"), card(), Options(planes="isotropic"))
    make_plan(far_apart, np.dtype("int16"), card(BLOCKS), Options(planes="isotropic"))
    any_slices = NetworkSpec("slices", scale=None, scale_range=(1.5, 4.0))
    with pytest.raises(OptionError, match="whole factors"):
        make_plan(GRID, np.dtype("int16"), card(any_slices), Options(planes="isotropic", scale=2.5))


def test_the_time_is_learned_from_earlier_runs():
    guessed = make_plan(GRID, np.dtype("int16"), card())
    record_speed(report())
    learned = make_plan(GRID, np.dtype("int16"), card())
    assert not guessed.seconds_are_measured and learned.seconds_are_measured
    assert learned.seconds == pytest.approx(400 * 380 * 300 / 1e5)
    three = make_plan(GRID, np.dtype("int16"), card(), Options(planes="isotropic"))
    assert three.seconds == pytest.approx(three.network_voxels / 1e5) and three.seconds > 3 * learned.seconds
    other = make_plan(GRID, np.dtype("int16"), card(weights_sha256="1" * 64))
    assert not other.seconds_are_measured


def test_what_is_read_around_a_roi_is_counted_and_so_is_every_draw_of_the_disagreement():
    record_speed(report())
    roi = ((100, 150), (100, 150), (7, 11))
    plain, drawn = (make_plan(GRID, np.dtype("int16"), card(), Options(roi=roi, uncertainty=n)) for n in (0, 4))
    assert plain.seconds == pytest.approx((16 + 50 + 16) ** 2 * 4 / 1e5)
    assert drawn.seconds == pytest.approx(5 * plain.seconds)


@pytest.mark.parametrize(
    ("options", "network"),
    [
        (Options(roi=((5, 20), (8, 30), (1, 3)), uncertainty=2), CubicTwice()),
        (Options(roi=((5, 20), (8, 30), (1, 9)), planes="isotropic"), CubicTwice()),
        (Options(roi=((5, 20), (8, 30), (1, 9)), uncertainty=2), LinearBlocks()),
    ],
)
def test_the_voxels_that_the_time_is_predicted_from_are_those_that_the_network_sees(options, network, monkeypatch):
    seen, run_outputs = [], Engine.run_outputs

    def count(engine, image, axes, whole, names):
        seen.append(np.prod([part.stop - part.start for part in whole.read]))
        return run_outputs(engine, image, axes, whole, names)

    monkeypatch.setattr(Engine, "run_outputs", count)
    voxels = np.random.default_rng(0).integers(0, 1000, (14, 40, 40)).astype(np.uint16)
    options = replace(options, window=(0, 1000), blank="none", device="cpu")
    found = super_resolve(Volume(voxels, Grid((40, 40, 14))), stub_model(network), options).report
    assert found["network_voxels"] == sum(seen) > 0


@pytest.mark.parametrize("text", ["", "[]", '{"a": "b"}', "{"])
def test_a_damaged_record_of_speeds_is_no_failure(text):
    user_models_folder().mkdir()
    (user_models_folder() / "speed.json").write_text(text, encoding="utf-8")
    assert not make_plan(GRID, np.dtype("int16"), card()).seconds_are_measured
    record_speed(report())
    assert make_plan(GRID, np.dtype("int16"), card()).seconds_are_measured


def test_runs_that_end_at_the_same_time_do_not_lose_each_others_speed():
    """Each of twelve threads records four models; all are known in the end."""
    digests = [f"{number:064x}"[::-1] for number in range(48)]

    def record(some):
        for digest in some:
            record_speed(report(model=digest))

    with ThreadPoolExecutor(12) as pool:
        list(pool.map(record, [digests[n::12] for n in range(12)]))
    assert [known_speed(card(weights_sha256=digest), "cpu") for digest in digests] == [1e5] * 48
    assert [path.name for path in user_models_folder().iterdir()] == ["speed.json"]


@pytest.mark.parametrize("told", [{"seconds": 0.1}, {"voxels": 0}, {"roi": [], "pieces": 1}, {"model": ""}])
def test_runs_that_say_nothing_of_the_speed_are_not_recorded(told):
    record_speed(report(**told))
    assert not user_models_folder().exists()


def test_factors_may_differ_from_axis_to_axis():
    points = NetworkSpec("points", dimensions=3, scale=None, scale_range=(1.0, 4.0), context=8)
    found = make_plan(GRID, np.dtype("int16"), card(points), Options(scale=(1, 1, 2.2)))
    assert found.scales == (1, 1, 2.2) and found.grid.size == (400, 380, 660)
    assert Options.from_json(json.loads(json.dumps(found.options.to_json()))) == found.options
    with pytest.raises(OptionError, match="from 1 to 4, not 1 x 1 x 4.5"):
        scales(card(points), Options(scale=(1, 1, 4.5)))
    slices = NetworkSpec("slices", scale=None, scale_range=(1.5, 4.0))
    assert scales(card(slices), Options(scale=(2, 3, 1))) == (2, 3, 1)
    with pytest.raises(OptionError):
        scales(card(slices), Options(scale=(2, 3, 2)))
    with pytest.raises(OptionError):
        scales(card(), Options(scale=(2, 2, 2)))
    assert scales(card(), Options(scale=(2, 2, 1))) == scales(card(), Options(scale=2)) == (2, 2, 1)
    with pytest.raises(OptionError, match="three"):
        Options(scale=(1, 2))


@pytest.mark.parametrize(
    ("factors", "name"),
    [
        ((2, 2, 1), "Jaw SR x2"),
        ((2, 2, 2), "Jaw SR x2"),
        ((3.3333, 3.3333, 1), "Jaw SR x3.33"),
        ((1, 1, 2.2), "Jaw SR 1x1x2.2"),
        ((2, 3, 1), "Jaw SR 2x3x1"),
    ],
)
def test_a_result_is_named_after_all_factors_where_they_differ(factors, name):
    points = NetworkSpec("points", dimensions=3, scale=None, scale_range=(1.0, 4.0))
    assert result_name("Jaw", card(points), Options(scale=factors)) == name


def test_a_network_that_looks_at_everything_needs_memory_for_the_whole_slice_even_for_a_roi():
    specs = [replace(SLICES, context=context) for context in (16, "unknown", "global")]
    options = Options(roi=((0, 20), (0, 20), (0, 20)))
    known, unknown, everywhere = (make_plan(GRID, np.dtype("uint16"), card(s), options).memory_bytes for s in specs)
    assert unknown == everywhere > known + 400 * 380 * 4e3 - (20 + 32) ** 2 * 4e3 - 1
