"""A copy of a network for inference, in the form that its runtime runs fastest."""

import copy
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, get_args

import torch
from torch import Tensor, fx, nn
from torch.utils._pytree import tree_flatten, tree_map

from recalib.deploy.deployed import Deployed, references, seal, set_graph, stays_whole, traced
from recalib.deploy.forms import Form, form_by_rule, forms_of
from recalib.deploy.graph import finish, shapes_of, simplify
from recalib.deploy.rewrite import rewrite, work_in_place
from recalib.deploy.sites import TailSite, Target, find_sites
from recalib.errors import RecalibError, WorkFailed, unknown
from recalib.surgery import example_input, refuse_finished

TOLERANCE = 1e-4  # of the self-check, relative to the largest output, in float32
TOLERANCE_HALF = {torch.float16: 2e-2, torch.bfloat16: 1e-1}  # where folded weights themselves are rounded
TOLERANCE_FLOAT64 = 1e-9  # where rounding decides what a network gives, such as how many boxes, it is asked in float64

Calls = dict[str, list[tuple[Any, ...] | str]]
"""For each module by name how it was called: its arguments, tensors without data; or why a graph cannot be."""


@dataclass(frozen=True)
class Deployment:
    """Record of `deploy`.

    Attributes:
        target: the runtime.
        input_size: shape of the example.
        parts: names of the parts of the network that were rewritten as a graph; "" is the whole.
        left: names of the parts that were not, each with the reason.
        forms: the form of each attention module in a part, by name.
        difference: the largest of the outputs on the example, relative to the largest output; None if unchecked.
    """

    target: str
    input_size: tuple[int, ...]
    parts: tuple[str, ...] = ()
    left: dict[str, str] = field(default_factory=dict)
    forms: dict[str, Form] = field(default_factory=dict)
    difference: float | None = None


def deploy(
    model: nn.Module,
    input_size: Sequence[int] | Tensor | None = None,
    *,
    target: Target = "eager",
    measure: bool = False,
    check: bool = True,
) -> nn.Module:
    """A copy of a network for inference; the same function, exact up to rounding.

    Batch norms are folded into convolutions. Attention after a 1x1 convolution is computed from that convolution's
    input where reading it is cheaper (see `gate_first_pays`), and takes the form that the target's own fusions leave
    whole. The copy is an instance of the model's class, with its attributes, methods, hooks and children. Where
    symbolic tracing cannot see through a part, its children are rewritten instead; ``.about`` says what was done.

    Args:
        model: any network; it is not changed. On a GPU in eager mode some forms run kernels of this package, so a
            network for a GPU is best deployed there.
        input_size: (N, C, H, W) of the images it will see, or an example of them; also (N, C, L) and (N, C, D, H, W).
            By default what the network was made for, or 224 x 224. The choice of forms depends on it, not the
            function, except for ``"onnxruntime"``, whose form holds for this H and W.
        target: the runtime, ``"eager"``, ``"compile"``, ``"onnxruntime"``, ``"openvino"`` or ``"tensorrt"``.
        measure: choose the form of each kind of site by timing whole networks in the target, not by the rule; for a
            network that can be traced as a whole.
        check: compare the copy with the model on a random input, and warn and return a plain copy if they differ.

    Returns:
        An ``nn.Module`` in evaluation mode whose parameters need no gradient, and that refuses to be trained.

    Raises:
        RecalibError: for an unknown target, an input size that is none, and a model that is wrapped, compiled or
            scripted.
        WorkFailed: for a network that does not run on this input.

    Example::

        >>> deployed = deploy(model, (1, 3, 224, 224), target="openvino")
    """
    if target not in get_args(Target):
        raise unknown("target", target, get_args(Target))
    refuse_unfit(model, "deploy")
    example = _example(model, input_size)
    copied = copy.deepcopy(model).eval().requires_grad_(False)
    expected, calls = _observed(copied, example)
    deployed, done = _checked(copied, calls, example, expected, target, measure, check)
    if measure and done.parts != ("",):
        warnings.warn(
            f"deploy: measure=True is for networks that can be traced as a whole; {type(model).__name__} is not, "
            "and the forms of its parts are those of the rule",
            stacklevel=2,
        )
    deployed.__dict__["about"] = done
    return deployed


