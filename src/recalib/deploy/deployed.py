"""A module that runs a graph, and is in every other respect the module that it was."""

import copy
import inspect
from collections import Counter
from collections.abc import Callable
from types import ModuleType
from typing import Any, Self

import torch
from torch import fx, nn

from recalib.attention import Attention, PlainAttention
from recalib.errors import RecalibError
from recalib.ops.capture import is_observed

NORMS_BY_NAME = ("FrozenBatchNorm2d", "BatchNormAct2d", "SyncBatchNormAct")  # not imported for a name


class Deployed(nn.Module):
    """Mixed into the class of a module whose forward is a graph; one class for each such module.

    The module keeps its class as a base, its children, attributes, methods and hooks: who reads
    ``encoder.output_stride`` or calls ``backbone.forward_features`` finds what was there. Its children are those that
    the graph calls, so both ways through the module give the same.

    Attributes:
        fx_graph: the graph, where it runs one. Not kept in a pickle, which has its code.
    """

    fx_graph: fx.Graph
    _plain: type[nn.Module]
    _code: tuple[str, dict[str, Any]] | None

    def train(self, mode: bool = True) -> Self:
        """Inference only.

        Raises:
            RecalibError: for training.
        """
        if mode:
            name = self._plain.__name__
            raise RecalibError(f"this {name} is deployed, for inference: train the model it was made of, then deploy")
        return super().train(False)

    def __reduce_ex__(self, protocol: Any) -> Any:
        code = None
        if self._code is not None:
            source, names = self._code
            code = source, {k: _Imported(v.__name__) if isinstance(v, ModuleType) else v for k, v in names.items()}
        reduced: Any = super().__reduce_ex__(protocol)
        state = {k: v for k, v in reduced[2].items() if k != "fx_graph"}
        return _restored, (self._plain, code), state

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        other: Self = _restored(self._plain, self._code)
        memo[id(self)] = other
        other.__dict__.update({k: copy.deepcopy(v, memo) for k, v in self.__dict__.items() if k != "fx_graph"})
        if "fx_graph" in self.__dict__:
            set_graph(other, copy.deepcopy(self.fx_graph))
        return other


class _Imported(str):
    """Name of a module in a pickle."""


def _restored(plain: type[nn.Module], code: tuple[str, dict[str, Any]] | None) -> Any:
    if code is not None:
        source, names = code
        imported = {k: _import(v) if isinstance(v, _Imported) else v for k, v in names.items()}
        code = source, imported
    module = plain.__new__(plain)
    module.__class__ = _class(plain, code)
    return module


def _import(name: str) -> ModuleType:
    import importlib

    return importlib.import_module(name)


def _class(plain: type[nn.Module], code: tuple[str, dict[str, Any]] | None) -> type[Deployed]:
    body: dict[str, Any] = {"_plain": plain, "_code": code, "__module__": plain.__module__, "__doc__": plain.__doc__}
    if code is not None:
        body["forward"] = _forward(plain, *code)
    made: type[Deployed] = type(plain.__name__, (Deployed, plain), body)
    return made


