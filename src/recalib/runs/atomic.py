"""Files that are there whole or not at all, whatever moment the machine chooses to stop."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from recalib.errors import WorkFailed


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Write beside the target, flush to the disk, then rename: the old file stays until the new one is complete.

    Args:
        path: the target.
        write: writes the content to the path it is given, on the same file system.

    Raises:
        WorkFailed: where the disk is full or the folder cannot be written; the old file is untouched.
    """
    fresh = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        write(fresh)
        _flush(fresh)
        fresh.replace(path)
        _flush(path.parent)
    except OSError as error:
        kept = "; the one before is kept" if path.exists() else ""
        raise WorkFailed(f"{path} could not be written: {error}{kept}") from error
    finally:
        fresh.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically."""
    write_atomically(path, lambda fresh: fresh.write_text(text))


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file atomically."""
    write_text(path, json.dumps(value, indent=2, default=str) + "\n")


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
