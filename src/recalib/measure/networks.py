"""The networks that are compared: one backbone, once plain and once with every module."""

import copy
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn

from recalib.attention import create_attention
from recalib.attention.catalogue import canonical_name
from recalib.cost.count import Cost, cost
from recalib.errors import RecalibError
from recalib.measure.cells import BASELINE
from recalib.models import CifarResNet, create_model
from recalib.runtimes import Unsupported
from recalib.runtimes.samples import Samples
from recalib.surgery import insert_, inspect_checkpoint, load_checkpoint

DEPTHS = ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152")
SPREAD = 0.2  # how far constant weights are moved: far enough to matter, near enough to keep activations in range


class Network:
    """A network that is compared.

    Args:
        model: name of the backbone.
        module: name of the attention module, ``"baseline"`` for none.
        network: the network in evaluation mode, float32, on the CPU; or the error that kept it from being made.
    """

    def __init__(self, model: str, module: str, network: nn.Module | RecalibError) -> None:
        self.model = model
        self.module = module
        self._network = network
        self._reference: Tensor | None = None
        self._logits: Tensor | None = None
        self._cost: Cost | None = None

    def made(self) -> nn.Module:
        """The network.

        Raises:
            Unsupported: if it could not be made, with the reason.
        """
        if isinstance(self._network, RecalibError):
            raise Unsupported(str(self._network))
        return self._network

    def reference(self, images: Tensor) -> Tensor:
        """What the network makes of images in float64, computed once: every runtime must come to the same.

        Raises:
            Unsupported: if that is not one tensor of finite numbers.
        """
        if self._reference is None:
            self._reference = _in_float64(self.made(), images)
        return self._reference

    def logits(self, samples: Samples) -> Tensor:
        """What the network gives for sample images in float32, computed once; a network sees one size only."""
        if self._logits is None:
            with torch.inference_mode():
                self._logits = torch.cat([self.made()(images) for images in samples.images.split(8)])
        return self._logits

    def cost(self, input_size: tuple[int, ...], dtype: torch.dtype) -> Cost:
        """Its cost as inserted, counted once."""
        if self._cost is None:
            self._cost = cost_in(dtype, self.made(), input_size)
        return self._cost


def module_names(names: Iterable[str]) -> list[str]:
    """The baseline and the named modules, each once, by the catalogue's names.

    Raises:
        RecalibError: for an unknown module.
    """
    known = [BASELINE]
    for name in names:
        if name != BASELINE:
            with seeded():
                create_attention(name, 64)
            known.append(name if name.startswith("timm:") else canonical_name(name))
    return list(dict.fromkeys(known))


def backbone(model: str, weights: Path | None = None) -> nn.Module:
    """A network by name with the weights of a checkpoint, or with random ones fit for timing.

    What a name leaves open the checkpoint decides: ``cifar_resnet20`` with weights that show shortcuts of option A is
    ``cifar_resnet20_pad``.

    Raises:
        RecalibError: for an unknown model or a checkpoint that does not fit.
    """
    with seeded():
        network = create_model(model)
        if weights is not None:
            shown = inspect_checkpoint(weights).architecture or ""
            variant = isinstance(network, CifarResNet) and shown == f"cifar_{model.removeprefix('cifar_')}_pad"
            return load_checkpoint(weights, model=create_model(shown) if variant else network).eval()
    perturb_(network)
    return network.eval()


def network(backbones: Mapping[str, nn.Module], model: str, module: str) -> Network:
    """A network to compare: a copy of a backbone, made if it is not among these, with a module inserted."""
    plain = backbones[model] if model in backbones else backbone(model)
    return Network(model, module, plain if module == BASELINE else _with_module(plain, module))


def architecture(model: str) -> str:
    """What a model is without its library and its weights: `resnet50` of `timm:resnet50.a1_in1k`."""
    return model.rpartition(":")[2].partition(".")[0]


def deeper(model: str) -> str | None:
    """Name of the next deeper ResNet, in the same library; None for the deepest and for other families."""
    name = architecture(model)
    if name not in DEPTHS[:-1]:
        return None
    library, colon, _ = model.rpartition(":")
    return f"{library}{colon}{DEPTHS[DEPTHS.index(name) + 1]}"


def perturb_(network: nn.Module, seed: int = 0) -> None:
    """Move every constant parameter and statistic a little.

    Fresh networks hold exact zeros and ones: last norms that switch their branch off, attention that is the identity,
    layer scales of 1e-6. A runtime may simplify what a trained network would make it compute, and a check of outputs
    would not see a module that was lost.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for tensor in [*network.parameters(), *network.buffers()]:
            if tensor.is_floating_point() and tensor.numel() > 1 and bool((tensor == tensor.flatten()[0]).all()):
                tensor.add_(torch.empty(tensor.shape).uniform_(-SPREAD, SPREAD, generator=generator))


@contextmanager
def seeded() -> Iterator[None]:
    """The same random weights every time, and the caller's random numbers left alone."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        yield


def cost_in(dtype: torch.dtype, network: nn.Module, input_size: tuple[int, ...]) -> Cost:
    """Cost of a float32 network when it runs in another precision."""
    return cost(network if dtype == torch.float32 else copy.deepcopy(network).to(dtype), input_size)


def _with_module(network: nn.Module, module: str) -> nn.Module | RecalibError:
    attentive = copy.deepcopy(network)
    before = {id(parameter) for parameter in attentive.parameters()}
    try:
        with seeded():
            insert_(attentive, module)
    except RecalibError as error:
        return error
    for child in attentive.modules():
        fresh = list(child.parameters())
        if fresh and all(id(parameter) not in before for parameter in fresh):
            perturb_(child)
    return attentive.eval()


def _in_float64(network: nn.Module, images: Tensor) -> Tensor:
    with torch.inference_mode():
        output = copy.deepcopy(network).double()(images.double())
    if not isinstance(output, Tensor):
        raise Unsupported(f"the network gives a {type(output).__name__}; networks that give one tensor can be compared")
    if not bool(output.isfinite().all()):
        raise Unsupported("the network's output is not finite")
    return output
