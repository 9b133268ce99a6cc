"""JSON with comments, and changes from the command line."""

from __future__ import annotations

import json

import pytest
from CBCTSuperResLib.core.errors import OptionError
from CBCTSuperResLib.train.options_file import parse_json, read_options, without_comments
from hypothesis import given
from hypothesis import strategies as st
from options_files import tiny


def refused(text: str) -> str:
    with pytest.raises(OptionError) as caught:
        parse_json(text, "options.json")
    return str(caught.value)


def changed(*overrides: str):
    return read_options(tiny(), overrides)


def problems(*overrides: str, values=None) -> str:
    with pytest.raises(OptionError) as caught:
        read_options(values or tiny(), overrides)
    return str(caught.value)


def test_comments_go_and_slashes_within_texts_stay():
    text = '{"a": "http://x//y" // a "comment"\n, "b": "say \\"//no\\"" //, "c": 1\n//{\n}'
    assert parse_json(text, "x") == {"a": "http://x//y", "b": 'say "//no"'}


@given(st.dictionaries(st.text(max_size=5), st.text(alphabet='/\\"\n ab{},', max_size=12), max_size=4))
def test_any_json_survives_with_comments_behind_every_line(table):
    lines = json.dumps(table, indent=1).splitlines()
    assert parse_json("\n".join(f'{line} // "no, {{' for line in lines), "x") == table


def test_lines_and_columns_stay_where_they_are():
    text = '{"a": 1, // one\n "b": 2 "c": 3}'
    assert len(without_comments(text)) == len(text)
    assert "line 2, column 9" in refused(text)


@pytest.mark.parametrize(
    "text, told",
    [
        ('{"a": 1,}', "comma"),
        (r'{"a": "C:\scans"}', "backslash is written twice"),
        ('{"a": NaN}', "NaN is no number"),
        ('{"a": 1, "b": 2, "a": 3}', "a stands twice"),
        ("", "line 1, column 1"),
        ("[" * 100000, "nested too deeply"),
    ],
)
def test_broken_json_is_refused_with_a_reason(text, told):
    assert told in refused(text)


def test_a_byte_order_mark_is_no_problem(tmp_path):
    path = tmp_path / "o.json"
    path.write_text("\ufeff" + json.dumps(tiny()), encoding="utf-8")
    assert read_options(path).name == "tiny"


def test_files_that_are_no_options_are_refused(tmp_path):
    (tmp_path / "latin.json").write_bytes(b'{"name": "\xe9"}')
    (tmp_path / "list.json").write_text("[1]")
    for name, told in (("latin.json", "UTF-8"), ("list.json", "block"), ("none.json", "cannot be read")):
        with pytest.raises(OptionError, match=told):
            read_options(tmp_path / name)
    with pytest.raises(OptionError, match="cannot be read"):
        read_options(tmp_path)


def test_changes_are_json_or_bare_texts():
    o = changed(
        "network_G.nf=8",
        "train.lr_steps=[2, 4e0]",
        "train.lr_scheme=Cosine",
        r"path.root=C:\my scans//x, y",
        "name=2026",
        "datasets.train.use_flip=false",
        "datasets.train.normalization_range=[0,65535]",
        'datasets.train.dataroot_HR=["a b", "c"]',
    )
    assert o.network_G.options.nf == 8 and o.train.lr_steps == (2, 4) and o.train.lr_scheme == "Cosine"
    assert o.path.root == r"C:\my scans//x, y" and o.name == "2026"
    assert not o.dataset("train").use_flip and o.dataset("val").normalization_range == (0, 65535)
    assert o.dataset("train").dataroot_HR == ("a b", "c")


def test_changes_reach_blocks_that_the_file_does_not_have_and_remove_those_it_has():
    o = changed("card.title=New", "datasets.val=null", "datasets.train.degradation=physical")
    assert o.card.title == "New" and o.dataset("val") is None
    blur = changed("datasets.train.degradation=physical", "datasets.train.degradation_options.blur=[0.5, 0.8, 1.1]")
    assert blur.dataset("train").degradation_options == {"blur": [0.5, 0.8, 1.1]}


def test_changes_leave_the_table_they_are_made_to_alone():
    values = tiny()
    read_options(values, ["train.niter=3", "network_G.nf=5"])
    assert values == tiny()


@pytest.mark.parametrize(
    "change, told",
    [
        ("train.pixel_wieght=1", "did you mean train.pixel_weight?"),
        ("niter=8", "did you mean train.niter?"),
        ("datasets.val.batch_size=2", "did you mean datasets.train.batch_size?"),
        ("network_G=8", "network_G must be a block"),
        ("train.lr_G", "not of the form key=value"),
        ("zzz.yyy=1", "zzz.yyy is not known"),
        ("datasets.validation.name=x", "datasets.validation.name is not known"),
    ],
)
def test_changes_of_unknown_keys_are_refused_with_a_suggestion(change, told):
    assert told in problems(change)


@pytest.mark.parametrize(
    "block, key, told",
    [
        ("train", "pixel_wieght", "did you mean pixel_weight?"),
        ("train", "batch_size", "did you mean datasets.train.batch_size?"),
        ("network_G", "nff", "did you mean nf?"),
        ("logger", "niter", "did you mean train.niter?"),
    ],
)
def test_unknown_keys_of_a_file_are_refused_with_a_suggestion(block, key, told):
    assert f"{block}.{key}" in problems(values=tiny(**{f"{block}__{key}": 1}))
    assert told in problems(values=tiny(**{f"{block}__{key}": 1}))


def test_keys_of_train_alone_are_refused_elsewhere_and_unknown_blocks_named():
    assert "datasets.val.HR_size belongs to datasets.train only" in problems(values=tiny(datasets__val__HR_size=32))
    assert "datasets.valid is not known" in problems(values=tiny(datasets__valid={}))
    assert "trian" in problems(values={**tiny(), "trian": {}}) and "did you mean train?" in problems(
        values={**tiny(), "trian": {}}
    )


def test_all_problems_are_told_at_once():
    told = problems(
        "train.lr_G=-1", "network_G.nf=many", "train.gan_type=wgan-gp", "datasets.train.HR_size=33", "foo=1"
    )
    assert "6 problems" in told
    for part in ("train.lr_G", "network_G.nf", "gradient penalty", "HR_size", "foo"):
        assert part in told


@given(st.lists(st.text(alphabet='abc.=[]{}"0123456789 train_Gnf', max_size=20), max_size=3))
def test_whatever_stands_behind_set_it_is_read_or_refused_in_words(overrides):
    for values in (tiny(), {**tiny(), "datasets": [1]}, {**tiny(), 3: 4}):
        try:
            read_options(values, [*overrides, "train.niter=3", "trian.niter=3"])
        except OptionError as error:
            assert "trian.niter" in str(error)


@pytest.mark.parametrize("path", [r"C:\new", r"D:\temp\fine", r"E:\results\bone"])
def test_a_path_whose_single_backslash_json_took_for_a_tab_or_line_break_is_refused_for_that(tmp_path, path):
    file = tmp_path / "o.json"
    written = json.dumps(tiny(datasets={"train": {"mode": "HR", "dataroot_HR": ["PATH"], "HR_size": 32}}))
    file.write_text(written.replace("PATH", path), encoding="utf-8")
    with pytest.raises(OptionError, match="dataroot_HR.*tab or line break.*backslash is written twice"):
        read_options(file)
    file.write_text(written.replace("PATH", path.replace("\\", "\\\\")), encoding="utf-8")
    assert read_options(file).datasets["train"].dataroot_HR == (path,)
