"""YOLO of ultralytics: attention that survives its trainer, which builds the model anew from its yaml.

`recalib.insert_`, `recalib.sites` and `recalib.deploy` work on ``YOLO(...).model`` as on any network; only training
needs a class of its own. ultralytics is the user's own: this package neither depends on it nor imports it before
`trainer` is called.
"""

import importlib
import json
import zlib
from collections.abc import Mapping
from typing import Any

from torch import nn

from recalib.errors import RecalibError
from recalib.surgery import insert_, inserted
from recalib.surgery.anew import AttendedYaml

_MADE: dict[str, type] = {}


def trainer(
    attention: Any, *, where: Any = None, identity: bool = True, base: type | None = None, **options: Any
) -> type:
    """A trainer that puts attention into the model it builds, and keeps the pretrained weights.

    The model is built from its yaml as always; then attention is inserted, and then weights are loaded, so those of a
    checkpoint with attention (``resume=True``) find their place, and a plain checkpoint leaves attention at its start:
    with ``identity`` the network predicts what it did before.

    Other processes import the class by its module and name, as ultralytics' launcher for several GPUs does, if
    attention and `where` are names, or classes and functions that can be imported.

    Args:
        attention: as `recalib.insert_` takes it.
        where: as `recalib.insert_` takes it, for the network that is trained (``YOLO(...).model``).
        identity: start every module as the exact identity.
        base: the trainer to extend, such as ``SegmentationTrainer``; ultralytics' ``DetectionTrainer`` by default.
        **options: of the attention.

    Raises:
        RecalibError: without ultralytics.

    Example::

        >>> YOLO("yolo11n.pt").train(trainer=recalib.integrations.ultralytics.trainer("eca"), data="coco8.yaml")
    """
    if base is None:
        base = _detection_trainer()
    asked = {"attention": attention, "where": where, "identity": identity, "base": base, "options": options}
    try:
        name = _encoded(asked)
    except TypeError:  # a function that nobody can import
        name = f"Trainer_here_{len(_MADE)}"
    if name not in _MADE:
        _MADE[name] = _class(name, base, attention, {"where": where, "identity": identity, **options})
    return _MADE[name]


def __getattr__(name: str) -> Any:
    """The class of a name that `trainer` made, in this process or in another one."""
    if name in _MADE:
        return _MADE[name]
    if name.startswith("Trainer_here_"):
        raise RecalibError("this trainer was made with a function that other processes cannot import by its name")
    if name.startswith("Trainer_"):
        asked = _decoded(name)
        return trainer(asked.pop("attention"), **asked.pop("options"), **asked)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def _class(name: str, base: type, attention: Any, arguments: dict[str, Any]) -> type:
    def get_model(self: Any, cfg: Any = None, weights: nn.Module | None = None, verbose: bool = True) -> nn.Module:
        """The model of the base, with attention, and then with the weights."""
        plain = dict(cfg) if isinstance(cfg, AttendedYaml) else cfg
        model: nn.Module = base.get_model(self, cfg=plain, weights=None, verbose=verbose)  # type: ignore[attr-defined]
        insertion = insert_(model, attention, **arguments)
        if verbose:
            print(f"recalib: {insertion}")
        if weights is not None:
            _refuse_other_attention(weights, model)
            model.load(weights)  # type: ignore[operator]
        return model

    def save_model(self: Any) -> Any:
        """The base's checkpoint; of a model that still has its attention.

        Raises:
            RecalibError: where something took it out.
        """
        if not inserted(self.ema.ema if self.ema else self.model).placements:
            raise RecalibError("the model that is to be saved has lost its attention")
        return base.save_model(self)  # type: ignore[attr-defined]

    doc = f"{base.__name__} with attention {attention!r}; made by `trainer`."
    body = {"get_model": get_model, "save_model": save_model, "__module__": __name__, "__doc__": doc}
    return type(name, (base,), body)


def _refuse_other_attention(weights: nn.Module, model: nn.Module) -> None:
    have = {f"{site.name}.attention" for site in inserted(weights).sites} if isinstance(weights, nn.Module) else set()
    held = {key: value.shape for key, value in weights.state_dict().items() if key.rpartition(".attention.")[1]}
    ours = {key: value.shape for key, value in model.state_dict().items()}
    lost = [key for key, shape in held.items() if ours.get(key) != shape]
    if have and lost:
        raise RecalibError(
            f"the weights have attention that this trainer would lose, as at {lost[0]}: "
            f"make the trainer as it was inserted ({inserted(weights)})"
        )


def _detection_trainer() -> type:
    try:
        from ultralytics.models.yolo.detect import DetectionTrainer
    except ImportError:
        raise RecalibError("ultralytics is not installed: pip install ultralytics (AGPL-3.0)") from None
    found: type = DetectionTrainer
    return found


def _encoded(asked: Mapping[str, Any]) -> str:
    """A name that says everything, as an identifier."""
    plain = json.dumps(_plain(asked), sort_keys=True)
    return f"Trainer_{zlib.compress(plain.encode(), 9).hex()}"


def _decoded(name: str) -> dict[str, Any]:
    try:
        asked = json.loads(zlib.decompress(bytes.fromhex(name.removeprefix("Trainer_"))))
        made: dict[str, Any] = _made(asked)
    except (ValueError, zlib.error, ImportError, AttributeError) as error:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r} ({error})") from None
    return made


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {"items": [[_plain(k), _plain(v)] for k, v in value.items()]}
    if isinstance(value, (list, tuple)):
        return {type(value).__name__: [_plain(v) for v in value]}
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    path = f"{getattr(value, '__module__', '')}:{getattr(value, '__qualname__', '')}"
    if not hasattr(value, "__qualname__") or _import(path, default=None) is not value:
        raise TypeError(f"{value!r} cannot be imported by its name")
    return {"import": path}


def _made(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    ((kind, inner),) = value.items()
    if kind == "items":
        return {_made(k): _made(v) for k, v in inner}
    if kind == "import":
        return _import(inner)
    return {"list": list, "tuple": tuple}[kind](map(_made, inner))


_REQUIRED = object()


def _import(path: str, default: Any = _REQUIRED) -> Any:
    module, _, names = path.partition(":")
    try:
        found: Any = importlib.import_module(module)
        for name in names.split("."):
            found = getattr(found, name)
    except (ImportError, AttributeError, ValueError):
        if default is _REQUIRED:
            raise
        return default
    return found
