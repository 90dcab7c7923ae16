"""Arguments of a command from a dataclass, and a user's mistakes in one line each."""

import dataclasses
import functools
import inspect
import operator
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import redirect_stdout, suppress
from io import StringIO
from types import NoneType, UnionType
from typing import Annotated, Any, NoReturn, TypeVar, Union, get_args, get_origin, get_type_hints

import docstring_parser
import tyro
from tyro.conf import arg
from tyro.constructors import (
    ConstructorRegistry,
    PrimitiveConstructorSpec,
    PrimitiveTypeInfo,
    StructConstructorSpec,
    StructFieldSpec,
    StructTypeInfo,
)

try:  # tyro 1.0.14's hook, whose module is private: without it, tyro's own message ends the command
    from tyro import _errors as mistakes
except ImportError:
    mistakes = None  # type: ignore[assignment]

from recalib.cli.spelling import modern
from recalib.errors import RecalibError, unknown
from recalib.measure.sizes import parse_size
from recalib.training.recipe import Recipe

T = TypeVar("T")

ImageSize = Annotated[
    int | tuple[int, int],
    PrimitiveConstructorSpec(
        nargs=1,
        metavar="SIDE|HxW",
        instance_from_str=lambda words: parse_size(words[0]),
        is_instance=lambda value: isinstance(value, int | tuple),
        str_from_instance=lambda size: [str(size) if isinstance(size, int) else "x".join(map(str, size))],
    ),
]
"""``--size``: 224, or height and width as 320x192."""

# Fields of recipes and jobs, which are configurations too, that are spelled otherwise on the command line
FLAGS = {"accelerator": arg(name="device"), "image_size": arg(name="size", metavar="SIDE")}
RECIPE_FLAGS = {"attention": arg(metavar="NAME ...", help="modules to insert, a run each; none: the plain network")}


def parse(kind: type[T], argv: Sequence[str], command: str, **options: Any) -> T:
    """The arguments of ``recalib COMMAND`` as a ``kind``.

    Args:
        kind: a dataclass, one field a flag. Its docstring, up to the attributes, is the description.
        argv: what follows the command's name.
        command: what is typed before them, such as ``"recalib cost"``.
        **options: of `tyro.cli`.

    Raises:
        RecalibError: for what ``kind`` does not take, naming the value and what would be right.
    """
    options.setdefault("description", _description(kind.__doc__ or ""))
    words = modern(argv, command.split()[1])
    if not hasattr(mistakes, "on_parse_error"):
        return _tyro(kind, words, prog=command, **options)

    def refuse(event: "mistakes.ParseErrorEvent") -> NoReturn:
        raise _error(event, command, lambda: _flags(kind, options))

    with mistakes.on_parse_error(refuse):
        return _tyro(kind, words, prog=command, **options)


def _tyro(kind: type[T], argv: Sequence[str], **options: Any) -> T:
    with _RULES:
        return tyro.cli(kind, args=argv, **options)


_RULES = ConstructorRegistry()


