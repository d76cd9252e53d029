"""What makes training cases on the training device, in torch: defects cut from batches, their rims aged, whole cases.

Volumes are (B, X, Y, Z) tensors on a :class:`~calvaria.volume.grid.Grid` in canonical mm; chance comes from a numpy
generator that draws parameters, and a function without chance applies them. Needs the extra ``train`` (torch).
"""

from calvaria.errors import MissingExtraError

try:
    import torch  # noqa: F401 - only whether it is there
except ImportError as error:  # pragma: no cover - the tests have it
    raise MissingExtraError("training cases are made by torch: pip install 'calvaria[train]'") from error
