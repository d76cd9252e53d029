"""Archives from strangers: what is inside comes out whole; what leads outside or grows too far, nothing at all."""

from __future__ import annotations

import bz2
import contextlib
import gzip
import io
import lzma
import os
import stat
import struct
import tarfile
import zipfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calvaria.download import disk, safe_folder
from calvaria.download import unpack as module
from calvaria.download.safe_folder import Limits, SafeFolder
from calvaria.download.unpack import archive_stem, is_archive, unpack
from calvaria.errors import FormatError, InputError

KINDS = ("zip", "stored.zip", "tar", "tar.gz", "tar.bz2", "tar.xz")
PACKERS = {"tar": bytes, "tar.gz": gzip.compress, "tar.bz2": bz2.compress, "tar.xz": lzma.compress}
SKULLS = {"set/complete_skull/000.nrrd": b"NRRD" * 500, "set/implant/000.nrrd": b"", "set/read me.txt": b"hello"}

NAMES = st.text("abcXYZ019_- .äß", min_size=1, max_size=6).filter(
    lambda name: name.strip() == name and name[0] not in "._" and name[-1] != "."
)
TREES = st.dictionaries(
    st.lists(NAMES, min_size=1, max_size=3).map("/".join), st.binary(max_size=300), max_size=6
).filter(lambda tree: not clashes(tree))


def clashes(tree):
    """Whether two paths are one on some system, or a file is a folder too."""
    paths = [path.casefold() for path in tree]
    parents = {path.rsplit("/", n)[0] for path in paths for n in range(1, path.count("/") + 1)}
    folders = {path.rsplit("/", n)[0] for path in tree for n in range(1, path.count("/") + 1)}
    return len(set(paths)) < len(paths) or bool(parents & set(paths)) or len(parents) < len(folders)


def pack(path, files, kind="zip", end=True):
    """An archive of names to bytes, or to a ready-made ZipInfo or TarInfo."""
    if kind.endswith("zip"):
        way = zipfile.ZIP_STORED if kind == "stored.zip" else zipfile.ZIP_DEFLATED
        with zipfile.ZipFile(path, "w", way) as archive:
            for name, content in files.items():
                ready = isinstance(content, zipfile.ZipInfo)
                archive.writestr(content if ready else name, b"" if ready else content)
        return path
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, content in files.items():
            info = content if isinstance(content, tarfile.TarInfo) else tarfile.TarInfo(name)
            body = b"" if isinstance(content, tarfile.TarInfo) else content
            info.size = len(body)
            archive.addfile(info, io.BytesIO(body))
        length = archive.offset
    text = plain.getvalue()
    path.write_bytes(PACKERS[kind](text if end else text[:length]))
    return path


