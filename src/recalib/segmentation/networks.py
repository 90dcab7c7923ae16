"""Segmentation networks by name, with attention in the encoder; and in files with what it takes to use them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from recalib.errors import RecalibError, unknown
from recalib.models.create import create_known
from recalib.runs.folder import weights_of
from recalib.surgery import insert_, load_checkpoint, save_checkpoint
from recalib.surgery.checkpoints.checkpoint import understand
from recalib.surgery.checkpoints.files import read
from recalib.training.recipe import attention_options

TORCHVISION = ("deeplabv3_resnet50", "deeplabv3_resnet101", "fcn_resnet50", "fcn_resnet101")
SMP = "smp:"  # smp:unet:resnet18, an architecture of segmentation_models.pytorch and an encoder


class Logits(nn.Module):
    """A network of torchvision's, whose answer is the logits themselves; its names stay as they are.

    Args:
        network: that answers with a dict.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        parts: Any = network
        self.backbone: nn.Module = parts.backbone
        self.classifier: nn.Module = parts.classifier

    def forward(self, x: Tensor) -> Tensor:
        """Logits (N, classes, H, W) of images (N, 3, H, W)."""
        features: Any = self.backbone(x)
        logits: Tensor = self.classifier(features["out"])
        return nn.functional.interpolate(logits, size=x.shape[-2:], mode="bilinear", align_corners=False)


def build_segmenter(
    name: str, *, num_classes: int, attention: str | None = None, identity: bool = False, options: Sequence[str] = ()
) -> nn.Module:
    """A segmentation network with random weights and, in its encoder, attention at the end of every residual block.

    Args:
        name: one of torchvision's (``deeplabv3_resnet50``, ...), or ``smp:ARCHITECTURE:ENCODER`` such as
            ``smp:unet:resnet18``.
        num_classes: the background included.
        attention: module to insert.
        identity: start it as the identity.
        options: its settings, written ``name=value``.

    Raises:
        RecalibError: for an unknown name or option.
    """
    network = create_known(name, num_classes=num_classes) if name.startswith(SMP) else _torchvision(name, num_classes)
    if attention is not None:
        encoder: Any = network.encoder if name.startswith(SMP) else network.backbone
        insert_(encoder, attention, identity=identity, **attention_options(tuple(options)))
    return network


def _torchvision(name: str, num_classes: int) -> nn.Module:
    from torchvision.models import get_model

    if name not in TORCHVISION:
        raise unknown("segmentation network", name, (*TORCHVISION, "smp:unet:resnet18"))
    return Logits(get_model(name, weights=None, weights_backbone=None, num_classes=num_classes, aux_loss=False))


def write_segmenter(network: nn.Module, path: Path, name: str, classes: Sequence[str], size: int, **about: Any) -> None:
    """Write a network so that `load_segmenter` makes the same of it, atomically."""
    shown = {"size": [size, size], "normalization": "imagenet"}
    save_checkpoint(
        network, path, architecture=name, segmenter=name, classes=list(classes), preprocessing=shown, **about
    )


def load_segmenter(run_or_checkpoint: Path) -> tuple[nn.Module, tuple[str, ...], int]:
    """The network that a run ended with, or one in a file, in evaluation mode; its classes, and the side of its images.

    Raises:
        RecalibError: where there is none.
    """
    path = weights_of(run_or_checkpoint)
    about = understand(read(path)).metadata
    try:
        name, classes, side = about["segmenter"], tuple(about["classes"]), int(about["preprocessing"]["size"][0])
    except (KeyError, TypeError, ValueError) as error:
        raise RecalibError(f"{path} holds no network that recalib segment train wrote ({error})") from None
    return load_checkpoint(path, model=build_segmenter(name, num_classes=len(classes))).eval(), classes, side
