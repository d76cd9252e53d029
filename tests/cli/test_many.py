"""Folders of cases that were run before: what is done is kept, what changed is run, one table has all."""

from __future__ import annotations

import csv
import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from calvaria.errors import InputError
from calvaria.io import read_mask, write_volume
from calvaria.results import kept as keeping
from calvaria.results.names import find_patches


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    """The stand-in's hash is that of the model that is asked for."""
    monkeypatch.setattr(keeping.Wanted, "_model", "0" * 64)


@pytest.fixture
def folder(tmp_path, skull):
    cases = tmp_path / "cases"
    cases.mkdir()
    for name in "abc":
        shutil.copy(skull, cases / f"{name}.nrrd")
    return cases


def table(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def count(engine) -> int:
    """How many cases were reconstructed since the last question."""
    found = sum("min_hole_ml" in call for call in engine.calls)
    engine.calls.clear()
    return found


@pytest.fixture
def again(run, engine, folder, tmp_path):
    """Reconstruct the folder; gives what was said, and how many cases were run."""

    def call(*words: object):
        result = run("reconstruct", folder, "-o", tmp_path / "out", "--no-preview", *words)
        return result, count(engine)

    return call


def test_what_is_done_is_kept_and_said(again, tmp_path):
    first, ran = again()
    assert (first.code, ran) == (0, 3)
    assert "done already" not in first.out
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("out/*/*")}
    result, ran = again()
    assert (result.code, result.err, ran) == (0, "", 0)
    assert "3 of 3 cases are done already; --again runs them, too" in result.out
    assert "3 of 3 cases done" in result.out
    assert {path: path.stat().st_mtime_ns for path in tmp_path.glob("out/*/*")} == before
    assert again("--again")[1] == 3


def test_what_is_kept_loads_no_pipeline(again, monkeypatch):
    again()
    monkeypatch.setitem(sys.modules, "calvaria.pipeline", None)  # importing it is an error
    assert again()[0].code == 0


@pytest.mark.parametrize(
    "words",
    [["--min-hole-ml", "3"], ["--kind", "mask"], ["--refine"], ["--device", "cpu"], ["--no-gate"]],
    ids=lambda words: words[0],
)
def test_other_settings_run_all_again(again, words):
    again()
    assert again(*words)[1] == 3
    assert again(*words)[1] == 0


def test_only_what_changed_is_run(again, folder, tmp_path):
    again()
    mask = read_mask(folder / "a.nrrd")
    data = mask.mask.copy()
    data[0, 0, 0] = True
    write_volume(folder / "a.nrrd", mask.with_data(data))
    (tmp_path / "out" / "b" / "patch.stl").unlink()
    result, ran = again("--json")
    assert ran == 2
    assert [(one["case"], one["kept"]) for one in json.loads(result.out)["cases"]] == [
        ("a", False),
        ("b", False),
        ("c", True),
    ]


def change(record: Path, **values: object) -> None:
    found = json.loads(record.read_text())
    record.write_text(json.dumps(found | values))


def test_a_record_of_another_version_or_model_or_none_is_run(again, tmp_path, monkeypatch):
    again()
    change(tmp_path / "out" / "a" / "result.json", versions={"calvaria": "0.0.1"})
    (tmp_path / "out" / "b" / "result.json").write_text("{")
    change(tmp_path / "out" / "c" / "result.json", given_patch={"sha256": ""})
    assert again()[1] == 3
    monkeypatch.setattr(keeping.Wanted, "_model", "1" * 64)
    assert again()[1] == 3


def test_a_header_whose_voxels_lie_elsewhere_is_never_kept(again, folder):
    mask = read_mask(folder / "a.nrrd")
    for name in "abc":
        (folder / f"{name}.nrrd").unlink()
    voxels = mask.mask.astype("u1")
    (folder / "a.raw").write_bytes(voxels.tobytes(order="F"))
    steps = [f"({','.join(f'{x:g}' for x in row)})" for row in mask.affine[:3, :3].T]
    (folder / "a.nhdr").write_text(
        f"NRRD0004\ntype: uint8\ndimension: 3\nspace: LPS\nsizes: {' '.join(map(str, mask.shape))}\n"
        f"space directions: {' '.join(steps)}\nspace origin: (0,0,0)\nencoding: raw\ndata file: a.raw\n"
    )
    result, ran = again()
    assert (result.code, ran) == (0, 1), result.err
    assert again()[1] == 1


