"""Reading and writing: voxels, types and places survive every format, and no half-written file is ever seen."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from CBCTSuperResLib.core.errors import InputError, OutputError, ResourceError
from CBCTSuperResLib.core.volume import Grid
from CBCTSuperResLib.io import images
from CBCTSuperResLib.io import write as disk
from CBCTSuperResLib.io import write as writing
from CBCTSuperResLib.io.exchange import ExchangeOutput, read_exchange, write_exchange
from CBCTSuperResLib.io.read import probe, read_volume
from CBCTSuperResLib.io.volume import Volume
from CBCTSuperResLib.io.write import check_output, free_disk_bytes, write_volume
from helpers import make_grid, make_rotation, make_volume, position_error_mm, write_dicom_series
from hypothesis import given
from hypothesis import strategies as st

TYPES = ["uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64", "float32", "float64"]
BOUNDS_MM = {".nrrd": 1e-6, ".mha": 1e-6, ".nii": 1e-4, ".nii.gz": 1e-4}
FOLDER = "Zähne 歯 mit Leerzeichen"


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / FOLDER
    path.mkdir()
    return path


def _entries(folder):
    return sorted(path.name for path in folder.iterdir())


def _hash(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("suffix", BOUNDS_MM)
def test_every_format_keeps_type_voxels_and_place(folder, suffix, kind):
    volume = make_volume(dtype=kind, left_handed=True)
    path = write_volume(volume, folder / f"scan ü{suffix}")
    back = read_volume(path)
    assert back.voxels.dtype == kind
    assert np.array_equal(back.voxels, volume.voxels)
    assert back.voxels.flags.c_contiguous
    assert position_error_mm(back.grid, volume.grid) <= BOUNDS_MM[suffix]
    assert _entries(folder) == [path.name]


@given(
    suffix=st.sampled_from(sorted(BOUNDS_MM)),
    size=st.tuples(*[st.integers(2, 9)] * 3),
    spacing=st.tuples(*[st.floats(0.02, 3.5)] * 3),
    seed=st.integers(0, 10**6),
    left_handed=st.booleans(),
    compress=st.booleans(),
)
def test_places_survive_any_orientation(tmp_path, suffix, size, spacing, seed, left_handed, compress):
    grid = make_grid(size, spacing, seed, left_handed=left_handed, reach=900)
    voxels = np.arange(np.prod(size), dtype=np.int32).reshape(size[::-1]) * 3
    back = read_volume(write_volume(Volume(voxels, grid), tmp_path / f"scan{suffix}", compress=compress))
    assert np.array_equal(back.voxels, voxels)
    assert position_error_mm(back.grid, grid) <= BOUNDS_MM[suffix]


@pytest.mark.parametrize("suffix", [".nrrd", ".mha"])
def test_sheared_axes_and_far_origins_survive_where_the_format_can_hold_them(tmp_path, suffix):
    direction = make_rotation(3) @ [[1, 0, 0], [0, 1, 0.2], [0, 0, 0.98]]
    volume = make_volume()
    volume = replace(volume, grid=replace(volume.grid, direction=direction, origin=(1e5 / 3, -7e4 / 11, 12345.678)))
    assert position_error_mm(read_volume(write_volume(volume, tmp_path / f"a{suffix}")).grid, volume.grid) <= 1e-6


def test_nifti_is_refused_beforehand_where_it_would_displace_voxels(tmp_path):
    volume = make_volume()
    far = replace(volume.grid, origin=(1e5 / 3, 0.1, 0.1))
    sheared = replace(volume.grid, direction=[[1, 0, 0], [0, 1, 0.2], [0, 0, 0.98]])
    for grid in (far, sheared):
        with pytest.raises(OutputError, match="NIfTI would displace"):
            write_volume(replace(volume, grid=grid), tmp_path / "a.nii")
    assert _entries(tmp_path) == []


@pytest.mark.parametrize("suffix", BOUNDS_MM)
def test_compression_is_lossless_and_smaller(tmp_path, suffix):
    voxels = np.zeros((20, 30, 40), np.int16)
    voxels[5:15, 5:20, 5:25] = np.arange(20)
    path = write_volume(Volume(voxels, Grid((40, 30, 20))), tmp_path / f"a{suffix}", compress=True)
    assert np.array_equal(read_volume(path).voxels, voxels)
    if suffix != ".nii":
        assert path.stat().st_size < voxels.nbytes / 5


def test_half_precision_is_read_and_written_as_float32(tmp_path):
    volume = make_volume(dtype="float16")
    assert read_volume(write_exchange(volume, tmp_path / "a.npy")).voxels.dtype == np.float32
    assert read_volume(write_volume(volume, tmp_path / "a.nrrd")).voxels.dtype == np.float32


def test_views_and_foreign_byte_order_are_written_as_they_read(tmp_path):
    volume = make_volume((8, 10, 12))
    part = volume.voxels[::2, :, ::-1]
    path = write_volume(Volume(part.astype(">u2"), Grid(part.shape[::-1])), tmp_path / "a.nrrd")
    back = read_volume(path).voxels
    assert np.array_equal(back, part)
    assert back.dtype.isnative


def test_big_endian_and_detached_files_are_read(tmp_path):
    values = (np.arange(60) * 7).astype(">i2").reshape(3, 4, 5)
    (tmp_path / "data.raw").write_bytes(values.tobytes())
    (tmp_path / "a.nhdr").write_text(
        "NRRD0004\ntype: int16\ndimension: 3\nsizes: 5 4 3\nspace: left-posterior-superior\n"
        "space directions: (0.1,0,0) (0,0.2,0) (0,0,0.3)\nspace origin: (1,2,3)\n"
        "endian: big\nencoding: raw\ndata file: data.raw\n"
    )
    (tmp_path / "a.mhd").write_text(
        "ObjectType = Image\nNDims = 3\nBinaryData = True\nBinaryDataByteOrderMSB = True\nOffset = 1 2 3\n"
        "ElementSpacing = 0.1 0.2 0.3\nDimSize = 5 4 3\nElementType = MET_SHORT\nElementDataFile = data.raw\n"
    )
    for name in ("a.nhdr", "a.mhd"):
        volume = read_volume(tmp_path / name)
        assert np.array_equal(volume.voxels, values)
        assert volume.voxels.dtype.isnative
        assert (volume.spacing, volume.origin) == ((0.1, 0.2, 0.3), (1, 2, 3))


def test_reading_keeps_the_voxels_in_memory_once(tmp_path, monkeypatch):
    path = write_volume(make_volume(), tmp_path / "a.nrrd")
    monkeypatch.setattr(sitk, "GetArrayFromImage", None)
    monkeypatch.setattr(sitk, "GetImageFromArray", None)
    volume = read_volume(path)
    assert np.shares_memory(volume.voxels, images.array_of(images.image_of(volume.voxels)))


def test_allocated_voxels_are_written_without_a_copy(tmp_path, monkeypatch):
    volume = make_volume(dtype="int16")
    voxels = images.allocate(volume.voxels.shape, "int16")
    voxels[...] = volume.voxels
    monkeypatch.setattr(sitk, "GetImageFromArray", None)
    back = read_volume(write_volume(replace(volume, voxels=voxels), tmp_path / "a.nrrd"))
    assert np.array_equal(back.voxels, volume.voxels)
    assert position_error_mm(back.grid, volume.grid) <= 1e-6


def test_a_part_of_allocated_voxels_is_written_as_a_part(tmp_path):
    voxels = images.allocate((4, 5, 6), "int16")
    voxels[...] = np.arange(120).reshape(4, 5, 6)
    part = voxels[1:3]
    back = read_volume(write_volume(Volume(part, Grid((6, 5, 2))), tmp_path / "a.nrrd"))
    assert np.array_equal(back.voxels, part)


def test_a_file_without_spacing_is_taken_as_one_millimetre_and_says_so(tmp_path):
    path = tmp_path / "a.nrrd"
    path.write_bytes(b"NRRD0004\ntype: uint8\ndimension: 3\nsizes: 3 4 5\nencoding: raw\n\n" + bytes(range(60)))
    volume = read_volume(path)
    assert volume.spacing == (1, 1, 1)
    assert "1 mm was assumed" in volume.report["warnings"][0]
    given = read_volume(path, spacing=(0.1, 0.2, 0.3))
    assert (given.spacing, given.report) == ((0.1, 0.2, 0.3), {})


@pytest.mark.parametrize("suffix", [".mha", ".nrrd"])
def test_a_fourth_dimension_of_one_is_dropped(tmp_path, suffix):
    volume = make_volume(dtype="int16")
    sitk.WriteImage(sitk.GetImageFromArray(volume.voxels[None], isVector=False), str(tmp_path / f"a{suffix}"))
    assert np.array_equal(read_volume(tmp_path / f"a{suffix}").voxels, volume.voxels)


@pytest.mark.parametrize("suffix", [*BOUNDS_MM, ".npy"])
def test_a_probe_tells_what_reading_gives(tmp_path, suffix):
    volume = make_volume(dtype="int16")
    path = tmp_path / f"a{suffix}"
    write_exchange(volume, path) if suffix == ".npy" else write_volume(volume, path)
    found, read = probe(path), read_volume(path)
    assert (found.size, found.dtype, found.nbytes) == (read.grid.size, read.voxels.dtype, read.voxels.nbytes)
    assert found.spacing == read.spacing


def test_exchange_is_exact_and_mapped(folder):
    volume = replace(make_volume(dtype="float64"), padding_value=-1000.1)
    back = read_volume(write_exchange(volume, folder / "a.npy"))
    assert np.array_equal(back.voxels, volume.voxels)
    assert not back.voxels.flags.writeable
    assert (back.spacing, back.origin, back.padding_value) == (volume.spacing, volume.origin, volume.padding_value)
    assert np.array_equal(back.direction, volume.direction)


def test_an_exchange_output_can_be_read_only_when_it_is_published(tmp_path):
    volume = make_volume()
    path = tmp_path / "result.npy"
    with pytest.raises(RuntimeError), ExchangeOutput(path) as result:
        result.allocate(volume.voxels.shape, volume.voxels.dtype)[...] = 1
        with pytest.raises(InputError, match="cannot be read"):
            read_exchange(path)
        raise RuntimeError
    assert _entries(tmp_path) == []
    with ExchangeOutput(path) as result:
        voxels = result.allocate(volume.voxels.shape, volume.voxels.dtype)
        voxels[...] = volume.voxels
        result.publish(replace(volume, voxels=voxels, report={"seconds": 1.5}))
    assert np.array_equal(read_exchange(path).voxels, volume.voxels)
    assert read_exchange(path).report == {"seconds": 1.5}


def test_an_exchange_output_that_starts_anew_withdraws_the_former_result(tmp_path):
    path = write_exchange(make_volume(), tmp_path / "a.npy")
    with ExchangeOutput(path) as result:
        result.allocate((2, 3, 4), "int16")
        with pytest.raises(InputError):
            read_exchange(path)


def test_an_exchange_file_that_does_not_fit_is_refused_before_it_is_mapped(tmp_path, monkeypatch):
    monkeypatch.setattr(disk, "free_disk_bytes", lambda path: 10_000)
    with pytest.raises(ResourceError, match="GB free"):
        write_exchange(make_volume(), tmp_path / "a.npy")
    with pytest.raises(ResourceError, match="GB free"), ExchangeOutput(tmp_path / "b.npy") as result:
        result.allocate((100, 100, 100), "int16")
    assert _entries(tmp_path) == []


@pytest.mark.parametrize("error", [OSError("no space left on device"), RuntimeError("ITK"), KeyboardInterrupt()])
def test_a_failed_write_leaves_the_old_file_and_nothing_else(folder, monkeypatch, error):
    volume = make_volume()
    path = write_volume(volume, folder / "a.nrrd")
    before = _hash(path)

    def fail(image, name, **_):
        with open(name, "wb") as stream:
            stream.write(b"half")
        raise error

    monkeypatch.setattr(sitk, "WriteImage", fail)
    with pytest.raises(KeyboardInterrupt if isinstance(error, KeyboardInterrupt) else OutputError):
        write_volume(volume, path)
    assert _entries(folder) == ["a.nrrd"]
    assert _hash(path) == before


@pytest.mark.parametrize("suffix", BOUNDS_MM)
def test_a_write_that_was_silently_cut_short_is_noticed(folder, monkeypatch, suffix):
    write = sitk.WriteImage

    def cut_short(image, name, **options):
        write(image, name, **options)
        with open(name, "rb+") as stream:
            stream.truncate(stream.seek(0, 2) * 2 // 3)

    monkeypatch.setattr(sitk, "WriteImage", cut_short)
    with pytest.raises(OutputError):
        write_volume(make_volume((10, 20, 30)), folder / f"a{suffix}")
    assert _entries(folder) == []


FILL_THE_DISK = """
import resource, signal, sys
sys.path[:0] = {paths!r}
from CBCTSuperResLib.core.errors import OutputError
from CBCTSuperResLib.io.exchange import ExchangeOutput, write_exchange
from CBCTSuperResLib.io.write import write_volume
from helpers import make_volume

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))
volume = make_volume((50, 80, 100))
for name in ("a.nrrd", "a.mha", "a.nii", "a.nii.gz"):
    for compress in (False, True):
        try:
            write_volume(volume, {folder!r} + "/" + name, compress)
        except OutputError as error:
            print(error)
