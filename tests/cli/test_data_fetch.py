"""`calvaria data fetch`: terms first, then files; what is there is left alone; what fails is named, the rest go on."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from dataclasses import replace
from types import SimpleNamespace

import pytest
from tests.server import serving

from calvaria.cli.data import fetch as command
from calvaria.datasets.catalog import autoimplant2020, public_sets
from calvaria.download import acquire, deposits, disk
from calvaria.download.acquire import plan_for
from calvaria.download.transfer import Patience
from calvaria.download.unpack import Limits
from calvaria.errors import FormatError, InputError


def zipped(**files):
    """A zip of a folder ``skulls``."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, content in files.items():
            archive.writestr(f"skulls/{name}", content)
    return packed.getvalue()


SKULLS = zipped(a=b"one", b=b"two")
OTHERS = zipped(c=b"three")


@pytest.fixture(autouse=True)
def _here(monkeypatch, tmp_path):
    """No proxy, no long waits, and a folder to work in."""
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr("calvaria.download.fetch.Patience", lambda: Patience(timeout_s=5.0, tries=3, pause_s=0.0))
    monkeypatch.setattr(deposits, "QUICK", Patience(timeout_s=5.0, tries=2, pause_s=0.0))
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")


@pytest.fixture
def site():
    with serving() as server:
        yield server


@pytest.fixture
def figshare(site, monkeypatch):
    """SkullFix as figshare would list it: two archives and a text."""
    monkeypatch.setattr(deposits, "FIGSHARE_API", site.url)
    bodies = {"skulls.zip": SKULLS, "others.zip": OTHERS, "read_me.txt": b"hello"}
    files = []
    for number, (name, body) in enumerate(bodies.items(), 1):
        digest = hashlib.md5(body, usedforsecurity=False).hexdigest()
        url = site.add(f"/file/download/{number}", body)
        files.append({"id": number, "name": name, "size": len(body), "computed_md5": digest, "download_url": url})
    files.append({"id": 9, "name": "elsewhere.zip", "is_link_only": True})
    about = {"title": "SkullFix", "license": {"name": "CC BY 4.0"}}
    site.add("/articles/14161307", json.dumps(about).encode())
    site.add("/articles/14161307/files?page=1&page_size=100", json.dumps(files).encode())
    return site


def test_without_a_name_the_sets_are_listed_with_their_licences(run):
    result = run("data", "fetch")
    assert result.code == 0
    text = " ".join(result.out.split())
    assert (
        "autoimplant2020 AutoImplant 2020 / SkullFix: 100 training triplets, 110 defective test skulls CC BY-NC-SA 4.0"
        in text
    )
    assert all(one.name in text for one in public_sets())
    told = json.loads(run("data", "fetch", "--json").out)
    assert [one["name"] for one in told] == [one.name for one in public_sets()]
    assert told[2]["files"] == [
        {"name": "skullbreak_training.zip", "url": "https://www.fit.vutbr.cz/~ikodym/skullbreak_training.zip"}
    ]


def test_a_name_that_is_not_there_is_answered_with_those_that_are(run):
    for name in ("skulfix", "folders"):
        result = run("data", "fetch", name)
        assert result.code == 2
        assert f"{name}: no set of that name; there are autoimplant2021, mug500, skullbreak" in result.err


def test_other_names_of_a_set_fetch_it(run, tmp_path):
    result = run("data", "fetch", "MUG500+", "--local", "-o", tmp_path)
    assert result.code == 2
    assert "put those of https://figshare.com/articles/dataset/MUG500_Repository/9616319 into it" in result.err


def test_an_address_is_downloaded_checked_and_unpacked(run, site, tmp_path):
    url = site.add("/skulls.zip", SKULLS)
    digest = hashlib.sha256(SKULLS).hexdigest()
    out = tmp_path / "out"
    result = run("data", "fetch", url, "-o", out, "--sha256", digest)
    assert (result.code, result.err) == (0, "")
    assert result.out.splitlines() == [
        "skulls.zip",
        "licence: not known: ask whoever published it before you use it",
        f"from: {url}",
        f"{out}/skulls.zip: 0.0 MB, downloaded, sha256 {digest}, unpacked to {out}/skulls",
    ]
    assert (out / "skulls" / "a").read_bytes() == b"one"