def test_the_table_has_every_case(again, folder, engine, tmp_path):
    engine.warnings = ("the lower edge is cut",)
    (folder / "b.nrrd").write_bytes(b"NRRD0004\nrubbish")
    first, _ = again()
    assert first.code == 2
    a, b, c = table(tmp_path / "out" / "results.csv")
    assert ",".join(a) == (
        "case,status,error,holes,ml,cm2,expected_dsc,dsc_low,dsc_high,warnings,checks_passed,checks_warned,"
        "checks_failed,failed,seconds"
    )
    record = json.loads((tmp_path / "out" / "a" / "result.json").read_text())
    assert (a["case"], a["status"], a["error"], a["holes"], a["warnings"]) == ("a", "done", "", "1", "1")
    assert (float(a["ml"]), float(a["seconds"])) == (record["patch"]["volume_ml"], record["seconds"]["total"])
    assert float(a["cm2"]) == 3.0
    assert float(a["expected_dsc"]) == 0.94
    assert (b["status"], b["holes"]) == ("failed", "")
    assert b["error"].startswith("b.nrrd: ")
    again()
    assert [(row["case"], row["status"]) for row in table(tmp_path / "out" / "results.csv")] == [
        ("a", "kept"),
        ("b", "failed"),
        ("c", "kept"),
    ]
    assert table(tmp_path / "out" / "results.csv")[2] == c | {"status": "kept"}
    lines = [line.split() for line in first.out.splitlines()]
    assert ["b", "failed"] in lines
    assert lines.index(["b", "failed"]) < next(n for n, line in enumerate(lines) if line[:2] == ["a", "done"])


def test_a_check_that_failed_counts_when_its_case_is_kept(run, failing_engine, folder, tmp_path):
    call = ["reconstruct", folder, "-o", tmp_path / "out", "--no-preview"]
    first, second = run(*call), run(*call)
    assert (first.code, second.code) == (3, 3)
    assert second.err == "calvaria: 3 of 3 cases failed a check: a, b, c; see result.json\n"
    assert "3 of 3 cases are done already" in second.out
    assert [row["failed"] for row in table(tmp_path / "out" / "results.csv")] == ["bone touched"] * 3


@pytest.fixture
def failing_engine(engine):
    from calvaria.reconstruction.checks import Check

    engine.checks = (Check("bone touched", 3, "voxels", "0", "fail", "by definition"),)
    return engine


def test_designs_of_images_are_kept(run, designer, engine, folder, tmp_path):
    call = ["design", folder, "-o", tmp_path / "out", "--no-preview"]
    assert run(*call).code == 0
    assert count(engine) == 3
    assert "3 of 3 cases are done already" in run(*call).out
    assert count(engine) == 0
    assert run(*call, "--thickness-mm", "5").code == 0
    assert count(engine) == 3
    rows = table(tmp_path / "out" / "designs.csv")
    assert [(row["case"], row["implants"], row["checks_warned"], row["status"]) for row in rows] == [
        (name, "1", "1", "done") for name in "abc"
    ]


def test_designs_of_results_are_kept_until_the_results_change(run, designer, finished, tmp_path):
    many = tmp_path / "many"
    for name in "ab":
        shutil.copytree(finished, many / name)
    call = ["design", many, "-o", many, "--no-preview"]
    assert run(*call).code == 0
    before = len(designer.calls)
    assert "2 of 2 cases are done already" in run(*call).out
    assert len(designer.calls) == before
    change(many / "a" / "result.json", peak_memory_mb=1.0)
    assert "1 of 2 cases are done already" in run(*call).out
    assert len(designer.calls) > before


def test_a_mark_of_dicom_counts(run, engine, folder, tmp_path):
    """Results without DICOM are no answer to a call that wants it."""
    from calvaria.results.dicom_out import DicomAsked
    from calvaria.results.names import Case
    from calvaria.results.settings import Settings

    run("reconstruct", folder, "-o", tmp_path / "out", "--no-preview")
    case, settings = Case("a", folder / "a.nrrd"), Settings(preview=False)
    assert keeping.Wanted(settings).kept(case, tmp_path / "out") is not None
    assert keeping.Wanted(settings, dicom=DicomAsked()).kept(case, tmp_path / "out") is None
    change(tmp_path / "out" / "a" / "result.json", dicom={"deidentify": True})
    assert keeping.Wanted(settings).kept(case, tmp_path / "out") is None
    assert keeping.Wanted(settings, dicom=DicomAsked()).kept(case, tmp_path / "out") is None
    assert keeping.Wanted(settings, dicom=DicomAsked(deidentify=True)).kept(case, tmp_path / "out") is not None


