"""The modules for 3D Slicer, called as it calls them; a stand-in takes the place of calvaria."""

from __future__ import annotations

import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "slicer"

STAND_IN = """#!{python}
import json, os, sys, time
from pathlib import Path
home, argv = Path(__file__).parent, sys.argv[1:]
asked = json.loads((home / "asked.json").read_text())
(home / "called.json").write_text(json.dumps({{"argv": argv, "environ": dict(os.environ)}}))
for line in asked["err"]:
    print(line.replace("OUT", argv[-1]), file=sys.stderr, flush=True)
for line in asked["out"]:
    print(line.replace("OUT", argv[-1]), flush=True)
time.sleep(asked["sleep"])
folder = Path(argv[-1])
folder.mkdir(exist_ok=True)
for name, text in asked["files"].items():
    (folder / name).write_bytes(text.encode("latin-1"))
if asked["code"] < 0:
    os.kill(os.getpid(), -asked["code"])
sys.exit(asked["code"])
"""


def stl(*triangles: bytes) -> str:
    """The bytes of a file, each a character."""
    body = b"".join(one.ljust(50, b"\0") for one in triangles)
    return (b"made by calvaria".ljust(80) + len(triangles).to_bytes(4, "little") + body).decode("latin-1")


RECONSTRUCTED = {"patch.nrrd": "the patch", "completed.nrrd": "the skull", "patch.stl": stl(b"1")}

CHECKS = [
    {"part": "implant-1", "name": "watertight", "verdict": "pass", "value": True, "unit": "", "limit": "yes"},
    {"part": "implant-1", "name": "clearance", "verdict": "warn", "value": 0.123456, "unit": "mm", "limit": "a, b"},
    {"part": "", "name": "doubt", "verdict": "fail", "value": None, "unit": "", "limit": ""},
]

DESIGNED = {
    "design.json": json.dumps({"parts": [{"name": "implant-1"}, {"name": "implant-2"}], "checks": CHECKS}),
    "implant-1.stl": stl(b"1", b"2"),
    "implant-2.stl": stl(b"3"),
}


@dataclass
class Ran:
    """What a call of a module left behind."""

    code: int
    out: str
    err: str
    called: dict[str, object]
    folder: Path

    @property
    def said(self) -> str:
        """What is no progress."""
        return re.sub(r"<filter-(\w+)>[^<]*</filter-\1>\s*", "", self.out)  # as Slicer takes it out

    @property
    def argv(self) -> list[str]:
        """The words that calvaria was called with, but for its folder."""
        argv = self.called["argv"]
        assert argv[-2] == "-o"
        return argv[:-2]


@pytest.fixture
def call(tmp_path):
    """Call a module with a stand-in that does as it is told."""
    home, temporary = tmp_path / "bin", tmp_path / "tmp"
    home.mkdir()
    temporary.mkdir()
    program = home / "calvaria"
    program.write_text(STAND_IN.format(python=sys.executable))
    program.chmod(0o755)

    def run(module: str, *words: object, environ: dict[str, str] | None = None, **asked: object) -> Ran:
        told = {"code": 0, "err": [], "out": [], "files": {}, "sleep": 0} | asked
        (home / "asked.json").write_text(json.dumps(told))
        made = {name: value for name, value in os.environ.items() if not name.startswith(("CALVARIA_", "PYTHON"))}
        made |= {"TMPDIR": str(temporary), "PATH": f"{home}{os.pathsep}{os.environ['PATH']}"} | (environ or {})
        command = [sys.executable, str(FOLDER / f"{module}.py"), *map(str, words)]
        done = subprocess.run(command, check=False, capture_output=True, text=True, env=made, cwd=tmp_path)
        assert list(temporary.iterdir()) == []
        called = home / "called.json"
        return Ran(
            done.returncode,
            done.stdout,
            done.stderr,
            json.loads(called.read_text()) if called.exists() else {},
            tmp_path,
        )

    return run


