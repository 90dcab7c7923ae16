"""`load_checkpoint`: a checkpoint of ours or of another project into a network, attention included."""

import json
import logging
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from recalib.errors import RecalibError
from recalib.surgery.checkpoints.checkpoint import Checkpoint, understand
from recalib.surgery.checkpoints.compare import Differences, compare, same_names, without_memory
from recalib.surgery.checkpoints.files import HEADER, Contents, Source, read
from recalib.surgery.checkpoints.networks import classifier_of
from recalib.surgery.finished import refuse_finished
from recalib.surgery.insert import repeat_

LOG = logging.getLogger("recalib")


def load_checkpoint(
    source: Source, *, model: nn.Module | None = None, num_classes: int | None = None, strict: bool = True
) -> nn.Module:
    """Load a checkpoint of ours or of another project, attention included; nothing in it is executed.

    Args:
        source: a file, or a mapping such as `torch.load` returns.
        model: the network to load into, in place. Attention that the checkpoint shows and the network lacks is
            inserted first. None builds the network that the checkpoint shows.
        num_classes: make the classifier anew for so many classes where the checkpoint's has another number (said
            through the logger ``recalib``).
        strict: refuse a checkpoint that lacks keys of the network or has others; False loads what fits and lists the
            rest through the logger. Tensors of another shape are refused always.

    Returns:
        The network, in the mode it was in (training, when it is built here).

    Raises:
        RecalibError: in one line, naming what does not fit. A given model is then as it was.
    """
    if model is not None:
        refuse_finished(model, "load_checkpoint")
    contents = read(source)
    if model is not None:
        contents = contents.fitting(model.state_dict().keys())
    if model is not None and same_names(model, contents.tensors):
        checkpoint = Checkpoint.of_the_network_itself(contents)
    else:
        checkpoint = understand(contents)
    if model is None:
        model = _build(checkpoint, num_classes)
    twin = without_memory(model)
    _prepare(twin, checkpoint, num_classes)
    tensors, remade = _without_classifier(checkpoint, twin) if num_classes is not None else (checkpoint.tensors, "")
    _judge(checkpoint, compare(twin, tensors), remade, strict)
    _prepare(model, checkpoint, num_classes)
    model.load_state_dict(tensors, strict=False)
    return model


def fresh_network(header: Mapping[str, Any], name: str, num_classes: int | None = None) -> nn.Module:
    """The network that a header describes, attention included, with fresh weights.

    Args:
        header: what `save_checkpoint` writes beside the tensors.
        name: of its place, for the error.
        num_classes: another number of classes.

    Raises:
        RecalibError: for a header that is broken, or does not tell its network.
    """
    checkpoint = understand(Contents(name, {}, header={HEADER: json.dumps(dict(header))}))
    network = _build(checkpoint, num_classes)
    _prepare(network, checkpoint, None)
    return network


def _build(checkpoint: Checkpoint, num_classes: int | None) -> nn.Module:
    if checkpoint.architecture is None and checkpoint.format == "recalib" and "architecture" in checkpoint.metadata:
        own = checkpoint.metadata["architecture"]
        raise RecalibError(f"{checkpoint.name}: its network is {own}, and a file runs no code; give it as model=")
    if checkpoint.architecture is None:
        raise RecalibError(
            f"{checkpoint.name}: the network cannot be told from its keys ({next(iter(checkpoint.tensors))}, ...); "
            "give it as model="
        )
    return checkpoint.architecture.build(checkpoint.num_classes if num_classes is None else num_classes)


def _prepare(network: nn.Module, checkpoint: Checkpoint, num_classes: int | None) -> None:
    """Give a network the classifier that was asked for, and the attention that the checkpoint shows."""
    if num_classes is not None:
        _set_classes(network, num_classes)
    insertion = checkpoint.insertion(network)
    if insertion.placements:
        repeat_(network, insertion)


def _set_classes(network: nn.Module, num_classes: int) -> None:
    name, old = _classifier(network)
    if old.out_features == num_classes:
        return
    like: dict[str, Any] = {"device": old.weight.device, "dtype": old.weight.dtype}
    new = nn.Linear(old.in_features, num_classes, old.bias is not None, **like)
    network.set_submodule(name, new.train(old.training))


def _without_classifier(checkpoint: Checkpoint, network: nn.Module) -> tuple[dict[str, Tensor], str]:
    """The tensors without a classifier for another number of classes, and the name of the one that starts anew."""
    name, layer = _classifier(network)
    held = checkpoint.tensors.get(f"{name}.weight")
    if held is not None and held.shape[0] == layer.out_features:
        return checkpoint.tensors, ""
    LOG.warning(
        "%s: %s starts anew with %d classes, for the checkpoint has %s",
        checkpoint.name,
        name,
        layer.out_features,
        "no classifier" if held is None else held.shape[0],
    )
    own = _keys(name)
    return {key: tensor for key, tensor in checkpoint.tensors.items() if key not in own}, name


def _keys(layer: str) -> tuple[str, str]:
    return f"{layer}.weight", f"{layer}.bias"


def _classifier(network: nn.Module) -> tuple[str, nn.Linear]:
    found = classifier_of(network)
    if found is None:
        raise RecalibError(f"{type(network).__name__} has no linear classifier, so num_classes does not apply to it")
    return found


def _judge(checkpoint: Checkpoint, found: Differences, remade: str, strict: bool) -> None:
    missing = tuple(key for key in found.missing if key not in _keys(remade))
    rest = Differences(missing, found.unexpected)
    if found.differing:
        raise RecalibError(f"{checkpoint.name}: {found.differing[0]}")
    if strict and str(rest):
        raise RecalibError(f"{checkpoint.name}: keys do not fit, {rest}; strict=False loads the others")
    for key in rest.missing:
        LOG.warning("%s: %s is missing and stays as it was", checkpoint.name, key)
    for key in rest.unexpected:
        LOG.warning("%s: %s is unexpected and is left out", checkpoint.name, key)
