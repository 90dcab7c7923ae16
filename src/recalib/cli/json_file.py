"""Where ``--json FILE`` goes."""

import json
from pathlib import Path
from typing import Any

from recalib.errors import WorkFailed


def write_json(path: Path | None, value: Any) -> None:
    """Write a command's results for machines, in folders that are made as needed; None is no file.

    Raises:
        WorkFailed: for a place that cannot be written to.
    """
    if path is None:
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(value, allow_nan=False) + "\n", encoding="utf-8")
    except OSError as error:
        raise WorkFailed(f"cannot write {str(path)!r}: {error.strerror}") from None
