"""The file of ``--json FILE``."""

import json
from pathlib import Path
from typing import Any

from recalib.errors import WorkFailed
from recalib.runs.atomic import write_text


def write_json(path: Path | None, value: Any) -> None:
    """Write a command's results for machines, whole or not at all, in folders that are made as needed; None is no file.

    Raises:
        WorkFailed: for a place that cannot be written to.
    """
    if path is None:
        return
    text = json.dumps(value, allow_nan=False) + "\n"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists() and not path.is_file():  # a pipe, or /dev/stdout
            path.write_text(text, encoding="utf-8")
            return
    except OSError as error:
        raise WorkFailed(f"cannot write {str(path)!r}: {error.strerror}") from None
    write_text(path, text)
