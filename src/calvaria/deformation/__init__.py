"""Registration and warps of heads, on any grid, in torch. Needs the extra ``train``."""

from calvaria.errors import MissingExtraError

try:
    import torch  # noqa: F401 - only whether it is there
except ImportError as error:  # pragma: no cover - the tests have it
    raise MissingExtraError("heads are deformed by torch: pip install 'calvaria[train]'") from error
