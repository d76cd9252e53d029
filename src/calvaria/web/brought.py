"""What a browser brought, and where it lies: in a case's own folder, under names that are ours alone.

No name from outside is ever part of a path, and no file may lead to another one outside of its folder.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal

from calvaria.errors import InputError
from calvaria.results.names import image_suffix, is_mesh

if TYPE_CHECKING:
    from calvaria.io.dicom.places import Place

DICOM_SUFFIX = ".dcm"

FORMATS = {
    ".nii.gz": "NIfTI",
    ".nii": "NIfTI",
    ".nrrd": "NRRD",
    ".mha": "MetaImage",
    ".stl": "STL",
    ".ply": "PLY",
    ".obj": "OBJ",
    ".zip": "zip",
    DICOM_SUFFIX: "DICOM",
}
"""Suffixes that are taken -> what they are called. Headers apart from their voxels (.nhdr, .mhd) are not: they name
files."""

FILES, SOURCE, RESULTS, VIEW = "files", "input", "results", "view"
"""What lies in a case's folder: what was brought; the image taken out of a zip; results; what the page shows."""

Own = Literal["pre_op", "flap"]
"""What only this patient has: a scan from before the operation, or one of the removed piece."""

OWN_FOLDERS: dict[Own, str] = {"pre_op": "scan-from-before", "flap": "removed-piece"}
"""Where it lies in a case's folder; its files begin with the same name."""

BLOCK_BYTES = 1 << 20


def name_of(number: int, suffix: str, own: Own | None = None) -> str:
    """The name of a file that was brought.

    Args:
        number: from 1 in each case.
        suffix: one of `FORMATS`.
        own: what it shows of the patient's own bone; None: it is the scan itself.

    Raises:
        InputError: it is none of them.

    >>> name_of(7, ".dcm")
    '00007.dcm'
    >>> name_of(1, ".nrrd", "flap")
    'removed-piece-00001.nrrd'
    """
    if suffix not in FORMATS:
        raise InputError(f"this kind of file is not read; wanted one of {', '.join(FORMATS)}, or DICOM")
    return f"{number:05d}{suffix}" if own is None else f"{OWN_FOLDERS[own]}-{number:05d}{suffix}"


def source_of(folder: Path, own: Own | None = None) -> Path:
    """What is to be read of a case: its only file, the folder of its DICOM files, or the image out of its zip.

    Args:
        folder: the case's.
        own: read this instead of the scan itself.

    Raises:
        InputError: there is nothing, or several files that do not go together, or a file leads to others.
    """
    place = folder / (FILES if own is None else OWN_FOLDERS[own])
    files = sorted(place.iterdir()) if place.is_dir() else []
    if not files:
        raise InputError("no file was brought; drop one, or a DICOM folder")
    if len(files) > 1:
        if any(path.suffix != DICOM_SUFFIX for path in files):
            raise InputError("several files that are not DICOM were brought as one case; bring each alone")
        return place
    source = files[0]
    if source.suffix == ".zip":
        source = _within(source, folder, SOURCE if own is None else OWN_FOLDERS[own] + "-image")
    require_whole(source)
    return source


def require_whole(path: Path) -> None:
    """Raise for a header whose voxels are said to lie in another file: nobody is to reach files of the server.

    Raises:
        InputError: it is one.
        FormatError: it is no image.
    """
    from calvaria.io.images import is_detached
    from calvaria.results.names import is_dicom

    if is_mesh(path) or is_dicom(path):  # by the same signs they are read with
        return
    if is_detached(path):
        raise InputError("this header's voxels lie in another file; save both as one file, such as .nrrd or .nii.gz")


def format_of(source: Path) -> str:
    """What a source is called.

    >>> format_of(Path("00001.nii.gz"))
    'NIfTI'
    """
    return FORMATS.get(image_suffix(source) or source.suffix, "DICOM")


def _within(archive: Path, folder: Path, name: str) -> Path:
    """The archive itself, if it holds DICOM; else the one image in it, copied out under a name of ours.

    Raises:
        InputError: it holds neither, or several images.
        FormatError: it is damaged, or would grow beyond what is safe.
    """
    from calvaria.io.dicom.places import holds_dicom, is_zip, opened

    if not is_zip(archive):
        raise InputError("this is no zip; bring the files themselves")
    if holds_dicom(archive):
        return archive
    with opened(archive) as places:
        images = [(place, suffix) for place in places if (suffix := _suffix_of(place)) in FORMATS]
        if len(images) != 1:
            found = f"{len(images)} images" if images else "neither DICOM nor an image"
            raise InputError(f"the zip holds {found}; bring one image, or one DICOM study")
        place, suffix = images[0]
        target = folder / f"{name}{suffix}"
        with place.open() as content, target.open("wb") as file:
            _copy(content, file, place.size)
    return target


def _suffix_of(place: Place) -> str:
    name = "" if place.member is None else place.member.filename.replace("\\", "/").rpartition("/")[2]
    if name.startswith(".") or name.startswith("_"):
        return ""
    path = Path(name)
    return image_suffix(path) or (path.suffix.lower() if is_mesh(path) else "")


def _copy(content: BinaryIO, file: BinaryIO, size: int) -> None:
    """Copy what was promised, and no more: sizes in a zip may lie.

    Raises:
        InputError: it is more.
    """
    copied = 0
    while block := content.read(BLOCK_BYTES):
        copied += len(block)
        if copied > size:
            raise InputError("the zip holds more than it says; make it again")
        file.write(block)


def looked_at(source: Path) -> tuple[str, list[dict[str, Any]], list[str]]:
    """What a source is: its format, its DICOM series that can be chosen among, and what is doubtful.

    Raises:
        CalvariaError: it cannot be read.
    """
    from calvaria.results.names import is_dicom

    notes: list[str] = []
    if not is_dicom(source):
        return format_of(source), [], notes
    from calvaria.io.dicom import list_series

    found = list_series(source, notes)
    several = len({one.study for one in found}) > 1
    listed = [
        {
            "study": one.study,
            "series": one.number,
            "label": _label(one, several),
            "usable": one.problem is None,
            "problem": one.problem,
            "chosen": one.chosen,
        }
        for one in found
    ]
    return "DICOM", listed, notes


def _label(one: Any, several: bool) -> str:
    """A series in a line; nothing in it says whose it is."""
    steps = "" if one.spacing_mm is None else f", {one.spacing_mm[2]:.2g} mm apart"
    kernel = f", kernel {one.kernel}" if one.kernel else ""
    study = f"study {one.study}, " if several else ""
    return f"{study}series {one.number}: {one.modality or 'unknown'}, {one.slices} slices{steps}{kernel}"


__all__ = [
    "DICOM_SUFFIX",
    "FILES",
    "FORMATS",
    "OWN_FOLDERS",
    "RESULTS",
    "VIEW",
    "Own",
    "format_of",
    "looked_at",
    "name_of",
    "require_whole",
    "source_of",
]
