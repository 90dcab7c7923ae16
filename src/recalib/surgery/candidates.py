"""Places for attention in a network that nobody has described, found in what it does in one forward pass."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from torch import nn

from recalib.surgery.watch import ADDITIONS, CONVOLUTIONS, SCALINGS, Frame, Run, Value, convolutions, has_weights

OF_TOKENS = ("linear", "layer_norm")
LAYERS = (
    *OF_TOKENS, "batch_norm", "group_norm", "instance_norm",
    *(f"conv{transposed}{dims}d" for transposed in ("", "_transpose") for dims in (1, 2, 3)),
)  # fmt: skip
FEWEST = 3  # convolutions of what is taken for a convolutional network: a transformer has one, that makes its patches


@dataclass(frozen=True)
class Candidate:
    """A module after whose output attention may go.

    Attributes:
        name: of the module.
        shape: of its output, (N, C, *spatial).
        block: name of the module that decides its stage.
    """

    name: str
    shape: tuple[int, ...]
    block: str


def residual(run: Run) -> list[Candidate]:
    """The modules that the branch ends in, before every residual addition.

    A residual addition is a sum of two maps of one shape that the module in which it happens returns, possibly after
    an activation, or adds another branch to. Its two operands come from one map; the branch is the one that passes
    through more layers with weights. Its end is the outermost module that returns it, weightless ones (an activation,
    drop-path) and scales apart. A branch that ends in a linear layer or a layer norm over the last dimension is one of
    tokens.
    """
    found: dict[str, Candidate] = {}
    for frame in run.frames:
        for end in _branches(run, frame):
            if end is not None:
                found.setdefault(end.name, Candidate(end.name, _shape(end), frame.name))
    return list(found.values())


def blocks(run: Run) -> list[Candidate]:
    """The blocks of a network: after each of them is a place.

    Modules that end in a residual addition, or that concatenate maps; where there are none, modules of a class that
    occurs more than once and holds convolutions; where there are none of these either, the last convolution, with what
    follows it, of each resolution. Of blocks within blocks the outer ones count, unless one is half of the network.
    """
    joined = [f for f in run.frames if any(True for _ in _branches(run, f))]
    joined += [_around_container(f) for f in run.frames if _concatenates(run, f)]
    kinds = [type(f.module) for f in _first_calls(run.frames)]
    repeated = [
        f for f in run.frames if kinds.count(type(f.module)) > 1 and not type(f.module).__module__.startswith("torch.")
    ]
    order = {frame: i for i, frame in enumerate(run.frames)}
    for frames in (sorted(joined, key=order.__getitem__), repeated):
        chosen = _outermost(run, [f for f in _first_calls(frames) if run.is_map(f.result) and convolutions(f.module)])
        if chosen:
            return [Candidate(f.name, _shape(f), f.name) for f in chosen]
    return _last_of_each_resolution(convs(run))


def stages(run: Run) -> list[Candidate]:
    """The outermost module that ends with the last block of each resolution."""
    return [_outwards(run, c) for c in _last_of_each_resolution(blocks(run))]


def convs(run: Run) -> list[Candidate]:
    """Every convolution of maps, with the norm and the activation that follow it; none of gates or to one channel."""
    found: dict[str, Candidate] = {}
    for frame in run.frames:
        if not isinstance(frame.module, CONVOLUTIONS) or not run.is_map(frame.result) or _shape(frame)[1] == 1:
            continue
        end, last = frame, frame.result
        while last is not None and len(last.readers) == 1:
            last = last.readers[0]
            if last.keeps_shape_of is None or last.frame is None or isinstance(last.frame.module, CONVOLUTIONS):
                break
            returning = [f for f in last.frame.outwards() if f.result is last and convolutions(f.module) <= 1]
            if returning:
                end = returning[-1]
        outer = [f for f in end.outwards() if f.result is end.result and convolutions(f.module) == 1]
        end = outer[-1] if outer else end
        found.setdefault(end.name, Candidate(end.name, _shape(end), end.name))
    return list(found.values()) if len(found) >= FEWEST else []


def _branches(run: Run, frame: Frame) -> Iterator[Frame | None]:
    """The end of each branch that a module adds, None where that is no module's result."""
    value, ends = frame.result, list[Frame | None]()
    while value is not None and value.frame is not None and value.frame.within(frame):
        if value.function in ADDITIONS and value.frame is frame and len(value.sources) == 2:
            shortcut, branch = sorted(value.sources, key=lambda source: len(_layers(source, frame)))
            if not _is_residual(run, value, shortcut, branch, frame):
                break
            ends.append(_end(run, branch, frame))
            value = shortcut
        elif value.weighted and value.function not in SCALINGS:
            break
        else:
            value = value.keeps_shape_of
    yield from reversed(ends)


