"""Where the shipped models and configurations are."""

from __future__ import annotations

from pathlib import Path

from .errors import DependencyError

LIBRARY = Path(__file__).resolve().parents[1]


def resource_folder() -> Path:
    """The folder with Models/ and Configurations/.

    It lies within the library in a build, an installed extension and a wheel, and at the top of the repository in the
    source tree (also when that is installed as editable).

    Raises
    ------
    DependencyError
        If the installation lacks it.
    """
    for folder in (LIBRARY / "Resources", LIBRARY.parents[1] / "Resources"):
        if (folder / "Models").is_dir():
            return folder
    raise DependencyError(
        f"The folder Resources with the shipped models is missing beside {LIBRARY}.", "Install the extension again."
    )


def resource(name: str) -> Path:
    """A file or folder within `resource_folder`, such as "Models" or "Configurations/example.json".

    Raises
    ------
    DependencyError
        If it does not exist.
    """
    path = resource_folder() / name
    if not path.exists():
        raise DependencyError(f"{path} is missing from this installation.", "Install the extension again.")
    return path
