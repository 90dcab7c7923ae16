"""Pictures that commands are given: files, and folders of them."""

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from recalib.data.pictures import image_files
from recalib.errors import RecalibError, WorkFailed


def files_in(paths: Iterable[Path]) -> list[Path]:
    """Files, and the images in folders and below, each once.

    Raises:
        RecalibError: for a path that is not there, or a folder without images.
    """
    found: list[Path] = []
    for path in paths:
        if not path.exists():
            raise RecalibError(f"{path}: there is no such file or folder")
        found += image_files(path) if path.is_dir() else [path]
    return list(dict.fromkeys(found))


def say_left_out(unreadable: Sequence[str], tried: int) -> None:
    """Name what could not be read.

    Raises:
        WorkFailed: where that is everything.
    """
    for name in unreadable:
        print(f"{name}: left out, for it cannot be read, or is too large", file=sys.stderr)
    if len(unreadable) == tried:
        raise WorkFailed(f"none of {tried} files can be read as an image, {unreadable[0]} the first of them")


def own_names(files: Sequence[Path]) -> list[str]:
    """A name for what is made of each file; files that share one in different folders are numbered."""
    stems = [file.stem for file in files]
    return [stem if stems.count(stem) == 1 else f"{stem}-{place}" for place, stem in enumerate(stems)]
