"""State of a call: computed or recorded, and watched or not."""

from typing import Any

import torch
from torch import fx, nn
from torch.autograd import forward_ad

_modes = torch._C._len_torch_dispatch_stack
_transforms = torch._C._functorch.peek_interpreter_stack


def is_symbolic(x: object) -> bool:
    """True if x is a symbol of `torch.fx.symbolic_trace`, which has neither shape nor type."""
    return isinstance(x, fx.Proxy)


def is_captured(x: object) -> bool:
    """True if what happens to x becomes a graph: symbolic trace, compile, export, JIT trace, ONNX."""
    return is_symbolic(x) or is_recorded()


def is_recorded() -> bool:
    """True if what happens now becomes a graph: compile, export, JIT trace, ONNX."""
    return torch.compiler.is_compiling() or torch.jit.is_tracing()


def is_transformed() -> bool:
    """True if a dispatch mode, a function transform (vmap, grad) or forward-mode autograd is to see every operator."""
    return _modes() > 0 or _transforms() is not None or forward_ad._current_level >= 0


def may_overwrite() -> bool:
    """True if maps that nobody else holds may be overwritten: no gradient wants them, and no graph has to show them."""
    return not (torch.is_grad_enabled() or is_recorded())


def is_observed(module: nn.Module) -> bool:
    """True if someone hooked into the module's calls, so that it must be called."""
    m: Any = module
    hooks = m._forward_hooks or m._forward_pre_hooks or m._backward_hooks or m._backward_pre_hooks
    return bool(hooks) or nn.modules.module._has_any_global_hook()