try:
    write_exchange(volume, {folder!r} + "/b.npy")
except OutputError as error:
    print(error)
try:
    with ExchangeOutput({folder!r} + "/c.npy") as output:
        output.allocate((50, 80, 100), "uint16")[...] = 1
except OutputError as error:
    print(error)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="a limit on the size of files needs POSIX")
def test_a_disk_that_fills_up_while_writing_leaves_nothing(folder):
    paths = [str(Path(__file__).parents[1] / "support"), str(Path(images.__file__).parents[2])]
    script = FILL_THE_DISK.format(paths=paths, folder=str(folder))
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, encoding="utf-8", timeout=240)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Writing") == 10
    assert _entries(folder) == []


def test_a_full_disk_is_said_before_anything_is_written(folder, monkeypatch):
    monkeypatch.setattr(disk, "free_disk_bytes", lambda path: 10_000)
    monkeypatch.setattr(sitk, "WriteImage", None)
    with pytest.raises(ResourceError, match="GB free"):
        write_volume(make_volume(), folder / "a.nrrd")
    assert _entries(folder) == []


@pytest.mark.parametrize("name", ["a.png", "a", "a.nhdr", "a.gz", "a.stl", "a.mhd"])
def test_formats_that_are_not_written_are_refused_with_advice(tmp_path, name):
    with pytest.raises(OutputError, match=r"\.nrrd, \.mha"):
        write_volume(make_volume(), tmp_path / name)