@_RULES.primitive_rule
def _optional(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[Any] | None:
    """``X | None`` is written and shown as X; the word None is taken as well."""
    if get_origin(info.type) not in (Union, UnionType) or NoneType not in get_args(info.type):
        return None
    inner = functools.reduce(operator.or_, (kind for kind in get_args(info.type) if kind is not NoneType))
    spec = ConstructorRegistry.get_primitive_spec(PrimitiveTypeInfo.make(inner, info.markers))
    if not isinstance(spec, PrimitiveConstructorSpec):
        return None
    return dataclasses.replace(
        spec,
        instance_from_str=lambda words: None if words == ["None"] else spec.instance_from_str(words),
        is_instance=lambda value: value is None or spec.is_instance(value),
        str_from_instance=lambda value: [] if value is None else spec.str_from_instance(value),
    )


@_RULES.primitive_rule
def _several(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[Any] | None:
    """``tuple[X, ...]`` is shown as ``X ...``."""
    if get_origin(info.type) is not tuple or get_args(info.type)[1:] != (...,):
        return None
    one = ConstructorRegistry.get_primitive_spec(PrimitiveTypeInfo.make(get_args(info.type)[0], info.markers))
    if not isinstance(one, PrimitiveConstructorSpec):
        return None
    return PrimitiveConstructorSpec(
        nargs="*",
        metavar=f"{one.metavar} ...",
        instance_from_str=lambda words: tuple(one.instance_from_str([word]) for word in words),
        is_instance=lambda value: isinstance(value, tuple) and all(one.is_instance(each) for each in value),
        str_from_instance=lambda value: [word for each in value for word in one.str_from_instance(each)],
        choices=one.choices,
    )


@_RULES.struct_rule
def _fields(info: StructTypeInfo) -> StructConstructorSpec | None:
    """Fields of a dataclass as flags; a default that is nothing is not shown, for the help says what it means."""
    if not (isinstance(info.type, type) and dataclasses.is_dataclass(info.type)):
        return None
    return StructConstructorSpec(instantiate=info.type, fields=tuple(_flag_of(info.type, info.default)))


def _flag_of(kind: type, given: Any) -> Iterator[StructFieldSpec]:
    hints, texts = get_type_hints(kind, include_extras=True), _help(kind)
    for field in dataclasses.fields(kind):
        if dataclasses.is_dataclass(given) and hasattr(given, field.name):
            default = getattr(given, field.name)
        elif field.default is not dataclasses.MISSING:
            default = field.default
        elif field.default_factory is not dataclasses.MISSING:
            default = field.default_factory()
        else:
            default = tyro.MISSING
        hint = hints[field.name]
        empty = default is tyro.MISSING and get_origin(get_args(hint)[0] if get_args(hint) else hint) is tuple
        if default is None or default is False or default == () or empty:
            hint = Annotated[hint, arg(help_behavior_hint="")]
        flags = FLAGS | RECIPE_FLAGS if issubclass(kind, Recipe) else FLAGS
        if field.name in flags:
            hint = Annotated[hint, flags[field.name]]
        yield StructFieldSpec(field.name, hint, default, helptext=texts.get(field.name))


@functools.cache
def _help(kind: type) -> dict[str, str]:
    """Text of each field in the docstrings."""
    said: dict[str, str] = {}
    for each in reversed([c for c in kind.__mro__ if dataclasses.is_dataclass(c)]):
        for field in docstring_parser.parse_from_object(each).params:
            said[field.arg_name] = " ".join((field.description or "").split())
    return said


def _description(docstring: str) -> str:
    """A docstring up to its attributes: prose flows, indented lines such as examples stay on lines of their own."""
    text = re.split(r"^ *Attributes:$", docstring, flags=re.M)[0]
    parts = inspect.cleandoc(text).split("\n\n")
    return "\n\n".join(part if "\n " in part else " ".join(part.split()) for part in parts)


def _error(event: "mistakes.ParseErrorEvent", command: str, flags: Callable[[], list[str]]) -> RecalibError:
    see = f"`{command} --help` shows an example"
    match event:
        case mistakes.MissingArgs(unrecognized_tokens=[]):
            names = ", ".join(_name(missing.arg) for missing in event.missing_arguments)
            return RecalibError(f"missing {names}; {see}")
        case mistakes.UnrecognizedArgs(tokens=[strange, *_]) | mistakes.MissingArgs(unrecognized_tokens=[strange, *_]):
            if strange.startswith("-"):
                return unknown("option", strange.split("=")[0], flags())
            return RecalibError(f"{strange!r} is one argument too many; {see}")
        case mistakes.InvalidChoice():
            return unknown(_name(event.argument), event.value, event.choices)
        case mistakes.BadValue(reason="too_few_values"):
            return RecalibError(f"{_name(event.argument)} needs a value; {see}")
        case mistakes.InstantiationFailure() if event.argument is not None:
            wanted = str(event.argument.lowered.metavar)
            return RecalibError(f"{_name(event.argument)} takes {wanted}: {_given(event.message)}; {see}")
        case _:
            return RecalibError(f"{' '.join(str(getattr(event, 'message', event)).split())}; {see}")


def _name(argument: Any) -> str:
    """``--size``, or MODEL for a positional argument."""
    if argument.is_positional():
        return str(argument.lowered.metavar or argument.field.name).strip("[]").upper()
    return str(argument.lowered.name_or_flags[0])


def _given(message: str) -> str:
    """The part of tyro's message that names the value, without the types that it tried."""
    first = " ".join(message.split("\n")[0].split())
    return first.partition("instantiated from ")[2].rstrip(".") or first


def _flags(kind: type, options: dict[str, Any]) -> list[str]:
    """Every flag, as the help has them."""
    with redirect_stdout(StringIO()) as text, suppress(SystemExit):
        _tyro(kind, ["--help"], **options)
    return re.findall(r"--[a-z][\w-]*", text.getvalue())