def _forward(plain: type[nn.Module], source: str, names: dict[str, Any]) -> Callable[..., Any]:
    """The graph's forward; where the plain one can be called in more ways, these go there."""
    namespace = dict(names)
    exec(compile(source, f"<deployed {plain.__name__}>", "exec"), namespace)
    run: Callable[..., Any] = namespace["forward"]
    needed = len(inspect.signature(run).parameters) - 1
    if list(inspect.signature(run).parameters) == list(inspect.signature(plain.forward).parameters):
        return run

    def forward(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        if len(args) == needed and not kwargs:
            return run(self, *args)
        return plain.forward(self, *args, **kwargs)

    return forward


def seal(module: nn.Module) -> Deployed:
    """Make a module `Deployed` that runs its own forward."""
    if not isinstance(module, Deployed):
        module.__class__ = _class(type(module), None)
    assert isinstance(module, Deployed)
    return module


def set_graph(module: nn.Module, graph: fx.Graph) -> Deployed:
    """Make a module run a graph over its own children, from now on."""
    sealed = seal(module)
    graph.owning_module = sealed  # type: ignore[assignment]  # whoever has submodules will do
    code = graph.python_code("self")
    sealed.__class__ = _class(sealed._plain, (code.src, code.globals))
    sealed.__dict__["fx_graph"] = graph
    return sealed


def stays_whole(module: nn.Module) -> bool:
    """True if a module is one step of a network, whatever is inside: attention, and norms with more than a norm."""
    return isinstance(module, (Attention, PlainAttention)) or type(module).__name__ in NORMS_BY_NAME


class Tracer(fx.Tracer):
    """Sees a network down to torch's own layers, to attention, and to modules that someone hooked into.

    Only arguments that a forward must be given are symbols; the others keep their defaults.
    """

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """True if a module becomes one node."""
        if stays_whole(m) or is_observed(m):
            return True
        return super().is_leaf_module(m, module_qualified_name)

    def create_args_for_root(
        self, root_fn: Callable[..., Any], is_module: bool, concrete_args: Any = None
    ) -> tuple[Any, list[Any]]:
        """The module itself, and a placeholder for each argument that it must be given."""
        args: list[Any] = [self.root]
        for parameter in list(inspect.signature(root_fn).parameters.values())[1:]:
            kind = parameter.kind
            given = parameter.default is parameter.empty and kind in (
                parameter.POSITIONAL_ONLY,
                parameter.POSITIONAL_OR_KEYWORD,
            )
            if given or (kind is parameter.VAR_POSITIONAL and len(args) == 1):
                args.append(self.create_proxy("placeholder", parameter.name, (), {}))
        return root_fn, args


def traced(module: nn.Module) -> fx.Graph:
    """The graph of a module's forward in its present mode; the module is left as it was.

    Raises:
        fx.proxy.TraceError, TypeError, ...: whatever control flow over data raises in symbolic tracing, and a forward
            that leaves something in the module, which a graph would not.
    """
    if "forward" in module.__dict__:
        raise TypeError("its forward was replaced")
    inside = list(module.modules())
    before = [_state(m) for m in inside]
    try:
        graph = Tracer().trace(module)
    finally:
        changed = []
        for m, (attributes, tables) in zip(inside, before, strict=True):
            if {k: id(v) for k, v in m.__dict__.items()} != {k: id(v) for k, v in attributes.items()}:
                changed.append(type(m).__name__)
            own: tuple[dict[str, Any], ...] = (m._parameters, m._buffers, m._modules)
            for table, held in zip(own, tables, strict=True):
                table.clear()
                table.update(held)
            m.__dict__.clear()
            m.__dict__.update(attributes)
    if changed:
        raise TypeError(f"the forward of {changed[0]} changes the module")
    return graph


def _state(m: nn.Module) -> tuple[dict[str, Any], tuple[dict[str, Any], ...]]:
    return dict(m.__dict__), (dict(m._parameters), dict(m._buffers), dict(m._modules))


def references(model: nn.Module) -> Counter[int]:
    """Number of names that each module, by its id, has in a model."""
    return Counter(id(child) for parent in model.modules() for child in parent._modules.values())


class Folded(nn.Identity):
    """The rest of a batch norm that a convolution took in: passes maps on.

    Whoever folds norms by their statistics, as ultralytics' ``fuse`` does, finds those of the identity.

    Args:
        norm: the norm.
    """

    weight: torch.Tensor
    bias: torch.Tensor
    running_mean: torch.Tensor
    running_var: torch.Tensor

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        mean, self.eps = norm.running_mean, 0.0
        assert isinstance(mean, torch.Tensor)
        self.num_features = len(mean)
        for name, value in (("weight", 1), ("bias", 0), ("running_mean", 0), ("running_var", 1)):
            self.register_buffer(name, torch.full_like(mean, value), persistent=False)
