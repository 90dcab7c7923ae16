"""A module with attention before or after it, for places that no known block describes."""

from typing import Any, Literal

from torch import Tensor, nn

Position = Literal["after", "before"]

_INNER = "_wrapped"  # name of the child in `_modules`; state dicts do not show it
_OWN = frozenset({"attention", "position", "training"})


def without_wrappers(name: str) -> str:
    """A module's dotted name as it is without wrappers on the way."""
    return ".".join(part for part in name.split(".") if part != _INNER)


class Recalibrated(nn.Module):
    """Stands in for a module, and applies attention to its output or to its input.

    State dicts have the module's own keys, and ``attention.*``. Attributes and items pass through. It is a wrapper
    because a norm that is converted to SyncBatchNorm keeps neither hooks nor a subclass.

    Args:
        module: the module that this one replaces.
        attention: maps (N, C, H, W) to (N, C, H, W).
        position: ``"after"`` or ``"before"`` the module.
    """

    def __init__(self, module: nn.Module, attention: nn.Module, position: Position = "after") -> None:
        super().__init__()
        self.position = position
        self.training = module.training
        self.add_module(_INNER, module)
        self.attention = attention
        self.register_load_state_dict_pre_hook(_add_inner)
        self.register_load_state_dict_post_hook(_drop_inner)

    @property
    def wrapped(self) -> nn.Module:
        """The module that this one replaces."""
        return self.get_submodule(_INNER)

    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        """Output of the module for its arguments, its output or its first argument recalibrated."""
        if self.position == "before":
            return self._wrapped(self.attention(args[0]), *args[1:], **kwargs)
        return self.attention(self._wrapped(*args, **kwargs))

    def state_dict(  # type: ignore[override]
        self, *args: Any, destination: Any = None, prefix: str = "", keep_vars: bool = False
    ) -> dict[str, Any]:
        """The module's state under its own keys, then the attention's."""
        options = {"keep_vars": keep_vars}
        state = self.wrapped.state_dict(*args, destination=destination, prefix=prefix, **options)
        return self.attention.state_dict(destination=state, prefix=f"{prefix}attention.", **options)

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name.startswith("__") or name == _INNER:  # the module's own __deepcopy__ would copy it alone
                raise
            return getattr(super().__getattr__(_INNER), name)

    def __setattr__(self, name: str, value: Any) -> None:
        inner = self.__dict__.get("_modules", {}).get(_INNER)
        foreign = inner is not None and name not in _OWN and not name.startswith("_") and hasattr(inner, name)
        setattr(inner, name, value) if foreign else super().__setattr__(name, value)

    def __getitem__(self, key: Any) -> Any:
        return self.wrapped[key]  # type: ignore[index]


def _add_inner(module: nn.Module, state_dict: dict[str, Any], prefix: str, *_: Any) -> None:
    for key in [key for key in state_dict if key.startswith(prefix) and not key.startswith(f"{prefix}attention.")]:
        state_dict[f"{prefix}{_INNER}.{key.removeprefix(prefix)}"] = state_dict.pop(key)


def _drop_inner(module: nn.Module, incompatible: Any) -> None:
    for keys in (incompatible.missing_keys, incompatible.unexpected_keys):
        keys[:] = map(without_wrappers, keys)