def tree_of(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@contextlib.contextmanager
def refused(path, words, error=FormatError):
    """The block raises, and leaves nothing but what was in the archive's folder."""
    folder = path if path.is_dir() else path.parent
    before = sorted(folder.rglob("*"))
    with pytest.raises(error, match=words):
        yield
    assert sorted(folder.rglob("*")) == before


class TestWhole:
    @settings(max_examples=25)
    @given(TREES, st.sampled_from(KINDS))
    def test_what_went_in_comes_out(self, tmp_path_factory, tree, kind):
        folder = tmp_path_factory.mktemp("round")
        files = {"first": b"1"} | {f"top/{name}": content for name, content in tree.items()}
        done = unpack(pack(folder / f"a.{kind}", files, kind), folder / "out")
        assert tree_of(folder / "out") == files
        assert (done.folder, done.files, done.size_bytes) == (folder / "out", len(files), sum(map(len, files.values())))
        assert {path.name for path in folder.iterdir()} == {f"a.{kind}", "out"}

    @pytest.mark.parametrize("kind", ["zip", "tar.gz"])
    def test_a_top_folder_of_the_same_name_is_not_doubled(self, tmp_path, kind):
        unpack(pack(tmp_path / f"SET.{kind}", SKULLS, kind), tmp_path / "SET")
        assert sorted(path.name for path in (tmp_path / "SET").iterdir()) == [
            "complete_skull",
            "implant",
            "read me.txt",
        ]

    @pytest.mark.parametrize("files", [{"other/a": b"1"}, {"x/a": b"1", "b": b"2"}, {"x": b"1"}])
    def test_any_other_is_kept(self, tmp_path, files):
        unpack(pack(tmp_path / "x.zip", files), tmp_path / "x")
        assert tree_of(tmp_path / "x") == files

    def test_empty_folders_come_out(self, tmp_path):
        info = tarfile.TarInfo("a/b")
        info.type = tarfile.DIRTYPE
        for kind, hollow in (("zip", zipfile.ZipInfo("a/b/")), ("tar", info)):
            unpack(pack(tmp_path / f"x.{kind}", {"a/b": hollow}, kind), tmp_path / kind)
            assert (tmp_path / kind / "a" / "b").is_dir()

    def test_a_tar_of_here_is_no_name(self, tmp_path):
        here = tarfile.TarInfo("./")
        here.type = tarfile.DIRTYPE
        unpack(pack(tmp_path / "a.tar", {"./": here, "./a": b"1"}, "tar"), tmp_path / "out")
        assert tree_of(tmp_path / "out") == {"a": b"1"}

    def test_an_empty_zip_is_an_empty_folder(self, tmp_path):
        done = unpack(pack(tmp_path / "a.zip", {}), tmp_path / "out")
        assert (list(done.folder.iterdir()), done.files, done.size_bytes) == ([], 0, 0)

    def test_what_desktops_add_is_left_out(self, tmp_path):
        junk = {"__MACOSX/set/._a": b"1", "set/.DS_Store": b"2", "set/._a": b"3", "set/Thumbs.db": b"4"}
        done = unpack(pack(tmp_path / "set.zip", {"set/a": b"0"} | junk), tmp_path / "set")
        assert (tree_of(tmp_path / "set"), done.files) == ({"a": b"0"}, 1)

    def test_backslashes_of_windows_are_separators_in_a_zip(self, tmp_path):
        info = zipfile.ZipInfo("a/b")
        info.filename = "set\\b"
        unpack(pack(tmp_path / "x.zip", {"": info}), tmp_path / "x")
        assert tree_of(tmp_path / "x") == {"set/b": b""}

    def test_a_zip_of_the_large_form_is_read(self, tmp_path):
        with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive, archive.open("a", "w", force_zip64=True) as file:
            file.write(b"large")
        unpack(tmp_path / "a.zip", tmp_path / "out")
        assert tree_of(tmp_path / "out") == {"a": b"large"}

    def test_files_are_plain_whatever_the_archive_says(self, tmp_path):
        info = tarfile.TarInfo("a")
        info.mode = 0o4777
        unpack(pack(tmp_path / "a.tar", {"a": info}, "tar"), tmp_path / "out")
        mask = os.umask(0)
        os.umask(mask)
        assert stat.S_IMODE((tmp_path / "out" / "a").stat().st_mode) == 0o666 & ~mask
        assert stat.S_IMODE((tmp_path / "out").stat().st_mode) == 0o777 & ~mask

    def test_an_empty_folder_in_its_place_is_taken(self, tmp_path):
        (tmp_path / "out").mkdir()
        unpack(pack(tmp_path / "a.zip", {"a": b"1"}), tmp_path / "out")
        assert tree_of(tmp_path / "out") == {"a": b"1"}

    @pytest.mark.parametrize("kind", KINDS)
    def test_progress_ends_at_the_whole(self, tmp_path, kind):
        seen = []
        unpack(pack(tmp_path / f"a.{kind}", SKULLS, kind), tmp_path / "out", progress=lambda *one: seen.append(one))
        done = [one[0] for one in seen]
        assert done == sorted(done)
        assert seen[-1][0] == seen[-1][1]

    def test_names_say_what_an_archive_is(self, tmp_path):
        assert is_archive(tmp_path / "a.TAR.GZ")
        assert not is_archive(tmp_path / "a.nii.gz")
        assert archive_stem(tmp_path / "a.b.TAR.XZ") == "a.b"
        assert archive_stem(tmp_path / ".zip") == ".zip"


EVIL = ["/etc/passwd", "../a", "a/../../b", "a/..", "C:/a", "C:a", "a:b", "//server/a", "a\0b", "a\nb", "a./b", "a /b",
        "con", "x/NUL.txt", "Lpt1"]  # fmt: skip


class TestOutside:
    @pytest.mark.parametrize("name", EVIL)
    @pytest.mark.parametrize("kind", ["zip", "tar"])
    def test_names_that_lead_outside_are_refused(self, tmp_path, name, kind):
        if kind == "zip":
            info = zipfile.ZipInfo("placeholder")
            info.filename = name
        else:
            info = tarfile.TarInfo(name)
        archive = pack(tmp_path / "a", {"fine": b"1", name: info}, kind)
        if name == "a\0b":  # both formats end a name there
            assert set(tree_of(unpack(archive, tmp_path / "out").folder)) == {"fine", "a"}
            return
        with refused(tmp_path, "leads outside its folder, or is no name for a file"):
            unpack(archive, tmp_path / "out")

    def test_backslashes_are_no_way_out_either(self, tmp_path):
        info = zipfile.ZipInfo("placeholder")
        info.filename = "..\\..\\a"
        with refused(pack(tmp_path / "a.zip", {"": info}), "leads outside"):
            unpack(tmp_path / "a.zip", tmp_path / "out")
        with refused(pack(tmp_path / "a.tar", {"": tarfile.TarInfo("..\\a")}, "tar"), "leads outside"):
            unpack(tmp_path / "a.tar", tmp_path / "out")

    @pytest.mark.parametrize(
        "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE]
    )
    def test_links_and_devices_in_a_tar_are_refused(self, tmp_path, kind):
        info = tarfile.TarInfo("trap")
        info.type, info.linkname = kind, "/etc"
        with refused(
            pack(tmp_path / "a.tar", {"trap": info, "trap/passwd": b"1"}, "tar"), "trap is a link or a device"
        ):
            unpack(tmp_path / "a.tar", tmp_path / "out")

    @pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFCHR, stat.S_IFIFO, stat.S_IFSOCK])
    def test_links_and_devices_in_a_zip_are_refused(self, tmp_path, kind):
        info = zipfile.ZipInfo("trap")
        info.external_attr = (kind | 0o777) << 16
        with refused(pack(tmp_path / "a.zip", {"trap": info}), "trap is a link or a device"):
            unpack(tmp_path / "a.zip", tmp_path / "out")

    @pytest.mark.parametrize(
        "names", [("a", "A"), ("x/a", "X/b"), ("a", "a/b"), ("A/b", "a"), ("\u00e9", "e\u0301"), ("\u00df", "SS")]
    )  # fmt: skip
    @pytest.mark.parametrize("kind", ["zip", "tar"])
    def test_names_that_are_one_on_some_systems_are_refused(self, tmp_path, names, kind):
        with refused(pack(tmp_path / "a", dict.fromkeys(names, b"1"), kind), "are the same file on some systems"):
            unpack(tmp_path / "a", tmp_path / "out")

    @pytest.mark.filterwarnings("ignore:Duplicate name")
    def test_the_same_name_twice_is_refused(self, tmp_path):
        with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
            archive.writestr("a", b"1")
            archive.writestr("a", b"2")
        with refused(tmp_path / "a.zip", "'a' and 'a' are the same file"):
            unpack(tmp_path / "a.zip", tmp_path / "out")

    def test_nothing_is_written_through_a_link_in_the_folders_place(self, tmp_path):
        (tmp_path / "elsewhere").mkdir()
        (tmp_path / "out").symlink_to(tmp_path / "elsewhere")
        with refused(pack(tmp_path / "a.zip", {"a": b"1"}), "something is in the way", InputError):
            unpack(tmp_path / "a.zip", tmp_path / "out")
        assert list((tmp_path / "elsewhere").iterdir()) == []

    @pytest.mark.parametrize(
        "make", [lambda path: path.write_text("mine"), lambda path: (path.mkdir(), (path / "a").touch())]
    )
    def test_what_is_there_is_not_touched(self, tmp_path, make):
        make(tmp_path / "out")
        with refused(pack(tmp_path / "a.zip", {"a": b"1"}), "move it away, and a.zip is unpacked anew", InputError):
            unpack(tmp_path / "a.zip", tmp_path / "out")