def _checked(
    model: nn.Module, calls: Calls, example: Tensor, expected: Any, target: Target, measure: bool, check: bool
) -> tuple[nn.Module, Deployment]:
    """The rewritten copy: made with care where its graphs differ or do not run, and else the model as it is."""
    difference = float("inf")
    for careful in (False, True):
        try:
            deployed, done = _rewritten(copy.deepcopy(model), calls, example, target, measure, careful)
        except WorkFailed:  # the network runs: it is a graph that does not
            continue
        if not check:
            return deployed, done
        difference = _difference(model, deployed, example, expected)
        if difference <= _tolerance(example):
            return deployed, replace(done, difference=difference)
    how = "does not run" if difference == float("inf") else f"differs by {difference:.1e}"
    warnings.warn(f"deploy: {type(model).__name__} in graphs {how}; it is left as it is", stacklevel=3)
    reason = f"it {how} in graphs"
    return seal(model), Deployment(target, tuple(example.shape), left={"": reason}, difference=0.0)


def refuse_unfit(model: nn.Module, verb: str) -> None:
    """Do nothing for a model that can be copied and run.

    Raises:
        RecalibError: for one that is wrapped, compiled, ..., that has no weights yet, or lies on several devices.
    """
    refuse_finished(model, verb)
    devices = sorted({str(tensor.device) for tensor in (*model.parameters(), *model.buffers())})
    if "meta" in devices:
        raise RecalibError(
            f"{type(model).__name__} has weights without data (device meta): load them, then call {verb}"
        )
    if len(devices) > 1:
        raise RecalibError(
            f"{type(model).__name__} is on several devices ({', '.join(devices)}): move it to one, then call {verb}"
        )


def assemble(graph: Deployed, example: Tensor, target: Target, choices: dict[tuple[int, int], Form]) -> Deployed:
    """The network with every site in its form.

    Args:
        graph: traced and folded; it is changed.
        example: an input (N, C, H, W).
        target: the runtime.
        choices: a form by (channels, H*W) of a site; where it says nothing that the site can take, the rule decides.
    """
    return _assemble(graph, chosen_forms(sites_of(graph, example), target, example.device, choices), target)


def chosen_forms(
    sites: Sequence[TailSite], target: Target, device: torch.device, choices: dict[tuple[int, int], Form]
) -> list[tuple[TailSite, Form]]:
    """The form of each site: the one chosen, where the site can take it, else the rule's."""
    chosen = []
    for site in sites:
        form = choices.get(key(site))
        if form is None or form not in forms_of(site, target):
            form = form_by_rule(site, target, device)
        chosen.append((site, form))
    return chosen


def _assemble(graph: Deployed, forms: Sequence[tuple[TailSite, Form]], target: Target) -> Deployed:
    for site, form in forms:
        rewrite(graph, site, target, form)
    if target == "eager":
        work_in_place(graph)
    finish(graph).requires_grad_(False)
    return graph


def key(site: TailSite) -> tuple[int, int]:
    """Common to sites of the same kind: channels and H*W."""
    return site.attention.channels, site.size


def sites_of(graph: Deployed, *inputs: Any) -> list[TailSite]:
    """Sites of a graph at this input.

    Raises:
        WorkFailed: where the network does not run on it.
    """
    try:
        shapes = shapes_of(graph, *inputs)
    except Exception as error:  # a graph of what looks at types or values can end in any
        raise _does_not_run(inputs[0], error) from None
    return find_sites(graph, shapes)