def test_the_models_hash_is_that_of_the_index(monkeypatch):
    from calvaria.models import find
    from calvaria.results.settings import Settings

    monkeypatch.undo()
    assert keeping.Wanted(Settings())._model == find("shape-prior").sha256
    with pytest.raises(InputError, match="there is no model called 'none'"):
        _ = keeping.Wanted(Settings(engine="none"))._model


KILLED = """
import os, signal, sys
from pathlib import Path
from calvaria.results.names import find_cases
from calvaria.results.folder import run_each
from calvaria.results.staging import staged

def run(source, output, *, progress, study=None):
    with staged(output, ["patch.nrrd", "result.json"], last="result.json") as folder:
        (folder / "patch.nrrd").write_bytes(source.read_bytes())
        if source.name == "b.nrrd":
            os.kill(os.getpid(), signal.SIGKILL)
        (folder / "result.json").write_text("{}")

list(run_each(find_cases(Path(sys.argv[1])), Path(sys.argv[2]), run))
"""


def test_after_a_kill_whole_folders_are_there_and_the_same_call_goes_on(again, folder, tmp_path):
    out = tmp_path / "out"
    done = subprocess.run([sys.executable, "-c", KILLED, folder, out], check=False)
    assert done.returncode == -signal.SIGKILL
    assert [path.name for path in out.iterdir() if not path.name.startswith(".")] == ["a"]
    assert sorted(path.name for path in (out / "a").iterdir()) == ["patch.nrrd", "result.json"]
    assert [case.name for case in find_patches(out)] == ["a"]  # what was not finished is no patch
    (out / "a" / "result.json").unlink()
    assert any(path.name.startswith(".b-unfinished-") for path in out.iterdir())
    result, ran = again()
    assert (result.code, ran) == (0, 3)
    assert not [path.name for path in out.iterdir() if path.name.startswith(".")]
    shutil.rmtree(out / "b")
    assert again()[1] == 1  # as after a kill: a and c are whole, b is not there


@pytest.mark.parametrize("command", ["reconstruct", "design"])
def test_a_scheduler_gets_whole_paths_and_the_cases_that_are_left(
    run, designer, folder, tmp_path, monkeypatch, command
):
    asked = []

    def on_scheduler(work, items, address, shared, lost):
        asked.append((items, address, shared, work))
        return ((item, lost(item, "no worker has come")) for item in items)

    monkeypatch.setitem(sys.modules, "distributed", ModuleType("distributed"))
    monkeypatch.setattr("calvaria.results.cluster.on_scheduler", on_scheduler)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my.safetensors").touch()
    call = [command, "cases", "-o", "out", "--no-preview"]
    result = run(*call, "--model", "my.safetensors", "--scheduler", "tcp://host:8786")
    assert result.code == 1
    assert result.err.splitlines()[-1] == "calvaria: 3 of 3 cases failed: a, b, c"
    assert "calvaria: a: no worker has come" in result.err
    ((items, address, shared, work),) = asked
    assert [one.path for one in items] == [folder / f"{name}.nrrd" for name in "abc"]
    assert (address, shared) == ("tcp://host:8786", tmp_path / "out")
    assert work.keywords["output"] == tmp_path / "out"
    assert work.keywords["run"].keywords["settings"].engine == str(tmp_path / "my.safetensors")
    assert run(*call).code == 0  # here
    assert run(*call, "--scheduler", "tcp://host:8786").code == 0
    assert len(asked) == 1  # all were done


@pytest.mark.parametrize("command", ["reconstruct", "design"])
def test_one_case_is_not_sent_to_a_scheduler(run, designer, skull, tmp_path, monkeypatch, command):
    monkeypatch.setitem(sys.modules, "distributed", ModuleType("distributed"))
    result = run(command, skull, "-o", tmp_path / "out", "--scheduler", "tcp://host:8786")
    assert result.code == 2
    assert result.err == (
        "calvaria: --scheduler: Erika Mustermann.nrrd is one case; give a folder of cases, or leave this out\n"
    )
    monkeypatch.setitem(sys.modules, "distributed", None)
    result = run(command, skull, "-o", tmp_path / "out", "--scheduler", "tcp://host:8786")
    assert result.err == "calvaria: --scheduler: cases are sent by Dask: pip install 'calvaria[cluster]'\n"