SKULL = ("in.nrrd", "patch.nrrd", "completed.nrrd", "patch.stl")
OPTIONS = ("--threshold_hu", "0", "--min_hole_ml", "5")
"""As Slicer passes what nobody has touched."""


@pytest.fixture
def reconstruct(call):
    return lambda *words, files=RECONSTRUCTED, **asked: call(
        "CalvariaReconstruct", *OPTIONS, *words, *SKULL, files=files, **asked
    )


@pytest.fixture
def design(call):
    plain = ("--thickness_mm", "4", "--clearance_mm", "0.7", "--flange_width_mm", "0", "--temporal_relief_mm", "0")
    return lambda *words, files=DESIGNED, **asked: call(
        "CalvariaDesign",
        *plain,
        "--plate_seats",
        "0",
        *OPTIONS,
        *words,
        "in.nrrd",
        "i.stl",
        "c.csv",
        files=files,
        **asked,
    )


@pytest.mark.parametrize("module", ["CalvariaReconstruct", "CalvariaDesign"])
def test_a_module_says_what_it_is(call, module):
    done = call(module, "--xml")
    assert (done.code, done.out, done.err) == (0, (FOLDER / f"{module}.xml").read_text(), "")


def test_a_reconstruction_comes_back_to_slicer(reconstruct):
    done = reconstruct(
        err=["calvaria: progress 0.000 read", "calvaria: progress 0.500 fit"], out=["patch: 28 ml", "OUT/patch.nrrd"]
    )
    assert (done.code, done.err) == (0, "")
    assert done.argv == ["reconstruct", "in.nrrd", "--min-hole-ml", "5", "--no-preview"]
    assert (done.folder / "patch.nrrd").read_text() == "the patch"
    assert (done.folder / "completed.nrrd").read_text() == "the skull"
    surface = (done.folder / "patch.stl").read_bytes()
    assert b"SPACE=LPS" in surface[:80]
    assert surface[80:] == RECONSTRUCTED["patch.stl"].encode("latin-1")[80:]
    assert done.said == "patch: 28 ml\n"  # not where a file was that is not kept
    fractions = [float(text) for text in re.findall(r"<filter-progress>(.*?)</filter-progress>", done.out)]
    assert fractions == [0.0, 0.02, 0.485, 1.0]
    assert re.findall(r"<filter-comment>(.*?)</filter-comment>", done.out) == ["starting", "read", "fit", "done"]


def test_what_is_asked_for_is_passed_on(reconstruct):
    done = reconstruct(
        "--seed", "-41,22.5,-68", "--seed", "1,2,3", "--threshold_hu", "300", "--min_hole_ml", "2.5", "--refine"
    )
    assert done.argv == [
        *["reconstruct", "in.nrrd", "--min-hole-ml", "2.5", "--threshold-hu", "300"],
        *["--seed=41,-22.5,-68", "--seed=-1,-2,3", "--refine", "--no-preview"],  # from RAS to LPS
    ]  # fmt: skip


def test_all_files_are_kept_where_that_is_asked_for(reconstruct, tmp_path):
    kept = tmp_path / "kept"
    done = reconstruct("--folder", kept, out=["OUT/patch.nrrd"])
    assert (done.code, done.said) == (0, f"{kept}/patch.nrrd\n")
    assert "--no-preview" not in done.argv
    assert sorted(path.name for path in kept.iterdir()) == sorted(RECONSTRUCTED)


def test_a_folder_that_is_not_named_from_the_root_is_refused(reconstruct):
    done = reconstruct("--folder", "kept")
    assert (done.code, done.called) == (2, {})
    assert done.err == (
        "CalvariaReconstruct: kept: the folder to keep the files in must be named by its whole path, "
        "such as /home/you/kept\n"
    )


def test_a_patch_without_bone_has_an_empty_surface(reconstruct):
    done = reconstruct(files={name: RECONSTRUCTED[name] for name in ("patch.nrrd", "completed.nrrd")})
    assert done.code == 0
    surface = (done.folder / "patch.stl").read_bytes()
    assert (len(surface), surface[80:]) == (84, b"\0\0\0\0")


