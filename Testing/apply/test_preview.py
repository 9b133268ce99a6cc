"""Previews: in which order a slice fills, and that what fills it is what the whole run gives there."""

from __future__ import annotations

import json
import time
from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import pytest
from CBCTSuperResLib import Options, Volume, super_resolve
from CBCTSuperResLib.apply import plan as planning
from CBCTSuperResLib.apply import preview as areas
from CBCTSuperResLib.apply import run
from CBCTSuperResLib.apply.engines.choice import network_for
from CBCTSuperResLib.apply.preview import Canvas, Filled, Scan, growing
from CBCTSuperResLib.apply.preview_request import PreviewRequest
from CBCTSuperResLib.core.errors import Cancelled, ModelError, OptionError
from CBCTSuperResLib.io.exchange import read_exchange, write_exchange
from CBCTSuperResLib.jobs import preview_server as server
from CBCTSuperResLib.jobs.preview import request_file
from CBCTSuperResLib.jobs.preview_server import Inbox, PreviewServer
from helpers import make_grid, position_error_mm
from hypothesis import given
from hypothesis import strategies as st
from stub_networks import (
    AnyScale,
    CubicTwice,
    LinearBlocks,
    Normalised,
    Sharpened,
    TranslatorNet,
    stub_model,
    tiny_model,
)

WINDOW = (300.0, 1500.0)
PLAIN = Options(window=WINDOW, dtype="float32", device="cpu")
SHAPE = (38, 46, 50)
AXES = {"sagittal": 0, "coronal": 1, "axial": 2}


def make_scan() -> Volume:
    """Structures in a cylindrical field of view, with values outside the window, at an oblique place."""
    k, j, i = np.meshgrid(*map(np.arange, SHAPE), indexing="ij")
    values = 900 + 500 * np.sin(i / 3 + k / 4) * np.cos(j / 5) + 900 * (np.hypot(i - 30, j - 20) < 4)
    values = np.clip(values + np.random.default_rng(0).normal(0, 30, SHAPE), 1, None)
    values[np.hypot(i - 24.5, j - 22.5) > 22] = 0
    return Volume(values.astype("uint16"), make_grid(SHAPE[::-1], (0.25, 0.25, 0.3)))


@pytest.fixture(scope="module")
def volume():
    return make_scan()


@pytest.fixture(scope="module")
def scan(volume, tmp_path_factory):
    return Scan(write_exchange(volume, tmp_path_factory.mktemp("Aufnahme 1") / "volume.npy"))


@pytest.fixture(scope="module")
def model():
    return tiny_model()


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr(areas, "BLOCK", 16)
    monkeypatch.setattr(areas, "SMALLEST_PART", 1)


def request_for(normal: int, index: int = 20, focus=(25, 23, 20), options: Options = PLAIN) -> PreviewRequest:
    """The whole of a slice."""
    visible = [(0, n) for n in SHAPE[::-1]]
    visible[normal] = (index, index + 1)
    return PreviewRequest("model", options, normal, tuple(visible), tuple(focus))


def fill_all(canvas: Canvas, request: PreviewRequest) -> list[tuple]:
    return [canvas.fill(area, lambda: False) for area in canvas.areas(request.visible, request.focus)]


def tolerance(width: float = WINDOW[1] - WINDOW[0]) -> float:
    """What tiles may differ by from the whole, see test_resolve."""
    return 1e-5 * width


limits = st.tuples(st.integers(0, 300), st.integers(1, 900)).map(lambda t: (t[0], t[0] + t[1]))


@given(st.tuples(limits, limits), st.tuples(st.integers(-50, 1300), st.integers(-50, 1300)))
def test_the_areas_cover_what_is_visible_once_and_begin_around_the_focus(limits, focus):
    count = np.zeros([stop for _, stop in limits], int)
    first, *others = growing(limits, focus, (192, 96))
    for (top, bottom), (left, right) in (first, *others):
        assert top < bottom and left < right
        count[top:bottom, left:right] += 1
    inside = tuple(slice(*limit) for limit in limits)
    assert (count[inside] == 1).all() and count.sum() == count[inside].size
    for (start, stop), limit, at, edge in zip(first, limits, focus, (192, 96), strict=True):
        assert stop - start == min(edge, limit[1] - limit[0])
        assert start <= np.clip(at, limit[0], limit[1] - 1) < stop


