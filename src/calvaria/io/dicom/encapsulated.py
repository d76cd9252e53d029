"""A surface as a DICOM object: Encapsulated STL, which an archive keeps beside the scan."""

from __future__ import annotations

from pathlib import Path

from calvaria.errors import InputError
from calvaria.files import PathLike
from calvaria.io.dicom.modules import (
    add_common,
    add_references,
    add_related_series,
    coded,
    instance,
    new_uid,
    once,
    pydicom_is_here,
    save,
    unsaid,
)
from calvaria.io.dicom.source import DicomSource
from calvaria.io.meshes import stl_bytes
from calvaria.volume.mesh import Mesh

ENCAPSULATED_STL = "1.2.840.10008.5.1.4.1.1.104.3"
"""SOP class."""

MAX_TITLE = 1024
"""Characters of a document's title (VR ST)."""


def write_encapsulated(
    path: PathLike,
    mesh: Mesh,
    source: DicomSource,
    *,
    title: str = "Cranial implant",
    series_uid: str | None = None,
    number: int = 1,
    marked: bool = False,
) -> None:
    """Write a surface as Encapsulated STL: mm, LPS, in the scan's frame of reference.

    Args:
        path: the file; replaced if it is there.
        mesh: closed; world LPS mm.
        source: the scan that it was made from; where its slices are known, they are named as the sources.
        title: the document's title, at most 1024 characters; nothing of the patient.
        series_uid: of its series; by default a new one. Several implants share one.
        number: within the series, from 1.
        marked: whether letters on the surface may say whose it is.

    Raises:
        InputError: the mesh is empty or open, the title is too long, or the disk refuses.
        MissingExtraError: pydicom is not installed.
    """
    pydicom_is_here()
    from pydicom.dataset import Dataset
    from pydicom.uid import ExplicitVRLittleEndian

    name = Path(path).name
    if mesh.is_empty or not mesh.is_closed:
        state = "it is empty" if mesh.is_empty else f"{mesh.open_edges} of its edges have no partner"
        raise InputError(f"{name}: an encapsulated surface must be closed; {state}; repair the mesh first")
    if len(title) > MAX_TITLE:
        raise InputError(f"{name}: a title has at most {MAX_TITLE} characters; got {len(title)}; shorten it")
    dataset = Dataset()
    dataset.SOPClassUID = ENCAPSULATED_STL
    dataset.Modality = "M3D"
    add_common(
        dataset,
        source,
        what="implant",
        series_uid=series_uid or new_uid(),
        description="Cranial implant",
        number=number,
    )
    dataset.AcquisitionDateTime = ""
    dataset.BurnedInAnnotation = "YES" if marked else "NO"
    dataset.DocumentTitle = title
    dataset.ConceptNameCodeSequence = []
    dataset.MeasurementUnitsCodeSequence = [coded("mm", "UCUM", "millimeter")]
    dataset.ModelModification = "NO"
    dataset.ModelMirroring = "NO"
    if source.slices:
        add_references(dataset, source, source.slices)
        with unsaid():
            dataset.SourceInstanceSequence = [instance(ref) for ref in once(source.slices)]
    else:
        add_related_series(dataset, source)
    dataset.MIMETypeOfEncapsulatedDocument = "model/stl"
    data = stl_bytes(mesh)
    dataset.EncapsulatedDocument = data + b"\0" * (len(data) % 2)
    dataset.EncapsulatedDocumentLength = len(data)
    save(path, dataset, ExplicitVRLittleEndian)


__all__ = ["ENCAPSULATED_STL", "write_encapsulated"]
