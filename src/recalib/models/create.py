"""One naming rule for every network, used by every command."""

import importlib
import inspect
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from inspect import signature
from pathlib import Path
from typing import Any

from torch import nn

from recalib.errors import RecalibError, unknown
from recalib.models.cifar_resnet import cifar_resnet

_CIFAR = re.compile(r"(?:cifar_)?resnet(?P<depth>\d+)(?P<bottleneck>_bottleneck)?(?P<pre>_v2)?(?P<pad>_pad)?")


YAML = (".yaml", ".yml")
MAKERS = {"hf-hub": "recalib.integrations.hub:create"}
"""Makers of the networks of a prefix, by path: those on the hub may have attention, which a room above this puts in."""


def create_model(name: str, *, num_classes: int | None = None, pretrained: bool = False, **options: Any) -> nn.Module:
    """Make a network by name, with fresh weights; nothing is downloaded unless `pretrained` or a hub is asked for.

    ===========================  ====================================================================================
    ``resnet50``                 timm's network of that name (every name of ``timm.list_models()``), also with the tag
                                 of its weights, ``resnet50.a1_in1k``; ``timm:`` may stand before it
    ``torchvision:NAME``         torchvision's, such as ``torchvision:mobilenet_v2``, also with the name of its weights,
                                 ``torchvision:resnet50.IMAGENET1K_V2`` or ``ResNet50_Weights.IMAGENET1K_V2``
    ``smp:unet:resnet18``        an architecture of segmentation_models.pytorch and its encoder
    ``cifar_resnet56``           `cifar_resnet`, with ``_bottleneck``, ``_v2`` and ``_pad`` (option A) in this order
    ``resnet20``                 short for ``cifar_resnet20``, where timm has no network of that name (56, 110, ...)
    ``hf-hub:OWNER/NAME``        a network on the Hugging Face hub, ours with its attention or timm's, also of a
                                 revision, ``hf-hub:OWNER/NAME@v1``
    ``yolo11n.yaml``             a network of ultralytics, from its yaml
    ``package.module:factory``   whatever a function or class of your own makes
    ===========================  ====================================================================================

    Args:
        name: the network.
        num_classes: number of classes; None for the network's own (1000, or 10 for the CIFAR ResNets).
        pretrained: load published weights: timm's by the tag, torchvision's by name, else the default ones.
        **options: further arguments of the network's constructor.

    Raises:
        RecalibError: for an unknown name, naming the nearest, or an option that the network does not take.
    """
    given = options if num_classes is None else {**options, "num_classes": num_classes}
    if is_known(name):
        return create_known(name, pretrained=pretrained, **given)
    name = name.removeprefix("timm:")
    library = name.partition(":")[0]
    with _refusals(name):
        if library in MAKERS:
            return _made(
                name, import_named(MAKERS[library], "model"), {"name": name, "pretrained": pretrained, **given}
            )
        _refuse_pretrained(name, pretrained)
        if name.endswith(YAML):
            return _create_ultralytics(name, given)
        return _made(name, import_named(name, "model"), given)


def is_known(name: str) -> bool:
    """True if a name is one for `create_known`, existing or not; others run a user's own code, or are fetched."""
    library, colon, _ = name.removeprefix("timm:").partition(":")
    return not name.endswith(YAML) and (not colon or library in ("torchvision", "smp"))


def create_known(name: str, *, pretrained: bool = False, **options: Any) -> nn.Module:
    """Make a network of timm, torchvision or this package by name.

    A name that a file holds goes here: it runs no code of a stranger's, and fetches nothing unless `pretrained`.

    Args:
        name: one of the first five of `create_model`.
        pretrained: load published weights.
        **options: arguments of the network's constructor.

    Raises:
        RecalibError: for an unknown name, naming the nearest, or an option that the network does not take.
    """
    with _refusals(name):
        return _create(name.removeprefix("timm:"), options, pretrained)


