"""What is doubtful of a file reaches the user of every command that reads it, and errors name the file."""

from __future__ import annotations

import json

import nibabel
import numpy as np
from tests.cli.conftest import defective

from calvaria.io import write_volume


def test_what_the_reader_doubts_stands_before_the_engine_s_warnings(run, tmp_path, engine):
    volume = defective()
    data = volume.data.astype(np.uint8)
    header = nibabel.Nifti1Image(data, np.diag([-2.0, -2.0, 2.5, 1.0]))
    header.set_qform(np.diag([2.0, -2.0, 2.5, 1.0]), code=1)
    header.set_sform(np.diag([-2.0, -2.0, 2.5, 1.0]), code=1)
    nibabel.save(header, tmp_path / "a.nii")
    engine.warnings = ("a doubt of the engine",)
    result = run("reconstruct", tmp_path / "a.nii", "-o", tmp_path / "out", "--no-preview")
    assert result.code == 0
    warnings = json.loads((tmp_path / "out" / "result.json").read_text())["warnings"]
    assert warnings == [
        "sform and qform of the NIfTI header disagree even on which side is left; the sform was used",
        "a doubt of the engine",
    ]
    assert result.err.splitlines() == [f"calvaria: warning: {text}" for text in warnings]


def test_an_error_on_a_volume_names_its_file(run, tmp_path):
    write_volume(tmp_path / "a.nrrd", defective().with_data(np.full(defective().shape, -1000, np.int16)))
    result = run("plane", tmp_path / "a.nrrd")
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith("calvaria: a.nrrd: every voxel is -1000; ")
