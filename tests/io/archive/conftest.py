"""A small study, and an access that does not wait long."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.dicom_files import Series, replace, slices_of
from tests.io.archive.archives import Certificates, make_certificates

from calvaria.io.archive import Access

QUICK = Access(timeout_s=1.0, pause_s=0.01)
"""For archives on this machine."""


@pytest.fixture(scope="session")
def study():
    """A study of two CT series of 4 and 3 slices and an MR of 2, all of one patient."""
    thin = Series(slices=4, shape=(8, 8), number=2)
    thick = replace(thin, slices=3, number=3, uids=(thin.uids[0], Series().uids[1], thin.uids[2]))
    other = replace(thick, slices=2, number=4, uids=(thin.uids[0], Series().uids[1], thin.uids[2]))
    return slices_of(thin) + slices_of(thick) + slices_of(replace(other, changes={"Modality": "MR"}))


@pytest.fixture(scope="session")
def later(study):
    """Another study of the same patient, of another day."""
    return slices_of(Series(slices=2, shape=(8, 8), number=7, changes={"StudyDate": "20200229"}))


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def quick() -> Access:
    return QUICK


@pytest.fixture
def files(study, tmp_path) -> Path:
    """A folder with three files of it, and one that is none."""
    folder = tmp_path / "files"
    folder.mkdir()
    for n, one in enumerate(study[:3]):
        one.save_as(folder / f"{n}.dcm", enforce_file_format=True)
    (folder / "notes.txt").write_text("none")
    return folder
