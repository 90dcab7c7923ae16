"""Space of a sweep: Weights & Biases' sweep file read as it is, its names and values turned into a recipe's."""

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import yaml
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from scipy import stats

from recalib.classification import ClassificationRecipe
from recalib.errors import RecalibError, unknown
from recalib.surgery import checked_name

Goal = Literal["minimize", "maximize"]
Method = Literal["grid", "random", "bayes"]
Overrides = dict[str, Any]  # fields of a recipe and their values

# What other people's sweep files call a recipe's fields. A field's own name works too, and ``options.NAME`` is an
# option of the attention module.
FIELDS = {
    "att": "attention", "attn": "attention", "attention_type": "attention", "module": "attention",
    "arch": "model", "network": "model",
    "batch_size": "batch", "bs": "batch", "train_batch": "batch",
    "opt": "optimizer", "optim": "optimizer",
    "learning_rate": "lr", "wd": "weight_decay",
    "epoch": "epochs", "max_epoch": "epochs", "num_epochs": "epochs",
    "kernel_size": "options.kernel_size", "ksize": "options.kernel_size", "reduction": "options.reduction",
}  # fmt: skip

# What they call no attention at all; other attention modules go by the catalogue's names and aliases, in any case.
NO_ATTENTION = ("none", "baseline", "vanilla", "plain")


@dataclass(frozen=True)
class Metric:
    """A column of a trial's results, and which way is better.

    Attributes:
        name: as the sweep file has it.
        column: of the trial's last row of metrics.
        goal: which way is better.
    """

    name: str
    column: str
    goal: Goal

    def better(self, value: float) -> float:
        """A number that is the lower the better."""
        return value if self.goal == "minimize" else -value


# What sweep files call the metrics, the column each is, and its goal where the file gives none. Accuracies and losses
# are of the training images set aside: the test set chooses nothing.
_COLUMNS: dict[str, tuple[Goal, tuple[str, ...]]] = {
    "holdout_loss": ("minimize", ("loss", "val_loss", "valid_loss", "validation_loss", "holdout_loss")),
    "holdout_top1": ("maximize", ("top1", "acc", "accuracy", "val_acc", "val_accuracy", "val_top1", "holdout_top1")),
    "holdout_top5": ("maximize", ("top5", "val_top5", "holdout_top5")),
    "latency_ms": ("minimize", ("latency_ms", "latency")),
    "latency_overhead": ("minimize", ("latency_overhead", "overhead")),
}
MEASURED = ("latency_ms", "latency_overhead")  # of the deployed network, after its training
METRICS = {name: (column, goal) for column, (goal, names) in _COLUMNS.items() for name in names}


@dataclass(frozen=True)
class Parameter:
    """One dimension of a space.

    Attributes:
        name: as the sweep file has it.
        field: of the recipe, or ``options.NAME``.
        distribution: what Optuna draws from.
        value: what a drawn number stands for, in the recipe's words.
        drawn: all there is to draw, where that is finite.
    """

    name: str
    field: str
    distribution: BaseDistribution
    value: Callable[[Any], Any]
    drawn: tuple[Any, ...] | None


@dataclass(frozen=True)
class Space:
    """A sweep file.

    Attributes:
        method: of the search.
        metrics: what is optimised; more than one makes a Pareto front.
        parameters: what is varied.
        early: how trials are given up early, None for not at all: ``type`` (hyperband, median) and its settings.
        trials: the file's own ``run_cap``.
        notes: what of the file has no meaning here, a line each.
        source: the file's content, for the record.
    """

    method: Method
    metrics: tuple[Metric, ...]
    parameters: tuple[Parameter, ...]
    early: Mapping[str, Any] | None
    trials: int | None
    notes: tuple[str, ...]
    source: Mapping[str, Any]

    @property
    def followed(self) -> Metric | None:
        """The metric that is noted after every epoch: the first that trainings tell."""
        return next((metric for metric in self.metrics if metric.column not in MEASURED), None)

    @property
    def combinations(self) -> list[dict[str, Any]] | None:
        """All that can be drawn, the last parameter changing fastest; None where that is not finite."""
        drawn = [p.drawn for p in self.parameters]
        if any(d is None for d in drawn) or math.prod(len(d or ()) for d in drawn) > 100_000:
            return None
        names = [p.name for p in self.parameters]
        return [dict(zip(names, values, strict=True)) for values in itertools.product(*[d or () for d in drawn])]

    def overrides(self, drawn: Mapping[str, Any]) -> Overrides:
        """The recipe's fields that a draw sets."""
        return {p.field: p.value(drawn[p.name]) for p in self.parameters}


