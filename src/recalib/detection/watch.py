"""One image watched over the epochs of a training, and the animation of it."""

from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import nn
from torchvision.transforms.v2.functional import pil_to_tensor, to_pil_image

from recalib.data.pictures import open_picture
from recalib.detection.prediction import draw, see
from recalib.errors import RecalibError
from recalib.runs import write_atomically

FOLDER = "watch"
FRAME_MS, LAST_MS = 500, 2500


def open_image(file: Path) -> torch.Tensor:
    """An image (3, H, W), uint8.

    Raises:
        RecalibError: where it cannot be read.
    """
    picture = open_picture(file)
    if picture is None:
        raise RecalibError(f"{file} is no image that can be read")
    return pil_to_tensor(picture)


def keep_frame(model: nn.Module, image: torch.Tensor, classes: Sequence[str], run: Path, epoch: int) -> None:
    """Draw what a detector sees after an epoch into the run's folder.

    Args:
        model: the detector as it is now.
        image: (3, H, W), uint8.
        classes: names, the background first.
        run: the run's folder.
        epoch: counted from 0.
    """
    picture = to_pil_image(draw(image, see(model, image), classes))
    folder = run / FOLDER
    folder.mkdir(exist_ok=True)
    write_atomically(folder / f"epoch_{epoch:04d}.png", lambda fresh: picture.save(fresh, "PNG"))


def animation(run: Path, out: Path) -> int:
    """Write the frames that a run kept as an animated GIF, each with its epoch; returns how many they are.

    Raises:
        RecalibError: where it kept none.
    """
    files = sorted((run / FOLDER).glob("epoch_*.png"))
    if not files:
        raise RecalibError(f"{run} kept no pictures of its epochs: train with --watch IMAGE")
    frames = [_captioned(file) for file in files]
    times = [FRAME_MS] * (len(frames) - 1) + [LAST_MS]
    write_atomically(
        out, lambda fresh: frames[0].save(fresh, "GIF", save_all=True, append_images=frames[1:], duration=times, loop=0)
    )
    return len(frames)


def _captioned(file: Path) -> Image.Image:
    with Image.open(file) as stored:
        frame = stored.convert("RGB")
    epoch, size = int(file.stem.rpartition("_")[2]), max(12, frame.height // 25)
    pen, face = ImageDraw.Draw(frame), ImageFont.load_default(size)
    text = f"epoch {epoch}"
    pen.rectangle((0, frame.height - 2 * size, pen.textlength(text, face) + size, frame.height), fill="black")
    pen.text((size // 2, frame.height - size), text, fill="white", font=face, anchor="lm")
    return frame
