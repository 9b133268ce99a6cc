"""Read the options of a training or test from JSON with // comments, from text or a table; change and write them.

Every problem is noted, none ends the reading: the error names all of them at once.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from difflib import get_close_matches
from functools import lru_cache
from pathlib import Path
from typing import Any

from ..core.atomic import write_text
from ..core.errors import OptionError, OutputError
from ..core.resources import resource
from .checks import contradictions, notes
from .option_values import AS_ABSENT, Key, json_or_text, keys_of
from .options import (
    BLOCKS,
    TrainingOptions,
    dataset_type,
    keys_at,
    network_types,
    phase_of,
    train_type,
)
from .recipes import RECIPES, Registered
from .recipes.seed_names import is_count

UNREAD = {"$schema"}  # an editor's entry
TABLE = "See the table of options in Resources/Documentation/options.md."
PRESETS = ("quick-look", "light", "unetspsr-full", "any-size", "srgan3d", "perceptual-mse-nn", "srcyclegan")
DEBUG = {"train": {"val_freq": 8}, "logger": {"print_freq": 2, "save_checkpoint_freq": 8}}
REMOVED: dict[str, tuple[Any, str]] = {  # keys of version 0.1.0: default, and what is done instead
    "datasets.*.clip_lr": (True, "simulated LR is always clipped to 0 to 1"),
    "datasets.train.contrast": ([0.8, 1.2], "the ranges of use_contrast are fixed"),
    "datasets.train.brightness": ([-0.1, 0.1], "the ranges of use_contrast are fixed"),
    "datasets.train.gamma": ([0.8, 1.25], "the ranges of use_contrast are fixed"),
    "network_G.branch_taps": (None, "it is network_G.taps now"),
    "network_D.skip_connection": (True, "the U-Net always adds its encoder's features to its decoder's"),
    "network_D_grad": (None, "both discriminators are as network_D says"),
    "train.gan_relativistic": (True, "both GAN losses compare each image with the mean of the other kind"),
    "train.gradient_padding": (None, "gradient maps are padded as the discriminator needs"),
    "train.D_update_ratio": (1, "the generator is updated in every iteration"),
    "train.D_init_iters": (0, "the generator is updated from the first iteration on"),
}

# A string is matched first, and so keeps the slashes within it.
_STRING_OR_COMMENT = re.compile(r'"(?:\\.|[^"\\\n])*"|//[^\n]*')


def without_comments(text: str) -> str:
    """Blank every // comment outside strings; each remaining character keeps its line and column."""
    return _STRING_OR_COMMENT.sub(lambda m: m[0] if m[0][0] == '"' else " " * len(m[0]), text)


def parse_json(text: str, where: str) -> Any:
    """Parse JSON with comments.

    Raises
    ------
    OptionError
        If it is broken or names a key twice; the message has line and column of `where`.
    """
    try:
        return json.loads(
            without_comments(text.removeprefix("\ufeff")), object_pairs_hook=_unique, parse_constant=_refuse
        )
    except json.JSONDecodeError as error:
        line = text.split("\n")[error.lineno - 1].strip()
        shown = f" ({line[:60]})" if line else ""
        raise OptionError(
            f"{where} is not valid JSON: {error.msg[:1].lower()}{error.msg[1:]} in line {error.lineno}, "
            f"column {error.colno}{shown}.",
            _advice(error),
        ) from None
    except ValueError as error:  # ours, or Python's of a number with thousands of digits
        raise OptionError(f"{where}: {error}.") from None
    except RecursionError:
        raise OptionError(f"{where} is nested too deeply to be a file of options.") from None


class _Refused(ValueError):
    pass


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) < len(pairs):
        names = [name for name, _ in pairs]
        twice = sorted({name for name in names if names.count(name) > 1})
        raise _Refused(f"{', '.join(twice)} stands twice in the same block; keep one")
    return table


def _refuse(name: str) -> None:
    raise _Refused(f"{name} is no number")


