"""The feature network's weights, from a file that the user names."""

from __future__ import annotations

import re
from pathlib import Path

from torch import Tensor

from ...errors import ModelError, OptionError
from ...models.card import file_sha256
from ...networks.vgg19 import VGG19

PUBLISHED_HASH = "dcbb9e9d"
ADDRESS = f"https://download.pytorch.org/models/vgg19-{PUBLISHED_HASH}.pth"
ADVICE = (
    f"Download {ADDRESS} (548 MiB) and name it in path.feature_weights (or with --feature-weights FILE), "
    "or train without it: train.feature_weight 0."
)


def load_vgg19(path: str | Path | None) -> VGG19:
    """VGG19 with the weights of torchvision's file.

    Parameters
    ----------
    path : path-like or None
        torchvision's vgg19-dcbb9e9d.pth. A file of another name NAME-HASH.pth is checked against its own hash.

    Raises
    ------
    OptionError
        If there is no path or no such file.
    ModelError
        If the file is damaged or not a VGG19's.
    """
    if not path:
        raise OptionError(
            "The feature loss (train.feature_weight > 0) needs VGG19's weights, and no file is named.", ADVICE
        )
    path = Path(path)
    if not path.is_file():
        raise OptionError(f"The file with VGG19's weights, {path}, does not exist.", ADVICE)
    _check_hash(path)
    network = VGG19()
    network.load_state_dict(_weights(path, network))
    return network


def _check_hash(path: Path) -> None:
    named = re.search(r"-([0-9a-f]{8,64})$", path.stem)
    expected, found = named[1] if named else PUBLISHED_HASH, file_sha256(path)
    if not found.startswith(expected):
        raise ModelError(
            f"{path} is not the file it should be: its SHA-256 begins with {found[:8]}, not with {expected}.", ADVICE
        )


def _weights(path: Path, network: VGG19) -> dict[str, Tensor]:
    from ...models.importers.reading import read_checkpoint

    found = read_checkpoint(path).tensors
    expected = network.state_dict()
    wrong = [name for name, tensor in expected.items() if name not in found or found[name].shape != tensor.shape]
    if wrong:
        raise ModelError(f"{path} holds no VGG19: {', '.join(wrong[:4])} missing or of another shape.", ADVICE)
    return {name: found[name] for name in expected}
