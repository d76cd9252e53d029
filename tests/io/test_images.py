"""What every reader promises: masks, NaN, files that are something else."""

import gzip
import re
import time
from pathlib import Path

import numpy as np
import pytest

from calvaria.errors import CalvariaError, FormatError, InputError
from calvaria.io import extension_of, read_mask, read_volume, write_volume
from calvaria.volume.grid import Grid
from calvaria.volume.volume import Volume

FORMATS = (".nrrd", ".mha", ".nii.gz", ".nii")


def save(path, data):
    data = np.asarray(data)
    write_volume(path, Volume(data, Grid.isotropic(data.shape, 1.0)))
    return path


@pytest.mark.parametrize("dtype", ["u1", "i1", "i2", "u2", "i4", "i8", "f4", "f8"])
@pytest.mark.parametrize("value", [1, 2, 100])
def test_zero_and_one_positive_value_are_a_mask_whatever_the_type(tmp_path, dtype, value):
    mask = np.random.default_rng(0).random((4, 5, 6)) > 0.5
    volume = read_mask(save(tmp_path / "a.nrrd", mask.astype(dtype) * np.dtype(dtype).type(value)))
    assert volume.is_mask
    assert volume.data.flags.f_contiguous
    np.testing.assert_array_equal(volume.data, mask)


def test_0_and_255_are_a_mask(tmp_path):
    mask = np.random.default_rng(0).random((4, 5, 6)) > 0.5
    np.testing.assert_array_equal(read_mask(save(tmp_path / "a.nrrd", mask * np.uint8(255))).data, mask)


def test_a_mask_may_be_full_or_a_fraction(tmp_path):
    assert read_mask(save(tmp_path / "a.nrrd", np.full((2, 3, 4), 7, np.int16))).data.all()
    half = np.zeros((2, 3, 4), np.float32)
    half[0] = 0.5
    assert np.count_nonzero(read_mask(save(tmp_path / "a.nrrd", half)).data) == 12


@pytest.mark.parametrize("extension", FORMATS)
def test_an_empty_mask_is_refused(tmp_path, extension):
    with pytest.raises(InputError, match=rf"^a{extension}: no voxel is set: the mask is empty$"):
        read_mask(save(tmp_path / f"a{extension}", np.zeros((2, 3, 4), bool)))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([0, 1, 2], r"found 3 values from 0 to 2: it looks like a map of labels"),
        (range(100), r"found 100 values from 0 to 99: it looks like a CT; read_volume .* `calvaria reconstruct`"),
        (range(-1000, 3000), r"found more than 1000 values from -1000 to 2999: it looks like a CT"),
    ],
)
def test_other_values_are_counted_and_refused(tmp_path, values, message):
    data = np.zeros((len(values), 1, 2), np.int16) + np.asarray(values, np.int16)[:, None, None]
    with pytest.raises(InputError, match=r"^a\.nrrd: a mask has two values, such as 0 and 1; " + message):
        read_mask(save(tmp_path / "a.nrrd", data))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("extension", FORMATS)
def test_nan_and_infinity_are_refused_and_counted(tmp_path, extension, dtype, value):
    data = np.ones((3, 4, 5), dtype)
    data[1, 2, 3:] = value
    path = save(tmp_path / f"a{extension}", data)
    for read in (read_volume, read_mask):
        with pytest.raises(FormatError, match=rf"^a{extension}: 2 voxels are NaN or infinite"):
            read(path)


def test_large_numbers_are_no_infinity(tmp_path):
    data = np.full((2, 2, 2), np.finfo(np.float32).max)
    assert read_volume(save(tmp_path / "a.nrrd", data)).data.max() == np.finfo(np.float32).max


@pytest.mark.parametrize("orientation", ["", "XYZ", "LR", "RRR"])
def test_a_wrong_orientation_is_refused_even_if_not_needed(tmp_path, orientation):
    path = save(tmp_path / "a.nrrd", np.ones((2, 2, 2), bool))
    for read in (read_volume, read_mask):
        with pytest.raises(InputError, match="orientation must be three letters"):
            read(path, orientation=orientation)