def _advice(error: json.JSONDecodeError) -> str:
    if "escape" in error.msg.lower():
        return r'In JSON a backslash is written twice: "C:\\scans". A / works as well.'
    if "property name" in error.msg:
        return "Look for a comma after the last entry of a block."
    return "Look for a missing comma, quote or bracket at or before this place."


@dataclass
class Problems:
    """What is wrong, in order, and which keys are therefore not to be judged any further.

    Attributes
    ----------
    found : list of (keys, sentence)
        The keys that a sentence is about; the first is the one to look at.
    keys : set of str
        Those that are wrong by themselves.
    notes : list of str
        Sentences about what is accepted and has no effect.
    """

    found: list[tuple[tuple[str, ...], str]] = field(default_factory=list)
    keys: set[str] = field(default_factory=set)
    notes: list[str] = field(default_factory=list)

    @property
    def texts(self) -> list[str]:
        return [text for _, text in self.found]

    def add(self, key: str, text: str) -> None:
        self.found.append(((key,), f"{key} {text}" if text.endswith("?") else f"{key} {text}."))
        self.keys.add(key)


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
    texts = problems.texts
    if len(texts) == 1:
        raise OptionError(f"{where}: {texts[0]}", TABLE)
    if texts:
        raise OptionError("\n".join([f"{where}: {len(texts)} problems.", *(f"  {text}" for text in texts)]), TABLE)
    return options


def read_values(source: str | Path | Mapping[str, Any]) -> Mapping[str, Any]:
    """What a file of options holds, as it stands there; nothing is checked but that it is a block.

    Raises
    ------
    OptionError
        If the file cannot be read or is not valid JSON.
    """
    values = source
    if not isinstance(source, Mapping):
        path = Path(source).expanduser()
        try:
            values = parse_json(path.read_text(encoding="utf-8"), str(path))
        except UnicodeDecodeError:
            raise OptionError(f"{path} is not a text in UTF-8.", "Save it as UTF-8.") from None
        except OSError as error:
            raise OptionError(f"The options {path} cannot be read: {error.strerror}.") from None
        _refuse_lost_backslashes(values, str(path))
    if not isinstance(values, Mapping):
        raise OptionError(f"{source} must hold a block {{...}} of options.")
    return values


def _refuse_lost_backslashes(value: Any, where: str, name: str = "a value") -> None:
    """Say why a path such as "C:/new" with a backslash does not exist, before somebody looks for it."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            _refuse_lost_backslashes(inner, where, key)
    elif isinstance(value, list):
        for inner in value:
            _refuse_lost_backslashes(inner, where, name)
    elif isinstance(value, str) and not set(value).isdisjoint(map(chr, range(32))):
        raise OptionError(
            f"{where}: {name} is {value!r}, with a tab or line break: JSON makes one of a single backslash before b, "
            "f, n, r or t.",
            r'In JSON a backslash is written twice: "C:\\new". A / works as well.',
        )


def read_and_check(
    values: Mapping[str, Any], overrides: Sequence[str] = (), *, is_train: bool = True
) -> tuple[TrainingOptions, Problems]:
    """The options, with the default wherever a value is wrong, and all that is wrong."""
    problems = Problems()
    is_debug = isinstance(values.get("name"), str) and "debug" in values["name"]
    if is_debug:  # what it means in SPSR: everything often, and no TensorBoard
        values = {**values, "use_tb_logger": False}
        for block, keys in DEBUG.items():
            if isinstance(values.get(block, {}), Mapping):
                values[block] = {**(values.get(block) or {}), **keys}
    values = overridden(values, overrides, problems)
    values = _as_recipe_says(values, problems)
    options = _read_blocks(values, problems, is_train)
    for keys, text in contradictions(options):
        if not problems.keys & set(keys):
            problems.found.append((keys, text))
    return replace(options, notes=(*problems.notes, *notes(options, is_debug))), problems


def _recipe(values: Mapping[str, Any]) -> Registered | None:
    """The recipe that "model" names; None where it names none."""
    model = values.get("model", keys_at(())["model"].default)
    return RECIPES.get(model) if isinstance(model, str) else None


def _elsewhere(values: Mapping[str, Any]) -> Mapping[str, str]:
    """What is said of keys of the recipe's original program that are no options here."""
    recipe = _recipe(values)
    return recipe.seed_names.elsewhere if recipe else {}


