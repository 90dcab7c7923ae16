"""`save_checkpoint`: a network, and what is needed to build it again, in one safetensors file."""

import io
import json
import logging
import os
import tempfile
from dataclasses import asdict
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from recalib.errors import RecalibError, WorkFailed
from recalib.surgery.checkpoints.files import HEADER
from recalib.surgery.checkpoints.identify import architecture_of, timm_config
from recalib.surgery.checkpoints.networks import Architecture, classifier_of, num_classes_of
from recalib.surgery.finished import WRAPPERS
from recalib.surgery.insertion import inserted
from recalib.version import __version__

LOG = logging.getLogger("recalib")


def save_checkpoint(model: nn.Module, path: str | PathLike[str], **metadata: Any) -> None:
    """Write a network's weights with its architecture, attention, classes and normalization beside them.

    `load_checkpoint` makes the same network of it. The file appears whole or not at all.

    Args:
        model: a network; one in DistributedDataParallel or compiled is saved as the network inside.
        path: of the file, by custom ``*.safetensors``.
        **metadata: plain data to keep with it. ``architecture``, a name that `recalib.models.create_model` takes, is
            recognised for the networks of timm, torchvision and `recalib.models`; ``normalization``, mean and std of
            the images, for those of timm.

    Raises:
        RecalibError: for metadata that is not plain data.
        WorkFailed: if the file cannot be written.
    """
    network = _inside(model)
    _write(network.state_dict(), _header(network, _num_classes(network), metadata), Path(path))


def save_backbone(model: nn.Module, path: str | PathLike[str], **metadata: Any) -> None:
    """Write a network's weights without its classifier, as detectors take a backbone.

    Args:
        model: a network, as for `save_checkpoint`.
        path: of the file: ``*.safetensors`` says what ``save_checkpoint`` says; any other is a bare state dict for
            `torch.load`.
        **metadata: as for `save_checkpoint`.

    Raises:
        RecalibError: for metadata that is not plain data.
        WorkFailed: if the file cannot be written.
    """
    network, path = _inside(model), Path(path)
    classifier = classifier_of(network)
    dropped = () if classifier is None else (f"{classifier[0]}.weight", f"{classifier[0]}.bias")
    tensors = {key: tensor.detach().cpu() for key, tensor in network.state_dict().items() if key not in dropped}
    if path.suffix == ".safetensors":
        _write(tensors, _header(network, None, metadata), path)
    else:
        buffer = io.BytesIO()
        torch.save(tensors, buffer)
        write_whole(buffer.getvalue(), path)


def _write(tensors: dict[str, Tensor], header: str, path: Path) -> None:
    from safetensors.torch import save

    # Clones, since a tensor that several keys share cannot be stored as one.
    own = {key: tensor.detach().cpu().clone(memory_format=torch.contiguous_format) for key, tensor in tensors.items()}
    write_whole(save(own, {"format": "pt", HEADER: header}), path)


def write_whole(data: bytes, path: Path) -> None:
    """Write a file in one piece: an error or a crash leaves no half of it.

    Raises:
        WorkFailed: if it cannot be written.
    """
    part = None
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
            part = Path(file.name)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        part.chmod(0o666 & ~_umask())
        part.replace(path)
    except OSError as error:
        if part is not None:
            part.unlink(missing_ok=True)
        raise WorkFailed(f"{path}: cannot be written ({error.strerror})") from None


def _header(network: nn.Module, num_classes: int | None, metadata: dict[str, Any]) -> str:
    rest = dict(metadata)
    named = rest.pop("architecture", None)
    architecture = Architecture(named) if named else architecture_of(network)
    if architecture is None:
        LOG.warning("%s is no network that is known by name; load_checkpoint will need model=", type(network).__name__)
    header = {
        "version": __version__,
        "architecture": architecture and asdict(architecture),
        "insertion": inserted(network).metadata(),
        "num_classes": num_classes,
        "normalization": rest.pop("normalization", None) or _timm_normalization(network),
        "metadata": rest,
    }
    try:
        return json.dumps(header)
    except (TypeError, ValueError) as error:
        raise RecalibError(f"metadata of a checkpoint is plain data: {error}") from None


def _num_classes(network: nn.Module) -> int | None:
    classifier = classifier_of(network)
    return num_classes_of(network.state_dict()) if classifier is None else classifier[1].out_features


def _timm_normalization(network: nn.Module) -> list[Any] | None:
    config = timm_config(network)
    return [config["mean"], config["std"]] if "mean" in config and "std" in config else None


def _inside(model: nn.Module) -> nn.Module:
    if type(model).__name__ in WRAPPERS:
        return _inside(model.module)  # type: ignore[arg-type]
    if type(model).__name__ == "OptimizedModule":
        return _inside(model._orig_mod)  # type: ignore[arg-type]
    return model


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
