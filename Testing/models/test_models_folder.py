"""Models are found by name in all folders, and the shipped ones in every kind of installation."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import CBCTSuperResLib
import pytest
from CBCTSuperResLib.core import resources
from CBCTSuperResLib.core.errors import DependencyError, ModelError
from CBCTSuperResLib.models import folder as models
from CBCTSuperResLib.models.card import ModelCard, read_card
from CBCTSuperResLib.models.folder import find_model, list_models, user_models_folder
from CBCTSuperResLib.models.header import (
    TensorEntry,
    encode_header,
    table_digest,
    write_file,
)
from CBCTSuperResLib.networks.spec import NetworkSpec

LIBRARY = Path(CBCTSuperResLib.__file__).parent
REPOSITORY = LIBRARY.parents[1]


def put_model(folder: Path, name: str, file: str | None = None) -> Path:
    entries = {"a": TensorEntry("F32", (1,), 0, 4)}
    digest = table_digest(entries)
    digest.update(bytes(4))
    card = ModelCard(name, NetworkSpec("unetspsr"), weights_sha256=digest.hexdigest())
    return write_file(folder / (file or f"{name}.safetensors"), encode_header(entries, card.to_metadata()), [bytes(4)])


@pytest.fixture
def folders(tmp_path, monkeypatch) -> tuple[Path, Path]:
    """The user's folder and the shipped one, both empty."""
    user, shipped = tmp_path / "user", tmp_path / "shipped" / "Models"
    user.mkdir()
    shipped.mkdir(parents=True)
    monkeypatch.setenv(models.FOLDER_VARIABLE, str(user))
    monkeypatch.setattr(models, "resource", lambda name: shipped)
    monkeypatch.chdir(tmp_path)
    return user, shipped


def test_models_of_all_folders_are_listed_by_name(folders, tmp_path):
    user, shipped = folders
    put_model(shipped, "light")
    put_model(user, "Accuitomo")
    put_model(tmp_path / "extra", "micro")
    assert [entry.name for entry in list_models([tmp_path / "extra"])] == ["Accuitomo", "light", "micro"]
    assert all(entry.card and not entry.problem for entry in list_models())


def test_a_broken_file_is_listed_with_the_reason_and_hides_no_other(folders):
    user, shipped = folders
    put_model(shipped, "light")
    (user / "broken.safetensors").write_bytes(b"<html>sign in</html>")
    (user / "empty.safetensors").write_bytes(b"")
    broken, empty, light = list_models()
    assert (broken.name, broken.card) == ("broken", None)
    assert "web page" in broken.problem
    assert "empty" in empty.problem
    assert light.card.name == "light"


def test_other_files_hidden_files_and_missing_folders_are_passed_over(folders, monkeypatch):
    user, _ = folders
    (user / "notes.txt").write_text("x")
    (user / ".half.safetensors").write_text("x")
    assert list_models(["does not exist"]) == []
    monkeypatch.setenv(models.FOLDER_VARIABLE, str(user / "none"))
    assert list_models() == []


def test_a_folder_given_twice_is_listed_once(folders):
    user, _ = folders
    put_model(user, "mine")
    assert len(list_models([user, str(user) + os.sep])) == 1


@pytest.mark.parametrize("asked", ["light", "LIGHT", "light.safetensors", " light "])
def test_a_model_is_found_by_its_name(folders, asked):
    path = put_model(folders[1], "light")
    assert find_model(asked) == path


def test_a_model_is_found_by_its_files_name_too(folders):
    path = put_model(folders[0], "Jaw model", "v3.safetensors")
    assert find_model("v3") == find_model("jaw model") == path


def test_the_users_model_comes_before_the_shipped_one_of_the_same_name(folders):
    put_model(folders[1], "light")
    path = put_model(folders[0], "light")
    assert find_model("light") == path


def test_a_usable_model_comes_before_a_broken_one_of_the_same_name(folders):
    path = put_model(folders[1], "light")
    (folders[0] / "light.safetensors").write_bytes(b"")
    assert find_model("light") == path


def test_a_broken_model_asked_for_by_name_is_returned_so_that_loading_tells_why(folders):
    path = folders[0] / "mine.safetensors"
    path.write_bytes(b"")
    assert find_model("mine") == path


def test_a_path_is_taken_as_it_is(folders, tmp_path):
    path = put_model(tmp_path / "somewhere else", "light", "ä b.safetensors")
    assert find_model(path) == find_model(str(path)) == path
    assert find_model("somewhere else/ä b.safetensors").samefile(path)


def test_a_stray_file_called_like_a_model_does_not_hide_it(folders, tmp_path):
    path = put_model(folders[1], "light")
    (tmp_path / "light").write_text("a note")
    assert find_model("light") == path


def test_an_unknown_name_is_answered_with_those_that_exist(folders):
    put_model(folders[0], "Accuitomo")
    put_model(folders[1], "light")
    with pytest.raises(ModelError) as caught:
        find_model("acuitomo")
    assert "no model called acuitomo" in caught.value.what
    assert "Did you mean Accuitomo?" in caught.value.what
    assert "Accuitomo, light" in caught.value.advice
    assert str(folders[0]) in caught.value.advice
    with pytest.raises(ModelError, match=r"does not exist\..*light"):
        find_model("folder/other.safetensors")
    with pytest.raises(ModelError, match="is a folder, not a model file.*cbct-superres export"):
        find_model(folders[0])


def test_without_models_the_advice_names_the_folder_for_them(folders):
    with pytest.raises(ModelError, match="No models are installed") as caught:
        find_model("light")
    assert str(folders[0]) in caught.value.advice