def _as_recipe_says(values: Mapping[str, Any], problems: Problems) -> dict[str, Any]:
    """The JSON with the keys of the recipe's original program under our names, and with the recipe's own defaults."""
    recipe = _recipe(values)
    if recipe is None:
        return dict(values)
    names = recipe.seed_names
    own = {name: value for name, value in values.items() if name not in names}
    if "epoch_size" in values and "epoch_size" in names and not is_count(values["epoch_size"]):
        problems.add("epoch_size", f"must be a whole number >= 1, not {values['epoch_size']!r}")
    for place, value in names.translated({n: v for n, v in values.items() if n in names}).items():
        if value_at(own, place) is not None:
            problems.add(place, "is given twice, by this name and by that of the original program; keep one")
        else:
            own = with_value(own, place, value)
    for place, value in recipe.defaults.items():
        block = place.rpartition(".")[0]
        is_there = isinstance(value_at(own, block), Mapping) if block.startswith("datasets.") else True
        if is_there and value_at(own, place) is None and isinstance(own.get(block.partition(".")[0], {}), Mapping):
            own = with_value(own, place, value)
    return own


def _read_blocks(values: Mapping[str, Any], problems: Problems, is_train: bool) -> TrainingOptions:
    values = {str(name): value for name, value in values.items() if name not in UNREAD}
    gone: list[str] = []
    top = _read_keys((), keys_at(()), values, problems, gone)
    blocks: dict[str, Any] = {}
    for name, section in BLOCKS.items():
        table = _table(values, (name,), problems)
        keys = keys_at((name,), table) if name != "train" else keys_of(train_type(top["model"]))
        read = _read_keys((name,), keys, table, problems, gone, top["model"])
        if name == "train":
            section = train_type(top["model"])
        for network in network_types(name, table):
            own = {key: read.pop(key) for key in keys_of(network) if key in read and key not in keys_of(section)}
            read["options"] = network(**own, **_derived(network, own, top["scale"]))
        blocks[name] = section(**read)
    datasets = {}
    for name, dataset in _table(values, ("datasets",), problems).items():
        path = ("datasets", str(name))
        if phase_of(path[1]) is None:
            problems.add(".".join(path), "is not known; the blocks are train, val, and test or test_...")
        elif dataset is not None:
            table = _table({path[1]: dataset}, path, problems)
            read = _read_keys(path, keys_at(path), table, problems, gone)
            datasets[path[1]] = dataset_type(path[1])(**read, phase=phase_of(path[1]))
    judge = blocks["network_D"].options
    if "train" in datasets and hasattr(judge, "size"):  # a full layer has weights for each voxel
        own = replace(judge, size=datasets["train"].block_shape[::-1])
        blocks["network_D"] = replace(blocks["network_D"], options=own)
    if gone:
        problems.notes.append(
            f"Keys of version 0.1.0 that are gone, each with the value that now is the only one: {', '.join(gone)}."
        )
    return TrainingOptions(**top, **blocks, datasets=datasets, is_train=is_train)


