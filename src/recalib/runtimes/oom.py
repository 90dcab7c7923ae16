"""Kills of the system for want of memory, told from any other kill."""

from pathlib import Path

_COUNTERS = (
    Path("/proc/vmstat"),
    Path("/sys/fs/cgroup/memory.events"),
    Path("/sys/fs/cgroup/memory/memory.oom_control"),
)


def kills() -> int | None:
    """Number of processes that Linux killed for want of memory since it started; None where nothing counts them.

    The kernel's own counter, and those of the control group that a container sees as its root.
    """
    found = [count for path in _COUNTERS if (count := _count(path)) is not None]
    return sum(found) if found else None


def _count(path: Path) -> int | None:
    try:
        lines = path.read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), None)
