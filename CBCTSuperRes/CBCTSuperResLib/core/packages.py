"""The Python packages that computing needs: which are missing, and how Slicer gets them, at the moment of need."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module, metadata
from importlib.util import find_spec
from subprocess import SubprocessError

from .errors import DependencyError


@dataclass(frozen=True)
class Requirement:
    """One of several packages that all provide the same.

    Attributes
    ----------
    install : str
        What is installed if none of them is there.
    providers : tuple of str
        Names of the packages, any of which will do.
    minimum : tuple of int
        Lowest version that will do.
    module : str
        Name to import, where other ways of installing leave no metadata.
    """

    install: str
    providers: tuple[str, ...]
    minimum: tuple[int, ...] = ()
    module: str = ""

    @property
    def is_met(self) -> bool:
        """Looks at the installed metadata only, so that nothing is imported; a module without metadata is trusted."""
        versions = [version for version in map(_version, self.providers) if version is not None]
        if not versions:
            return bool(self.module) and find_spec(self.module) is not None
        return any(version >= self.minimum for version in versions)


TORCH = Requirement("torch>=2.3", ("torch",), (2, 3))
OTHERS = (
    Requirement(
        "opencv-python-headless>=4.8",
        ("opencv-python-headless", "opencv-python", "opencv-contrib-python", "opencv-contrib-python-headless"),
        (4, 8),
        "cv2",
    ),
    Requirement("safetensors", ("safetensors",)),
    Requirement("tqdm", ("tqdm",)),
)
TRAINING_EXTRAS = (
    Requirement("tensorboard>=2.15", ("tensorboard",), (2, 15)),
    Requirement("matplotlib>=3.7", ("matplotlib",), (3, 7)),
)


def missing_packages(requirements: Iterable[Requirement] = (TORCH, *OTHERS)) -> list[str]:
    """What `pip install` would have to be given for computing to work; empty if all is there. Needs no Slicer."""
    return [requirement.install for requirement in requirements if not requirement.is_met]


def require_packages() -> None:
    """Say what is missing, for a process that cannot ask anybody. Needs no Slicer.

    Raises
    ------
    DependencyError
        If something is missing.
    """
    missing = missing_packages()
    if missing:
        raise DependencyError(
            f"These Python packages are needed and missing: {', '.join(missing)}.",
            "Install them with pip; in Slicer, press Apply in the module, which offers to do it.",
        )


def ensurePackages(ask: Callable[[list[str]], bool] | None = None) -> None:
    """Install what is missing into Slicer, after asking. Never imports torch if it is there.

    Parameters
    ----------
    ask : callable (packages), optional
        Asks once for all packages; without it Slicer asks, for PyTorch and for the others.

    Raises
    ------
    DependencyError
        If something is still missing, for instance because the user declined.
    """
    missing = missing_packages()
    if missing and (ask is None or ask(missing)):
        if missing_packages([TORCH]):
            _installTorch(mayAsk=ask is None)
        others = missing_packages(OTHERS)
        if others:
            _installOthers(others, mayAsk=ask is None)
    require_packages()


def offerTrainingExtras(ask: Callable[[list[str]], bool] | None = None) -> list[str]:
    """Ask whether to install what shows curves during a training, TensorBoard and matplotlib; training needs neither.

    Parameters
    ----------
    ask : callable (packages), optional
        Asks once for both; without it Slicer asks.

    Returns
    -------
    list of str
        What is still missing, for instance because the user declined.
    """
    missing = missing_packages(TRAINING_EXTRAS)
    if missing and (ask is None or ask(missing)):
        with suppress(DependencyError):
            _installOthers(missing, mayAsk=ask is None)
    return missing_packages(TRAINING_EXTRAS)


def _installTorch(mayAsk: bool) -> None:
    try:
        utilities = import_module("PyTorchUtils")
    except ImportError:
        raise DependencyError(
            "PyTorch is needed and missing, and so is the PyTorch extension, which installs it.",
            'Install the extension "PyTorch" with the Extensions Manager and restart Slicer.',
        ) from None
    try:
        utilities.PyTorchUtilsLogic().installTorch(askConfirmation=mayAsk, torchVersionRequirement=">=2.3")
    except (TypeError, RuntimeError, OSError, ValueError) as error:
        raise DependencyError(
            f"PyTorch could not be installed: {error}.",
            "Restart Slicer, uninstall PyTorch in the module PyTorch Utils and install it again; "
            "on Windows, install Slicer into a folder with a short path.",
        ) from error


def _installOthers(packages: list[str], mayAsk: bool = True) -> None:
    try:
        packaging = import_module("slicer.packaging")
        parse = import_module("packaging.requirements").Requirement
    except ImportError:
        _installWithOldSlicer(packages, mayAsk)
        return
    try:
        packaging.pip_ensure([parse(name) for name in packages], requester="CBCTSuperRes", prompt_install=mayAsk)
    except (RuntimeError, OSError, SubprocessError) as error:
        raise DependencyError(f"The packages {', '.join(packages)} were not installed: {error}.") from error


def _installWithOldSlicer(packages: list[str], mayAsk: bool) -> None:
    """Slicer 5.10 has no `slicer.packaging`."""
    import slicer

    question = f"CBCT Super-Resolution needs these Python packages: {', '.join(packages)}. Install them now?"
    if mayAsk and not slicer.util.confirmOkCancelDisplay(question):
        return
    try:
        slicer.util.pip_install(packages)
    except Exception as error:  # pip_install raises whatever its subprocess raised
        raise DependencyError(f"The packages {', '.join(packages)} could not be installed: {error}.") from error


def _version(package: str) -> tuple[int, ...] | None:
    """Leading numbers of an installed version, None if it is not installed or its metadata is broken."""
    try:
        text = metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
    return tuple(map(int, re.findall(r"\d+", text or "")[:3])) or None