def _derived(network: type, own: Mapping[str, Any], scale: int) -> dict[str, Any]:
    """What a network's options take from keys outside its block, or from other keys of it."""
    found = {"scale": scale, "slices": (own.get("in_nc", 1) - 1) // 2 if own.get("out_nc") == 1 else 0}
    return {one.name: found[one.name] for one in fields(network) if one.metadata.get("derived") and one.name in found}


def _table(values: Mapping[str, Any], path: tuple[str, ...], problems: Problems) -> Mapping[str, Any]:
    """A block within `values`; empty if absent, null or something else."""
    table = values.get(path[-1])
    if table is None or isinstance(table, Mapping):
        return {str(name): value for name, value in (table or {}).items()}
    problems.add(".".join(path), "must be a block {...}")
    return {}


def _read_keys(
    path: tuple[str, ...],
    keys: Mapping[str, Key],
    values: Mapping[str, Any],
    problems: Problems,
    gone: list[str],
    model: str = "",
) -> dict[str, Any]:
    """The values of a block's keys; one with a problem gets its default. `model` is the recipe's name."""
    known = [*keys, *(() if path else ("datasets", *BLOCKS))]
    others = keys_at(path) if path in (("train",), ("network_G",), ("network_D",)) else {}
    for name, value in values.items():
        dotted = ".".join((*path, name))
        if name in known:
            continue
        if removed := _removed(dotted):
            default, instead = REMOVED[removed]
            if value in (None, default):
                gone.append(dotted)
            else:
                problems.add(dotted, f"is gone since version 0.1.0, because {instead}; remove it")
        elif name in others:  # of another network, or recipe
            if value not in (None, others[name].write(others[name].default)):
                problems.notes.append(f"{dotted} has no effect beside {_chooser(path, keys, values, model)}.")
        else:
            elsewhere = {} if path else _elsewhere(values)
            problems.add(dotted, elsewhere.get(name) or _advice_on_name(name, path, known))
    read = {}
    for name, key in keys.items():
        value = values.get(name, AS_ABSENT)
        if value is None:
            value = key.null
            read[name] = key.default if value is AS_ABSENT else value
            continue
        read[name] = key.default
        if value is not AS_ABSENT:
            try:
                read[name] = key.read(value)
            except ValueError as error:
                problems.add(".".join((*path, name)), str(error))
    return read


def _chooser(path: tuple[str, ...], keys: Mapping[str, Key], values: Mapping[str, Any], model: str) -> str:
    """What decides over a block's keys, and what it is."""
    if path == ("train",):
        return f"model {model}"
    which = next(one for one in keys if one.startswith("which_model"))
    return values.get(which) or keys[which].default


def _removed(dotted: str) -> str | None:
    """Which key, or block, of version 0.1.0 this was."""
    patterns = {old: old.replace(".", r"\.").replace("*", "[^.]*") + r"(\..*)?" for old in REMOVED}
    return next((old for old, pattern in patterns.items() if re.fullmatch(pattern, dotted)), None)


def _advice_on_name(name: str, path: tuple[str, ...], known: list[str]) -> str:
    """Prefer the place that has this very name: a key may have slipped into the wrong block."""
    if path[:1] == ("datasets",) and name in keys_at(("datasets", "train")):
        return "belongs to datasets.train only"
    homes = [("train",), ("datasets", "train"), ("network_G",), ("network_D",), ("logger",), ("path",), ()]
    homes = [".".join((*home, name)) for home in homes if name in keys_at(home)]
    if homes and not get_close_matches(name, known, n=1, cutoff=0.85):
        return f"is in the wrong block; did you mean {homes[0]}?"
    return _unknown(name, known)


def _unknown(name: str, known: Iterable[str]) -> str:
    """The end of a sentence about a name that is not among those known."""
    known = list(known)
    close = get_close_matches(name, known, n=1, cutoff=0.6) or [one for one in known if one.lower() == name.lower()]
    return f"is not known; did you mean {close[0]}?" if close else "is not known"


def overridden(values: Mapping[str, Any], overrides: Sequence[str], problems: Problems) -> dict[str, Any]:
    """A copy of the JSON with "a.b=VALUE" entries set; VALUE is JSON, or a text without quotes.

    What is set by the name of a recipe's original program replaces what the JSON has by ours, and the other way round.
    """
    values = copy.deepcopy(dict(values))
    settled: set[str] = set()  # what entries have set, by either name
    for override in overrides:
        dotted, equals, text = override.partition("=")
        path = tuple(part.strip() for part in dotted.strip().split("."))
        if not equals or not all(path):
            problems.add(repr(override), "is not of the form key=value, such as train.lr_G=2e-4")
            continue
        keys = keys_at(path[:-1]) or {}
        table = (keys_at(path[:-2]) or {}).get(path[-2]) if len(path) > 2 else None
        dotted, text = ".".join(path), text.strip()
        if len(path) == 1 and (recipe := _recipe(values)) and dotted in recipe.seed_names:
            value = json_or_text(text)
            places = set(recipe.seed_names.translated({dotted: value}))
            for place in places - settled:
                values = with_value(values, place, None) if value_at(values, place) is not None else values
            values = with_value(values, dotted, value)
            settled |= {dotted, *places}
        elif path[-1] in keys:
            values = with_value(values, dotted, keys[path[-1]].value_of_text(text))
            names = (recipe := _recipe(values)) and recipe.seed_names
            for name in [name for name in values if names and name in names and name not in settled]:
                if dotted in names.translated({name: values[name]}):
                    del values[name]
            settled.add(dotted)
        elif keys_at(path) or path == ("datasets",) or (table and table.kind is dict) or _removed(dotted):
            values = with_value(values, dotted, json_or_text(text))
        else:
            problems.add(dotted, _elsewhere(values).get(dotted) or _suggestion(path, values.get("datasets")))
    return values


def _suggestion(path: tuple[str, ...], datasets: Any) -> str:
    names = dict.fromkeys([*map(str, datasets if isinstance(datasets, Mapping) else ()), "train", "val"])
    blocks = [(), *((name,) for name in BLOCKS), *(("datasets", name) for name in names)]
    known = [".".join((*block, name)) for block in blocks for name in keys_at(block) or ()]
    same_name = [key for key in known if key.rpartition(".")[2] == path[-1]]
    if same_name:
        return f"is not known; did you mean {get_close_matches('.'.join(path), same_name, 1, 0)[0]}?"
    return _unknown(".".join(path), known)


def value_at(values: Mapping[str, Any], name: str) -> Any:
    """The JSON of a key such as "train.lr_G"; None if it is not there."""
    for part in name.split("."):
        values = values.get(part) if isinstance(values, Mapping) else None
    return values


def with_value(values: Mapping[str, Any], name: str, value: Any) -> dict[str, Any]:
    """A copy of the JSON with one value changed."""
    values = copy.deepcopy(dict(values))
    block = values
    *path, last = name.split(".")
    for part in path:
        if not isinstance(block.get(part), dict):
            block[part] = {}
        block = block[part]
    block[last] = value
    return values


def value_of_text(name: str, text: str) -> Any:
    """What a text means as the value of a key such as "train.lr_G"; an empty one is null."""
    *path, last = name.split(".")
    return keys_at(tuple(path))[last].value_of_text(text.strip()) if text.strip() else None


def preset(name: str) -> dict[str, Any]:
    """The JSON of a shipped file of options, complete; see `PRESETS`."""
    return json.loads(_preset_text(name))


@lru_cache
def _preset_text(name: str) -> str:
    return json.dumps(read_options(resource(f"Configurations/{name}.json")).to_json())


def write_options(options: TrainingOptions, path: str | Path) -> None:
    """Write all options, comments apart, as a file that every reader of them takes.

    Raises
    ------
    OutputError
    """
    folder = Path(path).parent
    if not folder.is_dir():
        raise OutputError(f"{path} cannot be written: there is no folder {folder}.", "Choose another folder.")
    write_text(path, json.dumps(options.to_json(), indent=2, ensure_ascii=False) + "\n")


def with_absolute_paths(values: Mapping[str, Any], folder: str | Path = ".") -> dict[str, Any]:
    """The complete JSON of options with every path absolute, beginning at a folder, for whoever works in another."""
    folder = Path(folder).absolute()

    def absolute(value: Any) -> Any:
        if isinstance(value, list):
            return [absolute(one) for one in value]
        return value if value in (None, "auto") else str(folder / Path(value).expanduser())

    values = copy.deepcopy(dict(values))
    places = [("path",), *(("datasets", name) for name in values["datasets"])]
    for place in places:
        block = value_at(values, ".".join(place))
        block |= {name: absolute(block[name]) for name, key in keys_at(place).items() if key.is_path and name in block}
    return values
