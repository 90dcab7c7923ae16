"""Configurations: JSON, YAML or TOML, checked against a dataclass, faults named by their path."""

import dataclasses
import json
import re
import tomllib
from collections.abc import Mapping
from functools import reduce
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

import yaml

from recalib.errors import RecalibError, unknown

T = TypeVar("T")


class _Yaml(yaml.SafeLoader):
    """YAML's safe loader that takes 1e-4 for a number, as YAML 1.2 and JSON do."""


_Yaml.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+.0123456789")
)


def read_settings(path: Path) -> dict[str, Any]:
    """The object in a file of JSON, YAML (``.yaml``, ``.yml``) or TOML (``.toml``).

    Raises:
        RecalibError: where the file is missing or holds something else.
    """
    try:
        text = path.read_text(encoding="utf-8")
        if path.suffix in (".yaml", ".yml"):
            settings = yaml.load(text, Loader=_Yaml)
        else:
            settings = tomllib.loads(text) if path.suffix == ".toml" else json.loads(text)
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise RecalibError(f"{path} is no configuration: {' '.join(str(error).split())}") from None
    if not isinstance(settings, dict):
        raise RecalibError(f"{path} is no configuration: it should be an object of names and values")
    return settings


def typed(kind: type[T], settings: Mapping[str, Any], source: Path) -> T:
    """Settings as a dataclass.

    Args:
        kind: a dataclass, of dataclasses perhaps.
        settings: its fields by name; those that are absent have their defaults.
        source: the file, for messages.

    Raises:
        RecalibError: for a name that is no field, a value of another type or not among the choices. The message has
            the path of the fault, such as ``$.recipe.epochs``.
    """
    import msgspec  # a rented machine, which measures only, has none

    _known(kind, settings, "$", source)
    try:
        return msgspec.convert(dict(settings), kind, dec_hook=_own)
    except msgspec.ValidationError as error:
        message, _, place = str(error).partition(" - at ")
        path = place.strip("`") or "$"
        value = _at(settings, path)
        if choices := _choices(kind, path):
            raise RecalibError(f"{source}: {unknown(path, value, choices)}") from None
        given = f" ({value!r})" if not isinstance(value, Mapping) else ""
        raise RecalibError(f"{source}: {path}: {message[:1].lower()}{message[1:]}{given}") from None


def _own(kind: type, value: Any) -> Any:
    """Values that msgspec has no type for: paths."""
    if kind is Path and isinstance(value, str):
        return Path(value)
    raise TypeError(f"expected a {kind.__name__.lower()}, got {type(value).__name__}")


def _known(kind: type, settings: Mapping[str, Any], path: str, source: Path) -> None:
    hints = get_type_hints(kind)
    names = {each.name for each in dataclasses.fields(kind)}
    for name, value in settings.items():
        if name not in names:
            raise RecalibError(f"{source}: {unknown('setting', f'{path}.{name}', (f'{path}.{n}' for n in names))}")
        if dataclasses.is_dataclass(hints[name]) and isinstance(value, Mapping):
            _known(hints[name], value, f"{path}.{name}", source)


def _at(settings: Any, path: str) -> Any:
    steps = re.findall(r"\.(\w+)|\[(\d+)\]", path)
    try:
        return reduce(lambda found, step: found[step[0] or int(step[1])], steps, settings)
    except (LookupError, TypeError):
        return settings


def _choices(kind: Any, path: str) -> list[str]:
    """The words that a field takes, where it takes nothing else."""
    for name in re.findall(r"\.(\w+)", path):
        kind = get_type_hints(kind).get(name)
    options = (
        [kind] if get_origin(kind) is Literal else [each for each in get_args(kind) if get_origin(each) is Literal]
    )
    return [str(word) for option in options for word in get_args(option)]
