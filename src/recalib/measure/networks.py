"""The networks that are compared: one backbone, once plain and once with every module, made ready for a runtime."""

import copy
import functools
import hashlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from recalib.cost.count import Cost, cost
from recalib.deploy import deploy
from recalib.deploy.deployed import Deployed
from recalib.deploy.tails import fuse_plain_
from recalib.errors import RecalibError, WorkFailed
from recalib.measure.agreement import Judge, agreement, calibration_images, with_samples
from recalib.measure.cells import BASELINE, Cell
from recalib.measure.estimate import seconds_of
from recalib.measure.session import Group, How, Prepare
from recalib.measure.sizes import sides
from recalib.models import CifarResNet, create_model
from recalib.models.create import is_known
from recalib.runtimes import Runtime, Session, Settings, Unsupported, find_runtime, timer
from recalib.runtimes.memory import available_bytes
from recalib.runtimes.samples import Samples
from recalib.surgery import checked_name, example_input, insert_, inspect_checkpoint, load_checkpoint, remove_

DEPTHS = ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152")
# largest difference to float64 over the largest output; random ResNets, MobileNetV2 and EfficientNet differ by
# 2e-6, 6e-3 and 4e-2 at most; where their attention is lost, by 6e-2 (AB) to 6
# int8 on noise, calibrated on noise: 2e-2 at most; calibrated on images, more, and `agreement` tells how much
TOLERANCE = {"fp32": 1e-4, "tf32": 2e-2, "fp16": 2e-2, "bf16": 1e-1, "int8": 0.5}
WEIGHT_COPIES = 4  # the network, its deployed form, its export and what the runtime makes of it
ACTIVATION_COPIES = 3  # of what the layer that moves most reads and writes: its block's other maps, a runtime's arena
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
        self._right: Tensor | None = None
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
        """Outputs of the network in float64, computed once: every runtime must come to the same.

        Raises:
            Unsupported: if that is not one tensor of finite numbers.
        """
        if self._reference is None:
            self._reference = _in_float64(self.made(), images)
        return self._reference

    def logits(self, samples: Samples) -> Tensor:
        """Outputs of the network for sample images in float32, computed once; a network sees one size only."""
        if self._logits is None:
            with torch.inference_mode():
                self._logits = torch.cat([self.made()(images) for images in samples.images.split(8)])
        return self._logits

    def right(self, judge: Judge) -> Tensor:
        """Images that it classifies rightly in float32, computed once."""
        if self._right is None:
            self._right = judge.right(self.made())
        return self._right

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
            known.append(checked_name(name))
    return list(dict.fromkeys(known))


def backbone(model: str, weights: Path | None = None) -> nn.Module:
    """A plain network by name with the weights of a checkpoint, or with random ones fit for timing.

    What a name leaves open the checkpoint decides: ``cifar_resnet20`` with weights that show shortcuts of option A is
    ``cifar_resnet20_pad``. Attention that the checkpoint has is taken out, see `trained`.

    Raises:
        RecalibError: for an unknown model or a checkpoint that does not fit.
    """
    if weights is not None:
        network, module = trained(model, weights)
        if module != BASELINE:
            remove_(network)
        return network
    with seeded():
        network = create_model(model)
    remove_(network)
    perturb_(network)
    return first_tensor(network.eval())


def first_tensor(network: nn.Module) -> nn.Module:
    """The network itself, or where it gives more than a tensor, as a YOLO does, one that gives the first."""
    with torch.no_grad(), seeded():
        output = network(example_input(network))
    return network if isinstance(output, Tensor) else FirstTensor(network).eval()


