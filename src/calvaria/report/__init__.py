"""Pictures of a case: surfaces of masks drawn without a graphics card, and the sheet that shows a result."""

from calvaria.report.design_page import design_page
from calvaria.report.design_picture import render_design
from calvaria.report.errors import colour_range, error_colours, error_mesh, render_errors
from calvaria.report.figures import distributions, scatter
from calvaria.report.page import evaluation_page
from calvaria.report.refinement import render_refinement
from calvaria.report.render import render_surfaces
from calvaria.report.scene import Layer
from calvaria.report.sheet import render_case, save_png
from calvaria.report.views import VIEWS, View

__all__ = [
    "VIEWS",
    "Layer",
    "View",
    "colour_range",
    "design_page",
    "distributions",
    "error_colours",
    "error_mesh",
    "evaluation_page",
    "render_case",
    "render_design",
    "render_errors",
    "render_refinement",
    "render_surfaces",
    "save_png",
    "scatter",
]
