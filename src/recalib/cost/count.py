"""Costs of a network on paper: parameters, multiply-adds, FLOPs and bytes moved."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from numbers import Integral

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensorMode,
)
from torch.func import functional_call

from recalib.cost.conventions import CONVENTIONS
from recalib.cost.meter import Meter
from recalib.errors import RecalibError, WorkFailed, unknown
from recalib.surgery.finished import require_module


@dataclass(frozen=True)
class Counts:
    """Raw counts, in units of one.

    Attributes:
        params: elements of the parameters, shared ones counted once; buffers are none.
        macs: multiply-adds of convolutions and matrix products.
        flops: floating point operations, by the convention asked for.
        bytes_moved: bytes read and written by an eager, unfused run.
    """

    params: int
    macs: int
    flops: int
    bytes_moved: int


@dataclass(frozen=True)
class ModuleCost(Counts):
    """Cost of one module with all that runs inside it.

    Attributes:
        kind: name of its class.
        own: the share that is not its children's.
    """

    kind: str
    own: Counts


@dataclass(frozen=True)
class Cost(Counts):
    """Cost of a network.

    Attributes:
        modules: cost of each module by its name in ``named_modules()``, the network itself being ``""``.
    """

    modules: Mapping[str, ModuleCost]


def cost(model: nn.Module, input_size: Sequence[int] = (1, 3, 224, 224), *, convention: str = "standard") -> Cost:
    """Count what one forward pass of a network costs in evaluation mode.

    Nothing is computed: the network runs on tensors without memory, and is left as it was (weights, buffers, mode,
    device, random state).

    * ``macs``: multiply-adds of convolutions and matrix products; biases are none.
    * ``flops``, standard convention: 2 for each multiply-add, and for every other operation one for each element of
      its output or of its largest input, whichever has more (so a sum or a pool costs one for each element that goes
      in). Batch norm and addcmul are a multiply and an add, so 2; layer and group norm, which take their statistics
      from the map, 5; variances 4. Sigmoid, exp and the like are one. Copies, padding and indexing are none.
    * ``flops``, convention ``"klomp"``: the rule behind Klomp et al. 2023, Table 2, errors included; see docs/cost.md.
    * ``bytes_moved``: every operation reads each of its tensors once, parameters too, and writes its results once,
      in their own precision, as PyTorch does without a compiler and as if no cache kept anything in between. A
      broadcast tensor is read once, at its small size. Views move nothing.

    Args:
        model: maps images (N, C, H, W) to anything; or signals (N, C, L), or volumes (N, C, D, H, W).
        input_size: shape of the images.
        convention: ``"standard"`` or ``"klomp"``; decides ``flops`` alone.

    Returns:
        Raw counts, in total and for each module.

    Raises:
        RecalibError: for an input size that is not three to five positive numbers, an unknown convention, or a module
            that the convention has no rule for.
        WorkFailed: for a network that cannot run on images of this size, or whose work depends on what they show.
    """
    require_module(model, "cost")
    size = _positive(input_size)
    if convention not in CONVENTIONS:
        raise unknown("convention", convention, CONVENTIONS)
    if isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel):
        model = model.module
    meter = Meter(model, CONVENTIONS[convention])
    try:
        _run_without_memory(model, size, meter)
    except RecalibError:
        raise
    except (DataDependentOutputException, DynamicOutputShapeException) as error:
        reason = f"what it does depends on what the images show ({error})"
        raise WorkFailed(f"{type(model).__name__} has no fixed cost on images of size {size}: {reason}") from error
    except Exception as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise WorkFailed(f"{type(model).__name__} cannot run on images of size {size}: {reason}") from error
    modules = {
        name: _module_cost(module, meter.within[name], meter.own[name]) for name, module in model.named_modules()
    }
    total = modules[""]
    return Cost(total.params, total.macs, total.flops, total.bytes_moved, modules)


def _positive(input_size: Sequence[int]) -> tuple[int, ...]:
    size = tuple(input_size) if isinstance(input_size, Sequence) else (input_size,)
    if not 3 <= len(size) <= 5 or not all(isinstance(n, Integral) and n > 0 for n in size):
        raise RecalibError(f"input_size={input_size!r}: positive numbers (N, C, H, W), such as (1, 3, 224, 224)")
    return tuple(int(n) for n in size)


def _run_without_memory(model: nn.Module, size: tuple[int, ...], meter: Meter) -> None:
    fake = FakeTensorMode(allow_non_fake_inputs=True)
    # by module, each once: `functional_call` would leave its own tensors in one that has two names
    real = [
        (f"{name}.{key}" if name else key, tensor)
        for name, module in model.named_modules()
        for key, tensor in [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]
    ]
    first = next((tensor for _, tensor in real if tensor.is_floating_point()), torch.empty(0))
    with torch.inference_mode(False), torch.no_grad(), _evaluation_mode(model), _constants(model, fake):
        state: dict[str, Tensor] = {name: fake.from_tensor(tensor) for name, tensor in real}
        with fake:
            images = torch.empty(size, dtype=first.dtype, device=first.device)
            with meter.attached():
                functional_call(model, state, (images,), tie_weights=False)


@contextmanager
def _evaluation_mode(model: nn.Module) -> Iterator[None]:
    # The flag itself rather than eval(), which networks override to do more.
    modes = {module: module.training for module in model.modules()}
    try:
        for module in modes:
            module.training = False
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode


@contextmanager
def _constants(model: nn.Module, fake: FakeTensorMode) -> Iterator[None]:
    """Plain tensors that modules hold, such as a YOLO's strides, keep their values; what a pass writes is undone."""
    before = {module: dict(module.__dict__) for module in model.modules()}
    known = fake.fake_tensor_converter.from_real_tensor
    try:
        for module, attributes in before.items():
            plain = {key: value for key, value in attributes.items() if isinstance(value, Tensor)}
            # copies: of a view there are no constants
            module.__dict__.update({key: known(fake, v.clone(), make_constant=True) for key, v in plain.items()})
        yield
    finally:
        for module, attributes in before.items():
            module.__dict__.clear()
            module.__dict__.update(attributes)


def _module_cost(module: nn.Module, within: Counter[str], own: Counter[str]) -> ModuleCost:
    return ModuleCost(
        **_counts(module.parameters(), within),
        kind=type(module).__name__,
        own=Counts(**_counts(module.parameters(recurse=False), own)),
    )


def _counts(parameters: Iterator[nn.Parameter], counted: Counter[str]) -> dict[str, int]:
    params = sum(p.numel() for p in parameters)
    return {"params": params, **{key: counted[key] for key in ("macs", "flops", "bytes_moved")}}