def test_the_second_time_nothing_is_done_and_that_is_said(run, site, tmp_path):
    url = site.add("/skulls.zip", SKULLS)
    run("data", "fetch", url)
    site.asked.clear()
    result = run("data", "fetch", url)
    assert (result.code, site.asked) == (0, [])
    assert "skulls.zip: 0.0 MB, present and correct, sha256" in result.out
    (tmp_path / "work" / "skulls.zip").unlink()
    assert run("data", "fetch", url).code == 0, "the archive may be deleted once it is unpacked"
    assert site.asked == []


def test_an_interrupted_download_is_kept_and_gone_on_with(run, site, tmp_path, monkeypatch):
    url = site.add("/skulls.zip", SKULLS, cuts=[100])

    def stop(*args):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("calvaria.download.transfer.time", SimpleNamespace(sleep=stop))
        result = run("data", "fetch", url, "-o", tmp_path / "out")
    assert result.code == 130
    assert "what has arrived is kept" in result.err
    assert (tmp_path / "out" / "skulls.zip.part").stat().st_size == 100
    site.asked.clear()
    assert run("data", "fetch", url, "-o", tmp_path / "out").code == 0
    assert site.ranges() == ["bytes=100-"]


def test_a_set_comes_with_its_licence_and_what_the_repository_says_of_it(run, figshare, tmp_path):
    result = run("data", "fetch", "skullfix")
    assert result.code == 0
    assert result.err == "calvaria: warning: 1 files are only linked there and left out: elsewhere.zip\n"
    lines = result.out.splitlines()
    assert lines[1] == "licence: CC BY-NC-SA 4.0"
    assert lines[2].startswith("cite: Li et al. 2021, AutoImplant 2020, IEEE TMI 40:2329; Kodym et al. 2021")
    assert lines[4] == "note: figshare:14161307 states CC BY 4.0."
    folder = tmp_path / "work" / "skullfix"
    assert sorted(path.name for path in folder.iterdir()) == [
        "checksums.json", "others", "others.zip", "read_me.txt", "skulls", "skulls.zip",
    ]  # fmt: skip


def test_json_has_terms_and_hashes(run, figshare):
    answer = json.loads(run("data", "fetch", "skullfix", "--json").out)
    assert (answer["licence"], answer["failed"]) == ("CC BY-NC-SA 4.0", {})
    assert answer["files"][0] == {
        "name": "skulls.zip",
        "was_there": False,
        "sha256": hashlib.sha256(SKULLS).hexdigest(),
        "size_bytes": len(SKULLS),
        "url": f"{figshare.url}/file/download/1",
        "published": "md5",
        "unpacked_to": "skulls",
    }
    assert [file["unpacked_to"] for file in answer["files"]] == ["skulls", "others", None]


def test_only_some_files_and_only_their_list(run, figshare, tmp_path):
    listing = run("data", "fetch", "skullfix", "--list", "--only", "*.ZIP")
    assert "2 files, 0.00 GB" in listing.out
    assert "read_me" not in listing.out
    assert list((tmp_path / "work").iterdir()) == []
    names = [file["name"] for file in json.loads(run("data", "fetch", "skullfix", "--list", "--json").out)["files"]]
    assert names == ["skulls.zip", "others.zip", "read_me.txt"]
    assert run("data", "fetch", "figshare:14161307", "--only", "read*", "-o", tmp_path / "one").code == 0
    assert (tmp_path / "one" / "read_me.txt").read_text() == "hello"
    refused = run("data", "fetch", "skullfix", "--only", "z*")
    assert (refused.code, "--only z*: no file of that name; there are skulls.zip" in refused.err) == (2, True)


def test_no_unpack_leaves_the_archive_packed(run, figshare, tmp_path):
    run("data", "fetch", "skullfix", "--no-unpack")
    assert not (tmp_path / "work" / "skullfix" / "skulls").exists()
    run("data", "fetch", "skullfix")
    assert (tmp_path / "work" / "skullfix" / "skulls" / "a").exists()


