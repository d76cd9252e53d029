"""The results of a case as DICOM objects, for the archive that the scan came from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from calvaria.errors import InputError
from calvaria.results.names import DICOM_IMPLANT, DICOM_PICTURE, DICOM_SEGMENTATION

if TYPE_CHECKING:
    from PIL.Image import Image

    from calvaria.io.dicom.source import DicomSource
    from calvaria.volume import Mesh, Volume


@dataclass(frozen=True)
class DicomAsked:
    """That the results are asked for as DICOM objects, too.

    Args:
        deidentify: leave out whose they are: no value of the patient and the study, and all UIDs new.
    """

    deidentify: bool = False


@dataclass(frozen=True, eq=False)
class Archive:
    """Where DICOM objects go to.

    Args:
        source: the scan.
        deidentify: leave out whose it is.
    """

    source: DicomSource = field(repr=False)
    deidentify: bool = False


def archive_for(name: str, source: DicomSource | None, asked: DicomAsked | None) -> Archive | None:
    """Where results go to as DICOM; None where that is not asked for.

    Args:
        name: of the input, for messages.
        source: the scan; None for an input that is not DICOM.
        asked: what is asked for.

    Raises:
        InputError: results as DICOM are asked for, but the input is none.
    """
    if asked is None:
        return None
    if source is None:
        option = "--deidentify" if asked.deidentify else "--dicom"
        raise InputError(f"{name}: {option} needs a DICOM series as input, whose study the results go to; leave it out")
    return Archive(source, asked.deidentify)


def write_dicom(
    folder: Path,
    archive: Archive,
    *,
    patch: Volume,
    completed: Volume,
    implants: Sequence[tuple[str, Mesh]] = (),
    implant_mask: Volume | None = None,
    picture: Image | None = None,
    marked: bool = False,
) -> list[str]:
    """Write ``dicom/segmentation.dcm``, ``dicom/implant.dcm`` (``-1``, ... of several) and ``dicom/picture.dcm``.

    All belong to one study and one frame of reference, those of the scan unless it is de-identified, and each kind to
    a new series of its own.

    Args:
        folder: the folder of results, which is there; its ``dicom`` is made.
        archive: the scan, and whether to say whose it is.
        patch: the missing bone, on the scan's grid. May be empty.
        completed: the skull with it, on the same grid.
        implants: name (``implant``, or ``implant-1``, ...) and surface of each, world LPS mm. May be none.
        implant_mask: voxels of all implants, on the same grid.
        picture: of the case.
        marked: whether letters stand on the implants, which may be a name.

    Returns:
        Names of the files within the folder, with ``dicom/`` before them.

    Raises:
        InputError: the implants bear letters and the results are to be de-identified, a mesh is open, or the disk
            refuses.
        GeometryError: the masks do not lie on the scan's slices.
        MissingExtraError: the extra ``dicom`` is not installed.
    """
    from calvaria.io.dicom.encapsulated import write_encapsulated
    from calvaria.io.dicom.modules import deidentified, new_uid
    from calvaria.io.dicom.picture import write_picture
    from calvaria.io.dicom.segmentation import write_segmentation

    require_unmarked(archive.deidentify, marked)
    source = deidentified(archive.source) if archive.deidentify else archive.source
    if not source.frame_uid:  # one that all objects share, at least
        source = replace(source, frame_uid=new_uid())
    try:
        (folder / "dicom").mkdir(exist_ok=True)
    except OSError as error:
        raise InputError(f"dicom: cannot be made: {error.strerror}; give another folder with -o") from error
    masks = {"completed": completed, "patch": patch} | ({} if implant_mask is None else {"implant": implant_mask})
    write_segmentation(folder / DICOM_SEGMENTATION, masks, source)
    series = new_uid()
    for number, (name, mesh) in enumerate(implants, 1):
        write_encapsulated(
            folder / _file_of(name),
            mesh,
            source,
            title="Cranial implant" if len(implants) == 1 else f"Cranial implant {number} of {len(implants)}",
            series_uid=series,
            number=number,
            marked=marked,
        )
    if picture is not None:
        what = "Cranial implant, pictures" if implants else "Skull reconstruction, pictures"
        write_picture(folder / DICOM_PICTURE, picture, source, description=what)
    return dicom_files([name for name, _ in implants], picture is not None)


def dicom_files(implants: Sequence[str], picture: bool) -> list[str]:
    """Names of the files that `write_dicom` writes.

    >>> dicom_files(["implant-1", "implant-2"], picture=False)
    ['dicom/segmentation.dcm', 'dicom/implant-1.dcm', 'dicom/implant-2.dcm']
    """
    return [DICOM_SEGMENTATION, *map(_file_of, implants), *([DICOM_PICTURE] if picture else [])]


def picture_in(path: Path) -> Image | None:
    """A picture that was drawn; None where none was."""
    from PIL import Image as Images

    if not path.exists():
        return None
    with Images.open(path) as image:
        return image.convert("RGB")


def _file_of(implant: str) -> str:
    return DICOM_IMPLANT.replace("implant", implant)


def require_unmarked(deidentify: bool, marked: bool) -> None:
    """Raise where implants bear letters and nothing may say whose they are.

    Raises:
        InputError: that is so.
    """
    if marked and deidentify:
        raise InputError(
            "--deidentify: the implant is to bear a mark, which may be a name; leave out --mark, or --deidentify"
        )


__all__ = ["Archive", "DicomAsked", "archive_for", "dicom_files", "picture_in", "require_unmarked", "write_dicom"]
