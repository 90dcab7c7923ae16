"""Content of a checkpoint file: tensors, and what lies beside them. Nothing that is read is ever executed."""

import json
import math
import pickle
import re
import warnings
from collections.abc import Mapping, Set
from dataclasses import dataclass, field, replace
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from recalib.errors import RecalibError

Source = str | PathLike[str] | Mapping[str, Any]

HEADER = "recalib"  # the entry of a safetensors header that holds our configuration, as JSON
WRAPPERS = ("state_dict", "model", "model_state_dict", "net")  # where projects keep the tensors in their checkpoints
PREFIXES = ("module.", "_orig_mod.", "backbone.", "model.")  # DDP, torch.compile, detectors, trainers


@dataclass(frozen=True)
class Contents:
    """A checkpoint, unwrapped.

    Attributes:
        name: what to call it in a message.
        tensors: by name, without the prefixes that DDP, torch.compile and detectors add; files of ours have none.
        beside: what the file says beside the tensors, such as ``epoch``; of what is no plain value, only the type.
        header: the text of a safetensors header, by key.
    """

    name: str
    tensors: dict[str, Tensor]
    beside: dict[str, Any] = field(default_factory=dict)
    header: dict[str, str] = field(default_factory=dict)
    levels: tuple[dict[str, Tensor], ...] = ()  # the tensors with all prefixes, and with ever fewer

    def fitting(self, names: Set[str]) -> "Contents":
        """With the prefixes that make most of the names those of a network; without any where that is all the same."""
        levels = [*reversed(self.levels), self.tensors]
        return replace(self, tensors=max(levels, key=lambda tensors: len(tensors.keys() & names)))


def read(source: Source) -> Contents:
    """Read a file (safetensors, or anything `torch.save` wrote of plain tensors) or unwrap a mapping.

    Raises:
        RecalibError: in one line, for a file that is missing, cut short, no checkpoint, or needs code to be run.
    """
    if isinstance(source, Mapping):
        return _unwrap("the mapping", source)
    path = Path(source)
    if not path.is_file():
        raise RecalibError(f"{path}: {'is a folder, not a file' if path.is_dir() else 'no such file'}")
    if _is_safetensors(path):
        return _read_safetensors(path)
    loaded = _read_torch(path)
    if not isinstance(loaded, Mapping):
        raise RecalibError(f"{path}: holds a {type(loaded).__name__}, not a state dict")
    return _unwrap(str(path), loaded)


def header_of(path: Path) -> dict[str, Any]:
    """Metadata that `recalib.save_checkpoint` wrote beside the tensors of a file; empty for another's file."""
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        header: dict[str, Any] = json.loads((file.metadata() or {}).get(HEADER, "{}"))
    return header


def _is_safetensors(path: Path) -> bool:
    with path.open("rb") as file:
        return path.suffix == ".safetensors" or file.read(9)[8:] == b"{"  # the header's length, then its JSON


def _read_safetensors(path: Path) -> Contents:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - no mapping
            header = file.metadata() or {}
            if HEADER in header:
                return Contents(str(path), tensors, header=header)
            return _stripped(str(path), tensors, header=header)
    except (SafetensorError, OSError) as error:
        raise _unreadable(path, error) from None


def _read_torch(path: Path) -> object:
    try:
        with warnings.catch_warnings(action="ignore"):  # on the age of a file that is refused or read in any case
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # what is no checkpoint makes the reader fail in any way
        if code := re.search(r"GLOBAL (\S+)", str(error)):
            raise RecalibError(
                f"{path}: holds a pickled {code[1]}, and nothing but tensors and plain values is read, for safety; "
                "save model.state_dict() alone"
            ) from None
        raise _unreadable(path, error) from None


def _unreadable(path: Path, error: Exception) -> RecalibError:
    no_torch = isinstance(error, pickle.UnpicklingError)  # torch's own words are about its versions
    reason = "no file of torch.save" if no_torch else (str(error) or type(error).__name__).splitlines()[0]
    return RecalibError(f"{path}: not a checkpoint, or cut short ({reason.rstrip('. ')[:120]})")


def _unwrap(name: str, loaded: Mapping[str, Any]) -> Contents:
    inner = next((loaded[key] for key in WRAPPERS if isinstance(loaded.get(key), Mapping)), None)
    state: Mapping[str, Any] = loaded if inner is None else inner
    tensors = {key: value for key, value in state.items() if isinstance(value, Tensor)}
    if not tensors:
        raise RecalibError(f"{name}: holds no state dict; its entries are {', '.join(map(str, loaded)) or 'none'}")
    odd = [key for key in tensors if not isinstance(key, str)]
    if odd:
        raise RecalibError(f"{name}: the name of a tensor is {odd[0]!r}; names are text, such as 'fc.weight'")
    rest = {key: value for key, value in {**loaded, **state}.items() if key not in tensors and value is not state}
    return _stripped(name, tensors, beside={str(key): _plain(value) for key, value in rest.items()})


def _plain(value: object) -> str | int | float:
    """A value that JSON has, or a word on one that is not read."""
    if isinstance(value, Tensor) and value.numel() == 1:
        return _plain(value.item())
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value if isinstance(value, str | int | float) else f"({type(value).__name__}, not read)"


def _stripped(name: str, tensors: dict[str, Tensor], **more: Any) -> Contents:
    levels = [tensors]
    while prefix := next((p for p in PREFIXES if all(key.startswith(p) for key in levels[-1])), None):
        levels.append({key.removeprefix(prefix): value for key, value in levels[-1].items()})
    return Contents(name, levels[-1], levels=tuple(levels), **more)
