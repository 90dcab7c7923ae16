"""Where what takes minutes to build is kept from one run to the next."""

import os
from pathlib import Path


def cache_folder(name: str) -> Path:
    """A folder for a kind of thing, made if need be: in RECALIB_CACHE, or else in the user's cache."""
    user = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = Path(os.environ.get("RECALIB_CACHE") or user / "recalib") / name
    folder.mkdir(parents=True, exist_ok=True)
    return folder