def test_a_file_that_fails_is_named_and_the_others_come(run, figshare, tmp_path):
    figshare.pages["/file/download/1"].statuses = [404] * 9
    result = run("data", "fetch", "skullfix")
    folder = tmp_path / "work" / "skullfix"
    assert result.code == 2
    assert "/file/download/1: not found (status 404)" in result.err
    last = result.err.splitlines()[-1]
    assert last.startswith(
        "calvaria: 1 of 3 files failed: skulls.zip: get the archives by hand at https://figshare.com"
    )
    assert last.endswith("run: calvaria data fetch autoimplant2020 --local -o skullfix")
    assert (folder / "others" / "skulls" / "c").exists()
    figshare.pages["/file/download/1"].statuses = [404] * 9
    assert list(json.loads(run("data", "fetch", "skullfix", "--json").out)["failed"]) == ["skulls.zip"]


def test_what_a_person_has_put_there_is_checked_and_unpacked(run, tmp_path):
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "skullbreak_training.zip").write_bytes(SKULLS)
    result = run("data", "fetch", "skullbreak", "--local", "-o", folder)
    assert (result.code, result.err) == (0, "")
    assert (folder / "skullbreak_training" / "skulls" / "b").read_bytes() == b"two"
    (folder / "skullbreak_training.zip").write_bytes(OTHERS)
    result = run("data", "fetch", "skullbreak", "--local", "-o", folder)
    assert (result.code, "it was changed or damaged here" in result.err) == (2, True)


def test_local_without_an_archive_says_what_is_wanted(run):
    result = run("data", "fetch", "skullbreak", "--local")
    assert result.code == 2
    assert "skullbreak: no archive (.zip, .tar ...) there; put those of https://doi.org" in result.err


@pytest.mark.parametrize("name", [one.name for one in public_sets() if one.by_hand])
def test_a_set_without_an_address_says_what_to_do(run, name):
    result = run("data", "fetch", name)
    assert result.code == 2
    assert result.out.splitlines()[1].startswith("licence: ")
    assert f"{name}: no address to download from is known: get the archives by hand at http" in result.err


def test_a_damaged_archive_is_said_and_unpacked_once_it_is_right(run, site, tmp_path):
    url = site.add("/skulls.zip", SKULLS[:-30])
    result = run("data", "fetch", url, "-o", tmp_path / "out")
    assert (result.code, "skulls.zip: a zip whose end is missing: download it again" in result.err) == (2, True)
    assert "1 of 1 files failed: skulls.zip: or download by hand from http://127.0.0.1" in result.err
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["checksums.json", "skulls.zip"]


def test_a_disk_that_is_too_full_for_all_is_said_before_the_first(run, figshare, monkeypatch, tmp_path):
    monkeypatch.setattr(disk, "free_bytes", lambda folder: disk.SPARE_BYTES + len(SKULLS) + len(OTHERS) + 5)
    result = run("data", "fetch", "skullfix")
    assert (result.code, "skullfix: downloading 3 files needs 0.00 GB" in result.err) == (2, True)
    assert not any(path.startswith("/file") for path, _ in figshare.asked)
    assert run("data", "fetch", "skullfix", "--no-unpack").code == 0


def test_what_has_arrived_needs_no_room_any_more(figshare, monkeypatch, tmp_path):
    files = plan_for("skullfix").files[2:]
    monkeypatch.setattr(disk, "free_bytes", lambda folder: disk.SPARE_BYTES + 3)
    with pytest.raises(InputError, match="downloading 1 files needs"):
        list(acquire.acquire(files, tmp_path))
    (tmp_path / "read_me.txt.part").write_bytes(b"he")
    (tmp_path / "read_me.txt.part.json").write_text(
        json.dumps({"url": files[0].url, "etag": None, "last_modified": None, "size_bytes": 5})
    )
    assert [outcome.error for outcome in acquire.acquire(files, tmp_path)] == [None]


def test_a_repository_that_is_not_there_leaves_a_way(run, monkeypatch):
    with serving() as site:
        monkeypatch.setattr(deposits, "FIGSHARE_API", site.url)
    result = run("data", "fetch", "skullfix")
    assert result.code == 2
    assert "cannot be reached after 2 tries" in result.err
    assert "put them into FOLDER, and run: calvaria data fetch autoimplant2020 --local -o FOLDER" in result.err


