"""Cases in files and folders: which there are, what they are called, which belong together."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from calvaria.errors import InputError

IMAGE_SUFFIXES = (".nii.gz", ".nii", ".nrrd", ".nhdr", ".mha", ".mhd")
"""Files that count as cases in a folder; longer suffixes first."""

MESH_SUFFIXES = (".stl", ".ply", ".obj")
"""Closed meshes, which are read where a single mask is."""

RESULT = "result.json"
"""What every folder of results holds."""

DESIGN = "design.json"
"""What a folder holds beside it once an implant was designed."""

WRITTEN = (".nrrd", ".nii.gz", ".mha")
"""The suffixes of the images that are written."""

DESIGN_NAMES = (
    *(f"implant{ending}" for ending in WRITTEN),
    "implant.stl",
    "implant.3mf",
    "host.stl",
    "mould-lower.stl",
    "mould-upper.stl",
    "design.png",
    "report.html",
    DESIGN,
)
"""Every file that a design may leave in its output folder; more, with numbers, where it has several implants."""

DICOM_SEGMENTATION, DICOM_IMPLANT, DICOM_PICTURE = (
    f"dicom/{name}.dcm" for name in ("segmentation", "implant", "picture")
)
"""What is written for an archive."""

NUMBERED = re.compile(r"implant-\d+\.(stl|3mf)|mould-(lower|upper)-\d+\.stl")
"""Names of the files of one of several implants."""


NUMBER = re.compile(r"\d+(\.\d+)?")
"""Of a series; with one of its own after the dot where it is several volumes."""


@dataclass(frozen=True)
class Case:
    """One patient's file.

    Args:
        name: what the case is called: the file's name without its suffix, or its folder's name; with a subfolder's name
            and a slash before it where cases lie in subfolders.
        path: the file.
        study: its number, where the path holds several studies of DICOM and the case is one of them.
    """

    name: str
    path: Path
    study: int | None = None


def image_suffix(path: Path) -> str:
    """The image suffix of a file in lower case, with both parts of ``.nii.gz``; empty for other files.

    >>> image_suffix(Path("a.b.NII.GZ")), image_suffix(Path("notes.txt"))
    ('.nii.gz', '')
    """
    name = path.name.lower()
    return next((suffix for suffix in IMAGE_SUFFIXES if name.endswith(suffix)), "")


def is_mesh(path: Path) -> bool:
    """Whether a file is a mesh by its name.

    >>> is_mesh(Path("patch.STL"))
    True
    """
    return path.suffix.lower() in MESH_SUFFIXES


def is_dicom(path: Path) -> bool:
    """Whether a path is one case of DICOM: a file or a folder that holds such, by their content, or a zip.

    A folder with images of other formats, in it or in its subfolders, is a folder of cases.

    Raises:
        InputError: it may not be read.
    """
    from calvaria.io.dicom.places import holds_dicom, is_zip

    if path.is_dir():
        return not _images_in(path) and holds_dicom(path)
    if image_suffix(path) or is_mesh(path) or not path.is_file():
        return False
    return is_zip(path) or holds_dicom(path)


def case_name(path: Path) -> str:
    """A file's name without its image suffix (or its last suffix, if it is another one).

    >>> case_name(Path("in/1.2.840.nrrd")), case_name(Path("007.nii.gz")), case_name(Path("skull.stl"))
    ('1.2.840', '007', 'skull')
    """
    suffix = image_suffix(path) or path.suffix
    return path.name[: len(path.name) - len(suffix)] or path.name


def names_of_design(folder: Path) -> list[str]:
    """Every file that a design may leave in a folder, and those of several implants that an earlier one left there."""
    there = folder.iterdir() if folder.is_dir() else ()
    numbered = sorted(path.name for path in there if NUMBERED.fullmatch(path.name))
    # Where an implant lies among the DICOM files, the segmentation has it too.
    dicom = names_of_dicom(folder) if any((folder / "dicom").glob("implant*.dcm")) else []
    return [*DESIGN_NAMES, *numbered, *dicom]


def names_of_dicom(folder: Path) -> list[str]:
    """Every DICOM file that a run may leave in a folder, and those of several implants that an earlier one left."""
    numbered = sorted(f"dicom/{path.name}" for path in (folder / "dicom").glob("implant-*.dcm"))
    return [DICOM_SEGMENTATION, DICOM_IMPLANT, DICOM_PICTURE, *numbered]


def find_studies(
    path: Path, series: str | None = None, *, by_folder: bool = False, notes: list[str] | None = None
) -> list[Case]:
    """The studies of DICOM as cases, where a path holds several; none where it holds one, or no DICOM.

    They are called ``study-1``, ``study-2`` ... in order of the files' names, for folders in exports are often called
    by the patient's name.

    Args:
        path: of a case, or a folder of cases.
        series: number or UID of the series that is asked for; studies without it are no cases.
        by_folder: call them by the folders in which they lie.
        notes: gets a line on studies that are left out.

    Raises:
        CalvariaError: the path cannot be read; or the studies do not lie in folders of their own, by which they could
            be called.
    """
    if not is_dicom(path):
        return []
    from calvaria.io.dicom import find_studies as find

    studies = find(path)
    wanted = None if series is None else {series, series.partition(".")[0] if NUMBER.fullmatch(series) else series}
    found = [one for one in studies if one.shows_a_head and (wanted is None or wanted & one.series)]
    if len(found) < 2:
        return []
    if notes is not None and len(found) < len(studies):
        left_out = ", ".join(str(one.number) for one in studies if one not in found)
        notes.append(f"of {len(studies)} studies {len(found)} are cases; left out, for want of a CT series: {left_out}")
    names = _by_folder(path, [one.folder for one in found]) if by_folder else [f"study-{one.number}" for one in found]
    return [Case(name, path, one.number) for name, one in zip(names, found, strict=True)]


def _by_folder(path: Path, folders: Sequence[str]) -> list[str]:
    """The shortest beginnings of folders that differ.

    Raises:
        InputError: there are none.
    """
    parts = [folder.split("/") for folder in folders]
    for depth in range(1, max(map(len, parts)) + 1):
        names = ["/".join(one[:depth]) for one in parts]
        if all(names) and len(set(names)) == len(names):
            return names
    raise InputError(
        f"{path.name}: its {len(folders)} studies do not lie in folders of their own; leave out --by-folder"
    )


def find_cases(folder: Path) -> list[Case]:
    """Every image of a folder as a case, in order of name; hidden files are left out.

    Where the folder holds no image, but its subfolders do, as SkullBreak has one for each kind of defect, the cases
    are theirs and are called ``SUBFOLDER/NAME``. Folders of results (with a ``result.json``) are left out.

    Raises:
        InputError: there is no image in it, or two images have the same name but for the suffix.
    """
    cases = [
        Case(case_name(path) if path.parent == folder else f"{path.parent.name}/{case_name(path)}", path)
        for path in _images_in(folder)
    ]
    if not cases:
        wanted = " ".join(IMAGE_SUFFIXES)
        raise InputError(f"{folder.name}: no image in this folder; wanted files ending in one of {wanted}")
    _require_unique(cases, folder)
    return cases


def find_results(folder: Path) -> list[Case]:
    """The folders of results (with a ``result.json``) in a folder and its subfolders, in order of name.

    That is what ``calvaria reconstruct FOLDER -o OUT`` leaves in OUT; may be none.
    """
    found = {path.parent for depth in ("*", "*/*") for path in folder.glob(f"{depth}/{RESULT}")}
    names = sorted(path.relative_to(folder).as_posix() for path in found)
    return [Case(name, folder / name) for name in names if not any(part.startswith(".") for part in name.split("/"))]


def find_patches(folder: Path) -> list[Case]:
    """The patches in a folder: its images, or, where there are none, ``CASE/patch.*`` of its subfolders.

    The second form is what ``calvaria reconstruct FOLDER -o OUT`` leaves in OUT; cases called ``SUBFOLDER/NAME`` lie
    one folder deeper.

    Raises:
        InputError: there is neither, or two files have the same name but for the suffix.
    """
    inside = sorted(path for depth in ("*", "*/*") for path in folder.glob(f"{depth}/patch.*") if _is_image(path))
    inside = [path for path in inside if not any(part.startswith(".") for part in path.relative_to(folder).parts)]
    if not inside or any(_is_image(path) for path in folder.iterdir()):
        return find_cases(folder)
    cases = [Case(path.parent.relative_to(folder).as_posix(), path) for path in inside]
    _require_unique(cases, folder)
    return cases


def match(*folders: Sequence[Case]) -> list[dict[str, Case]]:
    """Each folder's cases under the names by which they belong together.

    The name is what stands before the first dot (``007.patch.nrrd`` belongs to ``007.nii.gz``), unless that
    is the same for two files of a folder (``1.2.840.nrrd`` and ``1.2.841.nrrd``): then it is the whole name.

    >>> one, two = match([Case("7.patch", Path())], [Case("7", Path()), Case("8", Path())])
    >>> sorted(one), sorted(two)
    (['7'], ['7', '8'])
    """
    short = all(len({_stem(case) for case in folder}) == len(folder) for folder in folders)
    return [{_stem(case) if short else case.name: case for case in folder} for folder in folders]


def paired(first: str, a: Collection[str], second: str, b: Collection[str]) -> tuple[list[str], list[str]]:
    """The cases that two tables have in common.

    Args:
        first: what the first table is called.
        a: its cases.
        second: what the second is called.
        b: its cases.

    Returns:
        The cases, in the order of the first table, and a line for each table that has others, which are left out.

    Raises:
        InputError: there is no such case.
    """
    common = [name for name in a if name in b]
    if not common:
        raise InputError(f"{first} and {second} have no case in common")
    left_out = []
    for table, names in ((first, a), (second, b)):
        alone = sorted(set(names) - set(common))
        if alone:
            left_out.append(f"{len(alone)} cases of {table} have no partner and are left out: {', '.join(alone)}")
    return common, left_out


def _stem(case: Case) -> str:
    return case.name.split(".", 1)[0]


def _images_in(folder: Path) -> list[Path]:
    """The images of a folder, or those of its subfolders that are no results, in order of name.

    Raises:
        InputError: the folder may not be read.
    """
    try:
        inside = list(folder.iterdir())
    except PermissionError as error:
        raise InputError(f"{folder}: may not be read: {error.strerror}; check its permissions") from error
    return sorted(path for path in inside if _is_image(path)) or [
        path
        for path in sorted(folder.glob("*/*"))
        if _is_image(path) and not path.parent.name.startswith(".") and not (path.parent / RESULT).exists()
    ]


def _is_image(path: Path) -> bool:
    return bool(image_suffix(path)) and not path.name.startswith(".") and path.is_file()


def _require_unique(cases: Sequence[Case], folder: Path) -> None:
    twice = [name for name, count in Counter(case.name for case in cases).items() if count > 1]
    if twice:
        raise InputError(f"{folder.name}: two files are called {twice[0]} but for the suffix; take one away")