def test_a_rest_that_is_too_narrow_for_a_step_is_taken_along():
    strips = list(growing(((0, 192), (0, 470)), (96, 96), (192, 192)))
    assert strips == [((0, 192), (0, 192)), ((0, 192), (192, 470))]


def test_what_is_there_is_not_computed_again():
    filled = Filled(((10, 60), (0, 100)))
    assert not filled and filled.missing(((10, 20), (0, 5))) == ((10, 20), (0, 5))
    filled.add(((10, 60), (20, 40)))
    assert filled and filled.missing(((10, 60), (20, 30))) is None
    assert filled.missing(((15, 50), (30, 50))) == ((15, 50), (40, 50))
    assert filled.share(((10, 60), (0, 100))) == pytest.approx(0.2)


@pytest.mark.parametrize("focus", [(25, 23, 20), (0, 0, 20), (49, 45, 20)])
def test_an_axial_preview_is_what_apply_puts_there(scan, volume, model, tmp_path, small_blocks, focus):
    request = request_for(2, focus=focus)
    canvas = Canvas(tmp_path / "canvas.npy", scan, model, request)
    boxes = fill_all(canvas, request)
    assert len(boxes) > 3
    whole, seen = super_resolve(volume, model, PLAIN), read_exchange(canvas.path)
    assert np.abs(seen.voxels[0] - whole.voxels[20]).max() <= tolerance()
    assert position_error_mm(seen.grid, whole.grid.cropped((0, 0, 20), (100, 92, 21))) <= 1e-6


def test_an_axial_preview_of_whole_numbers_is_what_apply_puts_there(scan, volume, model, tmp_path, small_blocks):
    options = replace(PLAIN, dtype=None)
    request = request_for(2, options=options)
    canvas = Canvas(tmp_path / "canvas.npy", scan, model, request)
    fill_all(canvas, request)
    whole = super_resolve(volume, model, options).voxels[20].astype(int)
    seen = read_exchange(canvas.path).voxels
    assert seen.dtype == np.uint16
    assert np.abs(seen[0] - whole).max() <= 1 and np.mean(seen[0] != whole) < 1e-3


@pytest.mark.parametrize("way", ["slices", "all axes", "blocks"])
def test_a_preview_in_any_view_is_what_apply_puts_there(scan, volume, tmp_path, small_blocks, way):
    options = replace(PLAIN, planes="isotropic" if way == "all axes" else "axial")
    model = stub_model(LinearBlocks() if way == "blocks" else Sharpened())
    box = ((12, 34), (14, 27), (14, 34))
    part = box if way == "all axes" else tuple((0, n) for n in volume.grid.size)
    whole = super_resolve(volume, model, replace(options, roi=part))
    factors = [2, 2, 1 if way == "slices" else 2]
    for normal in (1,) if way == "all axes" else AXES.values():
        visible = [*box]
        visible[normal] = (20, 21)
        request = PreviewRequest("model", options, normal, tuple(visible), (20, 20, 20))
        canvas = Canvas(tmp_path / f"{normal}.npy", scan, model, request)
        assert len(fill_all(canvas, request)) > 1 and canvas.share(request.visible) == 1
        seen, begin = read_exchange(canvas.path), request.slice_of(volume.grid.size)

        def place(starts, visible=visible):
            ends = zip(visible, starts, factors, strict=True)
            return tuple(slice((a - n) * f, (b - n) * f) for (a, b), (n, _), f in ends)[::-1]

        drawn, expected = place(begin), place(part)
        assert np.abs(seen.voxels[drawn] - whole.voxels[expected]).max() <= tolerance(), normal
        corners = [
            grid.point([along.start for along in box[::-1]])
            for grid, box in ((seen.grid, drawn), (whole.grid, expected))
        ]
        assert np.abs(corners[0] - corners[1]).max() <= 1e-6


