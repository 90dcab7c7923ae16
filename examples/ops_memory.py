"""What autograd keeps of a ResNet-50 in training: without attention, with it in fused tails, and in timm's networks.

Counted, not estimated: the bytes of every storage that is saved for the backward pass, each once, parameters left out.

    python examples/ops_memory.py
"""

from dataclasses import dataclass

import timm
import torch
import torchvision
import tyro
from torch import nn

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


def main(arguments: Arguments) -> None:
    torch.set_num_threads(arguments.threads)
    images = torch.randn(arguments.batch, 3, 224, 224)
    plain = saved(torchvision.models.resnet50(), images)
    print(f"resnet50: {plain / arguments.batch / 2**20:.1f} MiB an image")
    for name in arguments.modules:
        network = torchvision.models.resnet50()
        recalib.insert_(network, name)
        print(f"{name:10} {saved(network, images) / plain:.4f}")
    for layer in ("se", "eca"):
        network = timm.create_model("resnet50", block_args={"attn_layer": layer})
        print(f"timm {layer:5} {saved(network, images) / plain:.4f}")


if __name__ == "__main__":
    main(tyro.cli(Arguments))
