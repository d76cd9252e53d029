"""Pictures of a case: surfaces of masks drawn without a graphics card, and the sheet that shows a result."""

from calvaria.report.render import render_surfaces
from calvaria.report.scene import Layer
from calvaria.report.sheet import render_case, save_png
from calvaria.report.views import VIEWS, View

__all__ = ["VIEWS", "Layer", "View", "render_case", "render_surfaces", "save_png"]
