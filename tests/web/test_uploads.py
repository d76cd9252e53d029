"""What is brought: within limits, whole or not at all, under names of ours, and never a way to other files."""

from __future__ import annotations

import errno
import io
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.web.desk import Desk, desk, shared

from calvaria.errors import FormatError, InputError
from calvaria.web.brought import FILES, require_whole, source_of
from calvaria.web.limits import Served
from calvaria.web.work import FULL

MB = 10**6


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    with desk(tmp_path_factory.mktemp("desk"), Served(max_upload_mb=2, max_cases=5)) as found:
        yield found


@pytest.fixture
def here(whole: Desk) -> Iterator[Desk]:
    with shared(whole) as found:
        yield found


def new(here: Desk) -> str:
    return str(here.client.post("/api/cases", json={}).json()["id"])


def put(here: Desk, case: str, content: object = b"x", suffix: str = ".nrrd"):
    return here.client.put(f"/api/cases/{case}/files", params={"suffix": suffix}, content=content)  # type: ignore[arg-type]


def on_disk(here: Desk) -> list[Path]:
    return sorted(path for path in here.folder.rglob("*") if path.is_file())


def test_a_file_lies_under_a_name_of_ours(here: Desk):
    case = new(here)
    assert put(here, case, b"voxels").status_code == 204
    assert [path.relative_to(here.folder).as_posix() for path in on_disk(here)] == [f"{case}/files/00001.nrrd"]
    assert len(case) == 24 and int(case, 16) >= 0


@pytest.mark.parametrize(
    "suffix", ["", ".exe", ".nhdr", ".mhd", "/../../x.nrrd", "..", ".nrrd/../../../x", "\0.nrrd", ".nrrd\n", "x" * 5000]
)
def test_only_known_suffixes_are_taken(here: Desk, suffix: str):
    answer = put(here, new(here), suffix=suffix)
    assert answer.status_code == 400
    assert answer.json()["error"].startswith("this kind of file is not read; wanted one of .nii.gz")
    assert on_disk(here) == []


def test_too_much_is_refused_while_it_comes(here: Desk):
    case, sent = new(here), 0

    def content() -> Iterator[bytes]:
        nonlocal sent
        for _ in range(100):
            sent += MB
            yield bytes(MB)

    answer = put(here, case, content())
    assert (answer.status_code, answer.json()["error"][:16]) == (413, "more than 2 MB: ")
    assert on_disk(here) == []


def test_the_limit_counts_all_files_of_a_case(here: Desk):
    case = new(here)
    assert [put(here, case, bytes(MB), ".dcm").status_code for _ in range(3)] == [204, 204, 413]


def test_too_many_cases_are_refused_until_one_is_deleted(here: Desk):
    cases = [new(here) for _ in range(5)]
    answer = here.client.post("/api/cases", json={})
    assert (answer.status_code, answer.json()["error"]) == (
        429,
        "there are 5 cases, as many as this page holds; delete some first",
    )
    assert here.client.delete(f"/api/cases/{cases[0]}").status_code == 204
    assert new(here)


def test_files_that_do_not_go_together_are_refused(here: Desk):
    case = new(here)
    put(here, case)
    for suffix in (".nrrd", ".dcm"):
        answer = put(here, case, suffix=suffix)
        assert (answer.status_code, answer.json()["error"]) == (409, "a case is one file, or several of DICOM")


def test_nothing_is_added_to_a_case_that_is_complete(here: Desk):
    case = here.case()
    here.complete(case)
    assert put(here, case).status_code == 409
    assert here.client.post(f"/api/cases/{case}/complete", json={}).status_code == 409


