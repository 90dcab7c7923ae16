"""Channels of modules that do not state them, seen in a run of a copy of the network."""

import copy
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from recalib.errors import RecalibError
from recalib.surgery.wrap import Position, without_wrappers


def observed_channels(model: nn.Module, names: Iterable[str], position: Position) -> dict[str, int]:
    """C of the maps after or before the named modules.

    The run is of a copy in evaluation mode on `example_input`. The model keeps its mode, its buffers and the state of
    the random number generators.

    Raises:
        RecalibError: if the run fails, or there is no map (N, C, H, W) at one of the modules.
    """
    seen: dict[str, Any] = dict.fromkeys(names)
    probe = copy.deepcopy(model).eval()
    for name, module in [(without_wrappers(name), module) for name, module in probe.named_modules()]:
        if name in seen and position == "after":
            module.register_forward_hook(lambda _, args, output, name=name: seen.update({name: output}))
        elif name in seen:
            module.register_forward_pre_hook(lambda _, args, name=name: seen.update({name: args[0]}))
    _run(probe, f"where={list(seen)}")
    for name, x in seen.items():
        if not isinstance(x, torch.Tensor) or x.ndim != 4:
            raise RecalibError(f"where={name!r}: {position} it there is no map (N, C, H, W) but {_kind(x)}")
    return {name: x.shape[1] for name, x in seen.items()}


def _kind(x: Any) -> str:
    if x is None:
        return "nothing, for a run of the network does not reach it"
    return str(tuple(x.shape)) if isinstance(x, torch.Tensor) else f"a {type(x).__name__}"


def example_input(model: nn.Module) -> torch.Tensor:
    """Noise of the size that a network takes, in its precision and on its device; the same each time.

    The size is what timm's configuration of the model states; else a batch of one, with the channels and dimensions of
    the first convolution, and 224 pixels a side (64 in three dimensions, 1024 values in one).
    """
    config = getattr(model, "pretrained_cfg", None) or {}
    conv = next((m for m in model.modules() if isinstance(m, (nn.Conv1d, nn.Conv2d, nn.Conv3d))), None)
    size = {nn.Conv1d: (1024,), nn.Conv3d: (64,) * 3}.get(type(conv), (224, 224))  # type: ignore[arg-type]
    shape = config.get("input_size") or (3 if conv is None else conv.in_channels, *size)
    like = next((p for p in model.parameters() if p.is_floating_point()), torch.empty(0))
    return torch.randn((1, *shape), generator=torch.Generator().manual_seed(0)).to(like.device, like.dtype)


def _run(model: nn.Module, subject: str) -> None:
    x = example_input(model)
    with torch.no_grad(), torch.random.fork_rng(devices=[x.device] if x.device.type == "cuda" else []):
        try:
            model(x)
        except Exception as error:
            reason = next(iter(str(error).splitlines()), type(error).__name__)
            raise RecalibError(
                f"{subject}: not all of these modules state their channels, and a run on {tuple(x.shape)} "
                f"failed: {reason}"
            ) from error
