"""Other people's frameworks, one file each; none of them is imported before it is used."""

import importlib
from typing import TYPE_CHECKING, Any

from recalib.integrations import ultralytics

if TYPE_CHECKING:
    from recalib.integrations import hub

__all__ = ["hub", "ultralytics"]


def __getattr__(name: str) -> Any:
    if name == "hub":
        return importlib.import_module("recalib.integrations.hub")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
