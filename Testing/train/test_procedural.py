"""Procedural slices: every kind, the pool, and that no jaw is a phantom that models are measured with."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import CBCTSuperResLib
import numpy as np
import pytest
from CBCTSuperResLib.train.data import drawn_slices as procedural
from CBCTSuperResLib.train.data.decode import PixelCache
from CBCTSuperResLib.train.data.drawn_slices import (
    ALONE,
    HEADER_BYTES,
    SETS,
    drawn_slices,
    training_slice,
)
from grading.cases import HELD_OUT

LIBRARY = Path(CBCTSuperResLib.__file__).parents[1]


@pytest.mark.parametrize("kind", dict.fromkeys([*SETS[1].kinds, *SETS[2].kinds]), ids=lambda kind: kind.__name__)
def test_every_kind_of_slice_is_finite_varied_and_in_float32(kind):
    first, second = (kind(np.random.default_rng(seed), 64, ALONE)[0] for seed in (0, 1))
    assert first.shape == (64, 64) and first.dtype == np.float32
    assert np.isfinite(first).all() and np.abs(first).max() < 5
    assert not np.array_equal(first, second)


def test_slices_cover_the_window():
    values = np.concatenate([training_slice(np.random.default_rng([1, n]), 64).ravel() for n in range(40)])
    assert np.all(np.histogram(np.clip(values, 0, 1), 8, (0, 1))[0] > 0.01 * values.size)


def test_the_drawings_depend_on_the_seed_alone_and_are_made_once(tmp_path):
    pool = drawn_slices(tmp_path / "a.f16", 3, 32, seed=5)
    stamp = (tmp_path / "a.f16").stat().st_mtime_ns
    assert np.array_equal(pool, drawn_slices(tmp_path / "a.f16", 3, 32, seed=5))
    assert (tmp_path / "a.f16").stat().st_mtime_ns == stamp
    assert np.array_equal(pool, drawn_slices(tmp_path / "b.f16", 3, 32, seed=5))
    assert not np.array_equal(pool, drawn_slices(tmp_path / "c.f16", 3, 32, seed=6))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.f16", "b.f16", "c.f16"]


def zeros(content: bytes) -> bytes:
    return bytes(len(content))


def zeros_behind_a_true_header(content: bytes) -> bytes:
    return content[:HEADER_BYTES] + bytes(len(content) - HEADER_BYTES)


def pixels_alone(content: bytes) -> bytes:
    """As version 0.1.0 wrote them."""
    return content[HEADER_BYTES:]


def cut(content: bytes) -> bytes:
    return content[:-1000]


def one_bit(content: bytes) -> bytes:
    return content[:-500] + bytes([content[-500] ^ 1]) + content[-499:]


@pytest.mark.parametrize("damage", [zeros, zeros_behind_a_true_header, pixels_alone, cut, one_bit])
def test_a_file_that_is_not_what_was_drawn_is_drawn_anew(tmp_path, damage):
    path = tmp_path / "a.f16"
    expected = np.array(drawn_slices(path, 3, 32, seed=5, slices=1))
    path.write_bytes(damage(path.read_bytes()))
    assert np.array_equal(drawn_slices(path, 3, 32, seed=5, slices=1), expected)


def test_drawings_of_another_version_of_the_program_or_of_another_request_are_made_anew(tmp_path, monkeypatch):
    path = tmp_path / "a.f16"
    with monkeypatch.context() as other:
        other.setattr(procedural, "generator_sha256", lambda: "0" * 64)
        other.setattr(
            procedural, "training_slab", lambda rng, size, slices, drawings: np.zeros((1, size, size), np.float32)
        )
        drawn_slices(path, 3, 32, seed=5)
    expected = np.array(drawn_slices(tmp_path / "b.f16", 3, 32, seed=5))
    assert np.array_equal(drawn_slices(path, 3, 32, seed=5), expected) and expected.any()
    assert not np.array_equal(drawn_slices(path, 3, 32, seed=6), expected)  # same size, same name


def test_a_planted_link_is_not_followed(tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("mine")
    for name in ("a.f16", "a.f16.part"):
        (tmp_path / name).symlink_to(victim)
    assert drawn_slices(tmp_path / "a.f16", 1, 32, seed=5).any()
    assert victim.read_text() == "mine" and not (tmp_path / "a.f16").is_symlink()


SMALL_DISK = """
import resource, sys
sys.path[:0] = sys.argv[1:2]
from pathlib import Path
from CBCTSuperResLib.core.errors import OutputError
from CBCTSuperResLib.train.data.drawn_slices import drawn_slices
from CBCTSuperResLib.train.data.decode import PixelCache
import numpy as np
folder = Path(sys.argv[2])
resource.setrlimit(resource.RLIMIT_FSIZE, (10000, 10000))
for work in (
    lambda: drawn_slices(folder / "a.f16", 40, 32, seed=5),
    lambda: PixelCache(10**6, 0, folder).keep(np.ones(10**6, np.uint8)),
):
    try:
        work()
    except OutputError as error:
        print("told:", error)
"""


@pytest.mark.skipif(os.name == "nt", reason="Windows has no limits on the size of files")
def test_a_disk_that_fills_up_is_told_and_kills_nobody(tmp_path):
    command = [sys.executable, "-c", SMALL_DISK, str(LIBRARY), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 0, (done.returncode, done.stderr)
    first, second = done.stdout.splitlines()
    assert "a.f16" in first and "path.root" in first and "decoded images" in second
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("fallocate", [True, False])
def test_decoded_images_come_back_from_the_file_with_and_without_reserved_space(tmp_path, monkeypatch, fallocate):
    if not fallocate:
        monkeypatch.delattr(os, "posix_fallocate", raising=False)
    cache = PixelCache(48, 0, tmp_path)
    kept = [cache.keep(np.full((2, 4), value, np.uint16)) for value in (1, 2, 3)]
    assert [pixels.tolist() for pixels in kept] == [[[value] * 4] * 2 for value in (1, 2, 3)]
    cache.close()


def test_a_jaw_of_the_phantoms_that_models_are_measured_with_is_never_drawn(monkeypatch):
    drawn = []

    class Jaw(procedural.JawSection):
        def __init__(self, seed, *arguments, **options):
            drawn.append(seed)
            super().__init__(seed, *arguments, **options)

    monkeypatch.setattr(procedural, "JawSection", Jaw)
    for seed in range(20):
        procedural.jaw(np.random.default_rng(seed), 16, procedural.ALONE)
    assert len(set(drawn)) == 20
    assert min(drawn) >= procedural.PHANTOM_SEEDS > max(seed for _, seed in HELD_OUT.values())


def test_the_second_set_is_other_slices_in_a_file_of_its_own(tmp_path):
    first, second = (drawn_slices(tmp_path / f"{n}.f16", 6, 32, seed=5, drawings=n) for n in (1, 2))
    assert not np.array_equal(first, second)
    again = drawn_slices(tmp_path / "1.f16", 6, 32, seed=5, drawings=2)
    assert np.array_equal(again, second)  # what another set left there is drawn anew