def _example(model: nn.Module, given: Sequence[int] | Tensor | None) -> Tensor:
    like = next(model.parameters(), torch.empty(0))
    if isinstance(given, Tensor):
        return given.detach().to(like.device)
    if given is None:
        return example_input(model)
    size = tuple(given)
    if not 3 <= len(size) <= 5 or min(size) < 1:
        raise RecalibError(f"input_size={given}: deploy takes (N, C, H, W), such as (1, 3, 224, 224), or a tensor")
    return torch.randn(size, generator=torch.Generator().manual_seed(0)).to(like)


def _observed(model: nn.Module, example: Tensor) -> tuple[Any, Calls]:
    """The output on an example, and the calls of every module that has children."""
    calls: Calls = {}

    def note(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        what: tuple[Any, ...] | str = tree_map(_without_data, args)
        odd = [*kwargs, *(type(leaf).__name__ for leaf in tree_flatten(args)[0] if not isinstance(leaf, Tensor))]
        if odd or not args:
            what = f"called with {odd[0] if odd else 'nothing'}"
        calls.setdefault(name, []).append(what)

    handles = [
        module.register_forward_pre_hook(lambda _, args, kwargs, name=name: note(name, args, kwargs), with_kwargs=True)
        for name, module in model.named_modules()
        if any(module.children()) and not isinstance(module, torch.jit.ScriptModule)
    ]
    try:
        return _run(model, example), calls
    except Exception as error:
        raise _does_not_run(example, error) from error
    finally:
        for handle in handles:
            handle.remove()


def _without_data(value: Any) -> Any:
    return torch.empty_like(value, device="meta") if isinstance(value, Tensor) else value


def _with_data(value: Any, device: torch.device) -> Any:
    if not isinstance(value, Tensor):
        return value
    if value.is_floating_point():
        return torch.randn(value.shape, generator=torch.Generator().manual_seed(0)).to(device, value.dtype)
    return torch.zeros(value.shape, dtype=value.dtype, device=device)


def _run(model: nn.Module, *inputs: Any) -> Any:
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        return model(*inputs)


def _does_not_run(example: Any, error: Exception) -> WorkFailed:
    reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
    return WorkFailed(f"the network does not run on an input of {tuple(example.shape)}: {reason}")


def _rewritten(
    model: nn.Module, calls: Calls, example: Tensor, target: Target, measure: bool, careful: bool
) -> tuple[nn.Module, Deployment]:
    """The model with its parts as graphs; it is changed.

    Args:
        model: a copy, in evaluation mode.
        calls: of the model on the example.
        example: an input.
        target: the runtime.
        measure: whether to time forms, where the model is one part.
        careful: whether to hold the graph of each part to the part.
    """
    names, left, forms = references(model), dict[str, str](), dict[str, Form]()
    parts = dict(_parts(model, "", calls, example.device, careful, left, set()))
    for name, part in parts.items():
        simplify(part, names)
        choices: dict[tuple[int, int], Form] = {}
        if name == "" and measure:
            from recalib.deploy.measure import choose

            choices = choose(part, example, target)
        called = calls[name]
        inputs = [_with_data_all(call, example.device) for call in called]
        here: Target = "openvino" if target == "onnxruntime" and len(set(map(_shapes, called))) > 1 else target
        chosen = chosen_forms(sites_of(part, *inputs[0]), here, example.device, choices)
        forms.update({f"{name}.{site.node.target}".removeprefix("."): form for site, form in chosen})
        _assemble(part, chosen, here)
    return seal(model).requires_grad_(False), Deployment(target, tuple(example.shape), tuple(parts), left, forms)


def _with_data_all(call: tuple[Any, ...] | str, device: torch.device) -> tuple[Any, ...]:
    assert not isinstance(call, str)
    return tuple(tree_map(lambda value: _with_data(value, device), call))


def _shapes(call: tuple[Any, ...] | str) -> tuple[Any, ...]:
    return tuple(value.shape for value in tree_flatten(call)[0])


def _parts(
    module: nn.Module,
    name: str,
    calls: Calls,
    device: torch.device,
    careful: bool,
    left: dict[str, str],
    seen: set[int],
) -> Iterator[tuple[str, Deployed]]:  # fmt: skip
    """Make a module run its graph, or else those of its children that can; each with its name."""
    kind = type(module)
    opaque = kind.__module__.startswith("torch.nn.") and not kind.__module__.endswith("container")
    if id(module) in seen or opaque or stays_whole(module) or isinstance(module, torch.jit.ScriptModule):
        return
    seen.add(id(module))
    inner: list[tuple[str, nn.Module]] = list(module.named_children())
    if name in calls:
        try:
            part = _as_graph(module, calls[name], device, careful)
        except Exception as error:  # whatever control flow over data raises
            left[name] = (str(error).strip() or type(error).__name__).splitlines()[0].partition(". ")[0]
        else:
            yield name, part
            called = {str(node.target) for node in part.fx_graph.nodes if node.op == "call_module"}
            inner = [(target, part.get_submodule(target)) for target in sorted(called)]
    for child_name, child in inner:
        if any(child.children()):
            whole = f"{name}.{child_name}".removeprefix(".")
            yield from _parts(child, whole, calls, device, careful, left, seen)


def _as_graph(module: nn.Module, called: list[tuple[Any, ...] | str], device: torch.device, careful: bool) -> Deployed:
    for call in called:
        if isinstance(call, str):
            raise TypeError(call)
    graph = traced(module)
    needed = sum(node.op == "placeholder" for node in graph.nodes)
    if any(len(call) != needed for call in called):
        raise TypeError("called with optional arguments")
    if careful:
        inputs = _with_data_all(called[0], device)
        expected = _run(module, *inputs)
        with torch.no_grad():
            found = fx.Interpreter(module, graph=graph).run(*inputs)
        if tree_difference(found, expected) > _tolerance(tree_flatten(inputs)[0][0]):
            raise TypeError("its graph gives something else")
    return set_graph(module, graph)


def _difference(model: nn.Module, deployed: nn.Module, example: Tensor, expected: Any) -> float:
    """Distance of the outputs; in float64, where they are apart in the model's own precision."""
    try:
        difference = tree_difference(_run(deployed, example), expected)
        if difference <= _tolerance(example) or not example.is_floating_point():
            return difference
        exact = [copy.deepcopy(network).double() for network in (deployed, model)]
        found, expected = (_run(network, example.double()) for network in exact)
    except Exception:  # it fails where the model does not, or is not made for float64
        return float("inf")
    in_float64 = tree_difference(found, expected)
    return in_float64 if in_float64 <= TOLERANCE_FLOAT64 else max(difference, in_float64)


def _tolerance(like: Tensor) -> float:
    return TOLERANCE_HALF.get(like.dtype, TOLERANCE)


def tree_difference(found: Any, expected: Any) -> float:
    """The largest |found - expected| of any tensor, relative to the largest |expected| of that tensor.

    Args:
        found: tensors in tuples, lists and dictionaries.
        expected: the same; what is no tensor is left out.

    Returns:
        Infinity where structures, shapes or the places of infinite numbers differ.
    """
    a, b = tree_flatten(found), tree_flatten(expected)
    if a[1] != b[1]:
        return float("inf")
    pairs = [(x, y) for x, y in zip(a[0], b[0], strict=True) if isinstance(x, Tensor) and isinstance(y, Tensor)]
    return max((_relative(x, y) for x, y in pairs), default=0.0)


def _relative(x: Tensor, y: Tensor) -> float:
    if x.shape != y.shape:
        return float("inf")
    x, y = x.double(), y.double()
    finite = y.isfinite()
    if not torch.equal(x[~finite].nan_to_num(), y[~finite].nan_to_num()):
        return float("inf")
    if not bool(finite.any()):
        return 0.0
    x, y = x[finite], y[finite]
    error = float((x - y).abs().max())
    scale = float(y.abs().max())
    return error / scale if scale > 0 else error
