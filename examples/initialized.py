"""What inserting attention does to a pretrained network before any fine-tuning: Table 3's "Initialized" column.

MobileNetV2 with real weights on 1,000 ImageNet images, one of each class: top-1 as it is, with each module inserted as
the exact identity, and with each module as it starts by default.

    RECALIB_DATA=../shared/data python examples/initialized.py --json results/initialized.json
"""

import json
import os
import platform
import runpy
import sys
from dataclasses import dataclass
from pathlib import Path

import torch
import torchvision
import tyro
from PIL import Image
from rich.progress import track
from timm.layers import Conv2dSame
from torchvision.transforms.v2 import functional as T

import recalib


@dataclass
class Arguments:
    """Top-1 of MobileNetV2 before and after insertion, without training."""

    data: Path = Path(os.environ.get("RECALIB_DATA", "../shared/data"))
    """folder with imagenet_samples and weights"""
    modules: tuple[str, ...] = ("ab", "eca", "se", "srm", "multi_se", "gct")
    """modules to insert; `recalib modules` lists them"""
    images: int = 1000
    """how many of the images"""
    seed: int = 0
    """of the modules' initial weights"""
    json: Path | None = None
    """file for the results"""


def mobilenet_v2(data: Path) -> torch.nn.Module:
    """MobileNetV2 with the dequantised weights, its strided convolutions padded as TensorFlow pads them."""
    folder = data / "weights" / "mobilenet_v2_imagenet"
    state = runpy.run_path(str(folder / "load.py"))["state_dict"](folder / "mobilenet_v2_1.0_224_int8.npz")
    model = torchvision.models.mobilenet_v2()
    model.load_state_dict(state)
    for module in model.modules():
        if isinstance(module, torch.nn.Conv2d) and module.stride == (2, 2):
            module.__class__ = Conv2dSame
    return model.eval()


def samples(data: Path, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Images (count, 3, 224, 224) as bytes, and their labels (count,)."""
    folder = data / "imagenet_samples"
    rows = [line.split(",")[:2] for line in (folder / "labels.csv").read_text().splitlines()[1:]]
    rows = rows[:: len(rows) // count][:count]
    crops = [crop(Image.open(folder / "images" / file)) for file, _ in track(rows, "images")]
    return torch.stack(crops), torch.tensor([int(label) for _, label in rows])


def crop(image: Image.Image) -> torch.Tensor:
    """The central 224 x 224 pixels; smaller images are enlarged first."""
    image = image.convert("RGB")
    image = T.resize(image, [224]) if min(image.size) < 224 else image
    return T.pil_to_tensor(T.center_crop(image, [224, 224]))


@torch.inference_mode()
def probabilities(model: torch.nn.Module, images: torch.Tensor, what: str) -> torch.Tensor:
    """Class probabilities, shape (count, 1000)."""
    return torch.cat([model(batch / 127.5 - 1).softmax(1) for batch in track(images.split(10), what)])


def compare(args: Arguments) -> dict[str, dict[str, float]]:
    """Top-1 in percent, and by how much the probabilities change at most."""
    images, labels = samples(args.data, args.images)
    plain = probabilities(mobilenet_v2(args.data), images, "plain")
    results = {"plain": {"top1": top1(plain, labels)}}
    for name in args.modules:
        for start in ("identity", "default"):
            torch.manual_seed(args.seed)
            model = mobilenet_v2(args.data)
            recalib.insert_(model, name, identity=start == "identity")
            found = probabilities(model, images, f"{name}, {start}")
            change = (found - plain).abs().max().item()
            results[f"{name}, {start}"] = {"top1": top1(found, labels), "largest_change": change}
    return results


def top1(found: torch.Tensor, labels: torch.Tensor) -> float:
    """Percentage of images whose most probable class is the right one."""
    return 100 * (found.argmax(1) == labels).double().mean().item()


def main() -> None:
    """Measure, print and store."""
    args = tyro.cli(Arguments)
    results = compare(args)
    for name, values in results.items():
        print(f"{name:>20}  " + "  ".join(f"{key} {value:.4g}" for key, value in values.items()))
    if args.json:
        machine = {
            "system": f"{platform.system()} {platform.machine()}",
            "python": platform.python_version(),
            "torch": torch.__version__,
        }
        about = {"command": ["python", *sys.argv], "images": args.images, "seed": args.seed, "machine": machine}
        args.json.write_text(json.dumps({**about, "results": results}, indent=2) + "\n")


if __name__ == "__main__":
    main()