class TestBombs:
    SMALL = Limits(files=3, size_bytes=200_000, ratio=5.0, ratio_from_bytes=20_000)

    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize(
        ("files", "words"),
        [
            ({str(n): b"1" for n in range(4)}, "more than 3 files"),
            ({"a": os.urandom(200_001)}, "more than 0.0002 GB"),
            ({"a": bytes(150_000)}, "more than 5 times its own size"),
        ],
        ids=["files", "size", "ratio"],
    )
    def test_what_grows_too_far_is_refused(self, tmp_path, kind, files, words):
        archive = pack(tmp_path / f"a.{kind}", files, kind)
        if "times" in words and archive.stat().st_size > 150_000:
            unpack(archive, tmp_path / "out", limits=self.SMALL)  # it is no bomb where nothing is compressed
            return
        with refused(archive, words):
            unpack(archive, tmp_path / "out", limits=self.SMALL)

    def test_an_archive_at_the_limits_passes(self, tmp_path):
        limits = Limits(files=2, size_bytes=4000, ratio=0.0, ratio_from_bytes=4000)
        unpack(pack(tmp_path / "a.zip", {"a": bytes(2000), "b": bytes(2000)}), tmp_path / "out", limits=limits)

    def test_desktops_files_count_too(self, tmp_path):
        with refused(pack(tmp_path / "a.zip", {"__MACOSX/a": os.urandom(200_001)}), "GB"):
            unpack(tmp_path / "a.zip", tmp_path / "out", limits=self.SMALL)

    def test_a_zip_that_promises_little_does_not_deliver_more(self, tmp_path):
        body = pack(tmp_path / "a.zip", {"a": bytes(9999)}).read_bytes()
        (tmp_path / "a.zip").write_bytes(body.replace(struct.pack("<L", 9999), struct.pack("<L", 10)))
        with refused(tmp_path / "a.zip", r"a\.zip: damaged or truncated"):
            unpack(tmp_path / "a.zip", tmp_path / "out", limits=self.SMALL)

    def test_a_zip_that_promises_much_must_deliver_it(self, tmp_path):
        body = pack(tmp_path / "a.zip", {"a": bytes(9999)}).read_bytes()
        (tmp_path / "a.zip").write_bytes(body.replace(struct.pack("<L", 9999), struct.pack("<L", 10_001)))
        with refused(tmp_path / "a.zip", "a has 9999 bytes, 10001 are promised"):
            unpack(tmp_path / "a.zip", tmp_path / "out")

    def test_entries_that_share_their_bytes_are_counted_each(self, tmp_path):
        body = pack(tmp_path / "a.zip", {"a": os.urandom(80_000)}).read_bytes()
        start = body.index(b"PK\x01\x02")
        end = body.index(b"PK\x05\x06")
        entry = body[start:end]
        entries = entry + entry[:-1] + b"b" + entry[:-1] + b"c"
        tail = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 3, 3, len(entries), start, 0)
        (tmp_path / "a.zip").write_bytes(body[:start] + entries + tail)
        with refused(tmp_path / "a.zip", "more than 0.0002 GB"):
            unpack(tmp_path / "a.zip", tmp_path / "out", limits=self.SMALL)

    @pytest.mark.parametrize("size", [2**21, 2**40])
    def test_a_header_without_end_is_not_read(self, tmp_path, size):
        info = tarfile.TarInfo("a")
        info.type, info.size = tarfile.XHDTYPE, size
        (tmp_path / "a.tar.gz").write_bytes(gzip.compress(info.tobuf(tarfile.GNU_FORMAT) + bytes(2**22)))
        with refused(tmp_path / "a.tar.gz", "a header of"):
            unpack(tmp_path / "a.tar.gz", tmp_path / "out")

    def test_a_tar_is_not_sought_behind_the_limits(self, tmp_path):
        with (pack(tmp_path / "a.tar", SKULLS, "tar")).open("rb") as raw:
            stream = module._Counted(raw, raw, SafeFolder(tmp_path, "a.tar", 1, self.SMALL), lambda done, whole: None)
            assert stream.seek(20_000) == 20_000
            with pytest.raises(FormatError, match=r"a\.tar: holds more than 5 times its own size"):
                stream.seek(20_001)

    def test_zeros_behind_the_end_count(self, tmp_path):
        plain = pack(tmp_path / "a.tar", {"a": b"1"}, "tar").read_bytes()
        (tmp_path / "a.tar").write_bytes(gzip.compress(plain + bytes(250_000)))
        with refused(tmp_path / "a.tar", "GB|times"):
            unpack(tmp_path / "a.tar", tmp_path / "out", limits=self.SMALL)

    def test_a_file_full_of_holes_counts_as_it_is_written(self, tmp_path):
        info = tarfile.TarInfo("a")
        info.pax_headers = {"GNU.sparse.major": "0", "GNU.sparse.size": "20000", "GNU.sparse.map": "0,1"}
        with refused(pack(tmp_path / "a.tar", {"a": info}, "tar"), "times its own size|GB"):
            unpack(tmp_path / "a.tar", tmp_path / "out", limits=Limits(files=3, size_bytes=10_500))

    def test_real_masks_pass_the_usual_limits(self):
        """Measured on 3 skulls: plain int32 masks shrink to 1/940 (deflate), uint8 to 1/800; zlib's bound is 1/1032."""
        assert Limits().ratio >= 940


