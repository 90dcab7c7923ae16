"""Images in Hugging Face's parquet shards, ``train-*`` and ``validation-*``, at the top of a folder or in ``data/``."""

from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

from recalib.errors import RecalibError, require_packages

HALVES = {True: ("train",), False: ("validation", "val", "test")}


@dataclass(frozen=True)
class Record:
    """The encoded image of one row; stands where a path to a file would.

    Attributes:
        rows: the data set, on disk.
        index: number of the row.
        column: that holds the image.
    """

    rows: Any
    index: int
    column: str

    def open(self) -> BytesIO:
        """The encoded image as a file."""
        return BytesIO(self.rows[self.index][self.column]["bytes"] or b"")

    def __str__(self) -> str:
        """Place in its file."""
        return f"row {self.index} of the {self.rows.split} shards"


def find_shards(root: Path, train: bool) -> list[Path]:
    """The parquet files of one half of a data set; empty where it has none."""
    for folder in (root, root / "data"):
        for half in HALVES[train]:
            shards = sorted(folder.glob(f"{half}-*.parquet"))
            if shards:
                return shards
    return []


def read_parquet(shards: list[Path]) -> tuple[tuple[Record, ...], tuple[int, ...], tuple[str, ...]]:
    """Images, labels and the names of the classes.

    Args:
        shards: one half of a data set, with one column of images and one of class labels.

    Raises:
        RecalibError: where `datasets` is not installed, a file is no parquet, or a column or label is missing.
    """
    require_packages(("datasets",), "data", str(shards[0]))
    import datasets

    try:
        rows = datasets.Dataset.from_parquet([str(shard) for shard in shards], split=shards[0].name.split("-")[0])
    except Exception as error:  # arrow's and datasets' own errors have no common class
        reason = str(error.__cause__ or error).splitlines()[0]
        raise RecalibError(f"{shards[0].parent}: its parquet files cannot be read: {reason}") from None
    image = _column(rows.features, datasets.Image, shards[0])
    label = _column(rows.features, datasets.ClassLabel, shards[0])
    classes = tuple(rows.features[label].names)
    labels = tuple(rows[label])
    strange = next((i for i, found in enumerate(labels) if found is None or not 0 <= found < len(classes)), None)
    if strange is not None:
        raise RecalibError(f"{shards[0].parent}: row {strange} has label {labels[strange]}, not one of its classes")
    rows = rows.cast_column(image, datasets.Image(decode=False))
    return tuple(Record(rows, i, image) for i in range(len(rows))), labels, classes


def _column(features: Any, kind: type, shard: Path) -> str:
    found = [name for name, feature in features.items() if isinstance(feature, kind)]
    if len(found) != 1:
        raise RecalibError(f"{shard}: has {len(found)} columns of {kind.__name__}, not 1, among {', '.join(features)}")
    return found[0]
