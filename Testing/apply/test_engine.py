"""The engine: tiles give the whole's result, and every failure ends well."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from CBCTSuperResLib.apply.engine import SMALLEST_TILE, Engine
from CBCTSuperResLib.apply.engines import pytorch
from CBCTSuperResLib.apply.tiles import Axis, Tile, plan_tiles
from CBCTSuperResLib.core import devices
from CBCTSuperResLib.core.devices import choose_device, is_out_of_memory, rounding
from CBCTSuperResLib.core.errors import (
    Cancelled,
    DeviceError,
    ModelError,
    ResourceError,
)
from hypothesis import example, given, settings
from hypothesis import strategies as st
from stub_networks import Cells, CubicTwice, Stub, tiny_network

HALO = 20


def image_of(rows, columns, seed=0):
    """Smooth structures with sharp edges and some noise, in [0, 1]."""
    random = np.random.default_rng(seed)
    y, x = np.meshgrid(np.linspace(0, 3, rows), np.linspace(0, 4, columns), indexing="ij")
    image = 0.5 + 0.3 * np.sin(5 * x) * np.cos(4 * y) + 0.2 * (np.hypot(x - 2, y - 1) < 0.6)
    return np.clip(image + random.normal(0, 0.03, image.shape), 0, 1).astype(np.float32)


def axes_of(image, scale=2):
    return [Axis(n, 0, n, n * scale) for n in image.shape]


def whole_of(axes):
    return plan_tiles(axes, None, 0)[0]


def enlarged(engine, image, scale=2):
    axes = axes_of(image, scale)
    return engine.run(image, axes, whole_of(axes))


@pytest.fixture(scope="module")
def network():
    return tiny_network()


@pytest.fixture(scope="module")
def image():
    return image_of(70, 61)


@pytest.fixture(scope="module")
def direct(network, image):
    with torch.inference_mode():
        return network(torch.from_numpy(image)[None, None])["sr"][0, 0].numpy()


def spec_of(network, **changes):
    return replace(network.describe(), **{"context": HALO, **changes})


def test_a_whole_image_gives_what_the_network_gives(network, image, direct):
    found = enlarged(Engine(network, spec_of(network, context="unknown"), "cpu"), image)
    assert np.ptp(direct) > 0.01
    assert np.abs(found - direct).max() <= 1e-5 * np.ptp(direct)


@settings(max_examples=8)
@example(tile=16)
@given(st.integers(16, 80))
def test_tiles_of_any_size_give_the_whole_result(network, image, direct, tile):
    found = enlarged(Engine(network, spec_of(network), "cpu", tile=tile), image)
    assert np.abs(found - direct).max() <= 1e-5 * np.ptp(direct)


def test_without_a_halo_tiles_leave_seams(network, image, direct):
    found = enlarged(Engine(network, spec_of(network, context=0, decode_context=0), "cpu", tile=16), image)
    assert np.abs(found - direct).max() > 1e-3 * np.ptp(direct)


@settings(max_examples=8)
@given(st.integers(0, 30), st.integers(0, 25), st.integers(17, 60))
def test_a_part_of_an_image_equals_that_part_of_the_whole(network, image, direct, top, left, tile):
    axes = [Axis(70, top, top + 40, 80), Axis(61, left, left + 36, 72)]
    found = Engine(network, spec_of(network), "cpu", tile=tile).run(image, axes, plan_tiles(axes, None, HALO)[0])
    expected = direct[2 * top : 2 * top + 80, 2 * left : 2 * left + 72]
    assert np.abs(found - expected).max() <= 1e-5 * np.ptp(direct)


def test_decoding_in_strips_is_exact(network, image, direct):
    engine = Engine(network, spec_of(network, context="unknown"), "cpu")
    engine._budget = engine.spec.decode_bytes * 4 * 60**2
    assert len(engine._largest_pieces(axes_of(image), whole_of(axes_of(image)))) == 2
    parts = engine._decode_tiles(axes_of(image), whole_of(axes_of(image)))
    assert len(parts) >= 4
    assert np.abs(enlarged(engine, image) - direct).max() <= 1e-6 * max(1, np.abs(direct).max())


def test_a_network_of_unknown_halo_refuses_tiles_and_reads_all_it_is_given(network, image):
    spec = spec_of(network, context="unknown")
    with pytest.raises(ModelError, match="calibrate"):
        Engine(network, spec, "cpu", tile=32)
    engine = Engine(network, spec, "cpu")
    engine._budget = 1.0
    axes = axes_of(image)
    tiles = engine._encode_tiles(axes, whole_of(axes))
    assert [tile.read for tile in tiles] == [(slice(0, 70), slice(0, 61))]


def test_tile_zero_forbids_tiles(network, image):
    engine = Engine(network, spec_of(network), "cpu", tile=0)
    engine._budget = 1.0
    assert len(engine._encode_tiles(axes_of(image), whole_of(axes_of(image)))) == 1


@pytest.mark.parametrize("shape", [(64, 64), (61, 70), (10, 30), (24, 90)])
@pytest.mark.parametrize("tile", [16, 21, 50])
def test_networks_that_work_on_cells_see_tiles_as_they_see_the_whole(shape, tile):
    image = image_of(*shape)
    whole = enlarged(Engine(Cells(), replace(Cells().describe(), context="unknown"), "cpu"), image)
    assert np.abs(enlarged(Engine(Cells(), Cells().describe(), "cpu", tile=tile), image) - whole).max() <= 1e-6
    assert whole.shape == tuple(2 * n for n in shape)


class Picky(CubicTwice):
    """Accepts only what its description promises."""

    def describe(self):
        return replace(super().describe(), multiple=8, minimum_size=20)

    def encode(self, x):
        assert all(n % 8 == 0 and n >= 20 for n in x.shape[2:])
        return x


@pytest.mark.parametrize("shape", [(3, 5), (20, 24), (33, 41)])
def test_images_are_padded_to_what_the_network_accepts_and_the_padding_is_not_kept(shape):
    image = image_of(*shape)
    expected = enlarged(Engine(CubicTwice(), CubicTwice().describe(), "cpu"), image)
    np.testing.assert_allclose(enlarged(Engine(Picky(), Picky().describe(), "cpu"), image), expected, atol=1e-6)


def test_networks_of_three_channels_get_the_slice_three_times_and_give_the_mean(image):
    network = tiny_network(in_nc=3, out_nc=3)
    found = enlarged(Engine(network, spec_of(network), "cpu", tile=30), image)
    with torch.inference_mode():
        expected = network(torch.from_numpy(image)[None, None].expand(-1, 3, -1, -1))["sr"].mean(1)[0].numpy()
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_the_network_that_was_given_is_left_alone(network, image):
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    enlarged(Engine(network, spec_of(network), "cpu", "bf16"), image)
    for name, tensor in network.state_dict().items():
        assert tensor.dtype == torch.float32 and torch.equal(tensor, before[name])
    assert not any(module._forward_pre_hooks for module in network.modules())


def test_cancel_is_noticed_between_two_layers(network, image):
    calls = []

    def cancelled():
        calls.append(1)
        return len(calls) > 5

    with pytest.raises(Cancelled):
        enlarged(Engine(network, spec_of(network), "cpu", cancelled=cancelled), image)
    assert len(calls) == 6


class Overflowing(CubicTwice):
    """Not finite in the types of `bad`."""

    def __init__(self, *bad):
        super().__init__()
        self.bad = bad

    def decode(self, features, positions=None):
        result = super().decode(features)["sr"]
        return {"sr": result * float("nan") if features.dtype in self.bad else result}


def test_what_is_not_finite_in_reduced_precision_is_computed_again_in_fp32(image):
    network = Overflowing(torch.bfloat16)
    engine = Engine(network, network.describe(), "cpu", "bf16", tile=32)
    np.testing.assert_allclose(
        enlarged(engine, image), enlarged(Engine(CubicTwice(), network.describe(), "cpu"), image)
    )
    assert engine.precision == "fp32" and len(engine.notes) == 1 and "fp32" in engine.notes[0]


def test_what_is_not_finite_in_fp32_is_an_error_of_the_model(image):
    network = Overflowing(torch.bfloat16, torch.float32)
    with pytest.raises(ModelError, match="not finite"):
        enlarged(Engine(network, network.describe(), "cpu", "bf16"), image)


class Hungry(CubicTwice):
    """Runs out of memory for more than `most` pixels, after spoiling its input."""

    def __init__(self, most, message="[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried 1 bytes"):
        super().__init__()
        self.most, self.message, self.attempts = most, message, []

    def describe(self):
        return replace(super().describe(), encode_bytes=1e3, decode_bytes=250)

    def __deepcopy__(self, memo):
        return self

    def encode(self, x):
        self.attempts.append(x[0, 0].numel())
        if x[0, 0].numel() > self.most:
            raise RuntimeError(self.message)
        return x


@pytest.mark.parametrize("tile", [None, 64])
@pytest.mark.parametrize("words", ["can't allocate memory", "not enough memory", "CUDNN_STATUS_ALLOC_FAILED"])
def test_when_memory_runs_out_smaller_tiles_are_taken_and_the_result_is_the_same(tile, words):
    image = image_of(100, 90)
    network = Hungry(1200, words)
    engine = Engine(network, network.describe(), "cpu", tile=tile)
    expected = enlarged(Engine(CubicTwice(), CubicTwice().describe(), "cpu"), image)
    np.testing.assert_allclose(enlarged(engine, image), expected, atol=1e-6)
    failures = [n for n in network.attempts if n > network.most]
    assert failures and failures == sorted(failures, reverse=True) and len(set(failures)) == len(failures)
    assert len(engine.notes) == len(failures) and "Memory ran out" in engine.notes[0]


@pytest.mark.parametrize("context", [2, "unknown"])
@pytest.mark.parametrize("tile", [None, 0, 64])
def test_when_not_even_the_smallest_tile_fits_the_error_says_what_to_do(context, tile):
    if context == "unknown" and tile:
        pytest.skip("refused before")
    network = Hungry(10)
    engine = Engine(network, replace(network.describe(), context=context), "cpu", tile=tile)
    with pytest.raises(ResourceError, match="ROI"):
        enlarged(engine, image_of(200, 180))
    assert len(network.attempts) < 20
    assert context == "unknown" or tile == 0 or min(network.attempts) <= (SMALLEST_TILE + 4) ** 2


def test_other_errors_are_not_taken_for_a_lack_of_memory():
    network = Hungry(10, "shapes do not match")
    with pytest.raises(RuntimeError, match="shapes do not match"):
        enlarged(Engine(network, network.describe(), "cpu"), image_of(30, 30))
    assert is_out_of_memory(MemoryError()) and not is_out_of_memory(ValueError("allocate memory"))


@pytest.mark.parametrize("name", ["cuda:63", "mps", "gpu", "cuda:x"])
def test_a_named_device_that_is_absent_is_refused(name):
    with pytest.raises(DeviceError):
        choose_device(name)


def test_without_cuda_the_automatic_device_is_the_processor(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device("auto") == torch.device("cpu") == choose_device("cpu")
    with pytest.raises(DeviceError, match="no CUDA device"):
        choose_device("cuda")


@pytest.mark.parametrize("precision", ["bf16", "tf32"])
def test_reduced_precision_stays_near_fp32(network, image, precision):
    exact, rounded = (enlarged(Engine(network, spec_of(network), "cpu", p), image) for p in ("fp32", precision))
    psnr = -10 * np.log10(max(np.mean((exact - rounded) ** 2), 1e-20))
    assert psnr >= 60
    assert precision == "tf32" or psnr < 120, "nothing was rounded"


class CoarseInHalf(CubicTwice):
    """Adds an error in float16 only."""

    def __init__(self, error):
        super().__init__()
        self.error = error

    def decode(self, features, positions=None):
        result = super().decode(features.float())["sr"]
        return {"sr": result + self.error if features.dtype == torch.float16 else result}


@pytest.mark.parametrize(("error", "chosen"), [(0.0, "fp16"), (5e-4, "fp16"), (3e-3, "fp32"), (float("nan"), "fp32")])
def test_half_precision_is_taken_only_where_it_was_measured_to_be_equal(image, error, chosen):
    engine = Engine(CoarseInHalf(error), CubicTwice().describe(), "cpu")
    engine._candidate = "fp16"
    enlarged(engine, np.full_like(image, 0.1))
    assert not engine.notes, "a flat picture decides nothing"
    found = enlarged(engine, image)
    expected = enlarged(Engine(CubicTwice(), CubicTwice().describe(), "cpu"), image)
    assert engine.precision == chosen and chosen in engine.notes[0]
    assert np.abs(found - expected).max() <= (2e-3 if chosen == "fp16" else 0)


class CoarseInBfloat16(CubicTwice):
    """Adds an error in bfloat16 only, or refuses it."""

    def __init__(self, error):
        super().__init__()
        self.error = error

    def decode(self, features, positions=None):
        if features.dtype == torch.bfloat16 and self.error is None:
            raise RuntimeError('"decode" is not implemented for BFloat16')
        result = super().decode(features.float())["sr"]
        return {"sr": result + self.error if features.dtype == torch.bfloat16 else result}


def test_a_processor_with_bfloat16_takes_it_where_it_rounds_far_less_than_the_noise_of_the_scan(image, monkeypatch):
    monkeypatch.setattr(pytorch, "bfloat16_pays", lambda: True)
    expected = enlarged(Engine(CubicTwice(), CubicTwice().describe(), "cpu"), image)
    for error, noise, chosen, why in [
        (2e-3, 0.02, "bf16", "dB."),
        (2e-3, 0.004, "fp32", "but the scan has as little noise"),
        (2e-2, 0.2, "fp32", "dB."),
        (float("nan"), 0.02, "fp32", "dB."),
        (None, 0.02, "fp32", "has no bf16"),
    ]:
        engine = Engine(CoarseInBfloat16(error), CubicTwice().describe(), "cpu", scan_noise=noise)
        found = enlarged(engine, image)
        assert engine.precision == chosen and why in engine.notes[0], (error, noise, engine.notes)
        assert np.abs(found - expected).max() <= (0.02 if chosen == "bf16" else 0)


def test_bfloat16_that_is_emulated_does_not_pay(monkeypatch):
    for is_there, limit, pays in [(True, float("inf"), True), (True, 0.0, False), (False, float("inf"), False)]:
        monkeypatch.setattr(devices, "cpu_has_bfloat16", lambda is_there=is_there: is_there)
        monkeypatch.setattr(devices, "FASTER", limit)
        assert devices.bfloat16_pays.__wrapped__() is pays


def test_bfloat16_that_is_not_there_or_not_wanted_is_not_taken(image, monkeypatch):
    network, spec = CoarseInBfloat16(1e-3), CubicTwice().describe()
    monkeypatch.setattr(pytorch, "bfloat16_pays", lambda: True)
    asked = Engine(network, spec, "cpu", "fp32", scan_noise=0.02)
    noiseless = Engine(network, spec, "cpu")
    monkeypatch.setattr(pytorch, "bfloat16_pays", lambda: False)
    absent = Engine(network, spec, "cpu", scan_noise=0.02)
    for engine in (asked, noiseless, absent):
        enlarged(engine, image)
        assert engine.precision == "fp32" and not engine.notes


def test_the_setting_of_tensorfloat_comes_back():
    before = torch.backends.cudnn.allow_tf32
    with pytest.raises(ValueError, match="stop"), rounding("tf32" if not before else "fp32"):
        assert torch.backends.cudnn.allow_tf32 != before
        raise ValueError("stop")
    assert torch.backends.cudnn.allow_tf32 == before


def test_runs_are_counted_for_progress(image):
    engine, seen = Engine(CubicTwice(), CubicTwice().describe(), "cpu"), []
    engine.after_run = seen.append
    for _ in range(3):
        enlarged(engine, image)
    assert seen == [1, 2, 3]


def test_a_tile_that_failed_leaves_no_trace():
    """Every pixel of the result was written by a run that succeeded."""

    class FailsOnce(Stub):
        tries = 0

        def describe(self):
            return replace(CubicTwice().describe(), encode_bytes=1e3)

        def decode(self, features, positions=None):
            FailsOnce.tries += 1
            if FailsOnce.tries == 3:
                raise MemoryError
            poison = 9.0 if FailsOnce.tries < 3 else 0.0
            return {"sr": CubicTwice().decode(features)["sr"] + poison}

    image = image_of(80, 80)
    found = enlarged(Engine(FailsOnce(), FailsOnce().describe(), "cpu", tile=40), image)
    assert found.max() < 2


def test_a_tile_says_which_part_it_writes(network, image):
    axes = axes_of(image)
    tile = Tile((slice(20, 40), slice(30, 50)), (slice(0, 70), slice(0, 61)), (slice(40, 80), slice(60, 100)))
    found = Engine(network, spec_of(network), "cpu").run(image, axes, tile)
    whole = enlarged(Engine(network, spec_of(network), "cpu"), image)
    np.testing.assert_allclose(found, whole[40:80, 60:100], atol=1e-5 * np.ptp(whole))
