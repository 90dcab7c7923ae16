"""Prediction of a training on many devices: a stated model of compute, all-reduce and input.

One optimizer step takes the longer of two things that go on at the same time: the device's work, with what of the
all-reduce the backward pass does not hide, and the input of the next batch.
"""

import copy
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from recalib.cost import cost
from recalib.errors import RecalibError, unknown
from recalib.runs import read_config, read_metrics

GB, GIB = 1e9, 2**30
BACKWARD = 2 / 3  # of a step's work, in which the all-reduce hides
BUCKET = 25 * 2**20  # bytes of DDP's last bucket, which nothing hides
CONTEXT = 1.0 * GIB  # what a process takes of a GPU beside its tensors


@dataclass(frozen=True)
class Device:
    """A device, as its data sheet has it.

    Attributes:
        memory: bytes.
        flops: dense, in bfloat16, a second; of these `reached` is assumed.
        bandwidth: of its memory, bytes a second; of these `reached` is assumed.
        link: bytes a second to the others of its node, in each direction.
        source: of the figures.
        reached: share of its peaks that a convolutional network's training is assumed to reach.
    """

    memory: float
    flops: float
    bandwidth: float
    link: float
    source: str
    reached: float = 0.5


_SHEET = "published: NVIDIA's data sheet"
DEVICES = {
    "a100": Device(80e9, 312e12, 2.039e12, 300e9, _SHEET),
    "h100": Device(80e9, 989e12, 3.35e12, 450e9, _SHEET),
    "h200": Device(141e9, 989e12, 4.8e12, 450e9, _SHEET),
}


@dataclass(frozen=True)
class Interconnect:
    """Connections between processes.

    Attributes:
        rate: bytes a second of one process, in each direction.
        latency: seconds of a message.
    """

    rate: float
    latency: float


@dataclass(frozen=True)
class Work:
    """Costs of one image and one step, whatever the number of devices.

    Attributes:
        images_per_second: of one device.
        source: of that rate.
        gradient: bytes that are summed over all devices in a step.
        fixed: bytes of memory for weights, gradients and the optimizer.
        activations: bytes of memory an image.
    """

    images_per_second: float
    source: str
    gradient: float
    fixed: float
    activations: float


@dataclass(frozen=True)
class Cluster:
    """Devices and what feeds them.

    Attributes:
        inside: link within a node.
        between: link of each device to other nodes.
        per_node: devices a node.
        memory: bytes of a device; infinite where it is not known.
        data_rate: bytes a second of the storage, for all devices together.
        decode_rate: images a second that a device's share of the processor decodes.
        cores: devices that really run at the same time; more take turns. Infinite for GPUs.
    """

    inside: Interconnect
    between: Interconnect
    per_node: int = 8
    memory: float = math.inf
    data_rate: float = math.inf
    decode_rate: float = math.inf
    cores: float = math.inf


@dataclass(frozen=True)
class PredictedStep:
    """One optimizer step, predicted.

    Attributes:
        devices: how many.
        batch: images over all devices.
        compute: seconds of a device's own work.
        reduce: seconds of the all-reduce, hidden or not.
        exposed: seconds of it that the backward pass does not hide.
        input: seconds until the next batch is there.
        memory: bytes of a device.
    """

    devices: int
    batch: int
    compute: float
    reduce: float
    exposed: float
    input: float
    memory: float
    fits: bool = True

    @property
    def seconds(self) -> float:
        """Of the step."""
        return max(self.compute + self.exposed, self.input)

    @property
    def images_per_second(self) -> float:
        """Of all devices together."""
        return self.batch / self.seconds

    @property
    def bound(self) -> str:
        """The largest part of the step's time beyond the device's own work: compute, all-reduce or input."""
        if self.input > self.compute + self.exposed:
            return "input"
        return "all-reduce" if self.exposed > 0.1 * self.compute else "compute"


