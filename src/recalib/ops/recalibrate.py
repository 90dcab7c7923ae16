"""The one door to recalibration, and the one place that decides how it is done."""

from typing import Literal, cast

import torch
from torch import Tensor, nn

from recalib.errors import RecalibError
from recalib.ops import passes, plans
from recalib.ops.capture import is_captured, is_observed, is_recorded, is_symbolic
from recalib.ops.contract import GateOnMoments, ask, is_gate
from recalib.ops.norm import is_affine, is_synchronized, uses_batch_statistics
from recalib.ops.reference import compose, integrate, moments
from recalib.ops.tail import tail

_WORTHWHILE_ON_GPU = 2**25  # values from which on operators win in eager mode on a GPU; estimated, see `_tail`
_WORTHWHILE = 2**20  # values a thread, from which on the two passes win on a CPU; see `_worthwhile`


def recalibrate(
    x: Tensor,
    norm: nn.Module | None = None,
    attention: nn.Module | None = None,
    residual: Tensor | None = None,
    activation: Literal["relu", "none"] = "relu",
) -> Tensor:
    """Tail of a residual block: ``y = activation(attention(norm(x)) + residual)``.

    Where norm and attention can be fused and it pays, forward and backward take two passes over the activation each,
    as those of a block without attention do; everywhere else the modules run one after the other, with the same
    result. The batch statistics of a SyncBatchNorm are shared between processes on any device.

    Args:
        x: output of the block's last convolution, shape (N, C, H, W), (N, C, L) or (N, C, D, H, W).
        norm: the block's last norm, or None.
        attention: a gate on moments (see `recalib.attention.Attention`) or any module that maps (N, C, H, W) to
            (N, C, H, W), or None.
        residual: the shortcut, same shape as x, or None.
        activation: ``"relu"`` or ``"none"``.

    Returns:
        y, shape of x.

    Raises:
        RecalibError: for an activation that is neither; for a map that is not 3-D to 5-D and floating, a residual of
            another shape or a norm for other channels; for a gate that returns something else than scale and shift of
            shape (N, C); for a batch with one value per channel in training.
    """
    if activation not in ("relu", "none"):
        raise RecalibError(f"activation {activation!r}: recalibrate takes 'relu' or 'none'")
    relu = activation == "relu"
    norm = None if isinstance(norm, nn.Identity) else norm
    if is_symbolic(x):
        return compose(x, norm, attention, residual, relu)
    if x.ndim in (3, 5):
        return _in_other_dimensions(x, norm, attention, residual, activation)
    if passes.has_kernels(x) and not is_recorded():
        y = plans.recall(x, norm, attention, residual, relu)
        if y is not None:
            return y
    _check(x, norm, attention, residual)
    synchronized = is_synchronized(norm)
    if (synchronized or _pays(x, attention)) and _fuses(x, norm, attention, residual):
        y = _tail(x, norm, cast("GateOnMoments | None", attention), residual, relu)
        if y is not None:
            return y
    if synchronized and norm is not None and is_affine(norm):  # torch's own forward refuses a CPU
        return compose(tail(x, norm, None, None, False), None, attention, residual, relu)
    return compose(x, norm, attention, residual, relu)


def _in_other_dimensions(
    x: Tensor, norm: nn.Module | None, attention: nn.Module | None, residual: Tensor | None,
    activation: Literal["relu", "none"],
) -> Tensor:  # fmt: skip
    """The same for maps (N, C, L) and (N, C, D, H, W): to a gate on moments their pixels are a column.

    A module that is called, and not fused, sees the map as it is.
    """
    if residual is not None and residual.shape != x.shape:
        raise RecalibError(
            f"residual of shape {tuple(residual.shape)} for a map of {tuple(x.shape)}; they must be equal"
        )
    flat, shortcut = _column(x), None if residual is None else _column(residual)
    fused = x.device.type == "cpu" and _pays(flat, attention) and _fuses(flat, norm, attention, shortcut)
    if norm is not None and not fused:
        x, norm = norm(x), None
    called: nn.Module | None = None if is_gate(attention) else attention
    if called is not None:
        x, attention = called(x), None
    return recalibrate(_column(x), norm, attention, shortcut, activation).reshape(x.shape)


def _column(x: Tensor) -> Tensor:
    return x.flatten(2).unsqueeze(3)


def attend(x: Tensor, gate: GateOnMoments) -> Tensor:
    """A gate on moments applied to a map x (N, C, *spatial), and nothing else: what a gate's own forward is."""
    if x.ndim in (3, 5):
        return attend(_column(x), gate).reshape(x.shape)
    if passes.has_kernels(x) and not is_recorded():
        y = plans.recall(x, None, cast("nn.Module", gate), None, False)
        if y is not None:
            return y
    _check(x, None, gate, None)
    if _pays(x, gate) and x.numel() > 0:
        whole = _tail(x, None, gate, None, False)
        if whole is not None:
            return whole
    return integrate(x, ask(gate, moments(x, gate.needs_variance)))


