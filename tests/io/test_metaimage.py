"""MetaImage headers as they are met, and everything that cannot be used."""

import zlib

import numpy as np
import pytest

from calvaria.errors import FormatError, GeometryError, InputError
from calvaria.io import read_volume

DATA = np.arange(24, dtype="<i2").reshape((2, 3, 4), order="F")
BYTES = DATA.tobytes(order="F")
FIELDS = {
    "ObjectType": "Image",
    "NDims": "3",
    "BinaryData": "True",
    "BinaryDataByteOrderMSB": "False",
    "CompressedData": "False",
    "TransformMatrix": "0 1 0 -1 0 0 0 0 1",
    "Offset": "7 8 9",
    "ElementSpacing": "1 2 3",
    "DimSize": "2 3 4",
    "ElementType": "MET_SHORT",
    "ElementDataFile": "LOCAL",
}


def mha(body=BYTES, *, newline="\n", **changes):
    last = changes.pop("ElementDataFile", FIELDS["ElementDataFile"])
    fields = {**FIELDS, **changes}
    del fields["ElementDataFile"]
    lines = [f"{name} = {value}" for name, value in fields.items() if value is not None]
    return (newline.join([*lines, f"ElementDataFile = {last}"]) + newline).encode() + body


@pytest.fixture
def load(tmp_path):
    def load(content, **options):
        (tmp_path / "a.mha").write_bytes(content)
        return read_volume(tmp_path / "a.mha", **options)

    return load


def check(volume):
    np.testing.assert_array_equal(volume.data, DATA)
    # The first axis runs to +y, the second to -x: the matrix's rows are the axes.
    wanted = [[0, -2, 0, 7], [1, 0, 0, 8], [0, 0, 3, 9], [0, 0, 0, 1]]
    np.testing.assert_allclose(volume.affine, wanted, rtol=1e-14)


@pytest.mark.parametrize(
    "content",
    [
        mha(),
        mha(newline="\r\n"),
        mha(BinaryDataByteOrderMSB="True", body=DATA.astype(">i2").tobytes(order="F")),
        mha(BinaryDataByteOrderMSB=None, ElementByteOrderMSB="True", body=DATA.astype(">i2").tobytes(order="F")),
        mha(CompressedData="True", body=zlib.compress(BYTES)),
        mha(CompressedData="True", CompressedDataSize="5000", body=zlib.compress(BYTES, wbits=31)),
        mha(TransformMatrix=None, Rotation=FIELDS["TransformMatrix"], Offset=None, Position="7 8 9"),
        mha(TransformMatrix=None, Orientation=FIELDS["TransformMatrix"], Offset=None, Origin="7 8 9"),
        mha(BinaryData="False", body=" ".join(map(str, DATA.ravel(order="F"))).encode()),
        mha(ElementNumberOfChannels="1", AnatomicalOrientation="RAI", Comment="x = y"),
        mha(DistanceUnits="mm"),
        mha(DistanceUnits="?"),
        mha(DistanceUnits="cm", ElementSpacing="0.1 0.2 0.3", Offset="0.7 0.8 0.9"),
        mha(DistanceUnits="um", ElementSpacing="1000 2000 3000", Offset="7000 8000 9000"),
        mha(
            NDims="4",
            DimSize="2 3 4 1",
            ElementSpacing="1 2 3 1",
            Offset="7 8 9 0",
            TransformMatrix="0 1 0 0 -1 0 0 0 0 0 1 0 0 0 0 1",
        ),
    ],
)
def test_the_same_volume_said_in_another_way(load, content):
    check(load(content))


def test_the_voxels_may_lie_in_another_file(tmp_path):
    (tmp_path / "a.raw").write_bytes(BYTES)
    (tmp_path / "b.raw").write_bytes(b"junk!" + BYTES)
    for changes in (
        {"ElementDataFile": "a.raw"},
        {"ElementDataFile": "b.raw", "HeaderSize": "5"},
        {"ElementDataFile": "b.raw", "HeaderSize": "-1"},
    ):
        (tmp_path / "a.mhd").write_bytes(mha(body=b"", **changes))
        check(read_volume(tmp_path / "a.mhd"))
    (tmp_path / "a.mhd").write_bytes(mha(body=b"", ElementDataFile="c.raw"))
    with pytest.raises(InputError, match=r"^a\.mhd: its data file 'c\.raw' is not there"):
        read_volume(tmp_path / "a.mhd")


