"""The one error a user can cause, and what would have been right: the nearest name, or what to install."""

import difflib
import importlib.metadata
import importlib.util
import json
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import unquote, urlparse


class RecalibError(ValueError):
    """A mistake the caller can mend; its message is one line that names the value and what would be right."""


class WorkFailed(RecalibError):
    """The arguments were right but the work could not be done; commands exit with 1 instead of 2."""


def unknown(kind: str, value: object, valid: Iterable[str]) -> RecalibError:
    """Error for a name that does not exist.

    Args:
        kind: what the name stands for, such as ``"attention"``.
        value: the name that was given.
        valid: the names that exist.
    """
    names = sorted(set(valid))
    lower = {name.lower(): name for name in names}
    near = [lower[name] for name in difflib.get_close_matches(str(value).lower(), lower, n=3, cutoff=0.5)]
    more = " and more" if len(names) > 20 else ""
    hint = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(names[:20])}{more}"
    return RecalibError(f"unknown {kind} {value!r}; {hint}")


def install_line(extra: str) -> str:
    """The command that adds an extra to this installation.

    Args:
        extra: such as ``"train"``.

    Returns:
        ``pip install 'FOLDER[extra]'`` for an installation from source, ``pip install 'recalib[extra]'`` for one from
        an index.
    """
    return f"pip install '{_source()}[{extra}]'"


def not_installed(packages: Iterable[str], extra: str) -> str | None:
    """A line that names what is not installed and the command that installs it, or None.

    Args:
        packages: names of modules.
        extra: the extra that they are in.
    """
    absent = [name for name in packages if not _exists(name)]
    return f"{', '.join(absent)} not installed: {install_line(extra)}" if absent else None


def require_packages(packages: Iterable[str], extra: str, what: str) -> None:
    """Do nothing where some packages are installed.

    Args:
        packages: names of modules.
        extra: the extra that they are in.
        what: wants them, at the beginning of a sentence, such as ``"training"``.

    Raises:
        RecalibError: naming the packages and the command that installs them.
    """
    if absent := not_installed(packages, extra):
        raise RecalibError(f"{what}: {absent}")


def _exists(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except (ModuleNotFoundError, ValueError):  # a parent that is not there; a name that was blocked
        return False


def _source() -> str:
    """Source of the installation: a folder where it was one, else the name on an index."""
    clone = Path(__file__).parents[2]
    if (clone / "pyproject.toml").is_file():
        return "." if clone == Path.cwd() else str(clone)
    try:
        origin = importlib.metadata.distribution("recalib").read_text("direct_url.json")
    except importlib.metadata.PackageNotFoundError:
        return "recalib"
    address = urlparse(json.loads(origin)["url"] if origin else "")
    return unquote(address.path) if address.scheme == "file" else "recalib"