class TestDamage:
    @pytest.mark.parametrize("kind", KINDS)
    @settings(max_examples=25)
    @given(data=st.data())
    def test_a_cut_archive_leaves_nothing(self, tmp_path_factory, kind, data):
        folder = tmp_path_factory.mktemp("cut")
        body = pack(folder / f"a.{kind}", SKULLS, kind).read_bytes()
        last = len(body) - (10_240 - 1024 if kind == "tar" else 1)  # a plain tar is filled up with zeros
        cut = data.draw(st.integers(1, max(1, min(last, len(body) - 1))))
        (folder / f"a.{kind}").write_bytes(body[:cut])
        with refused(folder / f"a.{kind}", "download it again"):
            unpack(folder / f"a.{kind}", folder / "out")

    @pytest.mark.parametrize("kind", ["tar", "tar.gz"])
    def test_a_tar_cut_between_two_files_is_not_whole(self, tmp_path, kind):
        with refused(pack(tmp_path / "a", SKULLS, kind, end=False), "the end is missing"):
            unpack(tmp_path / "a", tmp_path / "out")

    @pytest.mark.parametrize("kind", ["stored.zip", "zip", "tar.gz", "tar.bz2", "tar.xz"])
    def test_a_changed_byte_is_found(self, tmp_path, kind):
        archive = pack(tmp_path / "a", {"a": os.urandom(3000)}, kind)
        body = bytearray(archive.read_bytes())
        body[1500] ^= 1
        archive.write_bytes(body)
        with refused(archive, "a: damaged or truncated"):
            unpack(archive, tmp_path / "out")

    @pytest.mark.parametrize(
        "body",
        [
            b"<html>no</html>",
            b"NRRD0005\n",
            b"\x1f\x8b",
            b"BZh9",
            b"\xfd7zXZ\x00",
            b"PK\x03\x04",
            gzip.compress(b"NRRD", mtime=0),
        ],
    )
    def test_what_is_no_archive_is_said(self, tmp_path, body):
        (tmp_path / "a.zip").write_bytes(body)
        with refused(tmp_path / "a.zip", "download it again"):
            unpack(tmp_path / "a.zip", tmp_path / "out")

    def test_an_encrypted_zip_is_said(self, tmp_path):
        body = bytearray(pack(tmp_path / "a.zip", {"a": b"1"}).read_bytes())
        body[6] |= 1
        body[body.index(b"PK\x01\x02") + 8] |= 1
        (tmp_path / "a.zip").write_bytes(body)
        with refused(tmp_path / "a.zip", "a is encrypted: unpack it by hand with its password"):
            unpack(tmp_path / "a.zip", tmp_path / "out")

    def test_a_compression_that_is_not_read_is_said(self, tmp_path):
        body = bytearray(pack(tmp_path / "a.zip", {"a": b"1"}).read_bytes())
        body[8] = body[body.index(b"PK\x01\x02") + 10] = 9  # Deflate64
        (tmp_path / "a.zip").write_bytes(body)
        with refused(tmp_path / "a.zip", "packed in a way that is not read here"):
            unpack(tmp_path / "a.zip", tmp_path / "out")

    @pytest.mark.parametrize("make", [lambda path: None, lambda path: path.mkdir(), lambda path: path.touch()])
    def test_no_file_no_folder_no_empty_file(self, tmp_path, make):
        make(tmp_path / "a.zip")
        with refused(tmp_path, r"a\.zip", InputError):
            unpack(tmp_path / "a.zip", tmp_path / "out")


