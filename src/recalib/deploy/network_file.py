"""Any network as a file for another runtime, and that file as a callable: whatever a network gives comes back."""

import copy
import json
from collections import OrderedDict
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor, nn

from recalib.deploy.deploy import deploy, refuse_unfit, tree_difference
from recalib.deploy.formats import find_format, format_of
from recalib.deploy.formats.base import AXES_OF
from recalib.errors import RecalibError, WorkFailed, unknown

STRUCTURE = "recalib.structure"  # in a file's metadata
TOLERANCE = 1e-4


@dataclass(frozen=True)
class Exported:
    """Record of `export`.

    Attributes:
        path: the file.
        form: its format.
        target: the form of `recalib.deploy` that it holds.
        outputs: names of its outputs.
        input_size: what it was made for.
        dynamic: names of the axes that are free.
        shapes: of the inputs that it was run on.
        difference: the largest |file - PyTorch| of any output, relative to the largest of that output.
    """

    path: Path
    form: str
    target: str
    outputs: tuple[str, ...]
    input_size: tuple[int, ...]
    dynamic: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    difference: float


def export(
    model: nn.Module,
    input_size: Sequence[int],
    path: str | Path,
    *,
    to: str = "onnx",
    dynamic: Collection[str] = (),
    opset: int | None = None,
    tolerance: float = TOLERANCE,
) -> Exported:
    """Deploy a network, write it to a file, and run the file against the network.

    Classifiers, segmentation networks, detectors' backbones, YOLOs: outputs may be tensors in tuples, lists and
    dictionaries, which `open_exported` gives back as they were. Images are float32. The file is there when it has
    passed, and only then. (``recalib export`` writes classifiers with labels and preprocessing.)

    Args:
        model: any network of one input; it is not changed.
        input_size: (N, C, H, W) that the file is made for; also (N, C, L) and (N, C, D, H, W).
        path: of the file.
        to: ``"onnx"``, ``"openvino"``, ``"torch-export"`` or ``"tensorrt"``.
        dynamic: axes that are to be free: ``"batch"``, ``"height"``, ``"width"``; ``"length"``, ``"depth"``.
        opset: of ONNX; None for the exporter's own choice.
        tolerance: the largest relative difference that passes.

    Raises:
        RecalibError: for a format, an axis or a suffix that does not exist.
        WorkFailed: for a network that cannot be exported, or a file that differs by more than the tolerance.

    Example::

        >>> export(model, (1, 3, 224, 224), "model.onnx", dynamic=("batch",)).difference
        3.1e-07
    """
    form, path, size = find_format(to), Path(path), tuple(input_size)
    form.require()
    if path.suffix != form.suffix:
        raise RecalibError(f"{path}: a file for {form.name} ends in {form.suffix}")
    axes = AXES_OF.get(len(size), {})
    for axis in dynamic:
        if axis not in axes:
            raise unknown("axis", axis, axes)
    free = tuple(axis for axis in axes if axis in dynamic)
    refuse_unfit(model, "export")
    reference = copy.deepcopy(model).float().cpu().eval()
    target = form.free if free else form.fixed
    example = torch.randn(size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        structure, names = _structure(reference(example), "")
    deployed = Flat(deploy(reference, size, target=target))
    # a batch of 1 would be taken for a constant where N is to be free
    shape = (max(size[0], 2), *size[1:]) if "batch" in free else size
    metadata = {STRUCTURE: json.dumps({"tree": structure, "outputs": names})}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=".export-", dir=path.parent) as folder:
            fresh = Path(folder) / path.name
            written = torch.randn(shape, generator=torch.Generator().manual_seed(0))
            form.write(deployed, written, fresh, metadata, dynamic=free, opset=opset, outputs=names)
            shapes = _shapes(shape, free)
            worst = _difference(fresh, reference, shapes)
            if not worst <= tolerance:
                raise WorkFailed(f"{path.name} differs from PyTorch by {worst:.1e}, the tolerance is {tolerance}")
            for file in sorted(Path(folder).iterdir()):  # OpenVINO's .bin before the .xml that reads it
                file.replace(path.with_name(file.name))
    except OSError as error:
        raise WorkFailed(f"{path} cannot be written: {error.strerror}") from None
    return Exported(path, form.name, target, tuple(names), size, free, tuple(shapes), worst)


