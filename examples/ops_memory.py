"""What autograd keeps of a ResNet-50 in training: without attention, with it in fused tails, and in timm's networks.

Counted, not estimated: the bytes of every storage that is saved for the backward pass, each once, parameters left out.

    python examples/ops_memory.py
"""

import weakref
from dataclasses import dataclass
from typing import Any

import timm
import torch
import torchvision
import tyro
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

import recalib


@dataclass
class Arguments:
    """Bytes saved for backward, relative to a plain ResNet-50."""

    modules: tuple[str, ...] = ("ab", "eca", "se", "srm", "multi_se", "gct")
    batch: int = 12
    """images; with fewer than 11 a thread the smallest tails are not fused on a CPU"""
    threads: int = 1


def saved(network: nn.Module, images: torch.Tensor) -> int:
    parameters = {p.untyped_storage().data_ptr() for p in network.parameters()}
    storages = {}

    def pack(t: torch.Tensor) -> torch.Tensor:
        storages[t.untyped_storage().data_ptr()] = t.untyped_storage().nbytes()
        return t

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        network.train()(images)
    return sum(size for storage, size in storages.items() if storage not in parameters)


class Peak(TorchDispatchMode):
    """Most bytes alive at once of what operators allocate, each storage for as long as anything holds it.

    What an operator takes and gives back inside of itself is not seen: it differs between the libraries of a machine.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = self.most = 0
        self.known: set[int] = set()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = function(*args, **(kwargs or {}))
        for t in tree_iter(out):
            if isinstance(t, torch.Tensor):
                self.watch(t.untyped_storage())
        return out

    def watch(self, storage: torch.UntypedStorage) -> None:
        address, size = storage._cdata, storage.nbytes()
        if address in self.known or not size:
            return
        self.known.add(address)
        self.now += size
        self.most = max(self.most, self.now)
        weakref.finalize(storage, self.release, address, size)

    def release(self, address: int, size: int) -> None:
        self.known.discard(address)
        self.now -= size


def peak(network: nn.Module, images: torch.Tensor) -> int:
    """Bytes at the peak of a training step, beside parameters, statistics and images, which are there anyway."""
    network.train()
    with Peak() as mode:
        network(images).sum().backward()
    return mode.most


def main(arguments: Arguments) -> None:
    torch.set_num_threads(arguments.threads)
    images = torch.randn(arguments.batch, 3, 224, 224)
    plain = saved(torchvision.models.resnet50(), images)
    most = peak(torchvision.models.resnet50(), images)
    print(f"resnet50: {plain / arguments.batch / 2**20:.1f} MiB an image, {most / 2**20:.0f} MiB at the peak")
    for name in arguments.modules:
        network = torchvision.models.resnet50()
        recalib.insert_(network, name)
        print(f"{name:10} {saved(network, images) / plain:.4f}, at the peak {peak(network, images) / most:.4f}")
    for layer in ("se", "eca"):
        network = timm.create_model("resnet50", block_args={"attn_layer": layer})
        print(f"timm {layer:5} {saved(network, images) / plain:.4f}, at the peak {peak(network, images) / most:.4f}")


if __name__ == "__main__":
    main(tyro.cli(Arguments))
