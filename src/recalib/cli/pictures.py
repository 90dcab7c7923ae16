"""Pictures that commands are given: files, and folders of them."""

import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from PIL import Image
from rich.console import Console
from rich.progress import track

from recalib.data.pictures import image_files, open_picture
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


def seen_in(
    files: Sequence[Path], see: Callable[[Path, str, Image.Image], dict[str, Any]]
) -> tuple[list[dict[str, Any]], list[str]]:
    """Results of `see` for every picture, with progress; files that cannot be read are named and left out.

    Args:
        files: of `files_in`.
        see: takes a file, a name of its own for what is made of it, and its picture.

    Returns:
        Results in the order of the files, and the files that could not be read.

    Raises:
        WorkFailed: where no file can be read.
    """
    console = Console(stderr=True)
    shown = track(
        zip(files, _own_names(files), strict=True), "predicting", len(files), transient=True, console=console,
        disable=not console.is_terminal,
    )  # fmt: skip
    found: list[dict[str, Any]] = []
    unreadable: list[str] = []
    for file, name in shown:
        picture = open_picture(file)
        if picture is None:
            unreadable.append(str(file))
        else:
            found.append(see(file, name, picture))
    say_left_out(unreadable, len(files))
    return found, unreadable


def _own_names(files: Sequence[Path]) -> list[str]:
    """A name for what is made of each file; files that share one in different folders are numbered."""
    stems = [file.stem for file in files]
    return [stem if stems.count(stem) == 1 else f"{stem}-{place}" for place, stem in enumerate(stems)]
