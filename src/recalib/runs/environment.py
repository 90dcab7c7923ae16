"""What a run was run with: code version, packages, machine."""

import platform
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

PACKAGES = ("torch", "torchvision", "timm", "numpy", "lightning-fabric", "safetensors")


def environment() -> dict[str, Any]:
    """Facts a result needs to be understood later, as JSON."""
    return {
        "recalib": version_of("recalib"),
        "code": code_version(),
        "command": ["recalib", *sys.argv[1:]],
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "packages": {name: version_of(name) for name in PACKAGES},
        "threads": torch.get_num_threads(),
        "devices": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
    }


def version_of(package: str) -> str | None:
    """Installed version of a package, or None."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def code_version() -> dict[str, Any] | None:
    """Git commit of this code and whether files differ from it; None outside a checkout."""
    here = Path(__file__).parent
    commit = _git(here, "rev-parse", "HEAD")
    return commit and {"commit": commit, "changed": bool(_git(here, "status", "--porcelain", "--", str(here.parent)))}


def _git(folder: Path, *arguments: str) -> Any:
    try:
        done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
