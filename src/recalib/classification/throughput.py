"""Images a second of our data path and of torchvision's, alone and under a network, measured in turn.

    python -m recalib.classification.throughput --data DIR --json OUT.json

torchvision's path is what its CIFAR10 class does: a PIL image per item, RandomCrop(32, 4), RandomHorizontalFlip,
ToTensor and Normalize, batched by a DataLoader.
"""

import statistics
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
import tyro
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from recalib.data import NORMALIZATIONS, Images, ResidentTrain, read_cifar
from recalib.data.resident import Batch
from recalib.models import create_model
from recalib.runs import environment, write_json


class _PerImage(Dataset[tuple[Tensor, int]]):
    def __init__(self, images: Images) -> None:
        self.pixels, self.labels = images.pixels.permute(0, 2, 3, 1).numpy(), images.labels.tolist()
        form = NORMALIZATIONS["cifar"]
        self.transform = transforms.Compose([
            transforms.RandomCrop(32, padding=4), transforms.RandomHorizontalFlip(), transforms.ToTensor(),
            transforms.Normalize(form.mean, form.std),
        ])  # fmt: skip

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(Image.fromarray(self.pixels[index])), self.labels[index]


@dataclass(frozen=True)
class Arguments:
    """Flags of the measurement.

    Attributes:
        data: folder with CIFAR-10's official files.
        json: file for the results.
        model: trained on each path's batches.
        batch: images a step.
        steps: batches a sample.
        samples: number for each path, in turn.
        workers: processes of torchvision's path.
    """

    data: Path
    json: Path
    model: str = "resnet20"
    batch: int = 128
    steps: int = 20
    samples: int = 7
    workers: int = 2


def main() -> None:
    """Measure, print, and write."""
    given = tyro.cli(Arguments, description=__doc__)
    images = read_cifar(given.data, "cifar10", train=True)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    resident = ResidentTrain(images, NORMALIZATIONS["cifar"], given.batch, device=device, seed=0)
    loader: Iterable[Batch] = DataLoader(
        _PerImage(images), given.batch, shuffle=True, num_workers=given.workers, persistent_workers=given.workers > 0
    )
    paths: dict[str, Callable[[int], Iterator[Batch]]] = {"ours": resident.epoch, "torchvision": lambda _: iter(loader)}
    step = _trainer(given.model, device)
    works: dict[str, Callable[[Tensor, Tensor], object]] = {
        "loading alone": lambda x, y: (x.to(device), y), f"training {given.model}": step,
    }  # fmt: skip
    samples: dict[str, dict[str, list[float]]] = {work: {path: [] for path in paths} for work in works}
    for sample in range(given.samples + 1):
        for work, do in works.items():
            for path, batches in paths.items():
                rate = _rate(batches(sample), do, given.steps, given.batch)
                if sample:  # the first warms up
                    samples[work][path].append(rate)
    medians = {work: {path: statistics.median(s) for path, s in by.items()} for work, by in samples.items()}
    for work, by in medians.items():
        print(f"{work}: ours {by['ours']:,.0f} images/s, torchvision {by['torchvision']:,.0f}: "
              f"{by['ours'] / by['torchvision']:.2f}x")  # fmt: skip
    settings = {key: getattr(given, key) for key in ("model", "batch", "steps", "samples", "workers")}
    result = {"settings": settings, "images_per_second": medians, "samples": samples, "environment": environment()}
    write_json(given.json, result)


def _rate(batches: Iterator[Batch], do: Callable[[Tensor, Tensor], object], steps: int, batch: int) -> float:
    do(*next(batches))  # starting the readers is not counted
    began = time.perf_counter()
    for _ in range(steps):
        do(*next(batches))
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return steps * batch / (time.perf_counter() - began)


def _trainer(model: str, device: torch.device) -> Callable[[Tensor, Tensor], object]:
    network: nn.Module = create_model(model, num_classes=10).to(device)
    optimizer = torch.optim.SGD(network.parameters(), 0.1, momentum=0.9)

    def step(x: Tensor, y: Tensor) -> None:
        optimizer.zero_grad()
        F.cross_entropy(network(x.to(device)), y.to(device)).backward()
        optimizer.step()

    return step


if __name__ == "__main__":
    main()