def read_space(path: Path, recipe: ClassificationRecipe) -> Space:
    """A sweep file, checked against the recipe that its parameters vary.

    Args:
        path: YAML in Weights & Biases' format.
        recipe: whose fields the parameters are.

    Raises:
        RecalibError: naming the first key, distribution, name or value that makes no sense.
    """
    try:
        content = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise RecalibError(f"{path} is no sweep file: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise RecalibError(f"{path} is no sweep file: it should have keys such as method, metric and parameters")
    try:
        return _space(content, recipe)
    except RecalibError as error:
        raise RecalibError(f"{path}: {error}") from None


_IGNORED = ("program", "command", "project", "entity", "name", "description", "controller")
_KEYS = ("method", "metric", "parameters", "early_terminate", "run_cap")


def _space(content: Mapping[str, Any], recipe: ClassificationRecipe) -> Space:
    for key in content:
        if key not in (*_KEYS, *_IGNORED):
            raise unknown("key", key, (*_KEYS, *_IGNORED))
    method = content.get("method", "bayes")
    if method not in get_args(Method):
        raise unknown("method", method, get_args(Method))
    parameters = tuple(_parameters(_mapping("parameters", content.get("parameters")), recipe))
    names = [p.field for p in parameters]
    for field in names:
        if names.count(field) > 1:
            twice = ", ".join(p.name for p in parameters if p.field == field)
            raise RecalibError(f"{twice}: both are the recipe's {field}")
    if method == "grid":
        for p in parameters:
            if p.drawn is None:
                raise RecalibError(f"parameter {p.name!r}: method grid needs values, not a continuous distribution")
    cap = content.get("run_cap")
    if cap is not None and not (isinstance(cap, int) and cap > 0):
        raise RecalibError(f"run_cap {cap!r}: should be a whole number from 1 up")
    metrics = _metrics(content.get("metric", {"name": "loss"}))
    early = _early(content.get("early_terminate"))
    if early and (len(metrics) > 1 or metrics[0].column in MEASURED):
        raise RecalibError("early_terminate: goes by the one metric of a training's epochs")
    ignored = [key for key in _IGNORED if key in content]
    notes = (f"{', '.join(ignored)}: ignored, recalib trains by itself",) if ignored else ()
    return Space(method, metrics, parameters, early, cap, notes, content)


def _mapping(name: str, value: Any) -> Mapping[str, Any]:
    if not isinstance(value, dict) or not value or not all(isinstance(key, str) for key in value):
        raise RecalibError(f"{name} {value!r}: should be a mapping of names")
    return value


def _metrics(given: Any) -> tuple[Metric, ...]:
    metrics = tuple(map(_metric, given if isinstance(given, list) else [given]))
    if not metrics or len({m.column for m in metrics}) < len(metrics):
        raise RecalibError("metric: give one, or a list of different ones")
    return metrics


def _metric(given: Any) -> Metric:
    spec = _mapping("metric", given)
    for key in spec:
        if key not in ("name", "goal", "target"):
            raise unknown("key of metric", key, ("name", "goal", "target"))
    name = spec.get("name")
    if name not in METRICS:
        raise unknown("metric", name, METRICS)
    column, usual = METRICS[name]
    goal = spec.get("goal", usual)
    if goal not in get_args(Goal):
        raise unknown("goal", goal, get_args(Goal))
    return Metric(name, column, goal)


_EARLY: dict[str, dict[str, Any]] = {
    "hyperband": {"min_iter": None, "max_iter": None, "s": None, "eta": 3, "strict": False},
    "median": {"min_trials": 5, "min_iter": 1},
}


def _early(given: Any) -> Mapping[str, Any] | None:
    if given is None:
        return None
    spec = _mapping("early_terminate", given)
    kind = spec.get("type")
    if kind not in _EARLY:
        raise unknown("type of early_terminate", kind, _EARLY)
    for key, value in spec.items():
        if key == "type":
            continue
        if key not in _EARLY[kind]:
            raise unknown("key of early_terminate", key, ("type", *_EARLY[kind]))
        if not isinstance(value, int) or value < 1:
            raise RecalibError(f"early_terminate, {key} {value!r}: should be a whole number from 1 up")
    made = {**_EARLY[kind], **spec}
    if kind == "hyperband" and made["min_iter"] is None and (made["max_iter"] is None or made["s"] is None):
        raise RecalibError("early_terminate: hyperband needs min_iter, or max_iter and s")
    if kind == "hyperband" and made["eta"] < 2:
        raise RecalibError(f"early_terminate, eta {made['eta']}: should be at least 2")
    return made


def _parameters(given: Mapping[str, Any], recipe: ClassificationRecipe) -> list[Parameter]:
    made = []
    for name, spec in given.items():
        if isinstance(spec, dict) and "parameters" in spec:  # W&B's nesting
            made += _parameters(_mapping(f"parameter {name!r}", spec["parameters"]), recipe)
        else:
            made.append(_parameter(name, _mapping(f"parameter {name!r}", spec), recipe))
    return made


def _parameter(name: str, spec: Mapping[str, Any], recipe: ClassificationRecipe) -> Parameter:
    field = _field(name, recipe)
    kind = spec.get("distribution") or _inferred(name, spec)
    rounded = kind.startswith("q_")
    plain = kind.removeprefix("q_")
    if plain not in _DISTRIBUTIONS or (rounded and plain in _DISCRETE):
        known = [*_DISTRIBUTIONS, *[f"q_{d}" for d in _DISTRIBUTIONS if d not in _DISCRETE]]
        raise unknown(f"distribution of parameter {name!r}", kind, known)
    needed, build = _DISTRIBUTIONS[plain]
    allowed = {"distribution", *needed, *({"q"} if rounded else ())}
    for key in spec:
        if key not in allowed:
            raise unknown(f"key of parameter {name!r}, which is {kind},", key, allowed)
    settings = {key: spec.get(key, default) for key, default in needed.items()}
    for key, value in settings.items():
        if value is None:
            raise RecalibError(f"parameter {name!r}: {kind} needs {key}")
        if isinstance(value, list):
            if not value or not all(isinstance(v, str | int | float | bool | None) for v in value):
                raise RecalibError(f"parameter {name!r}: {key} should be a list of numbers or words")
        elif plain not in _DISCRETE and (isinstance(value, bool) or not isinstance(value, int | float)):
            raise RecalibError(f"parameter {name!r}: {key} {value!r} should be a number")
    try:
        distribution, transform, drawn = build(settings)
    except (ValueError, TypeError, OverflowError, ArithmeticError) as error:
        raise RecalibError(f"parameter {name!r}: {' '.join(str(error).split())}") from None
    if rounded:
        transform, drawn = _rounding(transform, spec.get("q", 1), settings if plain == "uniform" else None)

    def in_our_words(raw: Any) -> Any:
        return _value(name, field, transform(raw), recipe)

    for raw in drawn if drawn is not None else _ends(distribution):
        in_our_words(raw)  # refused now rather than by the trial that draws it
    return Parameter(name, field, distribution, in_our_words, drawn)


def _inferred(name: str, spec: Mapping[str, Any]) -> str:
    """The distribution of a parameter that does not name one, as W&B has it."""
    if "values" in spec:
        return "categorical_w_probabilities" if "probabilities" in spec else "categorical"
    if "value" in spec:
        return "constant"
    if {"min", "max"} <= spec.keys():
        return "int_uniform" if isinstance(spec["min"], int) and isinstance(spec["max"], int) else "uniform"
    raise RecalibError(f"parameter {name!r}: should have values, value, or min and max")


Built = tuple[BaseDistribution, Callable[[Any], Any], tuple[Any, ...] | None]


def _same(raw: Any) -> Any:
    return raw


def _choices(values: Sequence[Any]) -> Built:
    return CategoricalDistribution(values), _same, tuple(dict.fromkeys(values))


def _between(low: float, high: float, *, log: bool = False) -> Built:
    return FloatDistribution(float(low), float(high), log=log), _same, None


def _quantile(of: Callable[[float], Any]) -> Built:
    """A distribution that Optuna has not: its quantile is drawn, evenly from 0 to 1."""
    return FloatDistribution(0.0, 1.0), lambda u: of(min(max(u, 1e-6), 1 - 1e-6)), None


def _weighted(s: Mapping[str, Any]) -> Built:
    values, weights = s["values"], s["probabilities"]
    if len(weights) != len(values) or min(weights) < 0 or not math.isclose(sum(weights), 1, abs_tol=1e-6):
        raise ValueError(f"probabilities {weights} should be {len(values)} numbers from 0 up with the sum 1")
    bounds = list(itertools.accumulate(weights))
    return _quantile(lambda u: next((v for v, b in zip(values, bounds, strict=True) if u < b), values[-1]))


def _number(value: float) -> float:
    return float(value)


# W&B's distributions: what each needs, with its defaults, and how it is drawn. Each but those in _DISCRETE also comes
# with q_ before its name, rounded to multiples of q.
_MIN_MAX: dict[str, Any] = {"min": None, "max": None}
_NORMAL: dict[str, Any] = {"mu": 0.0, "sigma": 1.0}
_DISTRIBUTIONS: dict[str, tuple[dict[str, Any], Callable[[Mapping[str, Any]], Built]]] = {
    "constant": ({"value": None}, lambda s: _choices([s["value"]])),
    "categorical": ({"values": None}, lambda s: _choices(s["values"])),
    "categorical_w_probabilities": ({"values": None, "probabilities": None}, _weighted),
    "int_uniform": (
        _MIN_MAX,
        lambda s: (IntDistribution(s["min"], s["max"]), _same, tuple(range(s["min"], s["max"] + 1))),
    ),
    "uniform": (_MIN_MAX, lambda s: _between(s["min"], s["max"])),
    "log_uniform": (_MIN_MAX, lambda s: _between(math.exp(s["min"]), math.exp(s["max"]), log=True)),
    "log_uniform_values": (_MIN_MAX, lambda s: _between(s["min"], s["max"], log=True)),
    "inv_log_uniform": (_MIN_MAX, lambda s: _between(math.exp(-s["max"]), math.exp(-s["min"]), log=True)),
    "inv_log_uniform_values": (_MIN_MAX, lambda s: _between(s["min"], s["max"], log=True)),
    "normal": (_NORMAL, lambda s: _quantile(lambda u: _number(stats.norm.ppf(u, s["mu"], s["sigma"])))),
    "log_normal": (
        _NORMAL,
        lambda s: _quantile(lambda u: math.exp(_number(stats.norm.ppf(u, s["mu"], s["sigma"])))),
    ),
    "beta": ({"a": None, "b": None}, lambda s: _quantile(lambda u: _number(stats.beta.ppf(u, s["a"], s["b"])))),
}
_DISCRETE = ("constant", "categorical", "categorical_w_probabilities", "int_uniform")


def _rounding(
    transform: Callable[[Any], Any], q: Any, uniform: Mapping[str, Any] | None
) -> tuple[Callable[[Any], Any], tuple[Any, ...] | None]:
    """A transform rounded to multiples of q, and all values where they lie between two bounds."""
    if isinstance(q, bool) or not isinstance(q, int | float) or q <= 0:
        raise RecalibError(f"q {q!r}: should be a number above 0")

    def rounded(raw: Any) -> Any:
        return round(transform(raw) / q) * q

    if uniform is None:
        return rounded, None
    first, last = (round(uniform[end] / q) for end in ("min", "max"))
    inside = [min(max(k * q, uniform["min"]), uniform["max"]) for k in range(first, last + 1)]
    return rounded, tuple(map(float, inside))


def _ends(distribution: BaseDistribution) -> tuple[Any, ...]:
    return (distribution.low, distribution.high) if isinstance(distribution, FloatDistribution) else ()


def _field(name: str, recipe: ClassificationRecipe) -> str:
    field = FIELDS.get(name, name)
    known = [f.name for f in fields(recipe)]
    if field not in known and not field.startswith("options."):
        raise unknown("parameter", name, [*FIELDS, *known])
    return field


def _value(name: str, field: str, value: Any, recipe: ClassificationRecipe) -> Any:
    """A sweep file's value in the recipe's words, of the field's type."""
    if field.startswith("options."):
        return value
    if field == "attention":
        return _attention(value)
    hint = get_type_hints(type(recipe))[field]
    kinds = [k for k in get_args(hint) if k is not type(None)] if type(None) in get_args(hint) else [hint]
    optional = kinds != [hint]
    if value is None and optional:
        return None
    kind = kinds[0]
    if get_origin(kind) is Literal:
        word = value.lower() if isinstance(value, str) else value
        if word not in get_args(kind):
            raise unknown(f"value of {name!r}", value, map(str, get_args(kind)))
        return word
    if kind is bool and isinstance(value, bool):
        return value
    if kind in (int, float) and isinstance(value, int | float) and not isinstance(value, bool):
        if kind is float or value == int(value):
            return kind(value)
        raise RecalibError(f"parameter {name!r}: {value!r} should be a whole number")
    if kind is str and isinstance(value, str):
        return value
    if kind is Path and isinstance(value, str):
        return Path(value)
    wanted = getattr(kind, "__name__", str(kind))
    raise RecalibError(f"parameter {name!r}: {value!r} is no value of the recipe's {field}, which is {wanted}")


def _attention(value: Any) -> str | None:
    if value is None or str(value).lower() in NO_ATTENTION:
        return None
    return checked_name(str(value))
