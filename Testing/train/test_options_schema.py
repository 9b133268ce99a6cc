"""The JSON schema and the table of keys: made from the options themselves, and true to them."""

from __future__ import annotations

import json
import re

import pytest
from CBCTSuperResLib.train.options import keys_at
from CBCTSuperResLib.train.options_file import read_options
from CBCTSuperResLib.train.options_schema import SCHEMA, markdown_table, schema, schema_text
from options_files import ROOT, printed_keys, tiny

BLOCKS = [
    (),
    *((name,) for name in ("path", "network_G", "network_D", "train", "logger", "card")),
    ("datasets", "train"),
    ("datasets", "val"),
]


def fits(value, rules: dict) -> bool:
    """Whether JSON agrees with the part of JSON schema that is used."""
    if "anyOf" in rules:
        return any(fits(value, one) for one in rules["anyOf"])
    if "const" in rules or "enum" in rules:
        return value in rules.get("enum", [rules.get("const")])
    kinds = rules["type"] if isinstance(rules["type"], list) else [rules["type"]]
    return any(_is(value, kind, rules) for kind in kinds)


def _is(value, kind: str, rules: dict) -> bool:
    if kind == "object":
        return isinstance(value, dict) and all(_entry_fits(key, inner, rules) for key, inner in value.items())
    if kind == "array":
        sized = isinstance(value, list) and rules.get("minItems", 0) <= len(value) <= rules.get("maxItems", 99)
        return sized and all(fits(item, rules["items"]) for item in value)
    if kind in ("null", "boolean", "string"):
        return isinstance(value, {"null": type(None), "boolean": bool, "string": str}[kind])
    if isinstance(value, bool) or not isinstance(value, int | float) or (kind == "integer" and value != int(value)):
        return False
    low, high = rules.get("minimum", value), rules.get("maximum", value)
    above, below = rules.get("exclusiveMinimum", value - 1), rules.get("exclusiveMaximum", value + 1)
    return low <= value <= high and above < value < below


def _entry_fits(key: str, value, rules: dict) -> bool:
    if key in rules.get("properties", {}):
        return fits(value, rules["properties"][key])
    matching = [rule for pattern, rule in rules.get("patternProperties", {}).items() if re.search(pattern, key)]
    return fits(value, matching[0]) if matching else rules.get("additionalProperties", True)


def test_the_schema_file_is_the_one_the_options_make():
    assert (ROOT / "Resources" / SCHEMA).read_text(encoding="utf-8") == schema_text()


def test_every_key_has_a_meaning_and_a_default_that_fits_its_kind():
    for path in BLOCKS:
        for name, key in keys_at(path).items():
            written = key.write(key.default)
            assert key.meaning.endswith("."), name
            if written is not None:
                assert key.read(written) == key.default, name
                assert fits(written, key.schema()), name


def test_what_is_accepted_fits_the_schema_and_what_the_schema_refuses_is_refused():
    assert fits(tiny(), schema())
    assert fits(read_options(tiny()).to_json(), schema())
    for bad in (tiny(train__nitter=1), tiny(train__niter=0), tiny(datasets__x={}), tiny(train__gan_type="wgan-gp")):
        assert not fits(bad, schema())
        with pytest.raises(Exception, match="nitter|niter|datasets.x|gan_type"):
            read_options(bad)


def test_the_schema_names_every_key_that_is_read():
    text = json.dumps(schema())
    for path in BLOCKS:
        for name in keys_at(path):
            assert f'"{name}":' in text


def test_where_networks_have_other_defaults_than_the_one_that_is_shown_it_is_said():
    shown = keys_at(("network_G",))
    for network in ("unetspsr", "residual", "perceptual2d", "arssr", "srcyclegan", "srgan3d", "any_size"):
        for name, key in keys_at(("network_G",), {"which_model_G": f"{network}_net"}).items():
            if key.default != shown[name].default:
                default = json.dumps(key.write(key.default))
                assert f"{default} in {network}_net" in shown[name].meaning.rpartition("By default ")[2], name
    assert "By default true in srgan3d_net." in shown["skip"].meaning and shown["skip"].default is False


def test_the_table_has_every_key_and_marks_those_that_the_published_tables_lack():
    rows = re.findall(r"^\| `([\w.*]+)`( †)? \|", markdown_table(), re.MULTILINE)
    names = [name for name, _ in rows]
    assert len(names) == len(set(names))
    published = {re.sub(r"datasets\.(val|test_1)\.", "datasets.*.", key) for key in printed_keys()}
    shared = {name.rpartition(".")[2] for name in names if name.startswith("datasets.*.")}
    published = {
        f"datasets.*.{key.rpartition('.')[2]}"
        if key.startswith("datasets.") and key.rpartition(".")[2] in shared
        else key
        for key in published
    }
    assert published <= {name for name, dagger in rows if not dagger}
    unmarked_but_ours = {name for name, dagger in rows if not dagger} - published
    assert unmarked_but_ours <= {"path.resume_state"}  # printed in the example, as a comment