def test_a_full_disk_is_a_sentence_and_leaves_nothing(here: Desk, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("calvaria.web.app.free_bytes", lambda folder: 1000)
    answer = put(here, new(here))
    assert (answer.status_code, answer.json()["error"]) == (507, FULL)
    assert on_disk(here) == []


def test_a_disk_that_fills_up_midway_leaves_nothing(here: Desk, monkeypatch: pytest.MonkeyPatch):
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(here.session, "count", refuse)
    answer = put(here, new(here))
    assert (answer.status_code, answer.json()["error"]) == (507, FULL)
    assert on_disk(here) == []


def test_a_hundred_uploads_at_once_all_arrive(tmp_path: Path):
    with desk(tmp_path, Served(max_cases=100, jobs=2)) as here:
        cases: list[str] = []

        def bring(number: int) -> None:
            case = here.case(number.to_bytes(2, "big") * 5000)
            here.complete(case)
            cases.append(case)

        threads = [threading.Thread(target=bring, args=(number,)) for number in range(100)]
        for one in threads:
            one.start()
        for one in threads:
            one.join()
        assert len(set(cases)) == 100
        contents = {(here.folder / case / FILES / "00001.nrrd").read_bytes()[:2] for case in cases}
        assert contents == {number.to_bytes(2, "big") for number in range(100)}
        assert {here.until(case, "done")["state"] for case in cases} == {"done"}
        assert len(here.links) <= 3  # two at work, one held
        assert here.client.post("/api/cases", json={}).status_code == 429


@pytest.mark.parametrize(
    "path",
    [
        "../../secret", "..%2f..%2fsecret", "%2e%2e/%2e%2e/secret", "/etc/passwd", "%2fetc%2fpasswd",
        "result.json/../../files/00001.nrrd", "files/00001.nrrd", "slices.npz", "..\\secret", "result.json%00.png",
    ],
)  # fmt: skip
def test_no_path_leads_out_of_the_results(here: Desk, path: str):
    (here.folder.parent / "secret").write_text("secret")
    case = here.case(b"of a patient")
    here.complete(case)
    here.until(case, "done")
    answer = here.client.get(f"/api/cases/{case}/file/{path}")
    assert answer.status_code == 404
    assert b"secret" not in answer.content and b"patient" not in answer.content


@pytest.mark.parametrize("case", ["..", "%2e%2e", ".", "x" * 300])
def test_no_name_of_a_case_leads_elsewhere(here: Desk, case: str):
    for path in ("", "/file/result.json", "/results.zip", "/slice/0/0.png"):
        assert here.client.get(f"/api/cases/{case}{path}").status_code == 404
    assert here.client.delete(f"/api/cases/{case}").status_code in (404, 405)
    assert here.folder.is_dir()


def brought(folder: Path, content: bytes, suffix: str) -> Path:
    (folder / FILES).mkdir()
    (folder / FILES / f"00001{suffix}").write_bytes(content)
    return folder


NRRD = "NRRD0004\ntype: uint8\ndimension: 3\nsizes: 2 2 2\nencoding: raw\n{}\n\n"
META = "ObjectType = Image\nNDims = 3\nDimSize = 2 2 2\nElementType = MET_UCHAR\n{}\n"


@pytest.mark.parametrize(
    ("head", "suffix"),
    [
        (NRRD.format("data file: /etc/passwd"), ".nrrd"),
        (NRRD.format("DATA FILE: ../../other/files/00001.nrrd"), ".nrrd"),
        (NRRD.format("datafile: x"), ".nrrd"),
        (NRRD.format("data \t file: LIST"), ".nrrd"),
        (META.format("ElementDataFile = /etc/passwd"), ".mha"),
        (META.format("ElementDataFile = LIST"), ".mha"),
        (META.format("ElementDataFile=../x.raw"), ".mha"),
        (NRRD.format("d a t\x1fa file: /etc/passwd"), ".nrrd"),
        (NRRD.format("data file: /etc/passwd"), ".nii"),
        (NRRD.format("data file: /etc/passwd"), ".dcm"),
        (META.format("ElementDataFile = /etc/passwd"), ".nii.gz"),
    ],
)
def test_a_header_whose_voxels_lie_in_another_file_is_refused(tmp_path: Path, head: str, suffix: str):
    with pytest.raises(InputError, match="this header's voxels lie in another file; save both as one file"):
        source_of(brought(tmp_path, head.encode(), suffix))


def test_a_whole_file_is_taken(tmp_path: Path):
    heads = (NRRD.format("kinds: domain"), ".nrrd"), (META.format("ElementDataFile = LOCAL").strip() + "\n", ".mha")
    for number, (head, suffix) in enumerate(heads):
        path = tmp_path / f"{number}{suffix}"
        path.write_bytes(head.encode() + b"data file: these are voxels")
        require_whole(path)


def zipped(**members: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name.replace("__", "/"), content)
    return out.getvalue()


def test_the_image_in_a_zip_comes_out_under_a_name_of_ours(tmp_path: Path):
    packed = zipped(**{"Doe John__head.nrrd": NRRD.format("kinds: x").encode(), "note.txt": b"hello"})
    source = source_of(brought(tmp_path, packed, ".zip"))
    assert source == tmp_path / "input.nrrd" and source.read_bytes().startswith(b"NRRD")
    assert not [path for path in tmp_path.rglob("*") if "Doe" in path.name]


@pytest.mark.parametrize(
    ("members", "error", "said"),
    [
        ({"a.txt": b"x"}, InputError, "the zip holds neither DICOM nor an image"),
        ({"a.nrrd": b"x", "b.nii": b"x"}, InputError, "the zip holds 2 images; bring one"),
        ({"..__..__a.nrrd": b"x"}, FormatError, "a path in the zip leads out of it"),
        ({"a.nrrd": bytes(300 << 20)}, FormatError, "the zip would grow from"),
    ],
)
def test_a_zip_that_is_none_of_ours_is_refused(tmp_path: Path, members: dict, error: type, said: str):
    with pytest.raises(error, match=said):
        source_of(brought(tmp_path, zipped(**members), ".zip"))


def test_a_zip_whose_sizes_lie_is_refused(tmp_path: Path):
    packed = bytearray(zipped(**{"a.nrrd": bytes(5000)}))
    at = packed.rindex(b"PK\x01\x02") + 24  # the size in the table of contents
    packed[at : at + 4] = (10).to_bytes(4, "little")
    with pytest.raises((InputError, zipfile.BadZipFile)):
        source_of(brought(tmp_path, bytes(packed), ".zip"))
    assert not (tmp_path / "input.nrrd").exists() or (tmp_path / "input.nrrd").stat().st_size <= 10
