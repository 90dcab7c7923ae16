"""BDD100K's detection labels, in the layouts of 2018 and of 2020, and any other list of frames of this form."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from recalib.data.annotations import Annotations, Object
from recalib.errors import RecalibError

CATEGORIES = (
    "pedestrian", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle", "traffic light", "traffic sign",
)  # fmt: skip
# As bdd100k's own configs/det.toml: names of 2018, and vehicles and people that are to be ignored as crowds are.
NAMES = {"bike": "bicycle", "caravan": "car", "motor": "motorcycle", "person": "pedestrian", "van": "car"}
IGNORED = {"other person": "pedestrian", "other vehicle": "car", "trailer": "truck"}
SIZE = (1280, 720)
LABELS = ("labels.json", "{}bdd100k_labels_images_*.json", "{}det_20/det_*.json")  # what is later wins
ATTRIBUTES = ("timeofday", "weather", "scene")


def find_bdd(root: Path) -> dict[str, Path]:
    """Label files of a folder laid out as BDD100K is, by split; those of 2020 where both are there.

    2018: ``labels/bdd100k_labels_images_train.json``; 2020: ``labels/det_20/det_train.json``; images of either in
    ``images/100k/train``. A folder with ``labels.json`` and ``images`` has no splits.
    """
    files = [file for form in LABELS for part in ("", "labels/") for file in root.glob(form.format(part))]
    return {_split(file): file for file in files}


def from_bdd(content: Any, file: Path) -> Annotations:
    """Annotations of a list of frames; ids of images are their places in it, from 1.

    Args:
        content: of the label file.
        file: its path, for messages.

    Raises:
        RecalibError: where it is no list of frames.
    """
    frames = content.get("frames") if isinstance(content, Mapping) else content
    if not isinstance(frames, list) or not all(isinstance(frame, Mapping) and "name" in frame for frame in frames):
        raise RecalibError(f"{file} holds neither COCO instances nor a list of BDD100K frames")
    images = tuple(_image(number, frame) for number, frame in enumerate(frames, 1))
    objects = (each for number, frame in enumerate(frames, 1) for each in _objects(number, frame))
    numbered = tuple({**each, "id": number} for number, each in enumerate(objects, 1))
    return Annotations(file, _images_of(file), images, numbered, dict(enumerate(CATEGORIES, 1)))


def _image(number: int, frame: Mapping[str, Any]) -> dict[str, Any]:
    size, told = frame.get("size") or frame, frame.get("attributes") or {}
    return {
        "id": number,
        "file_name": str(frame["name"]),
        "width": int(size.get("width", SIZE[0])),
        "height": int(size.get("height", SIZE[1])),
        "attributes": {name: told[name] for name in ATTRIBUTES if told.get(name) is not None},
    }


def _objects(number: int, frame: Mapping[str, Any]) -> Iterator[Object]:
    for label in frame.get("labels") or ():
        name = NAMES.get(label.get("category"), label.get("category"))
        if label.get("box2d") is None and (label.get("poly2d") or name not in (*CATEGORIES, *IGNORED)):
            continue  # lanes and drivable areas
        crowd = name in IGNORED or bool((label.get("attributes") or {}).get("crowd"))
        name = IGNORED.get(name, name)
        category = CATEGORIES.index(name) + 1 if name in CATEGORIES else name
        yield {"image_id": number, "category_id": category, "bbox": _box(label.get("box2d")), "iscrowd": int(crowd)}


def _box(corners: Any) -> list[float] | None:
    try:
        x1, y1, x2, y2 = (float(corners[key]) for key in ("x1", "y1", "x2", "y2"))
    except (KeyError, TypeError, ValueError):
        return None
    return [x1, y1, x2 - x1, y2 - y1]


def _split(file: Path) -> str:
    return "all" if file.stem == "labels" else file.stem.rpartition("_")[2]


def _images_of(file: Path) -> Path:
    places = [root / part / _split(file) for root in file.parents[:4] for part in ("images/100k", "images")]
    return next((place for place in (*places, file.parent / "images") if place.is_dir()), places[0])
