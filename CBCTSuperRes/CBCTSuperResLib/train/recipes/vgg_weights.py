"""Feature networks of the perceptual losses, with the weights of torchvision's files, which the user downloads."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple, TypeVar

from torch import nn

from ...core.digest import file_sha256
from ...core.errors import ModelError, OptionError
from ...importers.checkpoint import read_checkpoint
from ...networks.vgg import VGG16, VGG19

Network = TypeVar("Network", bound=nn.Module)


class Published(NamedTuple):
    """torchvision's file of a feature network.

    Attributes
    ----------
    name : str
        What the network is called.
    hash : str
        How its SHA-256 begins, which is also in its name.
    size : str
        Of the download.
    need : str
        Which loss needs it.
    instead : str
        How to train without.
    """

    name: str
    hash: str
    size: str
    need: str
    instead: str

    @property
    def advice(self) -> str:
        """What to do without it."""
        address = f"https://download.pytorch.org/models/{self.name.lower()}-{self.hash}.pth"
        return (
            f"Download {address} ({self.size}) and name it in path.feature_weights (or with --feature-weights FILE), "
            f"or train without it: {self.instead}."
        )


VGG19_FILE = Published(
    "VGG19", "dcbb9e9d", "548 MiB", "feature loss (train.feature_weight > 0)", "train.feature_weight 0"
)
VGG16_FILE = Published("VGG16", "397923af", "528 MiB", "perceptual loss (train.loss perceptual)", "train.loss mse")


def load_vgg19(path: str | Path | None) -> VGG19:
    """VGG19 with the weights of torchvision's vgg19-dcbb9e9d.pth; see `load_features`."""
    return load_features(VGG19(), VGG19_FILE, path)


def load_vgg16(path: str | Path | None) -> VGG16:
    """VGG16 with the weights of torchvision's vgg16-397923af.pth; see `load_features`."""
    return load_features(VGG16(), VGG16_FILE, path)


def load_features(network: Network, published: Published, path: str | Path | None) -> Network:
    """Give a feature network the weights of a file.

    Parameters
    ----------
    network : torch.nn.Module
    published : Published
    path : path-like or None
        torchvision's file. One of another name NAME-HASH.pth is checked against its own hash.

    Raises
    ------
    OptionError
        If there is no path or no such file.
    ModelError
        If the file is damaged or another network's.
    """
    name, advice = published.name, published.advice
    if not path:
        raise OptionError(f"The {published.need} needs {name}'s weights, and no file is named.", advice)
    path = Path(path)
    if not path.is_file():
        raise OptionError(f"The file with {name}'s weights, {path}, does not exist.", advice)
    named = re.search(r"-([0-9a-f]{8,64})$", path.stem)
    expected, found = named[1] if named else published.hash, file_sha256(path)
    if not found.startswith(expected):
        raise ModelError(
            f"{path} is not the file it should be: its SHA-256 begins with {found[:8]}, not with {expected}.", advice
        )
    tensors, wanted = read_checkpoint(path).tensors, network.state_dict()
    wrong = [key for key, tensor in wanted.items() if key not in tensors or tensors[key].shape != tensor.shape]
    if wrong:
        raise ModelError(f"{path} holds no {name}: {', '.join(wrong[:4])} missing or of another shape.", advice)
    network.load_state_dict({key: tensors[key] for key in wanted})
    return network