def test_unusable_places_are_refused(tmp_path):
    volume = make_volume()
    (tmp_path / "folder.nrrd").mkdir()
    with pytest.raises(OutputError, match="is a folder"):
        write_volume(volume, tmp_path / "folder.nrrd")
    with pytest.raises(OutputError, match="no possible name"):
        write_volume(volume, tmp_path / f"{'x' * 300}.nrrd")
    with pytest.raises(OutputError, match="does not exist"):
        write_volume(volume, tmp_path / "nowhere" / "a.nrrd")


def test_a_folder_without_write_permission_is_refused(tmp_path, monkeypatch):
    def refuse(**_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(writing.tempfile, "TemporaryFile", refuse)
    with pytest.raises(OutputError, match="Permission denied"):
        write_volume(make_volume(), tmp_path / "a.nrrd")


def test_the_input_is_never_the_output(tmp_path):
    volume = make_volume()
    path = write_volume(volume, tmp_path / "a.nrrd")
    link = tmp_path / "link.nrrd"
    link.symlink_to(path)
    for name in (path, link, tmp_path / "." / "a.nrrd"):
        with pytest.raises(OutputError, match="is the input"):
            check_output(name, volume.grid, volume.voxels.dtype, source=path)


def test_two_writers_of_one_file_leave_one_whole_file(tmp_path, monkeypatch):
    first, second = make_volume(seed=1), make_volume(seed=2)
    path = tmp_path / "a.nrrd"
    write = sitk.WriteImage

    def interrupted(image, name, **options):
        monkeypatch.setattr(sitk, "WriteImage", write)
        write_volume(second, path)
        write(image, name, **options)

    monkeypatch.setattr(sitk, "WriteImage", interrupted)
    write_volume(first, path)
    assert np.array_equal(read_volume(path).voxels, first.voxels)
    assert _entries(tmp_path) == ["a.nrrd"]


@pytest.mark.parametrize("suffix", BOUNDS_MM)
def test_reading_never_touches_the_input(tmp_path, suffix):
    path = write_volume(make_volume(), tmp_path / f"a{suffix}")
    before = (_hash(path), path.stat().st_mtime_ns)
    volume = read_volume(path)
    probe(path)
    with pytest.raises(ValueError, match="read-only"):
        volume.voxels[0, 0, 0] = 1
    assert (_hash(path), path.stat().st_mtime_ns) == before
    assert _entries(tmp_path) == [path.name]


def test_free_space_is_known_for_files_that_do_not_exist_yet(tmp_path):
    assert free_disk_bytes(tmp_path / "a" / "b.nrrd") > 0


def test_a_drive_that_is_gone_has_no_space(tmp_path, monkeypatch):
    looks = iter(range(100))  # a search without end fails
    monkeypatch.setattr(Path, "exists", lambda path: next(looks) < 0)
    assert free_disk_bytes(tmp_path / "b.nrrd") == 0


@pytest.mark.parametrize(
    ("suffix", "kind"), [(".tif", "uint16"), (".tiff", "uint8"), (".png", "uint16"), (".tif", "float32")]
)
def test_slices_are_stacked_in_the_order_people_count(folder, suffix, kind):
    volume = make_volume((12, 5, 6), kind)
    for k, pixels in enumerate(volume.voxels):
        sitk.WriteImage(sitk.GetImageFromArray(pixels), str(folder / f"Slice {k + 1}{suffix}"))
    back = read_volume(folder, spacing=(0.1, 0.2, 0.3))
    assert np.array_equal(back.voxels, volume.voxels)
    assert (back.voxels.dtype, back.spacing) == (kind, (0.1, 0.2, 0.3))
    assert probe(folder, spacing=(0.1, 0.2, 0.3)).size == back.grid.size


def test_a_tiff_file_of_many_pages_is_a_volume(tmp_path):
    volume = make_volume()
    sitk.WriteImage(sitk.GetImageFromArray(volume.voxels), str(tmp_path / "a.tif"))
    with pytest.raises(InputError, match="spacing"):
        read_volume(tmp_path / "a.tif")
    assert np.array_equal(read_volume(tmp_path / "a.tif", spacing=(1, 1, 2)).voxels, volume.voxels)


@pytest.mark.parametrize("name", ["tooth.nrrd", "trabecular_microct.nrrd", "head_anisotropic.nrrd", "ct_dicom"])
def test_real_scans_are_read(shared_data, name):
    volume = read_volume(shared_data / name)
    assert min(volume.voxels.shape) >= 64
    assert volume.voxels.max() > 100
    assert volume.report == {}


def test_the_dicom_head_is_where_simpleitk_puts_it(shared_data):
    folder = str(shared_data / "ct_dicom")
    names = sitk.ImageSeriesReader.GetGDCMSeriesFileNames(folder)
    reference = sitk.ReadImage(names)
    volume = read_volume(folder)
    assert np.array_equal(volume.voxels, sitk.GetArrayFromImage(reference))
    last = [n - 1 for n in reference.GetSize()]
    for index in ([0, 0, 0], last):
        assert np.allclose(volume.grid.point(index), reference.TransformIndexToPhysicalPoint(index), atol=1e-6)


@pytest.mark.parametrize("suffix", [".nrrd", ".mha", ".nii.gz", "dicom"])
def test_slicer_sees_the_voxels_in_the_same_places(tmp_path, suffix):
    slicer = pytest.importorskip("slicer", reason="slicer-core is not installed")
    volume = make_volume(dtype="int16", spacing=(0.3, 0.3, 0.4))
    if suffix == "dicom":
        paths = write_dicom_series(tmp_path / "d", volume.voxels, volume.grid)
        path = tmp_path / "d"
    else:
        path = write_volume(volume, tmp_path / f"a{suffix}")
        paths = [path]
    scene = slicer.vtkMRMLScene()
    node = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode")
    storage = slicer.vtkMRMLVolumeArchetypeStorageNode()
    storage.SetScene(scene)
    storage.SetFileName(str(paths[0]))
    for name in paths if len(paths) > 1 else []:
        storage.AddFileName(str(name))
    assert storage.ReadData(node)
    matrix = np.array([[_ijk_to_ras(slicer, node).GetElement(r, c) for c in range(4)] for r in range(4)])
    ours = np.diag([-1, -1, 1, 1]) @ read_volume(path).grid.index_to_point
    corner = [*np.subtract(volume.grid.size, 1), 1]
    assert np.abs(matrix @ [0, 0, 0, 1] - ours @ [0, 0, 0, 1]).max() <= 1e-4
    assert np.abs(matrix @ corner - ours @ corner).max() <= 1e-4
    assert np.array_equal(slicer.util.arrayFromVolume(node), volume.voxels)


def _ijk_to_ras(slicer, node):
    import vtk

    matrix = vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(matrix)
    return matrix
