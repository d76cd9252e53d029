"""NRRD headers as they are met: every way to say the same, and everything that cannot be used."""

import bz2
import gzip
import zlib

import numpy as np
import pytest

from calvaria.errors import FormatError, GeometryError, InputError
from calvaria.io import read_volume
from calvaria.io.stream import MAX_VOXELS

DATA = np.arange(24, dtype="<i2").reshape((2, 3, 4), order="F")
BYTES = DATA.tobytes(order="F")
FIELDS = {
    "type": "int16",
    "dimension": "3",
    "space": "left-posterior-superior",
    "sizes": "2 3 4",
    "space directions": "(1,0,0) (0,2,0) (0,0,3)",
    "endian": "little",
    "encoding": "raw",
    "space origin": "(7,8,9)",
}


def nrrd(body=BYTES, *, newline="\n", magic="NRRD0004", **changes):
    fields = {**FIELDS, **{name.replace("_", " "): value for name, value in changes.items()}}
    lines = [magic, *(f"{name}: {value}" for name, value in fields.items() if value is not None), "", ""]
    return newline.join(lines).encode() + body


@pytest.fixture
def load(tmp_path):
    def load(content, **options):
        (tmp_path / "a.nrrd").write_bytes(content)
        return read_volume(tmp_path / "a.nrrd", **options)

    return load


def check(volume, affine=(1.0, 2.0, 3.0, 7.0, 8.0, 9.0)):
    np.testing.assert_array_equal(volume.data, DATA)
    np.testing.assert_array_equal(volume.affine.diagonal()[:3], affine[:3])
    np.testing.assert_array_equal(volume.affine[:3, 3], affine[3:])


@pytest.mark.parametrize(
    "content",
    [
        nrrd(),
        nrrd(magic="NRRD0001"),
        nrrd(newline="\r\n"),
        nrrd(type="short"),
        nrrd(type="signed short int"),
        nrrd(space="LPS"),
        nrrd(space="Left-Posterior-Superior"),
        nrrd(space_directions="(1, 0, 0)  (0, 2.0, 0) (0,0,3e0)", space_origin="( 7, 8, 9 )"),
        nrrd(endian="big", body=DATA.astype(">i2").tobytes(order="F")),
        nrrd(encoding="gzip", body=gzip.compress(BYTES)),
        nrrd(encoding="gz", body=gzip.compress(BYTES[:20]) + gzip.compress(BYTES[20:])),
        nrrd(encoding="bz2", body=bz2.compress(BYTES)),
        nrrd(encoding="bzip2", body=bz2.compress(BYTES[:20]) + bz2.compress(BYTES[20:])),
        nrrd(encoding="ascii", endian=None, body=" ".join(map(str, DATA.ravel(order="F"))).encode() + b"\n"),
        nrrd(byte_skip="3", body=b"abc" + BYTES),
        nrrd(byte_skip="-1", body=b"any number of bytes" + BYTES),
        nrrd(line_skip="2", body=b"one\ntwo\n" + BYTES),
        nrrd(line_skip="1", byte_skip="2", body=b"one\nab" + BYTES),
        nrrd(line_skip="1", byte_skip="2", encoding="gzip", body=b"one\n" + gzip.compress(b"ab" + BYTES)),
        nrrd(dimension="4", sizes="1 2 3 4", space_directions="none (1,0,0) (0,2,0) (0,0,3)"),
        nrrd(dimension="4", sizes="2 3 4 1", space_directions="(1,0,0) (0,2,0) (0,0,3) none"),
        nrrd(space_units='"mm" "mm" "mm"'),
        nrrd(space_units="mm mm mm"),
        nrrd(space_units="['mm', 'mm', 'mm']"),
        nrrd(space_units='"" "" ""'),
        nrrd(units='"mm" "mm" "mm"'),
        nrrd(space_units="millimeters Millimetres MM"),
        nrrd().replace(b"type:", b"# a comment\nkey:=a value: with colons\ntype:", 1),
    ],
)
def test_the_same_volume_said_in_another_way(load, content):
    check(load(content))


