"""Table 2: what is trained and compared with what, and what the lines say."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from calvaria.benchmarks import networks as module
from calvaria.benchmarks.networks import PRIOR, PUBLISHED, Model, Row, rows_of, run, table2, train_all
from calvaria.benchmarks.rows import read_table, write_table
from calvaria.errors import FormatError
from calvaria.jobs import WorkerDiedError
from calvaria.models import register

pytest.importorskip("torch", reason="torch is not installed: networks were not tried")

import torch
from safetensors.torch import save_file

from calvaria.benchmarks.cases import tasks_of
from calvaria.reconstruction.networks.engine import KIND
from calvaria.reconstruction.networks.zoo import make_network
from calvaria.training import reconstruction
from calvaria.training.recipes.fields import changed, made
from calvaria.training.recipes.reconstruction import ReconstructionRecipe

TASKS = [SimpleNamespace(case=SimpleNamespace(id=f"train-{n}", person=f"p{n}"), kind="official") for n in range(3)]
MODELS = [Model("runet", "aaa", "runet.safetensors"), Model("runet-sym", "bbb", "runet-sym.safetensors")]


def row(person, model, dsc, kind="official", **more):
    figures = {"bdsc": dsc, "sdsc_1mm": dsc, "hd95_mm": 2.0, "msd_mm": 0.5, "asymmetry_mm": 1.0, "seconds": 1.0}
    return Row(f"case-{person}-{kind}", f"p{person}", kind, model, "w", dsc, **{**figures, **more})


def silent(line):
    del line


@pytest.fixture
def found(monkeypatch):
    """Which models were run on which tasks; every Dice is 0.5."""
    asked = []

    def fake(task, models):
        asked.append((task.case.id, [model.name for model in models]))
        return [Row(task.case.id, task.case.person, task.kind, m.name, m.weights, 0.5) for m in models]

    monkeypatch.setattr(module, "rows_of", fake)
    return asked


@pytest.mark.usefixtures("dying_workers")
def test_a_process_that_dies_is_one_line_and_the_rows_so_far_stay(found, tmp_path):
    run(TASKS[:1], MODELS, tmp_path / "table2.csv", tell=silent)
    with pytest.raises(WorkerDiedError, match="use fewer jobs"):
        run(TASKS, MODELS, tmp_path / "table2.csv", jobs=2, tell=silent)
    assert len(read_table(tmp_path / "table2.csv", Row, "networks")) == 2


def test_a_run_goes_on_from_its_file(found, tmp_path):
    path = tmp_path / "out" / "table2.csv"
    first = run(TASKS[:2], MODELS[:1], path, tell=silent)
    assert [r.case for r in first] == ["train-0", "train-1"]
    both = run(TASKS, MODELS, path, tell=silent)
    assert found[2:] == [("train-0", ["runet-sym"]), ("train-1", ["runet-sym"]), ("train-2", ["runet", "runet-sym"])]
    assert len(both) == 6
    found.clear()
    assert [r.key for r in run(TASKS, MODELS, path, tell=silent)] == [r.key for r in both]
    assert not found


def test_new_weights_of_an_old_name_are_run_anew(found, tmp_path):
    path = tmp_path / "table2.csv"
    run(TASKS[:1], MODELS[:1], path, tell=silent)
    rows = run(TASKS[:1], [Model("runet", "ccc", "runet.safetensors")], path, tell=silent)
    assert [r.weights for r in rows] == ["ccc"]
    assert len(found) == 2


def test_failed_rows_are_run_again_and_shown(tmp_path, monkeypatch):
    fail = True
    monkeypatch.setattr(
        module, "rows_of", lambda task, models: [Row(task.case.id, "p", task.kind, "runet", "aaa", error="no" * fail)]
    )
    path = tmp_path / "table2.csv"
    rows = run(TASKS[:1], MODELS[:1], path, tell=silent)
    assert "FAILED: train-0 official runet: no" in table2(rows)
    fail = False
    assert not run(TASKS[:1], MODELS[:1], path, tell=silent)[0].error
    assert len(read_table(path, Row, "networks")) == 1


def test_rows_come_back_from_their_file(tmp_path):
    rows = [row(1, "runet", 0.5), replace(row(2, "runet", math.nan), hd95_mm=math.inf, error="bad, very")]
    write_table(tmp_path / "x.csv", Row, rows)
    back = read_table(tmp_path / "x.csv", Row, "networks")
    assert back[0] == rows[0]
    assert math.isnan(back[1].dsc)
    assert (back[1].hd95_mm, back[1].error) == (math.inf, "bad, very")
    assert read_table(tmp_path / "none.csv", Row, "networks") == []
    Path(tmp_path / "other.csv").write_text("a,b\n1,2\n")
    with pytest.raises(FormatError, match=r"other\.csv: not a table of networks; name another file"):
        run(TASKS[:1], MODELS, tmp_path / "other.csv", tell=silent)


def test_symmetry_is_tested_over_persons_not_cases():
    gains = [0.02, 0.05, 0.03, 0.04]
    rows = []
    for person, gain in enumerate(gains):
        for kind in ("random_1", "random_2"):  # two cases of one person count once
            rows += [row(person, "runet", 0.7, kind), row(person, "runet-sym", 0.7 + gain, kind)]
    lines = table2(rows)
    (line,) = [line for line in lines if line.startswith("runet") and "other kinds" in line and "+0.035" in line]
    persons, gain = line.split()[3:5]
    assert (persons, gain) == ("4", "+0.0350")
    assert line.split()[-2:] == ["4", "0.0625"]  # all four better: 1 / 2^4
    assert not any("official" in line and "+" in line for line in lines)


def test_the_priors_sketch_is_tested_against_none_and_against_the_prior():
    rows = []
    for person, more in enumerate([0.01, 0.02, 0.03, 0.04]):
        dscs = {"runet": 0.7, "runet-prior": 0.8 + more, "runet-prior-sym": 0.8, PRIOR: 0.9 + more}
        rows += [row(person, model, dsc) for model, dsc in dscs.items()]
    found = {}
    for line in table2(rows):
        if ": gain in" in line:
            title = line.partition(":")[0]
        elif line.split()[3:4] and line.split()[3].startswith(("+0", "-0")):
            found[title, line.split()[0]] = line.split()[3]
    assert found == {
        ("Symmetry against none", "runet-prior-sym"): "-0.0250",
        ("The prior's sketch against none", "runet-prior"): "+0.1250",
        ("The same against the prior alone", "runet-prior"): "-0.1000",
    }
    assert not any("sketch" in line for line in table2(rows[:1]))


def test_the_table_says_means_spread_worst_and_empty_patches():
    rows = [row(0, "runet", 0.8), row(1, "runet", 0.6), row(2, "runet", 0.0, hd95_mm=math.inf, msd_mm=math.inf)]
    (line,) = [line for line in table2(rows) if line.startswith("runet") and " official " in line]
    cells = line.split()
    values = np.array([0.8, 0.6, 0.0])
    assert cells[:6] == ["runet", "official", "3", f"{values.mean():.3f}", f"{values.std():.3f}", "0.000"]
    assert cells[10:13] == ["2.00", "0.500", "1"]
    published = [line for line in table2(rows) if line.startswith("runet-sym")]
    assert published[0].split() == ["runet-sym", "0.904", "0.902", "1.678", "0.539", "0.927", "0.923", "1.437", "0.389"]
    assert len(PUBLISHED) == 10


def test_every_network_is_trained_with_and_without(tmp_path, monkeypatch):
    trained = []

    def build(recipe, progress, *, device):
        trained.append(recipe)
        progress("step 1", 0.5)
        return SimpleNamespace(name=recipe.name, sha256="0123456789abcdef", path=recipe.output)

    monkeypatch.setattr(reconstruction, "build", build)
    output = tmp_path / "weights" / "x.safetensors"
    base = made(ReconstructionRecipe, cache=tmp_path, work=tmp_path, output=output, steps=200)
    lines = []
    models = train_all(base, ["runet", "unetr"], (0.0, 1.0), lines.append)
    assert [recipe.name for recipe in trained] == ["runet", "runet-sym", "unetr", "unetr-sym"]
    assert {(r.optimisation.steps, r.optimisation.batch, r.data.seed) for r in trained} == {(200, 2, 0)}
    assert models[1] == Model("runet-sym", "0123456789ab", str(tmp_path / "weights" / "runet-sym.safetensors"))
    assert lines[0] == "runet: step 1"
    trained.clear()
    train_all(changed(base, prior=tmp_path / "sketches"), ["runet"], (0.0, 1.0), silent)
    assert [recipe.name for recipe in trained] == ["runet", "runet-sym", "runet-prior", "runet-prior-sym"]


def test_real_skulls_are_completed_in_the_same_pose(real_data, tmp_path):
    shape = (56, 72, 48)
    torch.manual_seed(0)
    network = make_network("runet", shape)
    affine = np.diag([3.2, 3.2, 3.2, 1.0])
    affine[:3, 3] = (-88.0, -113.6, -62.4)
    header = {"network": "runet", "size": "small", "channels": 1, "shape": shape, "affine": affine.tolist()}
    path = tmp_path / "net.safetensors"
    save_file(dict(network.state_dict()), path, metadata={"calvaria": json.dumps(header)})
    register(path, "net", KIND, "CC-BY-NC-SA-4.0")
    (task,) = tasks_of(real_data, "validation", ("official",), 1)
    lost = Model("none", "z", str(tmp_path / "none.safetensors"))
    prior, failed, ours = rows_of(task, [Model(PRIOR, "x", PRIOR), lost, Model("net", "y", str(path))])
    assert prior.dsc > 0.85
    assert prior.hd95_mm < 3
    assert (ours.dsc, ours.hd95_mm) == (0.0, math.inf)  # untrained: nothing is missing
    assert "there is no model called" in failed.error
