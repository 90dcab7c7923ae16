"""Other people's frameworks, one file each; none of them is imported before it is used."""

import importlib
from typing import TYPE_CHECKING, Any

from recalib.integrations import ultralytics

if TYPE_CHECKING:
    from recalib.integrations import hub, lightning

__all__ = ["hub", "lightning", "ultralytics"]


def __getattr__(name: str) -> Any:
    if name in ("hub", "lightning"):
        return importlib.import_module(f"recalib.integrations.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
