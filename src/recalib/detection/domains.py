"""Domains of images: attributes such as the time of day, and their values."""

from collections.abc import Iterable

from recalib.data.detection_data import DetectionDataset
from recalib.errors import RecalibError, unknown


def domain_of(text: str | None) -> dict[str, tuple[str, ...]] | None:
    """The domain in ``timeofday=daytime,dawn/dusk``, as `open_detection` takes it; further attributes follow a ``;``.

    Raises:
        RecalibError: for anything written otherwise.
    """
    if text is None:
        return None
    pairs = [part.partition("=") for part in text.split(";")]
    domain = {name.strip(): tuple(v.strip() for v in values.split(",") if v.strip()) for name, _, values in pairs}
    if not all(name and values for name, values in domain.items()):
        raise RecalibError(f"domain {text!r}: write it as ATTRIBUTE=VALUE,VALUE, such as timeofday=daytime,dawn/dusk")
    return domain


def values_of(dataset: DetectionDataset, labels: Iterable[str]) -> dict[str, list[str]]:
    """Sorted values of attributes, as the images of a data set have them.

    Raises:
        RecalibError: for an attribute that no image has, or that all images have one value of.
    """
    rows = [dataset.attributes(index) for index in range(len(dataset))]
    known = {label: sorted({row[label] for row in rows if label in row}) for label in labels}
    for label, values in known.items():
        if not values:
            raise unknown("attribute of the images", label, {name for row in rows for name in row})
        if len(values) < 2:
            raise RecalibError(f"all images have {label} {values[0]!r}: there is no domain to tell from another")
    return known