def step(work: Work, cluster: Cluster, devices: int, batch: int, image_bytes: float) -> PredictedStep:
    """Predict one step.

    Args:
        work: of an image and a step.
        cluster: where.
        devices: how many.
        batch: images over all devices.
        image_bytes: that storage gives for an image.

    Raises:
        RecalibError: for a batch that gives a device no image.
    """
    if not 1 <= devices <= batch:
        raise RecalibError(f"batch {batch}: gives {devices} devices no image each; choose a larger --batch")
    each = batch / devices
    compute = each / work.images_per_second * max(1.0, devices / cluster.cores)
    reduce = all_reduce(work.gradient, devices, cluster)
    last = all_reduce(min(work.gradient, BUCKET), devices, cluster)
    exposed = max(reduce - BACKWARD * compute, last) if devices > 1 else 0.0
    fed = max(batch * image_bytes / cluster.data_rate, each / cluster.decode_rate)
    memory = work.fixed + each * work.activations
    return PredictedStep(devices, batch, compute, reduce, exposed, fed, memory, memory <= cluster.memory)


def all_reduce(size: float, devices: int, cluster: Cluster) -> float:
    """Seconds to sum ``size`` bytes over devices: a ring in each node, and rings of one device a node between them."""
    inner = min(devices, cluster.per_node)
    nodes = -(-devices // cluster.per_node)
    return _ring(size, inner, cluster.inside) + _ring(size / inner, nodes, cluster.between)


def _ring(size: float, members: int, link: Interconnect) -> float:
    """Reduce-scatter and all-gather: twice all but one part of the message; trees where latency would rule."""
    if members < 2:
        return 0.0
    moved = 2 * (members - 1) / members * size / link.rate
    return moved + link.latency * min(2 * (members - 1), 2 * math.ceil(math.log2(members)) + 2)


def work_of(
    network: nn.Module, size: int, *, device: Device | None, rate: float | None, source: str, states: int, half: bool
) -> Work:
    """Costs of a network's training.

    Args:
        network: to be trained.
        size: side of an image.
        device: by whose data sheet the rate is estimated where none was measured.
        rate: images a second of one device, measured.
        source: of that rate.
        states: floats a parameter that the optimizer and averages keep.
        half: whether activations are in 16 bits.
    """
    weights = sum(p.numel() for p in network.parameters())
    activations = saved_bytes(network, size) / (2 if half else 1)
    if rate is None:
        if device is None:
            raise RecalibError(f"which rate? Give --rate, a --run, or a --device of {', '.join(DEVICES)}")
        counted = cost(network, (1, 3, size, size))
        moved = counted.bytes_moved / (2 if half else 1)
        flops = device.flops / (1 if half else 2)  # TF32 at half the rate of bfloat16
        seconds = 3 * max(2 * counted.macs / flops, moved / device.bandwidth) / device.reached
        rate = 1 / seconds
        source = f"an estimate: three forward passes at {device.reached:.0%} of the peaks ({device.source})"
    return Work(rate, source, 4.0 * weights, 4.0 * weights * (2 + states) + CONTEXT, activations)


def saved_bytes(network: nn.Module, size: int) -> float:
    """Bytes that autograd keeps for the backward pass of one image, in float32."""
    kept: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        if tensor.data_ptr() not in own:
            kept[tensor.untyped_storage().data_ptr()] = tensor  # held, so that its place is not given to another
        return tensor

    copied = copy.deepcopy(network).train()  # its running statistics move
    own = {p.data_ptr() for p in copied.parameters()}
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        copied(torch.zeros(2, 3, size, size))
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values()) / 2


