"""A sheet of pictures with what a network takes them for."""

from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont
from torchvision.transforms.functional import to_pil_image

from recalib.data.pictures import centre, open_picture
from recalib.deploy.about import About
from recalib.deploy.classifier import Prediction
from recalib.errors import RecalibError, WorkFailed

COLUMNS, SIDE, LINE, GAP = 5, 224, 20, 16
PAPER, INK, FAINT, BAR = "#ffffff", "#1a1a1a", "#6b6b6b", "#cfe3f7"
FONT = ImageFont.load_default(13)


def write_sheet(path: Path, predictions: Sequence[Prediction], about: About) -> None:
    """Write the pictures, cropped as the network saw them, each above its most probable classes.

    Args:
        path: a PNG, or another format that Pillow writes.
        predictions: of `classify`; at least one.
        about: the preprocessing.

    Raises:
        WorkFailed: where the file cannot be written.
    """
    lines = 1 + max(len(prediction.classes) for prediction in predictions)
    width, height = SIDE + GAP, SIDE + LINE * lines + GAP
    columns = min(COLUMNS, len(predictions))
    rows = -(-len(predictions) // columns)
    sheet = Image.new("RGB", (columns * width + GAP, rows * height + GAP), PAPER)
    draw = ImageDraw.Draw(sheet)
    for place, prediction in enumerate(predictions):
        left, top = GAP + place % columns * width, GAP + place // columns * height
        sheet.paste(_crop(prediction.file, about), (left, top))
        _caption(draw, prediction, left, top + SIDE)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        sheet.save(path)
    except (OSError, ValueError) as error:  # Pillow's for a suffix that it does not know
        raise WorkFailed(f"{path} cannot be written: {error}") from None


def _crop(file: Path, about: About) -> Image.Image:
    picture = open_picture(file)
    if picture is None:
        raise RecalibError(f"{file} cannot be read as an image")
    crop = to_pil_image(centre(picture, about.size, about.crop, about.interpolation))
    scale = SIDE / max(crop.size)
    whole = Image.new("RGB", (SIDE, SIDE), "#eeeeee")
    small = crop.resize((round(crop.width * scale), round(crop.height * scale)), Image.Resampling.BICUBIC)
    whole.paste(small, ((SIDE - small.width) // 2, (SIDE - small.height) // 2))
    return whole


def _caption(draw: ImageDraw.ImageDraw, prediction: Prediction, left: int, top: int) -> None:
    draw.text((left, top + 3), _fitted(prediction.file.name, SIDE), FAINT, FONT)
    for i, (name, probability) in enumerate(prediction.classes, start=1):
        y = top + i * LINE
        draw.rectangle((left, y + 2, left + round(probability * SIDE), y + LINE - 2), BAR)
        percent = f"{100 * probability:.1f} %"
        room = SIDE - FONT.getlength(percent) - 8
        draw.text((left + 3, y + 3), _fitted(name, room), INK, FONT)
        draw.text((left + SIDE - 2, y + 3), percent, INK, FONT, anchor="ra")


def _fitted(text: str, room: float) -> str:
    """As much of a text as fits into so many pixels; the built-in font has Latin letters only."""
    shown = "".join(letter if " " <= letter <= "ÿ" else "?" for letter in text)
    if FONT.getlength(shown) <= room:
        return shown
    while shown and FONT.getlength(shown + "...") > room:
        shown = shown[:-1]
    return shown + "..."
