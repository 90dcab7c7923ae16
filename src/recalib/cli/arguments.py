"""Arguments of a command from a dataclass, and a user's mistakes in one line each."""

import re
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout, suppress
from io import StringIO
from typing import Any, NoReturn, TypeVar

import tyro

try:  # tyro 1.0.14's hook, whose module is private: without it, tyro's own message ends the command
    from tyro import _errors as mistakes
except ImportError:
    mistakes = None  # type: ignore[assignment]

from recalib.errors import RecalibError, unknown

T = TypeVar("T")


def parse(kind: type[T], argv: Sequence[str], command: str, **options: Any) -> T:
    """The arguments of ``recalib COMMAND`` as a ``kind``.

    Args:
        kind: a dataclass, one field a flag.
        argv: what follows the command's name.
        command: what is typed before them, such as ``"recalib cost"``.
        **options: of `tyro.cli`.

    Raises:
        RecalibError: for what ``kind`` does not take, naming the value and what would be right.
    """
    if not hasattr(mistakes, "on_parse_error"):
        return tyro.cli(kind, args=argv, prog=command, **options)

    def refuse(event: "mistakes.ParseErrorEvent") -> NoReturn:
        raise _error(event, command, lambda: _flags(kind, options))

    with mistakes.on_parse_error(refuse):
        return tyro.cli(kind, args=argv, prog=command, **options)


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
            wanted = str(event.argument.lowered.metavar).replace("{None}|", "")
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
        tyro.cli(kind, args=["--help"], **options)
    return re.findall(r"--[a-z][\w-]*", text.getvalue())