def _difference(path: Path, network: nn.Module, shapes: Sequence[tuple[int, ...]]) -> float:
    """The largest relative difference of a file from the network, over random images of these shapes."""
    run, worst = open_exported(path), 0.0
    for i, shape in enumerate(shapes):
        images = torch.randn(shape, generator=torch.Generator().manual_seed(1 + i))
        with torch.no_grad():
            worst = max(worst, tree_difference(run(images), network(images)))
    return worst


def open_exported(path: str | Path) -> Callable[[Any], Any]:
    """A network in a file, run by its own runtime on the CPU.

    Args:
        path: an ``.onnx``, ``.xml`` (OpenVINO), ``.pt2`` (torch.export; only those that you trust) or ``.engine``.

    Returns:
        A callable: of a tensor it gives tensors, of an array arrays, in the structure of the network's own output.

    Raises:
        RecalibError: for another suffix, or a file that cannot be read.

    Example::

        >>> open_exported("model.onnx")(torch.randn(1, 3, 224, 224)).shape
        torch.Size([1, 1000])
    """
    path = Path(path)
    form = format_of(path)
    if form is None:
        raise RecalibError(f"{path} is no exported file: .onnx, .xml (OpenVINO) and .pt2 (torch.export) can be run")
    if not path.is_file():
        raise RecalibError(f"{path} is no file")
    form.require()
    run, metadata = form.read(path)
    tree = json.loads(metadata[STRUCTURE])["tree"] if STRUCTURE in metadata else None

    def network(images: Any) -> Any:
        x = images if isinstance(images, Tensor) else torch.from_numpy(images)
        outputs: list[Any] = list(run(x.detach().float().cpu().contiguous()))
        if not isinstance(images, Tensor):
            outputs = [output.numpy() for output in outputs]
        if tree is None:
            return outputs[0] if len(outputs) == 1 else tuple(outputs)
        return _restored(tree, outputs)

    return network


class Flat(nn.Module):
    """A network whose output is the tuple of the tensors in it.

    Args:
        network: any.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """The tensors of the output, in order."""
        return tuple(_tensors(self.network(images)))


def _tensors(output: Any) -> list[Tensor]:
    if isinstance(output, Tensor):
        return [output]
    items = output.values() if isinstance(output, dict) else output if isinstance(output, (tuple, list)) else ()
    return [tensor for item in items for tensor in _tensors(item)]


def _structure(output: Any, name: str) -> tuple[Any, list[str]]:
    """Structure of an output, and names of its tensors."""
    if isinstance(output, Tensor):
        return "tensor", [name or "output"]
    if output is None or isinstance(output, (bool, int, float, str)):
        return {"value": output}, []
    kinds = {OrderedDict: "ordered", dict: "dict", list: "list", tuple: "tuple"}
    kind = next((kinds[known] for known in kinds if isinstance(output, known)), None)
    if kind is None:
        raise WorkFailed(f"the network gives a {type(output).__name__}; tensors in tuples, lists and dictionaries do")
    items = list(output.items()) if isinstance(output, dict) else list(enumerate(output))
    trees, names = [], list[str]()
    for key, value in items:
        inner, below = _structure(
            value, f"{name}_{key}" if name else str(key) if kind in ("ordered", "dict") else f"output_{key}"
        )
        trees.append([key, inner] if isinstance(output, dict) else inner)
        names += below
    return {kind: trees}, names


def _restored(tree: Any, outputs: list[Any]) -> Any:
    """The output from its tensors, which are taken from the list."""
    if tree == "tensor":
        return outputs.pop(0)
    ((kind, inner),) = tree.items()
    if kind == "value":
        return inner
    if kind in ("ordered", "dict"):
        pairs = [(key, _restored(value, outputs)) for key, value in inner]
        return OrderedDict(pairs) if kind == "ordered" else dict(pairs)
    items = [_restored(value, outputs) for value in inner]
    return tuple(items) if kind == "tuple" else items


def _shapes(shape: tuple[int, ...], free: tuple[str, ...]) -> list[tuple[int, ...]]:
    """The one the file is made for; where axes are free, also another one."""
    if not free:
        return [shape]
    other = list(shape)
    for axis in free:
        place = AXES_OF[len(shape)][axis]
        other[place] = 1 if axis == "batch" else 2 * shape[place]
    return [shape, tuple(other)]
