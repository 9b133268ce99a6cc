"""A model file tells what it is without torch, and says clearly what is wrong with it."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import CBCTSuperResLib
import pytest
from CBCTSuperResLib.core.digest import file_sha256
from CBCTSuperResLib.core.errors import ModelError
from CBCTSuperResLib.models.card import (
    CARD_HASH_KEY,
    CARD_KEY,
    ModelCard,
    read_card,
    verify_weights,
)
from CBCTSuperResLib.models.header import (
    TensorEntry,
    encode_header,
    read_header,
    table_digest,
    write_file,
)
from CBCTSuperResLib.networks.spec import NetworkSpec
from CBCTSuperResLib.scan.tissue import TissueLevels
from hypothesis import given, settings
from hypothesis import strategies as st

OPTIONS = {"nf": 4, "nb": 4, "gc": 4, "taps": [1, 2, 3, 4]}
SPEC = NetworkSpec("unetspsr", OPTIONS, outputs={"sr": "image", "branch": "gradient"})
CARD = ModelCard(
    name="jaw",
    spec=SPEC,
    title="Jaw, zweifach größer",
    summary="For tests.",
    licence="Apache-2.0",
    window=(26000.0, 46000.0),
    levels=TissueLevels(0.1, 0.4, 0.7),
    smooth=0.5,
    voxel_size_mm=(0.1, 0.25),
    training={"data": "procedural slices", "steps": 1000},
    results=[{"data": "unseen", "psnr": 31.5, "cubic_psnr": 29.0}],
    limits="Not for diagnosis.",
    created_with="a test",
)
DATA = bytes(range(24))
ENTRIES = {"a.weight": TensorEntry("F32", (2, 2), 0, 16), "b": TensorEntry("F16", (4,), 16, 24)}


def saved(folder: Path, card: ModelCard = CARD, data: bytes = DATA, name: str = "jaw.safetensors") -> Path:
    digest = table_digest(ENTRIES)
    digest.update(data)
    card = replace(card, weights_sha256=digest.hexdigest())
    return write_file(folder / name, encode_header(ENTRIES, card.to_metadata()), [data])


def raw(folder: Path, header: object, data: bytes = DATA) -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path = folder / "raw.safetensors"
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)
    return path


def entry(dtype="F32", shape=(6,), offsets=(0, 24)) -> dict:
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


def with_library() -> dict:
    return {**os.environ, "PYTHONPATH": str(Path(CBCTSuperResLib.__file__).parents[1])}


def test_a_card_survives_file_and_json(tmp_path):
    path = saved(tmp_path)
    card = read_card(path)
    assert replace(card, weights_sha256="", path=None) == CARD
    assert card.path == path
    assert ModelCard.from_json(json.loads(json.dumps(card.to_json())), path) == card


def test_a_card_without_optional_entries_survives_too(tmp_path):
    card = ModelCard("plain", NetworkSpec("unetspsr"))
    assert replace(read_card(saved(tmp_path, card)), weights_sha256="", path=None) == card


def test_a_path_with_spaces_and_other_letters_is_read(tmp_path):
    folder = tmp_path / "Zähne und 歯"
    assert read_card(saved(folder)).name == "jaw"


def test_the_same_model_gives_the_same_bytes(tmp_path):
    assert saved(tmp_path, name="a").read_bytes() == saved(tmp_path, name="b").read_bytes()
    assert file_sha256(tmp_path / "a") == hashlib.sha256((tmp_path / "b").read_bytes()).hexdigest()


def test_the_data_starts_at_a_multiple_of_eight(tmp_path):
    header = read_header(saved(tmp_path))
    assert header.data_start % 8 == 0
    assert header.tensors == ENTRIES


def test_reading_a_card_needs_no_torch(tmp_path):
    path = saved(tmp_path)
    program = (
        "import sys; sys.modules.update(torch=None, cv2=None, safetensors=None, tqdm=None)\n"
        "from CBCTSuperResLib.models import folder as models\n"
        "from CBCTSuperResLib.models.card import read_card, verify_weights\n"
        f"print(read_card({str(path)!r}).name, verify_weights({str(path)!r}).name, len(models.list_models()) >= 0)"
    )
    run = subprocess.run(
        [sys.executable, "-c", program], check=False, capture_output=True, text=True, env=with_library()
    )
    assert run.stdout.split() == ["jaw", "jaw", "True"], run.stderr


def test_the_line_for_lists_names_scale_size_and_licence():
    assert (
        CARD.line == "jaw: Jaw, zweifach größer (x2 in slices, unetspsr, trained for 0.1-0.25 mm, license Apache-2.0)"
    )
    wide = replace(CARD, spec=replace(SPEC, scale=None, scale_range=(2.0, 4.0), dimensions=3), voxel_size_mm=None)
    assert "x2-4 in blocks" in wide.line


def test_a_flipped_bit_in_the_weights_is_found(tmp_path):
    path = saved(tmp_path)
    verify_weights(path)
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)
    assert read_card(path).name == "jaw"
    with pytest.raises(ModelError, match="not those that were saved"):
        verify_weights(path)


def test_swapped_names_of_tensors_are_found(tmp_path):
    content = saved(tmp_path).read_bytes().replace(b'"a.weight"', b'"b.weight"')
    path = tmp_path / "swapped.safetensors"
    path.write_bytes(content)
    with pytest.raises(ModelError, match="not those that were saved"):
        verify_weights(path)


def test_a_card_edited_by_hand_is_found(tmp_path):
    path = saved(tmp_path)
    content = path.read_bytes()
    assert content.count(b"26000") == 1
    path.write_bytes(content.replace(b"26000", b"27000"))
    with pytest.raises(ModelError, match="changed after the model was saved"):
        read_card(path)


@pytest.mark.parametrize("size", [0, 5, 8, 100, 700, -1])
def test_a_truncated_file_is_refused(tmp_path, size):
    path = saved(tmp_path)
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(ModelError, match="truncated" if size else "empty"):
        read_card(path)


def test_a_missing_file_and_a_folder_are_refused(tmp_path):
    with pytest.raises(ModelError, match="does not exist"):
        read_card(tmp_path / "none.safetensors")
    with pytest.raises(ModelError, match="folder"):
        read_card(tmp_path)


def test_pytorch_files_are_sent_to_the_importer(tmp_path):
    archive, pickled = tmp_path / "zip.pth", tmp_path / "pickle.pth"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("archive/data.pkl", "x")
    pickled.write_bytes(pickle.dumps({"a": 1}, protocol=2))
    for path in (archive, pickled):
        with pytest.raises(ModelError, match=r"PyTorch file.*cbct-superres models import"):
            read_card(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\n<!DOCTYPE html><html><body>Sign in</body></html>", "web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "Git LFS"),
        (b"NRRD0005\ntype: short\n" * 10, "not a model file"),
        (b"\xff" * 64, "not a model file"),
        (bytes(64), "not a model file"),
    ],
)
def test_other_kinds_of_files_are_named(tmp_path, content, message):
    path = tmp_path / "light.safetensors"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=message):
        read_card(path)


@pytest.mark.parametrize(
    "header",
    [
        b"[1, 2]    ",
        b"{not json}",
        b'{"a": \xff\xfe}',
        b'{"a": {"dtype": "F32", "shape": [6], "data_offsets": [0, 24]}, "a": {}}',
        b"{" + b'"a":{' * 100_000,
        {"__metadata__": ["x"]},
        {"__metadata__": {"x": 1}},
        {"a": 3},
        {"a": entry() | {"more": 1}},
        {"a": entry(dtype="F31")},
        {"a": entry(dtype=["F32"])},
        {"a": entry(shape=(-6,))},
        {"a": entry(shape=(6.0,))},
        {"a": entry(shape=(True, 6))},
        {"a": entry(shape=(7,))},
        {"a": entry(shape=(2**40, 2**40))},
        {"a": entry(offsets=(0, 24, 48))},
        {"a": entry(offsets=(24, 0))},
        {"a": entry(offsets=(4, 28))},
        {"a": entry(shape=(5,), offsets=(0, 20))},
        {"a": entry(shape=(3,), offsets=(0, 12)), "b": entry(shape=(3,), offsets=(8, 20))},
        {"a": entry(shape=(2,), offsets=(0, 8)), "b": entry(shape=(3,), offsets=(12, 24))},
    ],
)
def test_a_header_that_contradicts_itself_is_refused(tmp_path, header):
    with pytest.raises(ModelError, match=r"damaged|not a model file"):
        read_card(raw(tmp_path, header))


def test_an_absurd_header_length_is_refused_without_reading_it(tmp_path):
    path = tmp_path / "huge.safetensors"
    path.write_bytes((2**63).to_bytes(8, "little") + b"{}" + bytes(100))
    with pytest.raises(ModelError, match="not a model file"):
        read_card(path)


def test_data_beyond_the_end_of_the_file_is_truncation(tmp_path):
    with pytest.raises(ModelError, match="truncated: 76 bytes are missing"):
        read_card(raw(tmp_path, {"a": entry(shape=(25,), offsets=(0, 100))}))


def test_weights_without_a_card_are_sent_to_the_importer(tmp_path):
    with pytest.raises(ModelError, match=r"no model card.*models import"):
        read_card(raw(tmp_path, {"a": entry(), "__metadata__": {"format": "pt"}}))


def stored(**changes) -> dict:
    return json.loads(json.dumps(replace(CARD, weights_sha256="0" * 64).to_json())) | changes


@pytest.mark.parametrize(
    "changes",
    [
        {"name": ""},
        {"name": 3},
        {"spec": None},
        {"spec": SPEC.to_json() | {"dimensions": 4}},
        {"spec": SPEC.to_json() | {"scale": "2"}},
        {"spec": SPEC.to_json() | {"scale": None}},
        {"spec": SPEC.to_json() | {"context": -1}},
        {"spec": SPEC.to_json() | {"channels": 0}},
        {"spec": SPEC.to_json() | {"outputs": {"branch": "gradient"}}},
        {"spec": {"dimensions": 2}},
        {"window": [1]},
        {"window": [5, 5]},
        {"window": [5, float("nan")]},
        {"window": "hu"},
        {"levels": {"air": 0}},
        {"levels": [0, 1, 2]},
        {"smooth": -1},
        {"smooth": "much"},
        {"voxel_size_mm": [0.3, 0.1]},
        {"training": "much"},
        {"results": {"psnr": 3}},
        {"weights_sha256": ""},
        {"weights_sha256": None},
        {"format": 3},
    ],
)
def test_a_card_with_a_wrong_entry_is_refused(tmp_path, changes):
    text = json.dumps(stored(**changes))
    metadata = {CARD_KEY: text, CARD_HASH_KEY: hashlib.sha256(text.encode()).hexdigest()}
    with pytest.raises(ModelError, match="card"):
        read_card(raw(tmp_path, {"a": entry(), "__metadata__": metadata}))


def test_entries_of_later_versions_are_ignored():
    later = stored(colour="blue", spec=SPEC.to_json() | {"flavour": "sweet"})
    assert ModelCard.from_json(later) == replace(CARD, weights_sha256="0" * 64)


@settings(max_examples=300)
@given(st.data())
def test_no_change_of_bytes_goes_unnoticed_or_ends_in_another_error(tmp_path, data):
    """Whatever is changed is refused with a clear error, or does not matter: card, table and data are the same."""
    path = saved(tmp_path)
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    del content[data.draw(st.sampled_from([len(content), len(content) - 1, 40])) :]
    changed_path = tmp_path / "changed.safetensors"
    changed_path.write_bytes(content)
    try:
        card = verify_weights(changed_path)
    except ModelError:
        return
    assert replace(card, path=path) == read_card(path)
    assert read_header(changed_path).tensors == ENTRIES
    assert content.endswith(DATA)


def test_a_failed_write_leaves_nothing_behind(tmp_path):
    target = tmp_path / "jaw.safetensors"
    target.write_text("precious")

    def broken():
        yield b"half of it"
        raise OSError(28, "No space left on device")

    with pytest.raises(Exception, match="No space left"):
        write_file(target, b"header", broken())
    assert [path.name for path in tmp_path.iterdir()] == ["jaw.safetensors"]
    assert target.read_text() == "precious"
