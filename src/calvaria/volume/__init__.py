"""Grids, volumes and meshes: resampling, distances, morphology and components, in mm, on any grid."""

from calvaria.volume.blocks import coarsen
from calvaria.volume.components import fill_holes, label, largest_component
from calvaria.volume.distance import distance_to, signed_distance
from calvaria.volume.grid import Box, Grid
from calvaria.volume.mesh import Mesh, extract_surface
from calvaria.volume.morphology import ball_offsets, dilate_mm, erode_mm
from calvaria.volume.resample import resample, resample_mask, resample_soft
from calvaria.volume.volume import Volume, bounding_box
from calvaria.volume.voxelise import voxelise

__all__ = [
    "Box",
    "Grid",
    "Mesh",
    "Volume",
    "ball_offsets",
    "bounding_box",
    "coarsen",
    "dilate_mm",
    "distance_to",
    "erode_mm",
    "extract_surface",
    "fill_holes",
    "label",
    "largest_component",
    "resample",
    "resample_mask",
    "resample_soft",
    "signed_distance",
    "voxelise",
]
