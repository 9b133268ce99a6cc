"""Installing the Python packages that computing needs into Slicer, at the moment of need and after asking."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from subprocess import SubprocessError

from ..core import packages
from ..core.errors import DependencyError


def ensurePackages(
    ask: Callable[[list[str]], bool] | None = None, needsTorch: bool = True, engine: str = "auto"
) -> None:
    """Install what is missing into Slicer, after asking. Never imports torch if it is there.

    Parameters
    ----------
    ask : callable (packages), optional
        Asks once for all packages; without it Slicer asks, for PyTorch and for the others.
    needsTorch : bool
        Whether nothing but PyTorch will do. Otherwise it is offered where there is a CUDA device, and elsewhere ONNX
        Runtime, which is small.
    engine : str
        As in `Options`.

    Raises
    ------
    DependencyError
        If something is still missing, for instance because the user declined.
    """
    wanted = packages.packages_to_offer(needsTorch, engine)
    missing = packages.missing_packages(wanted)
    if missing and (ask is None or ask(missing)):
        if packages.TORCH in wanted and packages.missing_packages([packages.TORCH]):
            _installTorch(mayAsk=ask is None)
        others = packages.missing_packages([package for package in wanted if package is not packages.TORCH])
        if others:
            _installOthers(others, mayAsk=ask is None)
    packages.require_packages(needsTorch)


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
    missing = packages.missing_packages(packages.TRAINING_EXTRAS)
    if missing and (ask is None or ask(missing)):
        with suppress(DependencyError):
            _installOthers(missing, mayAsk=ask is None)
    return packages.missing_packages(packages.TRAINING_EXTRAS)


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


def _installOthers(wanted: list[str], mayAsk: bool) -> None:
    failed = f"The packages {', '.join(wanted)} could not be installed"
    try:
        packaging = import_module("slicer.packaging")
        parse = import_module("packaging.requirements").Requirement
    except ImportError:  # Slicer 5.10 has no `slicer.packaging`
        import slicer

        question = f"CBCT Super-Resolution needs these Python packages: {', '.join(wanted)}. Install them now?"
        if mayAsk and not slicer.util.confirmOkCancelDisplay(question):
            return
        try:
            slicer.util.pip_install(wanted)
        except Exception as error:  # pip_install raises whatever its subprocess raised
            raise DependencyError(f"{failed}: {error}.") from error
        return
    try:
        packaging.pip_ensure([parse(name) for name in wanted], requester="CBCTSuperRes", prompt_install=mayAsk)
    except (RuntimeError, OSError, SubprocessError) as error:
        raise DependencyError(f"{failed}: {error}.") from error
