"""Other heads and other scans from the same skulls, in torch: parameters drawn first, then applied without any chance.

Needs the extra ``train``.
"""

from calvaria.errors import MissingExtraError

try:
    import torch  # noqa: F401 - only whether it is there
except ImportError as error:  # pragma: no cover - the tests have it
    raise MissingExtraError("heads and scans are varied by torch: pip install 'calvaria[train]'") from error
