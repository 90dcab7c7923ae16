"""Image files as a classifier wants them, outside of any data set."""

from collections.abc import Iterable
from pathlib import Path

import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor
from torchvision.datasets.folder import IMG_EXTENSIONS
from torchvision.transforms import InterpolationMode, v2

from recalib.data.normalization import Normalization
from recalib.data.parquet import Record
from recalib.data.shards import Member
from recalib.errors import RecalibError


def image_files(folder: Path) -> list[Path]:
    """Images in a folder and the folders below it, sorted.

    Raises:
        RecalibError: where there are none.
    """
    files = sorted(file for file in folder.rglob("*") if file.suffix.lower() in IMG_EXTENSIONS)
    if not files:
        raise RecalibError(f"{folder} holds no images")
    return files


def open_picture(file: Path | Record | Member) -> Image.Image | None:
    """An image in RGB, or None where it cannot be read as one, or is so large that Pillow takes it for an attack."""
    try:
        with Image.open(file if isinstance(file, Path) else file.open()) as picture:
            return picture.convert("RGB")
    except (OSError, UnidentifiedImageError, ValueError, SyntaxError, MemoryError, Image.DecompressionBombError):
        return None
    except ImportError:  # ultralytics, where it is imported, opens what Pillow cannot by a package that may be missing
        return None


def centre(picture: Image.Image, size: tuple[int, int], crop: float, interpolation: str = "bilinear") -> Tensor:
    """The middle of a picture, scaled, without distortion, so that the crop takes a share of its narrower side.

    Args:
        picture: in RGB.
        size: H and W of the result in pixels.
        crop: that share, such as 0.875: the short side becomes 256 pixels for a crop of 224.
        interpolation: bilinear or bicubic.

    Returns:
        uint8, shape (3, H, W).
    """
    scale = max(size[0] / picture.height, size[1] / picture.width) / crop
    whole = [max(round(side * scale), least) for side, least in zip((picture.height, picture.width), size, strict=True)]
    scaled = v2.Resize(whole, InterpolationMode(interpolation))
    return v2.Compose([scaled, v2.CenterCrop(size), v2.PILToTensor()])(picture)


def read_batch(
    files: Iterable[Path | Record | Member],
    size: tuple[int, int],
    crop: float,
    form: Normalization,
    interpolation: str = "bilinear",
) -> Tensor:
    """Images as one normalised batch, float32, shape (N, 3, H, W).

    Raises:
        RecalibError: naming the first file that cannot be read.
    """
    crops = []
    for file in files:
        picture = open_picture(file)
        if picture is None:
            raise RecalibError(f"{file} cannot be read as an image")
        crops.append(centre(picture, size, crop, interpolation))
    return form(torch.stack(crops))
