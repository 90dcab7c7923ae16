"""Jobs - a recipe, its data, its folder, its devices - as JSON and back."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

from recalib.errors import RecalibError

J = TypeVar("J")

# settings that do not decide the result, so that a resumed run may change them
MAY_DIFFER = frozenset({"data", "out", "name", "workers", "track", "save_every", "on_nan", "watch"})


def as_config(job: Any) -> dict[str, Any]:
    """A job as JSON; `from_config` makes the same job of it."""
    return plain(dataclasses.asdict(job))


def from_config(kind: type[J], config: Mapping[str, Any], source: Path) -> J:
    """The job that a run's config.json describes.

    Args:
        kind: dataclass of the job, with a field ``recipe`` that is a dataclass.
        config: content of the file.
        source: its path, for messages.

    Raises:
        RecalibError: for settings that this version does not know, naming them.
    """
    recipe: Any = get_type_hints(kind)["recipe"]
    strange = sorted(({*config} - {*get_type_hints(kind)}) | ({*config.get("recipe", {})} - {*get_type_hints(recipe)}))
    if strange:
        raise RecalibError(f"{source} has settings this version does not know: {', '.join(strange)}")
    settings = {**config, "recipe": recipe(**_typed(recipe, config.get("recipe", {})))}
    return kind(**_typed(kind, settings))


def attention_options(options: tuple[str, ...]) -> dict[str, Any]:
    """Options written ``name=value``, numbers and true/false read as such.

    Raises:
        RecalibError: for anything else.
    """
    pairs = [option.partition("=") for option in options]
    for name, equals, value in pairs:
        if not (name and equals and value):
            raise RecalibError(f"option {name + equals + value!r}: write it as name=value, such as kernel_size=5")
    return {name: _value(value) for name, _, value in pairs}


def _value(text: str) -> Any:
    words = {"true": True, "false": False}
    if text.lower() in words:
        return words[text.lower()]
    try:
        return float(text) if "." in text else int(text)
    except ValueError:
        return text


def plain(value: Any) -> Any:
    """A value as JSON has it: paths as text, tuples as lists."""
    if isinstance(value, Mapping):
        return {key: plain(v) for key, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    return str(value) if isinstance(value, Path) else value


def _typed(kind: type, settings: Mapping[str, Any]) -> dict[str, Any]:
    hints = get_type_hints(kind)

    def typed(name: str, value: Any) -> Any:
        if value is not None and hints[name] in (Path, Path | None):
            return Path(value)
        return tuple(value) if isinstance(value, list) else value

    return {name: typed(name, value) for name, value in settings.items()}