@pytest.mark.parametrize("read", [read_volume, read_mask])
def test_a_path_that_is_no_file_is_refused(tmp_path, read):
    (tmp_path / "empty.nii.gz").write_bytes(b"")
    for path, message in (
        (tmp_path / "none.nrrd", "there is no such file"),
        (str(tmp_path / "none.nrrd"), "there is no such file"),
        (tmp_path, "this is a folder; a file is wanted"),
        (tmp_path / "empty.nii.gz", r"^empty\.nii\.gz: the file is empty \(0 bytes\)"),
    ):
        with pytest.raises(InputError, match=message):
            read(path)


@pytest.mark.parametrize("name", ["a.nrrd", "a.nhdr", "a.nii", "a.mha", "a.mhd", "a.NRRD", "a.dat", "a"])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\x89PNG\r\n\x1a\n" + b"\0" * 1000, "a PNG picture"),
        (b"\xff\xd8\xff\xe0" + b"\0" * 1000, "a JPEG picture"),
        (b"PK\x03\x04" + b"\0" * 1000, "a zip archive"),
        (b"\0" * 128 + b"DICM" + b"\0" * 1000, "one DICOM slice; convert the series"),
        (b"ply\nformat ascii 1.0\n", "a PLY mesh"),
        (b"solid a\n facet normal 0 0 1\n", "an STL mesh"),
        (b"\0" * 1000, "first bytes"),
        (b"NRR", "first bytes b'NRR'"),
        (b"hello, world = this is a text\n", "first bytes b'hello, w'"),
    ],
)
def test_something_else_is_told_by_its_first_bytes(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(FormatError, match=rf"^{name}: (named like|not an image that is read).*" + message):
        read_volume(tmp_path / name)


def test_gzip_of_something_else_is_refused(tmp_path):
    for name, message in (("a.nii.gz", "named like NIfTI, but"), ("a.gz", "gzip data that hold no NIfTI image")):
        (tmp_path / name).write_bytes(gzip.compress(b"hello, world" * 100))
        with pytest.raises(FormatError, match=message):
            read_volume(tmp_path / name)


@pytest.mark.parametrize("extension", FORMATS)
def test_the_content_counts_and_not_the_name(tmp_path, extension):
    data = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
    path = save(tmp_path / f"a{extension}", data)
    for name in ("b.nrrd", "b.nii", "b.mha", "b"):
        path = path.rename(tmp_path / name)
        np.testing.assert_array_equal(read_volume(path).data, data)


@pytest.mark.parametrize("extension", FORMATS)
def test_any_cut_and_any_damaged_byte_of_the_header_is_one_line_or_no_harm(tmp_path, extension):
    """Whatever is done to a file: it is read, or refused in one line that names it; nothing else is raised."""
    data = np.random.default_rng(0).integers(0, 50, (3, 4, 5)).astype(np.int16)
    content = save(tmp_path / f"a{extension}", data).read_bytes()
    rng = np.random.default_rng(1)
    path = tmp_path / f"b{extension}"
    for n in range(400):
        bad = bytearray(content)
        if n % 2:
            bad[rng.integers(min(len(bad), 400))] = rng.integers(256)
        else:
            bad = bad[: rng.integers(1, len(bad))]
        path.write_bytes(bad)
        try:
            read_volume(path)
            assert n % 2  # a file that was cut is never read
        except CalvariaError as error:
            assert str(error).startswith(f"b{extension}: ")
            assert "\n" not in str(error)
            assert error.exit_code == 2


def test_an_absurd_header_is_refused_at_once(tmp_path, peak_memory):
    """A header of a petabyte, on a file as large as a real one."""
    head = (
        b"NRRD0004\ntype: double\ndimension: 3\nspace: LPS\nsizes: 50000 50000 50000\n"
        b"space directions: (1,0,0) (0,1,0) (0,0,1)\nspace origin: (0,0,0)\nendian: little\nencoding: gzip\n\n"
    )
    (tmp_path / "a.nrrd").write_bytes(head + gzip.compress(bytes(1 << 24)))
    start = time.process_time()
    with peak_memory() as peak, pytest.raises(FormatError, match=r"50000 x 50000 x 50000 voxels, more than"):
        read_mask(tmp_path / "a.nrrd")
    assert time.process_time() - start < 2
    assert peak.mb < 2


def test_not_enough_memory_is_said(tmp_path, monkeypatch):
    path = save(tmp_path / "a.nrrd", np.ones((2, 3, 4), np.int16))

    def no_memory(*_):
        raise MemoryError

    monkeypatch.setattr("calvaria.io.stream._read_bytes", no_memory)
    with pytest.raises(InputError, match=r"^a\.nrrd: needs 0\.0 GB of memory, which this machine does not have"):
        read_volume(path)


def test_reading_needs_little_more_memory_than_the_voxels(tmp_path, peak_memory):
    data = np.zeros((200, 200, 200), np.uint8)
    data[50:150, 50:150, 50:150] = 1
    path = save(tmp_path / "a.nrrd", data)
    with peak_memory() as peak:
        read_mask(path)
    assert peak.mb < 8 * 1.5


def test_the_extension_is_found_in_any_case():
    assert extension_of(Path("a.b") / "C.NII.gz") == ".nii.gz"
    assert extension_of("x.nii") == ".nii"
    assert extension_of("x") == ""


PAIRS = [
    ("i1", 0, -1),  # 255 read as a signed byte
    ("i2", -1, 0),
    ("i2", 0, -1000),
    ("i2", -1000, 0),
    ("i2", -1024, 3071),
    ("u1", 1, 2),
    ("u1", 2, 1),
    ("f4", -0.5, 0.5),
    ("f8", 0.0, 255.0),
    ("i8", -(2**62), 2**62),
]
"""Type, background, bone."""


@pytest.mark.parametrize(("dtype", "background", "bone"), PAIRS)
def test_of_two_values_the_border_s_is_the_background(tmp_path, dtype, background, bone):
    mask = np.zeros((8, 9, 10), bool)
    mask[2:5, 3:6, :4] = True  # reaches one face, as a skull does where the scan ends
    data = np.where(mask, bone, background).astype(dtype)
    np.testing.assert_array_equal(read_mask(save(tmp_path / "a.nrrd", data)).data, mask)


@pytest.mark.parametrize(("dtype", "one", "other"), [p for p in PAIRS if 0 not in p[1:] or min(p[1:]) < 0])
def test_two_values_of_which_neither_is_the_background_are_named(tmp_path, dtype, one, other):
    data = np.where(np.arange(6)[:, None, None] < 3, one, other).astype(dtype) + np.zeros((1, 5, 4), dtype)
    low, high = sorted((one, other))
    message = rf"^a\.nrrd: the values {low:g} and {high:g} occur, and neither is clearly the background \(50% of .*as 1"
    with pytest.raises(InputError, match=message.replace("+", r"\+")):
        read_mask(save(tmp_path / "a.nrrd", data))


def test_a_volume_of_one_negative_value_is_named(tmp_path):
    with pytest.raises(InputError, match=r"^a\.nrrd: every voxel is -5; a mask has two values"):
        read_mask(save(tmp_path / "a.nrrd", np.full((2, 3, 4), -5, np.int16)))


def test_a_volume_of_nothing_but_nan_says_so(tmp_path):
    with pytest.raises(FormatError, match=r"^a\.nrrd: every voxel is NaN or infinite; export"):
        read_volume(save(tmp_path / "a.nrrd", np.full((2, 3, 4), np.nan)))


def notes_on(path, **options):
    notes = []
    read_volume(path, notes=notes, **options)
    return notes


@pytest.mark.parametrize("extension", FORMATS)
def test_a_spacing_that_may_have_been_lost_is_told(tmp_path, extension):
    data = np.zeros((40, 50, 60), np.uint8)
    for spacing, told in ((1.0, True), (0.9, False), (2.0, False)):
        write_volume(tmp_path / f"a{extension}", Volume(data, Grid.isotropic(data.shape, spacing)))
        notes = notes_on(tmp_path / f"a{extension}")
        assert [note[:34] for note in notes] == ["the voxels are 1 x 1 x 1 mm by the"] * told
    assert read_volume(tmp_path / f"a{extension}").shape == data.shape  # nobody need ask


def test_a_size_that_is_no_head_s_is_told(tmp_path):
    for spacing, size in ((0.001, "0.02 x 0.03 x 0.04"), (200.0, r"4e\+03 x 6e\+03 x 8e\+03")):
        write_volume(tmp_path / "a.nrrd", Volume(np.zeros((20, 30, 40)), Grid.isotropic((20, 30, 40), spacing)))
        (note,) = notes_on(tmp_path / "a.nrrd")
        assert re.match(f"the image spans {size} mm by its header, which is no head: check the spacing", note)