def test_without_directions_the_orientation_must_be_stated(load):
    content = mha(TransformMatrix=None)
    with pytest.raises(GeometryError, match=r"^a\.mha: the header has no TransformMatrix, so left and right are unk"):
        load(content)
    volume = load(content, orientation="RAS")
    np.testing.assert_array_equal(volume.affine.diagonal(), [-1, -2, 3, 1])
    np.testing.assert_array_equal(volume.affine[:3, 3], [-7, -8, 9])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (mha(ElementSpacing=None), "no ElementSpacing"),
        (mha(ElementSpacing="1 2"), "voxel spacing must be three positive numbers"),
        (mha(ElementSpacing="1 0 3"), "voxel spacing must be three positive numbers"),
        (mha(ElementSpacing="1 -2 3"), "voxel spacing must be three positive numbers"),
        (mha(ElementSpacing="1 nan 3"), "voxel spacing must be three positive numbers"),
        (mha(TransformMatrix="1 0 0 1"), "TransformMatrix must be nine numbers"),
        (mha(TransformMatrix="1 0 0 1 0 0 0 0 1"), "the directions are singular"),
        (mha(TransformMatrix="0 0 0 0 0 0 0 0 0"), "voxel spacing must be positive"),
        (mha(TransformMatrix="nan 0 0 0 1 0 0 0 1"), "NaN or infinite"),
        (mha(Offset="1 2"), "Offset must be three numbers"),
        (mha(DistanceUnits="furlong"), "the field 'DistanceUnits' says 'furlong', which is no unit of length"),
        (mha(NDims="4", DimSize="2 3 4 1"), "TransformMatrix must be 16 numbers"),
    ],
)
def test_a_grid_that_cannot_be_used_is_refused(load, content, message):
    with pytest.raises(GeometryError, match=r"^a\.mha: .*" + message):
        load(content)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (mha(NDims="2", DimSize="4 6"), "one 3-D volume of one channel is wanted; found NDims 2"),
        (mha(NDims="4", DimSize="2 3 2 2"), "found NDims 4, DimSize 2 3 2 2"),
        (mha(ElementNumberOfChannels="3", body=BYTES * 3), r"3 channel\(s\)"),
        (mha(DimSize="2 3"), "one 3-D volume"),
        (mha(DimSize="2 3 0"), "DimSize must be positive whole numbers"),
        (mha(DimSize="2 3 4.5"), "DimSize must be positive whole numbers"),
        (mha(DimSize="2 3 nan"), "DimSize must be positive whole numbers"),
        (mha(DimSize="2 3 inf"), "DimSize must be positive whole numbers"),
        (mha(DimSize="2 3 x"), "DimSize must be numbers; found '2 3 x'"),
        (mha(DimSize="1000000 1000000 1000000"), r"more than the 1073741824 that are read"),
        (mha(DimSize="1000 1000 1000"), r"truncated, or its header is wrong"),
        (mha(NDims=None), "no field NDims"),
        (mha(DimSize=None), "no field DimSize"),
        (mha(ElementType=None), "no field ElementType"),
        (mha(ElementType="MET_CHAR_ARRAY"), "voxels of type MET_CHAR_ARRAY are not read"),
        (mha(ElementDataFile="LIST"), "spread over several files"),
        (mha(ElementDataFile="a%03d.raw 1 4 1"), "spread over several files"),
        (mha(HeaderSize="x"), "HeaderSize 'x' has no meaning"),
        (mha(CompressedData="True", HeaderSize="-1"), "HeaderSize '-1' has no meaning for zlib data"),
        (mha().split(b"ElementDataFile")[0], "no field ElementDataFile"),
        (b"NDims = 3\n" + b"a = b\n" * 20000, "no field DimSize"),
        (b"NDims = 3\nwhat is this\n", "line 'what is this' of the MetaImage header is not 'Field = value'"),
        (mha(body=BYTES[:-1]), "truncated"),
        (mha(body=b""), "truncated"),
        (mha(body=BYTES + b"x"), r"longer than the header says \(48 bytes\)"),
        (mha(CompressedData="True", body=zlib.compress(BYTES)[:-6]), "truncated: the zlib data end"),
        (mha(CompressedData="True", body=zlib.compress(BYTES[1:])), "truncated"),
        (mha(CompressedData="True", body=zlib.compress(BYTES + b"x")), "longer than the header says"),
        (mha(CompressedData="True", body=zlib.compress(BYTES)[:-1] + b"x"), "the zlib data are damaged"),
        (mha(CompressedData="True", body=b"no zlib data"), "the zlib data are damaged"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused(load, content, message):
    with pytest.raises(FormatError, match=r"^a\.mha: .*" + message):
        load(content)


def test_a_bomb_is_stopped(load, peak_memory):
    content = mha(CompressedData="True", body=zlib.compress(bytes(100_000_000), 9))
    with peak_memory() as peak, pytest.raises(FormatError, match="longer than the header says"):
        load(content)
    assert peak.mb < 10
