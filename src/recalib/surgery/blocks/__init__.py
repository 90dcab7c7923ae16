"""Blocks with a place for attention at the end of their residual branch, and how any known block becomes one."""

import importlib

from torch import nn

from recalib.surgery.blocks.base import Host

__all__ = ["channels_of", "restore_class", "swap_class", "taken_by"]

PACKAGES = ("torchvision", "timm")  # each has a file here, imported when a network has a block of that package


def _host_class(block: nn.Module) -> type[nn.Module] | None:
    # A class of another package is a host by itself if it has `attention_after`, `attention` and `channels`, as
    # those of `recalib.models` have.
    cls = type(block)
    if hasattr(cls, "attention_after"):
        return cls
    package = cls.__module__.partition(".")[0]
    if package not in PACKAGES:
        return None
    hosts: dict[type, type[nn.Module]] = importlib.import_module(f"recalib.surgery.blocks.{package}").HOSTS
    return hosts.get(cls)


def channels_of(block: nn.Module) -> int | None:
    """C of the map that attention would work on; None for a module that is no residual block known here."""
    host = _host_class(block)
    if host is None:
        return None
    return host.channels_of(block) if issubclass(host, Host) else int(block.channels)  # type: ignore[arg-type]


def taken_by(block: nn.Module) -> str | None:
    """Name of the child that is at the block's site already, if there is one."""
    host = _host_class(block)
    names = ("attention", host.taken_by if host is not None and issubclass(host, Host) else None)
    return next((name for name in names if name and isinstance(getattr(block, name, None), nn.Module)), None)


def swap_class(block: nn.Module) -> None:
    """Give a known block the class that has a place for attention; keys and results stay as they are."""
    host = _host_class(block)
    assert host is not None
    if host is not type(block):
        block.__class__ = host
        block.register_module("attention", None)


def restore_class(block: nn.Module) -> None:
    """Undo `swap_class`, and take the attention out."""
    if isinstance(block, Host):
        del block._modules["attention"]
        block.__class__ = type(block).__bases__[1]
    elif hasattr(type(block), "attention_after"):
        block.attention = None  # type: ignore[assignment]