def test_the_users_folder_lies_where_the_system_keeps_data(monkeypatch, tmp_path):
    monkeypatch.setenv(models.FOLDER_VARIABLE, str(tmp_path / "named"))
    assert user_models_folder() == tmp_path / "named"
    monkeypatch.setenv(models.FOLDER_VARIABLE, "~/mine")
    assert user_models_folder() == Path.home() / "mine"
    monkeypatch.delenv(models.FOLDER_VARIABLE)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "local"))
    expected = {
        "linux": tmp_path / "data" / "cbct-superres" / "models",
        "win32": tmp_path / "local" / "CBCTSuperRes" / "Models",
        "darwin": Path.home() / "Library" / "Application Support" / "CBCTSuperRes" / "Models",
    }
    for platform, folder in expected.items():
        monkeypatch.setattr(models.sys, "platform", platform)
        assert user_models_folder() == folder


def found_from(library_parent: Path) -> str:
    """What a fresh interpreter takes for the resource folder when the library lies in `library_parent`."""
    program = "from CBCTSuperResLib.core.resources import resource_folder; print(resource_folder())"
    environment = {**os.environ, "PYTHONPATH": str(library_parent), "PYTHONDONTWRITEBYTECODE": "1"}
    run = subprocess.run(
        [sys.executable, "-c", program],
        check=False,
        capture_output=True,
        text=True,
        env=environment,
        cwd=library_parent,
    )
    return run.stdout.strip() or run.stderr


def copy_library(parent: Path) -> Path:
    parent.mkdir(parents=True)
    ignored = shutil.ignore_patterns("__pycache__", "Resources")
    return Path(shutil.copytree(LIBRARY, parent / "CBCTSuperResLib", ignore=ignored))


def test_the_source_tree_has_its_resources_at_the_top(tmp_path):
    copy_library(tmp_path / "clone" / "CBCTSuperRes")
    shutil.copytree(REPOSITORY / "Resources", tmp_path / "clone" / "Resources")
    assert found_from(tmp_path / "clone" / "CBCTSuperRes") == str(tmp_path / "clone" / "Resources")


@pytest.mark.parametrize("place", ["lib/Slicer-5.12/qt-scripted-modules", "lib/python3.11/site-packages"])
def test_builds_installed_extensions_and_wheels_have_them_in_the_library(tmp_path, place):
    library = copy_library(tmp_path / place)
    shutil.copytree(REPOSITORY / "Resources", library / "Resources")
    # Another program's folder in the place where the source tree has ours.
    (tmp_path / place).parent.joinpath("Resources").mkdir()
    assert found_from(tmp_path / place) == str(library / "Resources")


def test_an_installation_without_resources_says_so(tmp_path):
    copy_library(tmp_path / "lib" / "modules")
    assert "Resources with the shipped models is missing" in found_from(tmp_path / "lib" / "modules")


def test_a_missing_resource_is_named():
    assert resources.resource("Models").is_dir()
    with pytest.raises(DependencyError, match=r"absent\.json"):
        resources.resource("Configurations/absent.json")


@pytest.mark.skipif(not shutil.which("cmake"), reason="cmake is not installed")
def test_cmake_puts_the_resources_where_the_library_looks_for_them(tmp_path):
    modules = "lib/Slicer-5.12/qt-scripted-modules"
    source, build, installed = (tmp_path / "source", tmp_path / "build", tmp_path / "installed")
    source.mkdir()
    (source / "CMakeLists.txt").write_text(
        "cmake_minimum_required(VERSION 3.16)\n"
        "project(Extension NONE)\n"
        f"set(Slicer_QTSCRIPTEDMODULES_LIB_DIR {modules})\n"
        f"set(Slicer_INSTALL_QTSCRIPTEDMODULES_LIB_DIR {modules})\n"
        f'add_subdirectory("{(REPOSITORY / "Resources").as_posix()}" Resources)\n'
    )
    for command in (
        ["cmake", "-S", source, "-B", build],
        ["cmake", "--build", build],
        ["cmake", "--install", build, "--prefix", installed],
    ):
        subprocess.run(command, check=True, capture_output=True)
    shipped = {path.name for path in (REPOSITORY / "Resources" / "Models").iterdir()}
    for place in (build / modules, installed / modules):
        copied = place / "CBCTSuperResLib" / "Resources"
        assert {path.name for path in (copied / "Models").iterdir()} == shipped
        assert (copied / "Configurations").is_dir()


def test_a_card_is_read_again_only_when_its_file_has_changed(tiny_model, monkeypatch, tmp_path):
    def listed(modified_ns):
        os.utime(path, ns=(modified_ns, modified_ns))
        read.clear()
        assert [entry.name for entry in list_models([tmp_path]) if entry.path == path] == ["tiny"]
        return read.count(path)

    path, read = Path(shutil.copy(tiny_model, tmp_path / "kept.safetensors")), []
    monkeypatch.setattr(models, "read_card", lambda path: read.append(path) or read_card(path))
    now = time.time_ns()
    assert listed(now - 10**10) == 1 and listed(now - 10**10) == 0
    assert listed(now - 2 * 10**10) == 1
    assert listed(now + 10**12) == listed(now + 10**12) == 1, "too lately for the time to tell of another change"


def test_a_file_that_could_not_be_read_is_read_the_next_time(tmp_path, monkeypatch):
    path = put_model(tmp_path, "mine")
    os.utime(path, (1e9, 1e9))  # long ago, so that what is read of it is kept

    def fail(path):
        raise ModelError("Somebody else has the file open.", "Wait.")

    def entry():
        return next(one for one in list_models([tmp_path]) if one.path == path)

    monkeypatch.setattr(models, "read_card", fail)
    assert entry().card is None
    monkeypatch.setattr(models, "read_card", read_card)
    assert entry().card.name == "mine"
    monkeypatch.setattr(models, "read_card", fail)
    assert entry().card.name == "mine"
