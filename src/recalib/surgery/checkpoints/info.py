"""`inspect_checkpoint`: what a checkpoint is, without loading it into anything."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from recalib.surgery.checkpoints.checkpoint import understand
from recalib.surgery.checkpoints.compare import Differences, compare, without_memory
from recalib.surgery.checkpoints.files import Source, read
from recalib.surgery.checkpoints.format import Normalization
from recalib.surgery.checkpoints.networks import classifier_of, num_classes_of
from recalib.surgery.insert import repeat_
from recalib.surgery.insertion import Insertion


@dataclass(frozen=True)
class CheckpointInfo:
    """Findings of `inspect_checkpoint`.

    Attributes:
        format: name of the format, such as ``"klomp"``.
        source: whose checkpoints have this format.
        architecture: the network as `recalib.models.create_model` names it, or None where it cannot be told.
        attention: names of the mechanisms, or None.
        modules: number of attention modules.
        kernels: sizes, one a stage, or one a module where they differ within a stage; None where attention has none.
        num_classes: outputs of the classifier; None for a backbone.
        normalization: mean and std of the input images in [0, 1], RGB, or None where they cannot be told.
        missing: keys of the network that the checkpoint does not have.
        unexpected: keys of the checkpoint that the network does not have.
        differing: keys whose shapes differ, with both shapes.
        metadata: what the file says beside its tensors.
    """

    format: str
    source: str
    architecture: str | None
    attention: str | None
    modules: int
    kernels: tuple[int, ...] | None
    num_classes: int | None
    normalization: Normalization | None
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    differing: tuple[str, ...]
    metadata: dict[str, Any]


def inspect_checkpoint(source: Source, *, model: nn.Module | None = None) -> CheckpointInfo:
    """Look at a checkpoint: whose format, which network and attention, and whether everything fits.

    Args:
        source: a file, or a mapping such as `torch.load` returns.
        model: a network to compare with, in place of the one that the checkpoint shows; it is left as it is.

    Raises:
        RecalibError: in one line, for what is no checkpoint, or has attention that is unknown here.
    """
    checkpoint = understand(read(source))
    network = None if model is None else without_memory(model)
    if network is None and checkpoint.architecture is not None:
        network = checkpoint.architecture.outline(checkpoint.num_classes)
    differences, insertion = Differences(), Insertion((), 0)
    if network is not None:
        insertion = repeat_(network, checkpoint.insertion(network))
        differences = compare(network, checkpoint.tensors)
    return CheckpointInfo(
        format=checkpoint.format,
        source=checkpoint.source,
        architecture=None if checkpoint.architecture is None else str(checkpoint.architecture),
        attention=", ".join(sorted({attended.name for attended in checkpoint.attended.values()})) or None,
        modules=len(checkpoint.attended),
        kernels=_kernels(insertion),
        num_classes=_num_classes(network, checkpoint.tensors),
        normalization=checkpoint.normalization,
        missing=differences.missing,
        unexpected=differences.unexpected,
        differing=differences.differing,
        metadata=checkpoint.metadata,
    )


def _num_classes(network: nn.Module | None, tensors: Mapping[str, Tensor]) -> int | None:
    classifier = None if network is None else classifier_of(network)
    weight = None if classifier is None else tensors.get(f"{classifier[0]}.weight")
    return num_classes_of(tensors) if weight is None else weight.shape[0]


def _kernels(insertion: Insertion) -> tuple[int, ...] | None:
    sized = [placement for placement in insertion.placements if "kernel_size" in placement.options]
    sizes = [(placement.site.stage, placement.options["kernel_size"]) for placement in sized]
    by_stage = dict(sizes)
    if all(by_stage[stage] == size for stage, size in sizes):
        return tuple(by_stage.values()) or None
    return tuple(size for _, size in sizes)
