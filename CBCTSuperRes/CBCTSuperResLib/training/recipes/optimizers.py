"""How the recipes' optimisers are made."""

from __future__ import annotations

from collections.abc import Sequence

from torch.optim import Adam

BETA2 = 0.999


def adam(groups: Sequence[dict]) -> Adam:
    """Adam (Kingma and Ba, 2015), in one pass over all weights where this torch can do that on their device."""
    try:
        return Adam(groups, fused=True)
    except RuntimeError:
        return Adam(groups)