def rate_of_run(run: Path) -> tuple[float, str]:
    """Images a second of a run on one device, the median of its epochs, and what it was measured on.

    Raises:
        RecalibError: where it has none, or ran on several devices.
    """
    config = read_config(run)
    rows = sorted(row["images_per_second"] for row in read_metrics(run) if "images_per_second" in row)
    if not rows:
        raise RecalibError(f"{run}: no epoch has ended, so it tells no rate")
    if config.get("devices", 1) != 1:
        raise RecalibError(f"{run}: ran on {config['devices']} devices; a plan begins with the rate of one")
    return rows[len(rows) // 2], f"measured by the run {run.name}"


@dataclass(frozen=True)
class Plan:
    """The request.

    Attributes:
        work: of an image and a step.
        cluster: where.
        devices: how many.
        batch: images over all devices.
        images: of the data set.
        image_bytes: of an image as storage gives it.
        epochs: of the recipe.
        price: of a device's hour, None where cost is not asked for.
    """

    work: Work
    cluster: Cluster
    devices: int
    batch: int
    images: int
    image_bytes: float
    epochs: int
    price: float | None = None

    def step(self) -> PredictedStep:
        """Of all devices."""
        return step(self.work, self.cluster, self.devices, self.batch, self.image_bytes)

    def hours(self) -> float:
        """Of the whole training."""
        return self.epochs * self.images / self.step().images_per_second / 3600

    def results(self) -> dict[str, Any]:
        """Everything as JSON."""
        one, hours = self.step(), self.hours()
        alone = step(self.work, self.cluster, 1, max(1, self.batch // self.devices), self.image_bytes)
        efficiency = one.images_per_second / self.devices / (alone.batch / alone.compute)
        return {
            "step": asdict(one) | {"seconds": one.seconds, "bound": one.bound},
            "images_per_second": one.images_per_second,
            "efficiency": efficiency,
            "epochs_per_hour": self.epochs / hours,
            "hours": hours,
            "cost": None if self.price is None else self.price * hours * self.devices,
            "work": asdict(self.work),
            "assumptions": self.assumptions(),
            "scales": [asdict(each) | {"bound": each.bound, "seconds": each.seconds} for each in self.scales()],
        }

    def scales(self) -> Iterator[PredictedStep]:
        """The same batch a device on 1 to 4,096 devices."""
        each = max(1, self.batch // self.devices)
        for devices in (1, 8, 64, 512, 4096):
            yield step(self.work, self.cluster, devices, each * devices, self.image_bytes)

    def breaks(self) -> Sequence[str]:
        """The first limits as devices are added, and at how many."""
        each, found = max(1, self.batch // self.devices), dict[str, int]()
        for devices in (2**power for power in range(13)):
            one = step(self.work, self.cluster, devices, each * devices, self.image_bytes)
            if one.bound != "compute":
                found.setdefault(one.bound, devices)
            if each * devices > LARGEST_BATCH:
                found.setdefault("batch", devices)
        return [_BREAKS[name].format(count) for name, count in sorted(found.items(), key=lambda item: item[1])]

    def assumptions(self) -> list[str]:
        """Assumptions of the prediction, a line each."""
        inside, between = (_link(link) for link in (self.cluster.inside, self.cluster.between))
        return [
            f"one device: {self.work.images_per_second:,.0f} images/s, {self.work.source}",
            f"all-reduce: {self.work.gradient / 1e6:,.1f} MB a step, rings; {inside} within a node of "
            f"{self.cluster.per_node}, {between} a device between nodes",
            f"the backward pass, {BACKWARD:.0%} of a step, hides all of it but the last {BUCKET / 2**20:.0f} MiB",
            f"input: {self.image_bytes / 1e3:,.0f} kB an image, storage {_rate(self.cluster.data_rate)} for all",
            f"decoding: {_decoding(self.cluster.decode_rate)} a device",
            "memory: weights, gradients, optimizer, what autograd keeps, 1 GiB; no waste, no workspaces",
        ]


LARGEST_BATCH = 8192  # Goyal et al. 2017, arXiv:1706.02677: up to this one ImageNet's accuracy held with SGD
_BREAKS = {
    "input": "storage or decoding, from {:,} devices on",
    "all-reduce": "the all-reduce (more than a tenth of the work is not hidden), from {:,} devices on",
    "batch": f"the batch: over {LARGEST_BATCH:,} images SGD's accuracy is not known to hold, from {{:,}} devices on",
}


def _link(link: Interconnect) -> str:
    return f"{link.rate / GB:g} GB/s, {link.latency * 1e6:g} us"


def _decoding(rate: float) -> str:
    return "without limit" if math.isinf(rate) else f"{rate:,.0f} images/s"


def _rate(rate: float) -> str:
    return "without limit" if math.isinf(rate) else f"{rate / GB:g} GB/s"


def cluster_of(device: str, **changes: Any) -> Cluster:
    """Nodes of eight of a device, 50 GB/s (400 Gbit/s) a device between them.

    Raises:
        RecalibError: for a device that there is no data sheet of.
    """
    if device not in DEVICES:
        raise unknown("device", device, DEVICES)
    sheet = DEVICES[device]
    made = Cluster(Interconnect(0.8 * sheet.link, 10e-6), Interconnect(0.8 * 50e9, 20e-6), memory=sheet.memory)
    return replace(made, **{name: value for name, value in changes.items() if value is not None})