def test_a_design_comes_back_as_one_model_and_a_table_with_the_bad_first(design):
    done = design("--perforations", "--bone_thickness")
    assert (done.code, done.err) == (0, "")
    assert done.argv == [
        *["design", "in.nrrd", "--min-hole-ml", "5", "--thickness-mm", "4", "--clearance-mm", "0.7"],
        *["--flange-width-mm", "0", "--temporal-relief-mm", "0", "--perforations", "--plate-seats", "0"],
        *["--thickness", "bone", "--no-preview"],
    ]  # fmt: skip
    model = (done.folder / "i.stl").read_bytes()
    assert model[80:84] == b"\3\0\0\0"
    assert [model[84 + 50 * n : 85 + 50 * n] for n in range(3)] == [b"1", b"2", b"3"]
    with (done.folder / "c.csv").open(newline="") as file:
        assert list(csv.reader(file)) == [
            ["part", "name", "verdict", "value", "unit", "limit"],
            ["", "doubt", "fail", "", "", ""],
            ["implant-1", "clearance", "warn", "0.1235", "mm", "a, b"],
            ["implant-1", "watertight", "pass", "yes", "", "yes"],
        ]


def test_a_failed_check_delivers_everything_and_warns(reconstruct):
    line = "calvaria: in.nrrd: a check failed: accuracy"
    done = reconstruct(code=3, err=[f"{line}; the files are in OUT, marked in result.json"])
    assert done.code == 0  # Slicer loads nothing otherwise
    assert done.err.splitlines() == [
        line,
        "CalvariaReconstruct: warning: a check failed, see above: look at the result before you use it",
    ]
    assert (done.folder / "patch.nrrd").exists()


@pytest.mark.parametrize("code", [1, 2])
def test_an_error_of_calvaria_is_its_own_line(reconstruct, code):
    done = reconstruct(code=code, err=["calvaria: in.nrrd: this is no skull"], files={})
    assert (done.code, done.err) == (code, "calvaria: in.nrrd: this is no skull\n")
    assert not (done.folder / "patch.nrrd").exists()


def test_a_calvaria_that_is_killed_is_a_line(reconstruct):
    done = reconstruct(code=-9)
    assert (done.code, done.err) == (
        2,
        "CalvariaReconstruct: calvaria ended with -9 before it was done; run it alone to see why\n",
    )
    assert not (done.folder / "patch.nrrd").exists()


def test_files_that_lack_are_a_line(reconstruct, design):
    done = reconstruct(files={"patch.nrrd": "x"})
    assert (done.code, done.err) == (
        2,
        "CalvariaReconstruct: calvaria has left no completed.n*; wanted: a calvaria of the version of these modules\n",
    )
    assert design(files={}).err.startswith("CalvariaDesign: calvaria has left no design.json; wanted: ")


def test_an_image_of_another_format_is_refused(reconstruct):
    done = reconstruct(files={"patch.nii.gz": "x"})
    assert (done.code, done.err) == (
        2,
        "CalvariaReconstruct: patch.nrrd: the output must be in the input's format, .nii.gz\n",
    )


def test_a_point_that_is_none_is_a_line(reconstruct):
    done = reconstruct("--seed", "1,2")
    assert (done.code, done.err) == (
        2,
        "CalvariaReconstruct: --seed: three numbers with commas between are wanted (RAS mm); got '1,2'\n",
    )


def test_a_call_that_is_none_is_a_usage_error(call):
    done = call("CalvariaReconstruct", "--min_hole_ml", "much", *SKULL)
    assert done.code == 2
    assert "argument --min_hole_ml: invalid float value: 'much'" in done.err
    assert done.called == {}


SLICER = {
    "PYTHONPATH": "/opt/Slicer/lib/Python",
    "PYTHONNOUSERSITE": "1",
    "LD_LIBRARY_PATH": "/opt/Slicer/lib",
    "QT_PLUGIN_PATH": "/opt/Slicer/plugins",
}
"""Some of what Slicer sets."""