@contextmanager
def _refusals(name: str) -> Iterator[None]:
    """An unknown argument or tag, and weights that cannot be loaded, in one line."""
    try:
        yield
    except RecalibError:
        raise
    except (TypeError, RuntimeError, OSError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise RecalibError(f"model {name!r}: {reason}") from None


def _refuse_pretrained(name: str, pretrained: bool) -> None:
    if pretrained:
        raise RecalibError(f"model {name!r} has no published weights; give a checkpoint")


def _create(name: str, options: dict[str, Any], pretrained: bool) -> nn.Module:
    import timm
    from torchvision.models import list_models

    if name.startswith("smp:"):
        _refuse_pretrained(name, pretrained)
        return _create_smp(name, options)
    torchvision_names = [f"torchvision:{known}" for known in list_models()]
    if name.partition(".")[0].endswith("Weights") or name.partition(".")[0] in torchvision_names:
        return _create_torchvision(known_weights(name), options, pretrained)
    if timm.is_model(name):
        return timm.create_model(name, pretrained=pretrained, **options)
    match = _CIFAR.fullmatch(name)
    if match and (name.startswith("cifar_") or (int(match["depth"]) - 2) % (9 if match["bottleneck"] else 6) == 0):
        _refuse_pretrained(name, pretrained)
        return _create_cifar(match, options)
    if f"torchvision:{name}" in torchvision_names:
        raise RecalibError(f"unknown model {name!r}: timm has none of that name; did you mean torchvision:{name}?")
    cifar_names = [f"cifar_resnet{depth}" for depth in (20, 32, 44, 56, 110)]
    raise unknown("model", name, [*timm.list_models(), *cifar_names, *torchvision_names])


def _create_smp(name: str, options: dict[str, Any]) -> nn.Module:
    try:
        import segmentation_models_pytorch as smp
    except ImportError:
        raise RecalibError(f"{name} needs a package: pip install segmentation-models-pytorch") from None
    _, _, architecture = name.partition(":")
    architecture, _, encoder = architecture.partition(":")
    classes = {"classes": options.pop("num_classes")} if "num_classes" in options else {}
    try:
        made: nn.Module = smp.create_model(
            architecture, encoder or "resnet34", encoder_weights=None, **classes, **options
        )
    except (KeyError, ValueError) as error:
        raise RecalibError(f"model {name!r}: {str(error).splitlines()[0]}") from None
    return made


def known_weights(name: str) -> str:
    """Torchvision's own name of a network, with that of its weights if they are named.

    ``resnet50.IMAGENET1K_V2`` of ``torchvision:resnet50.IMAGENET1K_V2`` and of ``ResNet50_Weights.IMAGENET1K_V2``.

    Raises:
        RecalibError: for weights of no network.
    """
    from torchvision.models import get_model_builder, get_model_weights, list_models

    plain = name.removeprefix("torchvision:")
    kind, _, tag = plain.partition(".")
    if not kind.endswith("Weights"):
        return plain
    # a network that another package registers need not have weights
    weighted = (known for known in list_models() if "weights" in signature(get_model_builder(known)).parameters)
    builders = {get_model_weights(known).__name__: known for known in weighted}
    if kind not in builders:
        raise unknown("weights of torchvision", kind, builders)
    return f"{builders[kind]}.{tag}"


def import_named(path: str, kind: str) -> Any:
    """The object of ``package.module:name``, looked for in the working directory, too.

    Only for what a user typed: a file must never decide what is imported.

    Raises:
        RecalibError: where there is no such module or name.
    """
    module, _, names = path.partition(":")
    try:
        with _working_directory():
            found: Any = importlib.import_module(module)
        for part in names.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError, ValueError) as error:
        raise RecalibError(f"{kind} {path!r}: {error}; give package.module:name") from None
    return found


@contextmanager
def _working_directory() -> Iterator[None]:
    here = str(Path.cwd())
    sys.path.append(here)
    try:
        yield
    finally:
        sys.path.remove(here)


def _made(name: str, factory: Any, options: dict[str, Any]) -> nn.Module:
    made = factory(**options) if callable(factory) and not isinstance(factory, nn.Module) else factory
    if not isinstance(made, nn.Module):
        raise RecalibError(f"model {name!r} makes a {type(made).__name__}, not an nn.Module")
    return made


def _create_ultralytics(name: str, options: dict[str, Any]) -> nn.Module:
    try:
        from ultralytics import YOLO
    except ImportError:
        raise RecalibError(
            f"model {name!r}: ultralytics is not installed (pip install ultralytics, AGPL-3.0)"
        ) from None
    if options:
        raise RecalibError(f"model {name!r}: a yaml takes no options, got {', '.join(options)}")
    network: Any = YOLO(name).model
    assert isinstance(network, nn.Module)
    return network


def _create_torchvision(name: str, options: dict[str, Any], pretrained: bool) -> nn.Module:
    from torchvision.models import get_model_builder, get_model_weights

    name, _, tag = name.partition(".")
    build = get_model_builder(name)
    known = [weights.name for weights in get_model_weights(name)]
    if tag and tag not in known:
        raise unknown(f"weights of torchvision:{name}", tag, known)
    if "weights_backbone" in inspect.signature(build).parameters:  # detectors would download a backbone
        options = {"weights_backbone": None, **options}
    return build(weights=(tag or "DEFAULT") if pretrained else None, **options)


def _create_cifar(match: re.Match[str], options: dict[str, Any]) -> nn.Module:
    return cifar_resnet(
        int(match["depth"]),
        block="bottleneck" if match["bottleneck"] else "basic",
        version=2 if match["pre"] else 1,
        shortcut="pad" if match["pad"] else "projection",
        **options,
    )