@pytest.mark.parametrize(
    ("space", "affine"),
    [
        ("RAS", (-1.0, -2.0, 3.0, -7.0, -8.0, 9.0)),
        ("right-anterior-superior", (-1.0, -2.0, 3.0, -7.0, -8.0, 9.0)),
        ("LAS", (1.0, -2.0, 3.0, 7.0, -8.0, 9.0)),
        ("left-anterior-superior", (1.0, -2.0, 3.0, 7.0, -8.0, 9.0)),
    ],
)
def test_other_spaces_become_lps(load, space, affine):
    check(load(nrrd(space=space)), affine)


@pytest.mark.parametrize("kind", ["uint8", "int8", "uint16", "int32", "uint32", "int64", "uint64", "float", "double"])
def test_numeric_types_keep_their_type(load, kind):
    dtype = np.dtype({"float": "f4", "double": "f8"}.get(kind, kind))
    volume = load(nrrd(type=kind, body=DATA.astype(dtype).tobytes(order="F")))
    assert volume.data.dtype == dtype
    check(volume)


def test_a_detached_header_finds_its_data_beside_it(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a b.raw").write_bytes(BYTES)
    (tmp_path / "a.nhdr").write_bytes(nrrd(data_file="sub/a b.raw", body=b""))
    check(read_volume(tmp_path / "a.nhdr"))
    (tmp_path / "a.nhdr").write_bytes(nrrd(data_file="sub/a b.raw", body=b"").rstrip(b"\n"))  # no blank line needed
    check(read_volume(tmp_path / "a.nhdr"))


def test_an_orientation_can_be_stated_where_the_header_has_none(load):
    spacings = nrrd(space=None, space_directions=None, space_origin=None, spacings="1 2 3")
    check(load(spacings, orientation="LPS"), (1, 2, 3, 0, 0, 0))
    check(load(spacings, orientation="ras"), (-1, -2, 3, 0, 0, 0))
    for space in (None, "3D-right-handed", "scanner-xyz"):
        check(load(nrrd(space=space, space_dimension="3"), orientation="RAS"), (-1, -2, 3, -7, -8, 9))


def test_an_orientation_does_not_overrule_the_header(load):
    check(load(nrrd(), orientation="RAS"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (nrrd(space=None), r"no anatomical frame \(it has space directions but no anatomical space\).*orientation="),
        (nrrd(space="3D-right-handed"), r"no anatomical frame \(its space is '3D-right-handed'\).*--orientation LPS"),
        (nrrd(space_directions=None, spacings="1 1 1", space=None), r"no space directions \(only spacings\), so left"),
        (nrrd(space_directions=None), r"no space directions and no spacings, so left and right are unknown"),
        (nrrd(space_directions="(1,0,0) (0,1,0)"), r"three space directions of three numbers are wanted; found"),
        (nrrd(space_directions="(1,0) (0,1) (1,1)"), r"three space directions of three numbers are wanted"),
        (nrrd(space_directions="none (1,0,0) (0,1,0)"), r"three space directions of three numbers are wanted"),
        (nrrd(space_directions="(1,0,0) (0,1,0) (1,1,0)"), r"the directions are singular"),
        (nrrd(space_directions="(1,0,0) (0,1,0) (0,0,0)"), r"voxel spacing must be positive"),
        (nrrd(space_directions="(1,0,0) (0,nan,0) (0,0,1)"), r"NaN or infinite"),
        (nrrd(space_directions="(1,0,0) (0,1e999,0) (0,0,1)"), r"NaN or infinite"),
        (nrrd(space_origin=None), r"no space origin, so the place of the head is unknown"),
        (nrrd(space_origin="(1,2)"), r"the space origin must be three numbers; found '\(1,2\)'"),
    ],
)
def test_a_grid_that_cannot_be_used_is_refused(load, content, message):
    with pytest.raises(GeometryError, match=r"^a\.nrrd: .*" + message):
        load(content)


@pytest.mark.parametrize("spacings", ["1 1 0", "1 -1 1", "1 nan 1", "1 1"])
def test_spacings_that_cannot_be_used_are_refused(load, spacings):
    with pytest.raises(GeometryError, match=r"^a\.nrrd: voxel spacing must be three positive numbers"):
        load(nrrd(space_directions=None, spacings=spacings))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (nrrd(type=None), "has no field 'type'"),
        (nrrd(sizes=None), "has no field 'sizes'"),
        (nrrd(encoding=None), "has no field 'encoding'"),
        (nrrd(type="block"), "voxels of NRRD type 'block' are not read"),
        (nrrd(type="complex"), "voxels of NRRD type 'complex' are not read"),
        (nrrd(encoding="hex"), "NRRD encoding 'hex' is not read; wanted raw, text, gzip or bzip2"),
        (nrrd(endian=None), "must say endian: little or big; found 'nothing'"),
        (nrrd(endian="middle"), "must say endian: little or big; found 'middle'"),
        (nrrd(sizes="2 3 x"), "'sizes' must be whole numbers; found '2 3 x'"),
        (nrrd(sizes="2 3 4.5"), "'sizes' must be whole numbers"),
        (nrrd(sizes="2 3"), "dimension 3 does not fit the sizes 2 3"),
        (nrrd(sizes="2 3 0"), "sizes must be positive; found 2 3 0"),
        (nrrd(sizes="2 3 -4"), "sizes must be positive; found 2 3 -4"),
        (nrrd(dimension="2", sizes="6 4"), r"one 3-D volume is wanted; found 2 axes of 6 4 samples"),
        (nrrd(dimension="4", sizes="2 3 4 5"), r"one 3-D volume is wanted; found 4 axes of 2 3 4 5 samples"),
        (nrrd(dimension="4", sizes="3 2 3 4"), r"several channels"),
        (nrrd(space_directions="(a,b,c) (0,1,0) (0,0,1)"), "is not a list of vectors"),
        (nrrd(space_directions=None, spacings="a b c"), "spacings must be numbers; found 'a b c'"),
        (nrrd(byte_skip="-2"), "byte skip -2 has no meaning"),
        (nrrd(byte_skip="-1", encoding="gzip", body=gzip.compress(BYTES)), "byte skip -1 has no meaning for gzip"),
        (nrrd(line_skip="-1"), "line skip -1"),
        (nrrd(line_skip="100"), "truncated: the data end within the 100 lines to be skipped"),
        (nrrd(line_skip=""), "'lineskip' must be whole numbers; found ''"),
        (nrrd(data_file="LIST\na.raw"), "spread over several files"),
        (nrrd(data_file="a%03d.raw 1 4 1"), "spread over several files"),
        (b"NRRD0004\nthis is not a field\n\n", "line 'this is not a field' of the NRRD header is not 'field: value'"),
        (b"NRRD0004\n" + b"#" * (1 << 20), "the NRRD header does not end"),
        (b"NRRD0004\n" + b"a: b\n" * (1 << 18), "the NRRD header does not end"),
        (b"NRRD0004", "has no field 'type'"),
    ],
)
def test_a_header_that_cannot_be_used_is_refused(load, content, message):
    with pytest.raises(FormatError, match=r"^a\.nrrd: .*" + message):
        load(content)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (nrrd(body=BYTES[:-1]), "truncated, or its header is wrong: it promises 48 bytes of voxels, which 47 bytes"),
        (nrrd(body=b""), "truncated"),
        (nrrd(body=BYTES + b"x"), r"1 bytes longer than the header says \(48 bytes\)"),
        (nrrd(byte_skip="-1", body=BYTES[1:]), "truncated"),
        (nrrd(byte_skip="1000"), "truncated"),
        (nrrd(encoding="gzip", body=gzip.compress(BYTES)[:-12]), "truncated: the gzip data end before the 48 bytes"),
        (nrrd(encoding="gzip", body=gzip.compress(BYTES)[:-4]), "truncated"),
        (nrrd(encoding="gzip", body=gzip.compress(BYTES[:-1])), "truncated"),
        (nrrd(encoding="gzip", body=gzip.compress(BYTES + b"x")), r"longer than the header says \(48 bytes\)"),
        (nrrd(encoding="gzip", body=b"not gzip at all"), "the gzip data are damaged"),
        (nrrd(encoding="gzip", body=gzip.compress(BYTES)[:-8] + b"\0" * 8), "the gzip data are damaged"),  # checksum
        (nrrd(encoding="gzip", byte_skip="100", body=gzip.compress(BYTES)), "truncated"),
        (nrrd(encoding="bzip2", body=bz2.compress(BYTES)[:-6]), "truncated: the bzip2 data end before"),
        (nrrd(encoding="bzip2", body=b"not bzip2"), "the bzip2 data are damaged"),
        (nrrd(encoding="text", body=b"1 2 3"), "truncated"),
        (nrrd(encoding="text", body=b"1 " * 23 + b" " * 9), "truncated"),
        (nrrd(encoding="text", body=b"1 " * 25), r"longer than the header says \(24 numbers\)"),
        (nrrd(encoding="text", body=b"1 " * 23 + b"x"), "the text data are damaged"),
        (nrrd(encoding="text", body=b"1 " * 23 + b"40000"), "the text data are damaged"),
    ],
)
def test_data_that_do_not_fit_the_header_are_refused(load, content, message):
    with pytest.raises(FormatError, match=r"^a\.nrrd: .*" + message):
        load(content)