class FirstTensor(nn.Module):
    """A network that gives the first tensor of another one's output.

    Args:
        network: any.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        """The first tensor in tuples, lists and dictionaries."""
        output = self.network(images)
        while not isinstance(output, Tensor):
            output = next(iter(output.values() if isinstance(output, dict) else output))
        return output


def check(model: str, weights: Path | None = None) -> None:
    """Do nothing for what `backbone` makes; without weights no memory is taken for it.

    Raises:
        RecalibError: for an unknown model or a checkpoint that does not fit.
    """
    try:
        if weights is None and is_known(model):  # other people's code may look at its weights, and says so in any way
            with seeded(), torch.device("meta"):
                create_model(model)
            return
    except RecalibError:
        raise
    except Exception:  # a network that looks at its weights while it is made
        pass
    backbone(model, weights)


def trained(model: str, weights: Path) -> tuple[nn.Module, str]:
    """A network as its checkpoint has it, and the name of the attention module that it has: `BASELINE` for none.

    Raises:
        RecalibError: for an unknown model or a checkpoint that does not fit.
    """
    shown = inspect_checkpoint(weights)
    with seeded():
        network = create_model(model)
        variant = isinstance(network, CifarResNet) and shown.architecture == f"cifar_{model.removeprefix('cifar_')}_pad"
        if variant and shown.architecture is not None:
            network = create_model(shown.architecture)
        return load_checkpoint(weights, model=network).eval(), shown.attention or BASELINE


def network(backbones: Mapping[str, nn.Module], model: str, module: str) -> Network:
    """A network to compare: that of the backbones, or made if it is not among these, with a module inserted."""
    plain = backbones[model] if model in backbones else backbone(model)
    return Network(model, module, plain if module == BASELINE else _with_module(plain, module))


def architecture(model: str) -> str:
    """Name of a model without its library and its weights: `resnet50` of `timm:resnet50.a1_in1k`."""
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


@functools.cache
def macs(model: str) -> int:
    """Multiply-adds of the plain network for one image of 224 x 224 pixels: attention adds next to none."""
    return cost(backbone(model), (1, 3, 224, 224)).macs


def twin(network: nn.Module) -> nn.Module:
    """A copy with modules of its own that shares all tensors, so that it costs no memory."""
    tensors = [*network.parameters(), *network.buffers()]
    return copy.deepcopy(network, {id(tensor): tensor for tensor in tensors})


def form_of(network: nn.Module) -> str:
    """A short name for what a network computes: the same for the same operations on weights of the same shapes."""
    code = str(getattr(network, "fx_graph", "")) + str(network)
    shapes = [(name, tuple(tensor.shape)) for name, tensor in network.state_dict().items()]
    return hashlib.sha256(f"{code}{shapes}".encode()).hexdigest()[:12]


@dataclass
class NetworkGroup(Group):
    """Networks of a model in one runtime at one setting: plain and with every module, as inserted and deployed."""

    @property
    def runtime(self) -> Runtime:
        """Where they run."""
        return find_runtime(self.cells[0].runtime)

    def missing(self) -> str | None:
        """Lacks of the runtime on this machine."""
        return self.runtime.missing()

    def preparing(self, how: How) -> Prepare:
        """Networks are made when they are asked for and share what they have in common."""
        runtime, first = self.runtime, self.cells[0]
        runtime.require()
        backbones = {first.model: backbone(first.model, how.weights)}
        whole, has = trained(first.model, how.weights) if how.weights else (None, "")
        settings = with_samples(
            how.settings(first.precision), backbones[first.model], first.model, sides(first.size),
            calibration_images(how.calibration, how.data), how.weights,
        )  # fmt: skip
        size = sides(first.size)
        judge = (
            Judge(backbones[first.model], first.model, size, how.weights, how.data, how.images) if how.data else None
        )

        @functools.cache
        def made(model: str, module: str) -> Network:
            if model not in backbones:
                backbones[model] = backbone(model)
            if whole is not None and (model, module) == (first.model, has):
                return Network(model, module, whole)
            return network(backbones, model, module)

        def prepare(cell: Cell) -> Session:
            # others have a module that nobody trained: their accuracy would tell nothing
            judged = judge if (cell.model, cell.module) == (first.model, has) else None
            return _prepared(cell, made(cell.model, cell.module), runtime, settings, judged)

        return prepare

    def seconds(self, how: How) -> float:
        """By its multiply-adds, see `recalib.measure.estimate`."""
        return seconds_of(self, how, sum(macs(cell.model) for cell in self.cells))


def _prepared(cell: Cell, made: Network, runtime: Runtime, settings: Settings, judge: Judge | None) -> Session:
    network = made.made()
    shape = (cell.batch, 3, *sides(cell.size))
    counted = made.cost(shape, settings.dtype)
    _check_memory(counted, settings)
    if cell.deployed:
        # where PyTorch will run it, as its forms depend on the device
        place = settings.device if runtime.target == "eager" else torch.device("cpu")
        with seeded():
            network = deploy(copy.deepcopy(network).to(place), shape, target=runtime.target).cpu()  # type: ignore[arg-type]
        counted = cost_in(settings.dtype, network, shape)
    cell.form = form_of(network)
    cell.params, cell.macs = counted.params, counted.macs
    cell.bytes_moved = None if settings.precision == "int8" else counted.bytes_moved  # what is int8 the runtime decides
    images = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    # of a twin, since what is exported stays in memory for as long as the exported module lives
    session = runtime.prepare(twin(network), images, settings)
    if made.module == BASELINE and isinstance(network, Deployed) and runtime.target == "eager" and session.asynchronous:
        fused = fuse_plain_(copy.deepcopy(network))
        other = runtime.prepare(twin(fused), images, settings)
        if fastest([session, other]) is other:
            session, cell.form, cell.message = other, form_of(fused), "its plain tails in one pass each"
    _check_output(session.output(), made, images, TOLERANCE[settings.precision])
    cell.setup_s, cell.device, cell.layout = session.setup_s, session.device, session.layout
    cell.in_flight = session.in_flight
    if settings.samples is not None:
        cell.agreement = agreement(session, settings.samples, made.logits(settings.samples), cell.batch)
    if judge is not None:
        cell.accuracy = judge.accuracy(session, cell.batch, made.right(judge))
    return session


def fastest(sessions: list[Session]) -> Session:
    """The one with the least median of a few rounds: a baseline is never slower than it could be."""
    for session in sessions:
        timer.warm_up(session, 0.2)
    rounds = list(timer.interleave(sessions, 10))
    return min(sessions, key=lambda session: sorted(sample[sessions.index(session)].latency_ms for sample in rounds)[5])


def _check_memory(counted: Cost, settings: Settings) -> None:
    """Refuse what would have the process killed: systems promise memory that they do not have."""
    largest = max(module.own.bytes_moved for module in counted.modules.values())
    weights = counted.params * settings.dtype.itemsize
    needed = WEIGHT_COPIES * weights + ACTIVATION_COPIES * largest
    for device in {torch.device("cpu"), settings.device}:
        left = available_bytes(device)
        if left is not None and needed > left:
            raise MemoryError(f"needs about {needed / 2**30:.1f} GiB on {device.type}, {left / 2**30:.1f} GiB are left")


def _check_output(output: Tensor, network: Network, images: Tensor, tolerance: float) -> None:
    """Compare the first and last image's output with the plain network's in float64: a wrong answer has no latency."""
    ends = [0, -1] if len(images) > 1 else [0]
    expected = network.reference(images[ends])
    if output.shape[1:] != expected.shape[1:] or len(output) != len(images):
        raise WorkFailed(f"wrong output: its shape is {tuple(output.shape)}")
    error = float((output[ends].double() - expected).abs().max() / expected.abs().max())
    if not error <= tolerance:
        raise WorkFailed(f"wrong output: it differs by {error:.1e} of the largest value from float64")


def _with_module(network: nn.Module, module: str) -> nn.Module | RecalibError:
    attentive = twin(network)
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
