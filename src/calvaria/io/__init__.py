"""Images, masks and meshes in and out of files; every file is written whole or not at all."""

from calvaria.files import atomic_path
from calvaria.io.images import extension_of, read_mask, read_volume, write_volume
from calvaria.io.masks import read_as_mask
from calvaria.io.meshes import read_mesh, write_mesh
from calvaria.io.result import sha256_of, write_result_json
from calvaria.io.threemf import write_3mf

__all__ = [
    "atomic_path",
    "extension_of",
    "read_as_mask",
    "read_mask",
    "read_mesh",
    "read_volume",
    "sha256_of",
    "write_3mf",
    "write_mesh",
    "write_result_json",
    "write_volume",
]