def test_the_first_block_is_smaller_where_many_slices_are_needed_for_it(scan, model, tmp_path, monkeypatch):
    monkeypatch.setattr(areas, "BLOCK", 32)
    monkeypatch.setattr(areas, "QUICK", 32 * 46 * 50)
    rows = {}
    for normal, options in ((2, PLAIN), (1, PLAIN), (1, replace(PLAIN, planes="isotropic"))):
        canvas = Canvas(tmp_path / "canvas.npy", scan, model, request_for(normal, options=options))
        (top, bottom), _ = next(canvas.areas(*visible_and_focus(normal)))
        rows[normal, options.planes] = bottom - top
    assert rows == {(2, "axial"): 32, (1, "axial"): 32, (1, "isotropic"): 8}


def visible_and_focus(normal: int) -> tuple:
    request = request_for(normal)
    return request.visible, request.focus


@pytest.mark.parametrize("normal", [0, 2], ids=["sagittal", "axial"])
def test_blocks_of_any_size_fill_up_to_what_apply_makes_of_the_slice(scan, volume, tmp_path, small_blocks, normal):
    """Areas of real factors lie on the grid of the whole slice, and see what a slab around it holds."""
    model, request = stub_model(AnyScale()), request_for(normal, options=replace(PLAIN, scale=(1.5, 2.5, 3.3)))
    canvas = Canvas(tmp_path / "canvas.npy", scan, model, request)
    assert len(fill_all(canvas, request)) > 3 and fill_all(canvas, request) == []
    seen, slab = read_exchange(canvas.path), replace(request.options, roi=request.slice_of(volume.grid.size))
    expected = super_resolve(volume, model, slab)
    assert position_error_mm(seen.grid, expected.grid) <= 1e-6
    assert np.abs(seen.voxels - expected.voxels).max() <= tolerance()


def test_a_voxel_size_that_is_asked_for_is_that_of_the_preview(scan, volume, tmp_path, small_blocks):
    for model, size, normal, spacing in (
        (stub_model(CubicTwice()), (0.125, 0.125, 0.3), 1, (0.125, 0.125)),
        (stub_model(AnyScale(), window=WINDOW), "cubic", 2, None),
        (stub_model(AnyScale()), (0.1, 0.1, 0.15), 2, (0.1, 0.1)),
    ):
        request = request_for(normal, options=replace(PLAIN, output_spacing=size))
        if spacing is None:
            with pytest.raises(OptionError, match="from 1.5 to 4, not 1 x 1 x 1.2"):
                Canvas(tmp_path / "canvas.npy", scan, model, request)
            continue
        canvas = Canvas(tmp_path / "canvas.npy", scan, model, request)
        np.testing.assert_allclose(read_exchange(canvas.path).grid.spacing[:2], spacing)


@pytest.mark.parametrize(
    "network",
    [tiny_model(context="unknown"), stub_model(Normalised())],
    ids=["unknown context", "global context"],
)
def test_what_cannot_be_cut_comes_in_one_piece(scan, tmp_path, small_blocks, network):
    request = request_for(2)
    canvas = Canvas(tmp_path / "canvas.npy", scan, network, request)
    (box,) = fill_all(canvas, request)
    assert box == canvas.everything and fill_all(canvas, request) == []


def test_what_cannot_be_cut_comes_slice_by_slice_where_the_view_crosses_many(scan, volume, tmp_path, small_blocks):
    network, request = stub_model(Normalised()), request_for(1)
    canvas = Canvas(tmp_path / "canvas.npy", scan, network, request)
    first, *others = fill_all(canvas, request)
    assert first == (slice(12, 28), slice(0, 2), slice(0, 100)) and len(others) == 2
    whole = super_resolve(volume, network, PLAIN).voxels[:, 40:42]
    assert np.abs(read_exchange(canvas.path).voxels - whole).max() <= tolerance()


