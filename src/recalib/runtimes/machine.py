"""The machine of a measurement: nothing that names a person, a host or a path."""

import os
import platform
import shutil
import subprocess
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from recalib.runtimes.base import Settings

LIBRARIES = (
    "recalib", "torch", "torchvision", "timm", "numpy", "onnx", "onnxscript", "onnxruntime", "onnxruntime-gpu",
    "openvino", "nncf", "tensorrt",
)  # fmt: skip


def best_device() -> torch.device:
    """The first NVIDIA GPU if there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def describe(settings: Settings) -> dict[str, Any]:
    """The machine and how it was used, in JSON's types: equal for two runs that may be compared."""
    on_gpu = settings.device.type == "cuda"
    return {
        "device": torch.cuda.get_device_name(settings.device) if on_gpu else _cpu(),
        "cpu": _cpu(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "cores": os.cpu_count(),
        "threads": settings.threads,
        "memory_gib": _memory_gib(),
        "gpu": torch.cuda.get_device_name(settings.device) if on_gpu else None,
        "driver": _driver() if on_gpu else None,
        "cuda": torch.version.cuda if on_gpu else None,
        "cudnn": torch.backends.cudnn.version() if on_gpu else None,
        "os": _os(),
        "python": platform.python_version(),
        "versions": _versions(LIBRARIES),
        "precision": settings.precision,
        "layout": f"{_layout(settings)} (PyTorch), runtime's own (others)",
        "protocol": settings.protocol.name,
    }


def _cpu() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.exists() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, "") or platform.processor() or platform.machine()


def _memory_gib() -> int | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30)
    except (AttributeError, ValueError):  # not on Windows
        return None


def _os() -> str:
    try:
        distribution = platform.freedesktop_os_release()["PRETTY_NAME"] + ", "
    except OSError:
        distribution = ""
    return f"{distribution}{platform.system()} {platform.machine()}"


def _driver() -> str | None:
    """Version of NVIDIA's driver, which PyTorch does not tell."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return None
    query = [tool, "--query-gpu=driver_version", "--format=csv,noheader"]
    lines = subprocess.run(query, capture_output=True, text=True, check=False).stdout.split()
    return lines[0] if lines else None


def _versions(names: Iterable[str]) -> dict[str, str]:
    found: dict[str, str] = {"torch": str(torch.__version__)}  # with its build, which the package's metadata lacks
    for name in names:
        try:
            found.setdefault(name, version(name))
        except PackageNotFoundError:
            continue
    return dict(sorted(found.items()))


def _layout(settings: Settings) -> str:
    return "channels_last" if settings.protocol.channels_last else "contiguous"
