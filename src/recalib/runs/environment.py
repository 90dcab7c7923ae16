"""Code version, packages and machine of a run."""

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
        "command": [*_program(), *map(without_place, sys.argv[1:])],
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "packages": {name: version_of(name) for name in PACKAGES},
        "threads": torch.get_num_threads(),
        "devices": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
    }


def without_place(word: str) -> str:
    """A word of a command line, its path told from the working directory, or by its name where it lies outside."""
    flag, equals, value = word.partition("=") if word.startswith("--") else ("", "", word)
    path = Path(value).expanduser()
    if path.is_absolute():
        here = Path.cwd()
        value = str(path.relative_to(here)) if path.is_relative_to(here) else path.name
    return flag + equals + value


def _program() -> list[str]:
    """Words before the arguments: recalib, or python and a module or script."""
    spec = sys.modules["__main__"].__spec__
    if spec is not None:
        name = spec.name.removesuffix(".__main__")
        return ["recalib"] if name == "recalib" else ["python", "-m", name]
    script = without_place(sys.argv[0])
    return ["python", script] if script.endswith(".py") else [Path(script).name]


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
