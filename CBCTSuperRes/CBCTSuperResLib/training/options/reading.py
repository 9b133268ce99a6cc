"""Read options from a JSON file, from text or from a table, and check all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ...errors import OptionError
from .checks import check, notes
from .overrides import overridden
from .sections import Problems, read_tree
from .text import parse_json
from .training_options import TrainingOptions

DEBUG = {"train": {"val_freq": 8}, "logger": {"print_freq": 2, "save_checkpoint_freq": 8}}


def read_options(
    source: str | Path | Mapping[str, Any], overrides: Sequence[str] = (), *, is_train: bool = True
) -> TrainingOptions:
    """Read and check the options of a training or, with is_train=False, of a test.

    Parameters
    ----------
    source : str, Path or mapping
        Path of a JSON file, in which // comments are allowed; or what such a file holds.
    overrides : sequence of str
        Changes to it, such as "train.lr_G=2e-4" or "network_G.nf=8".

    Raises
    ------
    OptionError
        If the file cannot be read; or with all that is wrong, one line each.
    """
    where = "The options" if isinstance(source, Mapping) else str(source)
    options, problems = read_and_check(read_values(source), overrides, is_train=is_train)
    if problems.found:
        raise OptionError(_listed(where, problems.texts), "See the table of options in README.md.")
    return options


def read_values(source: str | Path | Mapping[str, Any]) -> Mapping[str, Any]:
    """What a file of options holds, as it stands there; nothing is checked but that it is a block.

    Raises
    ------
    OptionError
        If the file cannot be read or is not valid JSON.
    """
    values = source if isinstance(source, Mapping) else _read_file(Path(source).expanduser())
    if not isinstance(values, Mapping):
        raise OptionError(f"{source} must hold a block {{...}} of options.")
    return values


def read_and_check(
    values: Mapping[str, Any], overrides: Sequence[str] = (), *, is_train: bool = True
) -> tuple[TrainingOptions, Problems]:
    """The options, with the default wherever a value is wrong, and all that is wrong."""
    problems = Problems()
    debug = isinstance(values.get("name"), str) and "debug" in values["name"]
    values = overridden(_for_debugging(values) if debug else values, overrides, problems)
    options = read_tree(values, problems, is_train)
    check(options, problems)
    return replace(options, notes=notes(options, debug)), problems


def _read_file(path: Path) -> Any:
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise OptionError(f"{path} is not a text in UTF-8.", "Save it as UTF-8.") from None
    except OSError as error:
        raise OptionError(f"The options {path} cannot be read: {error.strerror}.") from None
    return parse_json(text, str(path))


def _for_debugging(values: Mapping[str, Any]) -> dict[str, Any]:
    """What 'debug' in the name means in SPSR: everything often, and no TensorBoard."""
    changed = {**values, "use_tb_logger": False}
    for section, keys in DEBUG.items():
        if isinstance(values.get(section, {}), Mapping):
            changed[section] = {**(values.get(section) or {}), **keys}
    return changed


def _listed(where: str, problems: Sequence[str]) -> str:
    if len(problems) == 1:
        return f"{where}: {problems[0]}"
    return "\n".join([f"{where}: {len(problems)} problems.", *(f"  {problem}" for problem in problems)])
