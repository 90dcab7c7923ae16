"""Classes of a picture's pixels, as a label image and drawn over the picture."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor, nn
from torchvision import tv_tensors
from torchvision.transforms import v2
from torchvision.transforms.v2.functional import pil_to_tensor

from recalib.data import NORMALIZATIONS
from recalib.segmentation.data import fitted


@dataclass(frozen=True)
class Segmented:
    """A picture and the class of each of its pixels.

    Attributes:
        picture: in RGB.
        labels: (H, W), uint8, of the picture's own size.
    """

    picture: Image.Image
    labels: Tensor

    def label_image(self) -> Image.Image:
        """Numbers of classes, as `recalib segment train` reads them; a palette shows them in colours."""
        image = Image.fromarray(self.labels.numpy())
        image.putpalette(palette())  # which makes it one of numbers with colours
        return image

    def drawn(self) -> Image.Image:
        """The picture with the classes in their colours over it; class 0 leaves it as it is."""
        coloured = Image.blend(self.picture, self.label_image().convert("RGB"), 0.5)
        return Image.composite(coloured, self.picture, Image.fromarray(((self.labels > 0) * 255).byte().numpy()))

    def shares(self, classes: Sequence[str]) -> dict[str, float]:
        """The share of the pixels that each class has, from 0 to 1, the largest first; without those that have none."""
        counts = torch.bincount(self.labels.flatten().long(), minlength=len(classes))
        order = [i for i in counts.argsort(descending=True).tolist() if counts[i]]
        return {classes[i]: int(counts[i]) / self.labels.numel() for i in order}


def segment(network: nn.Module, picture: Image.Image, side: int) -> Segmented:
    """Classify every pixel of a picture.

    Args:
        network: maps images (N, 3, S, S) to logits (N, classes, S, S); it runs where its weights are.
        picture: in RGB, of any size: scaled into the square that the network was trained on, and its logits back.
        side: pixels of that square's side.
    """
    device = next(network.parameters()).device
    image = v2.Compose(fitted(side))(tv_tensors.Image(pil_to_tensor(picture))).as_subclass(Tensor)
    scale = side / max(picture.size)
    height, width = (max(1, round(length * scale)) for length in (picture.height, picture.width))
    with torch.inference_mode():
        logits = network.eval()(NORMALIZATIONS["imagenet"](image[None].to(device)))[..., :height, :width].float()
        back = nn.functional.interpolate(
            logits, size=(picture.height, picture.width), mode="bilinear", align_corners=False
        )
    return Segmented(picture, back[0].argmax(0).byte().cpu())


def palette() -> list[int]:
    """Red, green and blue of 256 classes, as Pascal VOC has them: black for 0, and neighbours far from each other."""
    colours = []
    for number in range(256):
        rgb = [0, 0, 0]
        for place in range(8):
            for channel in range(3):
                rgb[channel] |= (number >> (3 * place + channel) & 1) << (7 - place)
        colours += rgb
    return colours