@pytest.mark.parametrize("network", [Normalised(), Normalised(3)], ids=["slices", "blocks"])
def test_a_network_that_looks_at_everything_sees_all_of_the_scan_within_a_roi(scan, volume, tmp_path, network):
    roi = ((2, 9), (5, 12), (3, 9))
    request = PreviewRequest("model", replace(PLAIN, roi=roi), 2, ((2, 9), (5, 12), (5, 6)), (4, 8, 5))
    canvas = Canvas(tmp_path / "canvas.npy", scan, stub_model(network), request)
    fill_all(canvas, request)
    whole, seen = super_resolve(volume, stub_model(network), PLAIN), read_exchange(canvas.path)
    depth = slice(5, 6) if network.dimensions == 2 else slice(10, 12)
    assert np.abs(seen.voxels - whole.voxels[depth, 10:24, 4:18]).max() <= tolerance()


def test_a_picture_of_another_kind_is_in_its_own_grey_values_from_the_beginning(scan, tmp_path):
    network, request = TranslatorNet(), request_for(2)
    canvas = Canvas(tmp_path / "canvas.npy", scan, stub_model(network, output_window=(-3.0, -1.0)), request)
    for _ in range(2):
        seen = read_exchange(canvas.path).voxels
        assert -3 <= seen.min() < seen.max() <= -1
        fill_all(canvas, request)


def test_only_the_roi_is_filled(scan, volume, model, tmp_path, small_blocks):
    options = replace(PLAIN, roi=((10, 40), (5, 37), (15, 30)))
    visible = ((12, 40), (5, 30), (20, 21))
    request = PreviewRequest("model", options, 2, visible, (25, 23, 20))
    canvas = Canvas(tmp_path / "canvas.npy", scan, model, request)
    fill_all(canvas, request)
    whole, seen = super_resolve(volume, model, options), read_exchange(canvas.path)
    assert seen.grid.size == (60, 64, 1)
    computed = np.s_[:50, 4:]
    assert np.abs(seen.voxels[0] - whole.voxels[5])[computed].max() <= tolerance()
    assert canvas.share(visible) == 1 and canvas.share(((10, 40), (5, 37), (20, 21))) < 1


@pytest.mark.parametrize("dtype", ["uint16", "int16", "uint8", "float32", "float64", "int32"])
def test_what_is_not_computed_yet_looks_like_the_scan(volume, tmp_path, dtype):
    values = volume.voxels.astype(float) / (10 if dtype == "uint8" else 1)
    same = Volume(values.astype(dtype), volume.grid)
    scan = Scan(write_exchange(same, tmp_path / "volume.npy"))
    request = request_for(1, options=Options(window=WINDOW, device="cpu"))
    seen = read_exchange(Canvas(tmp_path / "canvas.npy", scan, tiny_model(), request).path)
    cubic = super_resolve(same, stub_model(CubicTwice()), Options(window=(-1e5, 1e5)))
    nearby = np.abs(seen.voxels.astype(float) - cubic.voxels[:, 40:42])
    assert seen.voxels.dtype == dtype and np.median(nearby) <= 1


def test_the_disagreement_is_left_to_the_run_itself(scan, volume, model, tmp_path, small_blocks):
    request = request_for(2, options=replace(PLAIN, uncertainty=4))
    canvas = Canvas(tmp_path / "canvas.npy", scan, model, request)
    fill_all(canvas, request)
    whole = super_resolve(volume, model, PLAIN).voxels[20]
    assert np.abs(read_exchange(canvas.path).voxels[0] - whole).max() <= tolerance()


def test_a_scan_is_looked_at_once_for_all_previews(scan, model, monkeypatch):
    first = scan.plan(PLAIN, model.card)
    monkeypatch.setattr(planning, "find_blanks", None)
    other = scan.plan(replace(PLAIN, window=(0.0, 2000.0)), model.card)
    assert other.choice.window.hi == 2000 and other.blanks.rule == first.blanks.rule
    monkeypatch.setattr(planning, "choose_window", None)
    again = scan.plan(replace(PLAIN, planes="isotropic"), model.card)
    assert again.choice is first.choice