class TestDisk:
    @pytest.mark.parametrize("kind", ["zip", "tar"])
    def test_a_disk_that_is_too_full_is_said_first(self, tmp_path, monkeypatch, kind):
        monkeypatch.setattr(disk, "free_bytes", lambda folder: disk.SPARE_BYTES + 1000)
        with refused(pack(tmp_path / "a", SKULLS, kind), "unpacking a needs 0.00 GB", InputError):
            unpack(tmp_path / "a", tmp_path / "out")

    def test_a_disk_that_fills_while_unpacking_stops_it(self, tmp_path, monkeypatch):
        rooms = iter([10**12, 10**12, 0])
        monkeypatch.setattr(disk, "free_bytes", lambda folder: next(rooms))
        monkeypatch.setattr(safe_folder, "ROOM_EVERY_BYTES", 100)
        with refused(pack(tmp_path / "a.zip", {"a": bytes(200), "b": bytes(200)}), "make room", InputError):
            unpack(tmp_path / "a.zip", tmp_path / "out")

    def test_a_disk_that_refuses_is_one_line(self, tmp_path, monkeypatch):
        def full(*args):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(module, "_without_double", full)
        words = r"a\.zip cannot be unpacked there: No space left on device"
        with refused(pack(tmp_path / "a.zip", SKULLS), words, InputError):
            unpack(tmp_path / "a.zip", tmp_path / "out")

    def test_a_name_that_the_disk_does_not_take_is_no_damage(self, tmp_path):
        with refused(
            pack(tmp_path / "a.zip", {"a" * 256: b"1"}), "cannot be unpacked there: File name too long", InputError
        ):
            unpack(tmp_path / "a.zip", tmp_path / "out")

    def test_an_interruption_leaves_nothing(self, tmp_path):
        def stop(done, whole):
            raise KeyboardInterrupt

        with refused(pack(tmp_path / "a.zip", SKULLS), "^$", KeyboardInterrupt):
            unpack(tmp_path / "a.zip", tmp_path / "out", progress=stop)