def test_damage_in_the_middle_of_a_gzip_stream_is_noticed(load):
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 2**15, (40, 50, 60), "<i2")
    body = bytearray(gzip.compress(noise.tobytes(order="F")))
    body[len(body) // 2] ^= 0xFF
    with pytest.raises(FormatError, match=r"^a\.nrrd: (the gzip data are damaged|truncated|.*longer)"):
        load(nrrd(sizes="40 50 60", encoding="gzip", body=bytes(body)))


def test_a_missing_data_file_is_named(load):
    with pytest.raises(InputError, match=r"^a\.nrrd: its data file 'b\.raw' is not there; keep both files"):
        load(nrrd(data_file="b.raw"))


@pytest.mark.parametrize("encoding", ["raw", "gzip", "bzip2", "text"])
def test_an_absurd_size_is_refused_before_any_memory_is_taken(load, encoding, peak_memory):
    body = {"raw": BYTES, "gzip": gzip.compress(BYTES), "bzip2": bz2.compress(BYTES), "text": b"1 " * 24}[encoding]
    for sizes in ("1000 1000 1000", "1000000 1000000 1000000", "1024 1024 1025", f"{MAX_VOXELS * 2**20} 1 1"):
        with (
            peak_memory() as peak,
            pytest.raises(FormatError, match=r"^a\.nrrd: (truncated|the header says .* voxels)"),
        ):
            load(nrrd(sizes=sizes, encoding=encoding, body=body))
        # Bytes that may come of a small bzip2 file have no bound: room is set aside there, and not used.
        assert peak.mb < 5 or (encoding == "bzip2" and sizes == "1000 1000 1000")


def test_a_bomb_that_unpacks_to_more_than_its_header_says_is_stopped(load, peak_memory):
    body = zlib.compress(bytes(100_000_000), 9, wbits=31)
    with peak_memory() as peak, pytest.raises(FormatError, match="longer than the header says"):
        load(nrrd(encoding="gzip", body=body))
    assert peak.mb < 10


UNITS = [("um", 1000.0), ("microns", 1000.0), ("\xb5m", 1000.0), ("\u03bcm", 1000.0), ("cm", 0.1), ("m", 0.001)]
"""A unit, and how many of it are a mm."""


def near(volume, affine=(1.0, 2.0, 3.0, 7.0, 8.0, 9.0)):
    np.testing.assert_array_equal(volume.data, DATA)
    np.testing.assert_allclose([*volume.affine.diagonal()[:3], *volume.affine[:3, 3]], affine, rtol=1e-14)


@pytest.mark.parametrize(("unit", "per_mm"), UNITS)
def test_space_units_become_mm(load, unit, per_mm):
    vectors = [f"({per_mm},0,0) (0,{2 * per_mm},0) (0,0,{3 * per_mm})", f"({7 * per_mm},{8 * per_mm},{9 * per_mm})"]
    for encoding in ("utf-8", "latin-1") if unit != "\u03bcm" else ("utf-8",):
        header = nrrd(space_directions=vectors[0], space_origin=vectors[1], space_units="UNITS", body=b"")
        near(load(header.replace(b"UNITS", f'"{unit}" "{unit}" "{unit}"'.encode(encoding)) + BYTES))


def test_each_coordinate_of_the_space_has_its_own_unit(load):
    # World y in cm, z in m; the second voxel axis runs along both.
    volume = load(
        nrrd(space_directions="(1,0,0) (0,0.2,0.005) (0,0,0.003)", space_origin="(7,.8,.009)", space_units="mm cm m")
    )
    wanted = [[1, 0, 0, 7], [0, 2, 0, 8], [0, 5, 3, 9], [0, 0, 0, 1]]
    np.testing.assert_allclose(volume.affine, wanted, rtol=1e-14)


def test_units_go_with_their_coordinate_into_another_frame(load):
    volume = load(nrrd(space="RAS", space_directions="(1,0,0) (0,.2,0) (0,0,3)", space_units='"mm" "cm" "mm"'))
    np.testing.assert_allclose(volume.affine.diagonal(), [-1, -2, 3, 1], rtol=1e-14)
    np.testing.assert_allclose(volume.affine[:3, 3], [-7, -80, 9], rtol=1e-14)


@pytest.mark.parametrize(("unit", "per_mm"), UNITS[:2] + UNITS[4:])
def test_spacings_in_their_own_units_become_mm(load, unit, per_mm):
    spacings = f"{per_mm} 2 {3 * per_mm}"
    options = {"space": None, "space_directions": None, "space_origin": None, "spacings": spacings}
    near(load(nrrd(units=f'"{unit}" "mm" "{unit}"', **options), orientation="LPS"), (1, 2, 3, 0, 0, 0))
    near(load(nrrd(space_units=f'"{unit}" "mm" "{unit}"', **options), orientation="LPS"), (1, 2, 3, 0, 0, 0))
    four = {"dimension": "4", "sizes": "1 2 3 4", **options, "spacings": f"nan {spacings}"}
    near(load(nrrd(units=f'"HU" "{unit}" "" "{unit}"', **four), orientation="LPS"), (1, 2, 3, 0, 0, 0))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (nrrd(space_units='"mm" "mm" "parsec"'), "the field 'space units' says 'parsec', which is no unit of length"),
        (nrrd(space_units="pixel pixel pixel"), "the field 'space units' says 'pixel', .*export the file again in mm"),
        (nrrd(space_units='"mm" "mm"'), 'three space units are wanted; found \'"mm" "mm"\''),
        (nrrd(units='"cm" "cm" "cm"'), "space directions and units .* cannot both be meant; say .* as 'space units'"),
        (nrrd(units='"x" "mm" "mm"'), "the field 'units' says 'x', which is no unit of length"),
        (
            nrrd(space_directions=None, spacings="1 2 3", units='"mm" "mm"'),
            'a unit for each spacing is wanted; found \'"mm" "mm"\'',
        ),
    ],
)
def test_a_unit_that_cannot_be_used_is_refused(load, content, message):
    with pytest.raises(GeometryError, match=r"^a\.nrrd: .*" + message):
        load(content)


def test_pynrrd_s_units_are_obeyed(tmp_path):
    pynrrd = pytest.importorskip("nrrd")
    header = {"space": "LPS", "space directions": np.diag([0.1, 0.2, 0.3]), "space origin": [0.7, 0.8, 0.9]}
    pynrrd.write(str(tmp_path / "a.nrrd"), DATA, {**header, "space units": ["cm", "cm", "cm"]})
    near(read_volume(tmp_path / "a.nrrd"))
