"""Channel attention for convolutional networks: choose it, insert it, train it, deploy it.

``import recalib`` imports nothing else: every public name is fetched, torch with it, when it is first used.
"""

import importlib
import sys
from importlib.util import find_spec
from types import ModuleType
from typing import TYPE_CHECKING, Any

from recalib.errors import RecalibError
from recalib.version import __version__

if TYPE_CHECKING:
    from recalib import attention as attention
    from recalib import integrations as integrations
    from recalib import ops as ops
    from recalib.attention import attention_names, create_attention
    from recalib.attention.param_groups import param_groups
    from recalib.cost import cost
    from recalib.deploy.deploy import deploy
    from recalib.deploy.network_file import export, open_exported
    from recalib.models.cifar_resnet import cifar_resnet
    from recalib.study.trim import Trimmed, trim
    from recalib.surgery import (
        CheckpointInfo,
        Insertion,
        Site,
        fuse_,
        insert_,
        inspect_checkpoint,
        load_checkpoint,
        remove_,
        save_checkpoint,
    )
    from recalib.surgery.sites import sites

__all__ = [
    "CheckpointInfo",
    "Insertion",
    "RecalibError",
    "Site",
    "Trimmed",
    "__version__",
    "attention",
    "attention_names",
    "cifar_resnet",
    "cost",
    "create_attention",
    "deploy",
    "export",
    "fuse_",
    "insert_",
    "inspect_checkpoint",
    "integrations",
    "load_checkpoint",
    "open_exported",
    "ops",
    "param_groups",
    "remove_",
    "save_checkpoint",
    "sites",
    "trim",
]

_HOMES = {  # package: the public names that it defines
    "attention": ("attention_names", "create_attention", "param_groups"),
    "cost": ("cost",),
    "deploy": ("deploy", "export", "open_exported"),
    "models": ("cifar_resnet",),
    "study": ("Trimmed", "trim"),
    "surgery": (
        "CheckpointInfo", "Insertion", "Site", "fuse_", "insert_", "inspect_checkpoint", "load_checkpoint", "remove_",
        "save_checkpoint", "sites",
    ),
}  # fmt: skip
_HOME = {name: package for package, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name in _HOME:
        value = getattr(importlib.import_module(f"recalib.{_HOME[name]}"), name)
        globals()[name] = value
        return value
    if find_spec(f"recalib.{name}") is not None:
        return importlib.import_module(f"recalib.{name}")
    raise AttributeError(f"module 'recalib' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


class _Package(ModuleType):
    """Keeps the functions `recalib.cost` and `recalib.deploy` when the packages of these names are imported."""

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in _HOME and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
