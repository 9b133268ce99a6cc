"""Dense blocks give the same with and without their shared memory."""

from __future__ import annotations

import pytest
import torch
from CBCTSuperResLib.networks.blocks import RRDB, ResidualDenseBlock, Scratch

needs_onednn = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="this torch has no oneDNN")


def block_of(features: int, growth: int) -> RRDB:
    torch.manual_seed(features)
    return RRDB(features, growth).requires_grad_(False)


def with_scratch(block: RRDB, scratch: Scratch | None = None) -> RRDB:
    scratch = scratch or Scratch()
    for layer in block.modules():
        if isinstance(layer, ResidualDenseBlock):
            layer.scratch = scratch
    return block


@needs_onednn
@pytest.mark.parametrize(("features", "growth"), [(16, 8), (32, 8), (64, 32), (12, 5)])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_shared_memory_does_not_change_the_result(features, growth, memory_format):
    block, x = block_of(features, growth).to(memory_format=memory_format), torch.rand(1, features, 9, 14)
    with torch.no_grad():
        expected = block(x)
        assert torch.allclose(with_scratch(block)(x.contiguous(memory_format=memory_format)), expected, atol=1e-5)


@needs_onednn
def test_the_memory_of_a_larger_image_serves_a_smaller_one():
    scratch, large, small = Scratch(), block_of(32, 8), block_of(16, 8)
    image, detail = torch.rand(1, 32, 20, 30), torch.rand(1, 16, 5, 6)
    with torch.no_grad():
        expected = small(detail)
        with_scratch(large, scratch)(image.fill_(float("nan")))
        assert torch.allclose(with_scratch(small, scratch)(detail), expected, atol=1e-5)


@needs_onednn
def test_the_input_of_a_block_is_not_changed():
    x = torch.rand(1, 16, 7, 8)
    before = x.clone()
    with torch.no_grad():
        with_scratch(block_of(16, 8))(x)
    assert torch.equal(x, before)


@pytest.mark.parametrize(
    "x",
    [torch.rand(2, 8, 4, 4), torch.rand(1, 9, 4, 4), torch.rand(1, 8, 4, 4).double(), torch.rand(1, 8, 4, 4).half()],
    ids=["two images", "no whole groups", "float64", "float16"],
)
def test_what_the_memory_cannot_serve_is_left_to_the_plain_way(x):
    with torch.no_grad():
        assert not Scratch.serves(x, 8)


def test_gradients_need_every_join():
    block = with_scratch(block_of(16, 8)).requires_grad_(True)
    block(torch.rand(1, 16, 6, 6)).sum().backward()
    assert all(parameter.grad is not None for parameter in block.parameters())