def _tail(
    x: Tensor, norm: nn.Module | None, gate: GateOnMoments | None, residual: Tensor | None, relu: bool
) -> Tensor | None:
    """A plan's launches, or `tail`; where that fails because a module is on another device, an error that says so.

    None where module after module is quicker: on a GPU in eager mode the operators of a tail that trains take a
    millisecond of Python more than its modules, what 17 maps of 2^25 values in bfloat16 cost there (estimated).

    Devices are compared after a failure only: in every call it would cost a GPU more than a launch.
    """
    if torch.compiler.is_compiling():  # a compiler that has to leave the graph in a gate cannot do so inside of a try
        return tail(x, norm, gate, residual, relu)
    planned = plans.first(x, norm, cast("nn.Module | None", gate), residual, relu)
    if planned is not None:
        return planned
    if passes.has_kernels(x) and x.numel() < _WORTHWHILE_ON_GPU and not is_synchronized(norm):
        return None
    try:
        return tail(x, norm, gate, residual, relu)
    except Exception:
        _refuse_other_devices(x, norm, gate)
        raise


def _refuse_other_devices(x: Tensor, *modules: object) -> None:
    for module in modules:
        tensors = [*module.parameters(), *module.buffers()] if isinstance(module, nn.Module) else []
        elsewhere = next((str(t.device) for t in tensors if t.device != x.device), None)
        if elsewhere is not None:
            raise RecalibError(f"{_name(module)} is on {elsewhere}, its map on {x.device}; move the module there")


def _fuses(x: Tensor, norm: nn.Module | None, attention: nn.Module | None, residual: Tensor | None) -> bool:
    """True if the tail is moments -> (N, C) -> affine, and no one asks to see what is between."""
    return (
        (x.numel() > 0 or is_synchronized(norm))  # others wait for this process, even without images
        and (norm is not None or attention is not None)
        and (norm is None or (is_affine(norm) and not is_observed(norm)))
        and (attention is None or (not is_observed(attention) and is_gate(attention)))
        and (residual is None or (residual.dtype == x.dtype and residual.device == x.device))
    )


def _pays(x: Tensor, attention: object) -> bool:
    """True if two passes are faster than module after module.

    * A graph that is captured for inference holds plain modules: runtimes and compilers fold the norm into the
      convolution before it and fuse the rest, which they could not do around an operator they do not know.
    * A GPU: always otherwise, in training and in eager inference; see `_tail` for small maps.
    * A CPU: in eager training, with a gate, from `_worthwhile` values a thread on; below, and without a gate, torch's
      batch norm has the lower fixed cost, and half precision runs on native kernels that convert as they read. In
      inference torch's own operators, overwriting what they can, are as fast.
    """
    if passes.has_kernels(x):
        compiled = torch.compiler.is_compiling() and not torch.compiler.is_exporting() and torch.is_grad_enabled()
        in_range = x.shape[0] * x.shape[1] < 2**30  # offsets of (2, N, C) have 32 bits in the kernels
        return in_range and (compiled or not is_captured(x))
    return (  # on a CPU in the order of what costs least to ask
        attention is not None
        and torch.is_grad_enabled()
        and x.device.type == "cpu"
        and not is_captured(x)
        and x.numel() >= _worthwhile(x, attention) * torch.get_num_threads()
        and x.dtype in (torch.float32, torch.float64)
    )


def _worthwhile(x: Tensor, attention: object) -> int:
    """Values a thread; measured, see ``docs/performance.md``.

    Twice as many for channels_last, where torch's batch norm is vectorised and the composition twice as fast as for
    NCHW; a third where the gate needs the variance, for which the composition has passes of its own.
    """
    values = _WORTHWHILE if x.is_contiguous() else 2 * _WORTHWHILE
    return values // 3 if getattr(attention, "needs_variance", False) else values


def _check(x: Tensor, norm: nn.Module | None, attention: object, residual: Tensor | None) -> None:
    shape = x.shape
    if len(shape) != 4 or not x.is_floating_point():
        raise RecalibError(f"recalibrate takes a floating map (N, C, H, W), got {x.dtype} of shape {tuple(shape)}")
    if residual is not None and residual.shape != shape:
        raise RecalibError(f"residual of shape {tuple(residual.shape)} for a map of {tuple(shape)}; they must be equal")
    if x.numel() == shape[1] and uses_batch_statistics(norm) and not is_synchronized(norm):
        raise RecalibError(f"{_name(norm)} in training needs more than 1 value per channel, got a map {tuple(shape)}")
    channels = getattr(norm, "num_features", None)
    if channels != shape[1] and isinstance(channels, int):
        raise RecalibError(f"{_name(norm)} of {channels} channels on a map of shape {tuple(shape)}")
    channels = getattr(attention, "channels", None)
    if channels != shape[1] and isinstance(channels, int):
        raise RecalibError(f"{_name(attention)} of {channels} channels on a map of shape {tuple(shape)}")


def _name(module: object) -> str:
    return type(module).__name__
