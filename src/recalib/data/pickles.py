"""CIFAR's python layout without executing its pickles.

The files are pickled dictionaries of lists, strings and one uint8 array. The unpickler below knows stand-ins for the
three numpy names such an array is made of, and refuses every other name, so that nothing a file says can run.
"""

import pickle
from pathlib import Path
from typing import Any

import numpy as np

from recalib.errors import RecalibError


class _UInt8:
    """Stands in for numpy.dtype."""

    def __init__(self, code: str | bytes, *_: object) -> None:
        if code not in ("u1", b"u1"):
            raise pickle.UnpicklingError(f"an array of {code!r} where images are uint8")

    def __setstate__(self, state: object) -> None:
        """Byte order and the like say nothing about single bytes."""


class _Array:
    """Stands in for numpy.ndarray; becomes a real one in `_plain`."""

    def __init__(self, *_: object) -> None:
        self.value = np.empty(0, np.uint8)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, kind, fortran, data = state
        if not isinstance(kind, _UInt8) or fortran:
            raise pickle.UnpicklingError("an array that is not plain uint8")
        raw = data.encode("latin1") if isinstance(data, str) else data
        self.value = np.frombuffer(raw, np.uint8).reshape(shape)


def _encode(text: str, _codec: str = "latin1") -> bytes:
    return text.encode("latin1")


_KNOWN = {
    ("numpy.core.multiarray", "_reconstruct"): _Array,
    ("numpy._core.multiarray", "_reconstruct"): _Array,
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _UInt8,
    ("_codecs", "encode"): _encode,
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _KNOWN:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which no image file needs")
        return _KNOWN[module, name]


def read_pickle(path: Path) -> dict[str, Any]:
    """The dictionary in a CIFAR python file: lists, strings, bytes, integers and uint8 arrays.

    Args:
        path: a file of the official python layout.

    Raises:
        RecalibError: where the file is cut short, damaged, or holds anything else.
    """
    try:
        with path.open("rb") as file:
            content = _Unpickler(file, encoding="bytes").load()
        if not isinstance(content, dict):
            raise pickle.UnpicklingError("it holds no dictionary")
        return {_text(key): _plain(value) for key, value in content.items()}
    except (pickle.UnpicklingError, EOFError, ValueError, TypeError, AttributeError, IndexError, KeyError) as error:
        raise RecalibError(f"{path} is truncated or no CIFAR file: {error or 'it ends too early'}") from None


def _plain(value: object) -> object:
    if isinstance(value, _Array):
        return value.value
    return [_text(v) for v in value] if isinstance(value, list) else _text(value)


def _text(value: Any) -> Any:
    return value.decode("latin1") if isinstance(value, bytes) else value