def test_one_engine_computes_all_areas_and_slices_until_the_options_are_others(
    scan, model, tmp_path, monkeypatch, small_blocks
):
    made = []
    monkeypatch.setattr(run, "network_for", lambda *given: made.append(given[1]) or network_for(*given))
    scan.drop_engine()

    def fill(request: PreviewRequest) -> None:
        fill_all(Canvas(tmp_path / "canvas.npy", scan, model, request), request)

    fill(request_for(2))
    fill(request_for(2, 21))
    assert len(made) == 1
    fill(request_for(2, options=replace(PLAIN, ensemble=2)))
    assert len(made) == 2 and made[1].ensemble == 2
    canvas = Canvas(tmp_path / "canvas.npy", scan, model, request_for(2))
    for asked in (lambda: False, lambda: True):  # each area is stopped by what asks for it
        with pytest.raises(Cancelled) if asked() else nullcontext():
            canvas.fill(((0, 46), (0, 50)), asked)
    assert len(made) == 3


def write_request(folder, number: int, message: dict) -> None:
    request_file(folder, number).write_text(json.dumps(message), encoding="utf-8")


def test_a_request_says_the_same_after_its_journey():
    request = request_for(1, options=replace(PLAIN, roi=((1, 9), (2, 30), (3, 33))))
    assert PreviewRequest.from_json(json.loads(json.dumps(request.to_json()))) == request


def test_the_newest_request_counts_and_the_others_go(tmp_path):
    inbox = Inbox(tmp_path)
    assert inbox.take() is None and not inbox.has_newer()
    for number in (1, 2, 3):
        write_request(tmp_path, number, {"n": number})
    assert inbox.has_newer() and inbox.take() == (3, {"n": 3}) and not inbox.has_newer()
    write_request(tmp_path, 4, {"n": 4})
    assert inbox.take() == (4, {"n": 4}) and inbox.take() is None
    assert [path.name for path in tmp_path.iterdir()] == ["request-4.json"]


class Told(list):
    """The events of a server; `when` is called with each."""

    def __init__(self, when=lambda event: None) -> None:
        super().__init__()
        self.when = when

    def __call__(self, event: str, **values) -> None:
        self.append({"event": event, **values})
        self.when(self[-1])

    def of(self, number: int) -> list[str]:
        return [event["event"] for event in self if event["number"] == number]


@pytest.fixture
def folder(tmp_path, volume, model, small_blocks, monkeypatch):
    """The folder of a server's job, with a volume in it; the model is not read from a file."""
    monkeypatch.setattr(server.Model, "load", lambda path: model)
    write_exchange(volume, tmp_path / "volume-1.npy")
    return tmp_path


def asking(folder, number: int, request: PreviewRequest | None, volume: str = "volume-1.npy") -> None:
    message = {**request.to_json(), "volume": str(folder / volume)} if request else {}
    write_request(folder, number, message)


def test_a_server_tells_the_picture_its_blocks_and_its_end(folder):
    told = Told()
    asking(folder, 1, request_for(2))
    report = PreviewServer(folder, told, lambda: False, idle_s=0.2).serve("model")
    assert report == {"answered": 1}
    kinds = told.of(1)
    assert kinds[0] == "canvas" and kinds[-1] == "complete" and set(kinds[1:-1]) == {"block"}
    shares = [event["share"] for event in told if event["event"] == "block"]
    assert shares == sorted(shares) and shares[-1] == 1
    assert told[1]["box"][1:] == [(30, 62), (34, 66)]


def test_a_newer_request_puts_an_end_to_the_older_one(folder):
    def ask_again(event):
        if event["event"] == "block" and event["number"] == 1:
            asking(folder, 2, request_for(1))

    told = Told(ask_again)
    asking(folder, 1, request_for(2))
    PreviewServer(folder, told, lambda: False, idle_s=0.2).serve("model")
    assert told.of(1) == ["canvas", "block"]
    assert told.of(2)[0] == "canvas" and told.of(2)[-1] == "complete"