def _is_residual(run: Run, total: Value, shortcut: Value, branch: Value, frame: Frame) -> bool:
    same = run.is_map(total) and shortcut.shape == branch.shape == total.shape
    deeper = len(_layers(branch, frame)) > len(_layers(shortcut, frame))
    return same and deeper and not _history(branch, frame).isdisjoint(_history(shortcut, frame))


def _end(run: Run, value: Value, frame: Frame) -> Frame | None:
    """The outermost module with weights that returns a value, or what comes before it without weights."""
    step: Value | None = value
    while step is not None and step.frame is not None and step.frame.within(frame):
        inside = [f for f in step.frame.outwards() if f.within(frame) and f is not frame]
        ends = [f for f in inside if f.result is step and any(map(has_weights, f.module.modules())) and not _scales(f)]
        if ends:
            return ends[-1] if run.is_map(step) and not _is_of_tokens(step) else None
        if step.weighted and step.function not in SCALINGS:
            return None
        step = step.keeps_shape_of
    return None


def _scales(frame: Frame) -> bool:
    """True if a module does nothing but scale, as layer scale does."""
    return frame.result is not None and frame.result.function in SCALINGS and not any(frame.module.children())


def _is_of_tokens(value: Value) -> bool:
    """True if the last layer before a value is one over the last dimension, and its features are the last one still."""
    step: Value | None = value
    while step is not None and step.function not in LAYERS:
        step = step.sources[0] if step.sources else None
    if step is None or step.function not in OF_TOKENS:
        return False
    return value.shape[-1] == step.shape[-1] or value.shape[1] != step.shape[-1]


def _history(value: Value, frame: Frame) -> set[Value]:
    """A value and all that it comes from, back to what entered the module."""
    seen, todo = {value}, [value]
    while todo:
        step = todo.pop()
        if step.frame is not None and step.frame.within(frame):
            fresh = [source for source in step.sources if source not in seen]
            seen.update(fresh)
            todo += fresh
    return seen


def _layers(value: Value, frame: Frame) -> set[nn.Module]:
    """The layers with weights that a value has passed through inside of a module."""
    steps = [v for v in _history(value, frame) if v.frame is not None and v.frame.within(frame) and v.weighted]
    return {v.frame.module for v in steps if v.frame is not None and v.frame is not frame}


def _concatenates(run: Run, frame: Frame) -> bool:
    """True if a module itself, not one inside of it, concatenates maps on the way to the one map that it returns."""
    if not run.is_map(frame.result) or frame.result is None:
        return False
    return any(
        v.function in ("cat", "concat", "concatenate") and v.frame is frame and len(v.sources) > 1
        for v in _history(frame.result, frame)
    )


def _around_container(frame: Frame) -> Frame:
    """The call itself, or the one around it where it is a list of layers, as in VoVNet."""
    while isinstance(frame.module, nn.Sequential) and frame.outer is not None and frame.outer.outer is not None:
        frame = frame.outer
    return frame


def _outermost(run: Run, frames: list[Frame]) -> list[Frame]:
    """Of calls within calls the outer ones; not one with half of the network's convolutions, if there are others."""
    total = convolutions(run.frames[-1].module)
    small = [f for f in frames if 2 * convolutions(f.module) <= total] or frames
    return [f for f in small if not any(f is not other and f.within(other) for other in small)]


def _last_of_each_resolution(found: list[Candidate]) -> list[Candidate]:
    following: list[Candidate | None] = [*found[1:], None] if found else []
    return [c for c, then in zip(found, following, strict=True) if then is None or then.shape[2:] != c.shape[2:]]


def _outwards(run: Run, candidate: Candidate) -> Candidate:
    frame = next(f for f in run.frames if f.name == candidate.name and f.result is not None)
    whole = [f for f in frame.outwards() if f.result is frame.result and f.outer is not None]
    return Candidate(whole[-1].name, candidate.shape, whole[-1].name) if whole else candidate


def _first_calls(frames: Iterable[Frame]) -> list[Frame]:
    seen: dict[str, Frame] = {}
    for frame in frames:
        seen.setdefault(frame.name, frame)
    return list(seen.values())


def _shape(frame: Frame) -> tuple[int, ...]:
    assert frame.result is not None
    return frame.result.shape


FINDERS: dict[str, Callable[[Run], list[Candidate]]] = {
    "residual": residual,
    "blocks": blocks,
    "stages": stages,
    "convs": convs,
}