def test_a_name_for_an_address_that_has_none(run, site, tmp_path):
    url = site.add("/?id=5", SKULLS)
    assert "no file name at its end; give one with --name" in run("data", "fetch", url).err
    assert run("data", "fetch", url, "--name", "skulls.zip").code == 0
    assert (tmp_path / "work" / "skulls" / "a").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("skulfix",), "skulfix: no set of that name; there are autoimplant2021, mug500, skullbreak"),
        (("skullfix", "--sha256", "0" * 64), "--sha256 and --name go with an address"),
        (("skullfix", "--name", "a"), "--sha256 and --name go with an address"),
        (("https://example.org/a", "--sha256", "12"), "wanted a sha256 of 64 hexadecimal digits"),
        (("https://example.org/a", "--local"), "no set of that name"),
        (("ftp://example.org/a",), "wanted an address that starts with https"),
    ],
)
def test_a_call_that_cannot_be_understood_is_one_line(run, words, said):
    result = run("data", "fetch", *words)
    assert result.code == 2
    assert said in result.err
    assert result.err.count("\n") == 1


def test_quiet_says_nothing(run, figshare):
    result = run("data", "fetch", "skullfix", "-q")
    assert (result.code, result.out, result.err) == (0, "", "")


def test_a_deposit_without_a_set_around_it(figshare):
    plan = plan_for("figshare:14161307")
    assert (plan.title, plan.licence, plan.is_set) == ("SkullFix", "CC BY 4.0", False)
    with pytest.raises(InputError, match="figshare:1: there is no such number"):
        plan_for("figshare:1")


def test_damage_at_the_repository_stays_damage(figshare):
    figshare.add("/articles/14161307", b"[]")
    with pytest.raises(FormatError, match=r"lacks what is known of it .* --local"):
        plan_for("skullfix")


def test_limits_and_progress_reach_the_unpacking(site, tmp_path):
    seen = []
    plan = plan_for(site.add("/skulls.zip", SKULLS))
    (failed,) = acquire.acquire(
        plan.files, tmp_path, limits=Limits(files=1), progress=lambda what, fraction: seen.append((what, fraction))
    )
    assert failed.error == "skulls.zip: holds more than 1 files: unpack it by hand"
    (done,) = acquire.acquire(plan.files, tmp_path, progress=lambda what, fraction: seen.append((what, fraction)))
    assert done.unpacked == tmp_path / "skulls"
    assert seen[-1][0] == "1 of 1 skulls.zip: unpacking 100%"
    assert all(0.0 <= fraction <= 1.0 for _, fraction in seen)


@pytest.mark.parametrize("published", [True, False])
def test_progress_is_that_of_all_files(figshare, tmp_path, published):
    seen = []
    files = [file if published else replace(file, size_bytes=None) for file in plan_for("skullfix").files]
    list(acquire.acquire(files, tmp_path, progress=lambda what, fraction: seen.append((what, fraction))))
    fractions = [fraction for _, fraction in seen]
    assert fractions == sorted(fractions)
    assert fractions[-1] == pytest.approx(1.0)
    first = len(SKULLS) / (len(SKULLS) + len(OTHERS) + 5) if published else 1 / 3
    assert ("1 of 3 skulls.zip: downloading 100%", pytest.approx(first)) in seen


def test_progress_without_any_size_counts_what_arrives(site, tmp_path):
    seen = []
    files = plan_for(site.add("/a.bin", bytes(10**6), length="chunked")).files
    list(acquire.acquire(files, tmp_path, progress=lambda what, fraction: seen.append((what, fraction))))
    assert ("1 of 1 a.bin: downloading 1 MB", 0.0) in seen
    assert seen[-1] == ("1 of 1 a.bin: checking 100%", 1.0)


def test_real_skulls_arrive_as_they_are_and_the_set_is_read(run, site, real_data, tmp_path):
    root = real_data / "autoimplant2020"
    names = [
        f"training_set/{kind}/{number}.nrrd" for kind in ("complete_skull", "implant") for number in ("000", "010")
    ]
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in names:
            archive.write(root / name, f"SkullFix/{name}")
    url = site.add("/SkullFix.zip", packed.getvalue(), cuts=[300_000, 10])
    assert run("data", "fetch", url, "-o", tmp_path / "out").code == 0
    assert [
        name for name in names if (tmp_path / "out/SkullFix" / name).read_bytes() != (root / name).read_bytes()
    ] == []
    assert [case.id for case in autoimplant2020(tmp_path / "out" / "SkullFix")] == ["train-000", "train-010"]


def test_the_help_has_examples_of_its_own(run):
    text = run("data", "fetch", "--help").out
    assert text.split("Examples:")[1].split() == command.EXAMPLES.split("Examples:")[1].split()