def test_an_empty_request_stops_the_work(folder):
    told = Told(lambda event: event["event"] == "block" and asking(folder, 2, None))
    asking(folder, 1, request_for(2))
    PreviewServer(folder, told, lambda: False, idle_s=0.2).serve("model")
    assert [event["event"] for event in told] == ["canvas", "block"]


def test_another_focus_in_the_same_slice_goes_on_with_what_is_there(folder):
    def ask_again(event):
        if event["event"] == "block" and event["number"] == 1:
            asking(folder, 2, request_for(2, focus=(0, 0, 20)))

    told = Told(ask_again)
    asking(folder, 1, request_for(2))
    PreviewServer(folder, told, lambda: False, idle_s=0.2).serve("model")
    second = [event for event in told if event["number"] == 2]
    assert second[0]["path"] == told[0]["path"]
    everything = second[1]
    assert everything["box"] == [(0, 1), (0, 92), (0, 100)] and 0 < everything["share"] < 1
    assert second[2]["box"][1:] == [(0, 32), (0, 32)]


def test_what_cannot_be_previewed_is_told_and_the_next_request_answered(folder):
    told = Told(lambda event: event["event"] == "refused" and asking(folder, 2, request_for(2)))
    asking(folder, 1, request_for(2, options=replace(PLAIN, window="nonsense")))
    PreviewServer(folder, told, lambda: False, idle_s=0.2).serve("model")
    assert told.of(1) == ["refused"] and "nonsense" in told[0]["what"] and told[0]["advice"]
    assert told.of(2)[-1] == "complete"


def test_a_model_that_cannot_be_loaded_is_told_when_it_is_asked_for(folder, monkeypatch):
    def fail(path):
        raise ModelError("The model is damaged.", "Import it again.")

    monkeypatch.setattr(server.Model, "load", fail)
    told = Told()
    asking(folder, 1, request_for(2))
    PreviewServer(folder, told, lambda: False, idle_s=0.2).serve("model")
    assert told.of(1) == ["refused"] and told[0]["what"] == "The model is damaged."


def test_a_failure_of_the_program_is_told_with_its_trace(folder, monkeypatch):
    monkeypatch.setattr(server, "Canvas", None)
    told = Told()
    asking(folder, 1, request_for(2))
    PreviewServer(folder, told, lambda: False, idle_s=0.2).serve("model")
    assert "TypeError" in told[0]["what"] and "Traceback" in told[0]["detail"]


def test_a_stop_ends_the_server_within_a_block(folder):
    stopped = []
    told = Told(lambda event: stopped.append(event))
    asking(folder, 1, request_for(2))
    with pytest.raises(Cancelled):
        PreviewServer(folder, told, lambda: len(stopped) > 1, idle_s=60).serve("model")
    assert told.of(1) == ["canvas", "block"]


def test_an_idle_server_ends_by_itself_and_leaves_no_large_files(folder):
    told = Told()
    asking(folder, 1, request_for(2))
    start = time.monotonic()
    PreviewServer(folder, told, lambda: False, idle_s=0.3).serve("model")
    assert time.monotonic() - start >= 0.3 and told[-1]["event"] == "complete"
    assert [path.name for path in folder.iterdir()] == ["request-1.json"]


def test_a_volume_that_changed_replaces_the_old_one(folder, volume):
    changed = Volume(volume.voxels[::-1].copy(), volume.grid)

    def ask_again(event):
        if event["event"] == "complete" and event["number"] == 1:
            write_exchange(changed, folder / "volume-2.npy")
            asking(folder, 2, request_for(2), "volume-2.npy")

    pictures = {}

    def keep(event):
        ask_again(event)
        if event["event"] == "canvas":
            pictures[event["number"]] = read_exchange(event["path"]).voxels

    asking(folder, 1, request_for(2))
    PreviewServer(folder, Told(keep), lambda: False, idle_s=0.2).serve("model")
    assert not np.array_equal(pictures[1], pictures[2])
