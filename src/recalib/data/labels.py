"""Label files of detection data: which there are in a folder, what is in them, and the domains of their images."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from recalib.data.annotations import Annotations, only
from recalib.data.bdd import find_bdd, from_bdd
from recalib.data.coco import find_coco, from_coco, is_coco, read_labels
from recalib.errors import RecalibError, unknown

Domain = Mapping[str, Sequence[str]]  # values of attributes


def read_annotations(path: Path, split: str | None = None) -> Annotations:
    """Labels of a data set as they are, mistakes included.

    Args:
        path: folder of the data set, or its label file.
        split: one of the label files of a folder.

    Raises:
        RecalibError: where there is no data set or split of this name.
    """
    files = label_files(path, split)
    if len(files) > 1:
        raise RecalibError(f"{path} holds {' and '.join(file.name for file in files)}: say which split")
    content = read_labels(files[0])
    return from_coco(content, files[0]) if is_coco(content) else from_bdd(content, files[0])


def label_files(path: Path, split: str | None = None) -> list[Path]:
    """Label files of a data set, or that of a split, such as ``"val2017"`` or ``"val"``.

    Raises:
        RecalibError: where there is no data set or split of this name.
    """
    if path.is_file():
        return [path]
    files = find_coco(path) or find_bdd(path)
    if not files:
        raise RecalibError(
            f"{path} holds no detection data: neither COCO's annotations/instances_SPLIT.json nor BDD100K's "
            "labels/det_20/det_SPLIT.json or labels/bdd100k_labels_images_SPLIT.json"
        )
    fitting = [file for name, file in files.items() if split in (None, name, name.rstrip("0123456789"))]
    if not fitting:
        raise unknown("split", split, files)
    return fitting


def in_domain(annotations: Annotations, domain: Domain) -> Annotations:
    """The part whose images have one of the values of each attribute.

    Raises:
        RecalibError: for an attribute or value that no image has.
    """
    for attribute, wanted in domain.items():
        values = {image["id"]: image.get("attributes", {}).get(attribute) for image in annotations.images}
        there = {value for value in values.values() if value is not None}
        if not there:
            raise _no_attribute(annotations, attribute)
        for value in wanted:
            if value not in there:
                raise unknown(attribute, value, there)
        annotations = only(annotations, {image_id for image_id, value in values.items() if value in wanted})
    return annotations


def _no_attribute(annotations: Annotations, attribute: str) -> RecalibError:
    known = {name for image in annotations.images for name in image.get("attributes", {})}
    if known:
        return unknown("attribute of the images", attribute, known)
    return RecalibError(f"domain {attribute}: {annotations.source} tells no attributes of its images")
