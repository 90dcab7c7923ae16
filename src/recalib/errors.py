"""The one error a user can cause, and the helper that suggests what would have been right."""

import difflib
from collections.abc import Iterable


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
