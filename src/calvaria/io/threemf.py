"""Meshes out as 3MF, the file that printers' programs read: closed meshes, their unit and what they are.

The core specification's least (https://3mf.io): a ZIP of three XML files. trimesh writes 3MF too, but needs lxml and
networkx for it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from xml.sax.saxutils import escape, quoteattr
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

import numpy as np

from calvaria.errors import InputError
from calvaria.files import PathLike, atomic_path
from calvaria.volume.mesh import Mesh

METADATA = (
    "Title",
    "Designer",
    "Description",
    "Copyright",
    "LicenseTerms",
    "Rating",
    "CreationDate",
    "ModificationDate",
    "Application",
)
"""The names that the core specification knows; others would need a namespace."""

MODEL = "3D/3dmodel.model"

_DIGITS = 5
"""Decimals of a coordinate in mm: as fine as float32 in a head, which STL has."""

_ZIP_EPOCH = (1980, 1, 1, 0, 0, 0)
"""The date of every file in the archive: the same meshes give the same bytes."""

_CORE = "http://schemas.microsoft.com/3dmanufacturing/core/2015/02"
_PACKAGE = "http://schemas.openxmlformats.org/package/2006"
_KIND = "http://schemas.microsoft.com/3dmanufacturing/2013/01/3dmodel"
_HEAD = '<?xml version="1.0" encoding="UTF-8"?>\n'

_TYPES = (
    f'{_HEAD}<Types xmlns="{_PACKAGE}/content-types">'
    '<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
    '<Default Extension="model" ContentType="application/vnd.ms-package.3dmanufacturing-3dmodel+xml"/></Types>\n'
)
_RELATIONS = (
    f'{_HEAD}<Relationships xmlns="{_PACKAGE}/relationships">'
    f'<Relationship Id="rel0" Type="{_KIND}" Target="/{MODEL}"/></Relationships>\n'
)


def write_3mf(path: PathLike, meshes: Sequence[tuple[str, Mesh]], metadata: Mapping[str, str]) -> None:
    """Write closed meshes as 3MF, in mm; the file appears whole or not at all.

    The same meshes and metadata give the same bytes. Coordinates stay as they are, world LPS mm: 3MF has no word for a
    patient's axes, so say them in the metadata.

    Args:
        path: ends with ``.3mf``; replaced if it is there.
        meshes: name and mesh of each object, at least one; each lies on the plate as its coordinates say.
        metadata: text by name, one of `METADATA`; may be empty.

    Raises:
        InputError: another extension, no mesh, a mesh that is empty or open, metadata of another name, a text with
            characters that XML does not have, no such folder, or the disk refuses.
    """
    path = Path(path)
    if path.suffix.lower() != ".3mf":
        raise InputError(f"{path.name}: a 3MF file's name ends in .3mf")
    if not meshes:
        raise InputError(f"{path.name}: a 3MF file holds one mesh or more; got none")
    for name, mesh in meshes:
        if mesh.is_empty or not mesh.is_closed:
            found = "no triangle" if mesh.is_empty else f"{mesh.open_edges} open edges"
            raise InputError(f"{path.name}: a 3MF file holds closed meshes; {name!r} has {found}")
    if unknown := sorted(set(metadata) - set(METADATA)):
        raise InputError(f"{path.name}: metadata of a 3MF file is one of {', '.join(METADATA)}; got {unknown[0]}")
    for text in (*metadata.values(), *(name for name, _ in meshes)):
        if not all(_in_xml(letter) for letter in text):
            raise InputError(f"{path.name}: {text!r} has characters that XML cannot hold; take them out")
    files = {"[Content_Types].xml": _TYPES, "_rels/.rels": _RELATIONS, MODEL: _model(meshes, metadata)}
    with atomic_path(path) as part, ZipFile(part, "w") as archive:
        for name, text in files.items():
            archive.writestr(_entry(name), text.encode())


def _in_xml(letter: str) -> bool:
    """Whether XML 1.0 has a character: no control characters, no lone halves of pairs."""
    return letter in "\t\n\r" or (letter >= " " and not "\ud800" <= letter <= "\udfff" and letter not in "\ufffe\uffff")


def _entry(name: str) -> ZipInfo:
    """A file of the archive, without a trace of when and where it was made."""
    info = ZipInfo(name, _ZIP_EPOCH)
    info.compress_type, info.create_system, info.external_attr = ZIP_DEFLATED, 0, 0
    return info


def _model(meshes: Sequence[tuple[str, Mesh]], metadata: Mapping[str, str]) -> str:
    """The file that holds the meshes."""
    told = "".join(f"<metadata name={quoteattr(name)}>{escape(text)}</metadata>\n" for name, text in metadata.items())
    objects = "".join(_object(number, *named) for number, named in enumerate(meshes, 1))
    items = "".join(f'<item objectid="{number}"/>' for number in range(1, len(meshes) + 1))
    return (
        f'{_HEAD}<model unit="millimeter" xml:lang="en-US" xmlns="{_CORE}">\n{told}'
        f"<resources>\n{objects}</resources>\n<build>{items}</build>\n</model>\n"
    )


def _object(number: int, name: str, mesh: Mesh) -> str:
    # One call formats all numbers of a list: ten times as fast as a line each.
    corners = mesh.vertices_mm.round(_DIGITS) + 0.0  # no -0.00000
    vertices = f'<vertex x="%.{_DIGITS}f" y="%.{_DIGITS}f" z="%.{_DIGITS}f"/>\n' * len(corners)
    triangles = '<triangle v1="%d" v2="%d" v3="%d"/>\n' * len(mesh.faces)
    return (
        f'<object id="{number}" type="model" name={quoteattr(name)}><mesh>\n'
        f"<vertices>\n{vertices % tuple(corners.ravel().tolist())}</vertices>\n"
        f"<triangles>\n{triangles % tuple(np.asarray(mesh.faces).ravel().tolist())}</triangles>\n</mesh></object>\n"
    )


__all__ = ["METADATA", "write_3mf"]