def test_calvaria_runs_without_slicers_environment(reconstruct):
    done = reconstruct(environ={**SLICER, "MINE": "1"})
    environ = done.called["environ"]
    assert not set(SLICER) & set(environ)
    assert (environ["MINE"], environ["CALVARIA_PROGRESS"]) == ("1", "lines")


def test_where_the_launcher_kept_it_the_environment_is_that_before_slicer(reconstruct, tmp_path):
    before = {"PATH": f"{tmp_path / 'bin'}:/usr/bin", "LD_LIBRARY_PATH": "/mine", "HOME": "/home/me"}
    kept = {f"APPLAUNCHER_0_{name}": value for name, value in before.items()}
    done = reconstruct(environ={**SLICER, **kept, "APPLAUNCHER_LEVEL": "1", "PATH": "/opt/Slicer/bin"})
    environ = done.called["environ"]
    assert environ.items() >= before.items()
    assert set(environ) <= {*before, "CALVARIA_PROGRESS", "PYTHONUTF8", "LC_CTYPE"}


@pytest.fixture
def elsewhere(tmp_path):
    """No program on the path."""
    return {"PATH": str(tmp_path / "nothing")}


def test_where_calvaria_is_can_be_said_in_two_ways(reconstruct, elsewhere, tmp_path):
    program = str(tmp_path / "bin" / "calvaria")
    assert reconstruct("--calvaria_command", program, environ=elsewhere).code == 0
    assert reconstruct(environ={**elsewhere, "CALVARIA_COMMAND": program}).code == 0
    wrong = {**elsewhere, "CALVARIA_COMMAND": "/nowhere/calvaria"}
    assert reconstruct("--calvaria_command", program, environ=wrong).code == 0  # the field goes first
    several = reconstruct("--calvaria_command", f"{sys.executable} {program} --", environ=elsewhere)
    assert several.argv[:2] == ["--", "reconstruct"]


def test_no_calvaria_is_a_line_that_says_how_to_name_it(reconstruct, elsewhere):
    wanted = (
        "; wanted: the whole path of the one that pip installed, such as /home/you/calvaria/bin/calvaria, in the field "
        "'Program calvaria' or in the environment variable CALVARIA_COMMAND\n"
    )
    done = reconstruct(environ=elsewhere)
    assert (done.code, done.err) == (2, f"CalvariaReconstruct: no program calvaria was found{wanted}")
    done = reconstruct(environ={**elsewhere, "CALVARIA_COMMAND": "/nowhere/calvaria"})
    assert (done.code, done.err) == (2, f"CalvariaReconstruct: no program /nowhere/calvaria{wanted}")
    done = reconstruct("--calvaria_command", FOLDER / "CalvariaDesign.xml", environ=elsewhere)
    assert done.code == 2
    assert done.err.endswith(f"CalvariaDesign.xml cannot be started: Permission denied{wanted}")


def test_who_stops_the_module_stops_calvaria(call, tmp_path):
    call("CalvariaReconstruct", "--xml", sleep=60)  # so that the stand-in knows
    home, temporary = tmp_path / "bin", tmp_path / "tmp"
    command = [sys.executable, str(FOLDER / "CalvariaReconstruct.py"), *SKULL]
    environ = {**os.environ, "TMPDIR": str(temporary), "CALVARIA_COMMAND": str(home / "calvaria")}
    with subprocess.Popen(command, env=environ, stdout=subprocess.DEVNULL) as module:
        children = Path(f"/proc/{module.pid}/task/{module.pid}/children")
        while not (home / "called.json").exists():
            time.sleep(0.01)
        (child,) = children.read_text().split() if children.exists() else (None,)
        module.send_signal(signal.SIGTERM)
        assert module.wait(10) == 128 + signal.SIGTERM
    assert list(temporary.iterdir()) == []
    assert child is None or not Path(f"/proc/{child}").exists()
