"""ONNX, the form that the other runtimes read: a network is exported once for all of them."""

import warnings
from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

ONNX_PACKAGES = ("onnx", "onnxscript")
_made: WeakKeyDictionary[nn.Module, dict[tuple[object, ...], Any]] = WeakKeyDictionary()


def once(model: nn.Module, key: tuple[object, ...], make: Callable[[], Any]) -> Any:
    """Result of `make`, made once for a model and a key and kept for as long as the model lives."""
    known = _made.setdefault(model, {})
    if key not in known:
        known[key] = make()
    return known[key]


def to_onnx(model: nn.Module, example: Tensor) -> bytes:
    """The network as an ONNX file's bytes, weights included, for the shape of this example.

    It stays in memory for as long as the model lives, so that runtimes share it and nothing is left on the disk of a
    process that was killed. The format's own limit of 2 GB applies.

    Args:
        model: in evaluation mode.
        example: an input; its precision is the model's.
    """
    network: bytes = once(model, ("onnx", tuple(example.shape), example.dtype), lambda: _export(model, example))
    return network


def _export(model: nn.Module, example: Tensor) -> bytes:
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # about the exporter's own internals
        program = torch.onnx.export(model, (example,), dynamo=True, verbose=False)
        assert program is not None
    return bytes(program.model_proto.SerializeToString())
