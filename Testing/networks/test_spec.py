"""What a network says of itself: per axis, with roles, and as version 0.1.0 wrote it."""

from __future__ import annotations

import json

import pytest
from CBCTSuperResLib.networks.spec import NetworkSpec

RESIDUAL_0_1_0 = {
    "bytes_per_voxel": 1032.0, "channels": 1, "decode_bytes_per_voxel": 560.0, "decode_halo": 1, "dimensions": 2,
    "flops_per_voxel": 1485000.0, "halo": 22, "minimum_size": 1, "multiple": 1, "network": "residual",
    "options": {"in_nc": 5, "nb": 10, "nf": 64, "out_nc": 1, "scale": 2, "slices": 2}, "outputs": ["sr"],
    "scale": 2, "scale_range": None, "slices": 2,
}  # fmt: skip


def test_one_number_stands_for_all_axes():
    assert NetworkSpec("n", scale=2) == NetworkSpec("n", scale=(2, 2))
    assert NetworkSpec("n", dimensions=3, scale=4).scale == (4, 4, 4)
    ranges = NetworkSpec("n", dimensions=3, scale=None, scale_range=(1, 4)).scale_range
    assert ranges == ((1, 4),) * 3


@pytest.mark.parametrize(
    ("facts", "text"),
    [
        ({"scale": 2}, "x2"),
        ({"scale": (1, 2)}, "x2 x 1"),
        ({"scale": None, "scale_range": (1.5, 4)}, "x1.5-4"),
        ({"dimensions": 3, "scale": None, "scale_range": ((1, 3), (1, 1), (1, 1))}, "x1-1 x 1-1 x 1-3"),
    ],
)
def test_factors_are_told_along_i_j_k(facts, text):
    assert NetworkSpec("n", **facts).scale_text == text


def test_a_spec_survives_json():
    spec = NetworkSpec(
        "n", {"nf": 4}, dimensions=3, scale=None, scale_range=((1, 2), (1, 4), (1, 4)), context="global",
        outputs={"sr": "image", "spread": "log_variance"}, domain="other", stochastic=True,
        conditions=("blur", "noise"), decode_flops=2.5,
    )  # fmt: skip
    assert NetworkSpec.from_json(json.loads(json.dumps(spec.to_json()))) == spec


def test_the_spec_of_version_0_1_0_is_read():
    spec = NetworkSpec.from_json(RESIDUAL_0_1_0)
    assert (spec.context, spec.decode_context, spec.scale, spec.outputs) == (22, 1, (2, 2), {"sr": "image"})
    assert (spec.encode_bytes, 4 * spec.decode_bytes, spec.flops_per_voxel()) == (1032, 560, 1485000)
    names = ["sr", "branch", "gradient"]
    old = NetworkSpec.from_json({"network": "unetspsr", "halo": None, "outputs": names})
    assert old.context == "unknown" and not old.can_be_cut and list(old.outputs) == names
    ranged = {**RESIDUAL_0_1_0, "scale": None, "scale_range": [1.5, 4], "dimensions": 3}
    assert NetworkSpec.from_json(ranged).scale_range == ((1.5, 4),) * 3


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({"scale": (2, 2, 2)}, "for each axis"),
        ({"scale": 2.5}, "whole factor"),
        ({"scale": True}, "whole factor"),
        ({"scale": 2, "scale_range": (1, 2)}, "or both"),
        ({"scale": None, "scale_range": (4, 2)}, "range of scales"),
        ({"scale": None, "scale_range": (0.5, float("inf"))}, "range of scales"),
        ({"context": "far"}, "context is 'far'"),
        ({"context": -1}, "context is -1"),
        ({"outputs": {"sr": "gradient"}}, "no output 'sr'"),
        ({"outputs": {"sr": "image", "x": "picture"}}, "log_variance"),
        ({"domain": "elsewhere"}, "same, other"),
        ({"conditions": ("contrast",)}, "blur, noise"),
    ],
)
def test_facts_that_make_no_sense_are_refused_with_the_reason(facts, words):
    with pytest.raises(ValueError, match=words):
        NetworkSpec("n", **facts)
