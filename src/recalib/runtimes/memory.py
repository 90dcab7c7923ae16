"""Free memory, so that a cell which needs more is recorded instead of killing the process."""

import ctypes
import gc
from pathlib import Path

import torch

_MESSAGES = ("out of memory", "can't allocate memory", "not enough memory", "failed to allocate", "bad_alloc")


def available_bytes(device: torch.device) -> int | None:
    """Bytes that can still be allocated on a device; None where the system does not tell."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    limits = [limit for limit in (_of_system(), _of_container()) if limit is not None]
    return min(limits, default=None)


def is_out_of_memory(error: BaseException) -> bool:
    """True if an error says, in whichever library's words, that memory ran out."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return any(message in str(error).lower() for message in _MESSAGES)


def free_memory() -> None:
    """Give back to the system and the device what nothing refers to any more."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc's: it keeps what was freed, else
    if trim is not None:
        trim(0)
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def _of_system() -> int | None:
    meminfo = Path("/proc/meminfo")
    lines = meminfo.read_text(encoding="utf-8").splitlines() if meminfo.exists() else []
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")), None)


def _of_container(group: Path = Path("/sys/fs/cgroup")) -> int | None:
    """Memory that a control group (version 2) leaves, which /proc/meminfo does not know."""
    limit, used = group / "memory.max", group / "memory.current"
    if not (limit.exists() and used.exists()) or limit.read_text().strip() == "max":
        return None
    return max(0, int(limit.read_text()) - int(used.read_text()))
