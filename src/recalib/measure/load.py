"""Who else uses this machine while something is measured, and how much memory it takes."""

import os
import resource
from dataclasses import dataclass, field
from pathlib import Path

_STAT = Path("/proc/stat")
_WORTH_SAYING = 0.05  # of the machine


@dataclass
class Load:
    """Watches the processor from when it is made.

    The times of all processes are the kernel's (``/proc/stat``), in a container those of the whole machine.
    """

    _before: tuple[float, float, float, float] | None = field(default_factory=lambda: _times())

    def so_far(self) -> dict[str, float] | None:
        """Shares of the processor's time since then: ``"others"`` and ``"stolen"``; None where nothing tells.

        ``others`` is what processes other than this one and its children used, ``stolen`` what the host gave to other
        guests.
        """
        now = _times()
        if self._before is None or now is None or now[0] <= self._before[0]:
            return None
        whole, busy, stolen, own = (b - a for a, b in zip(self._before, now, strict=True))
        others = min(max((busy - own) / whole, 0.0), 1.0)
        return {"others": round(others, 3), "stolen": round(max(stolen / whole, 0.0), 3)}


def load_text(load: dict[str, float] | None) -> str:
    """In words, such as ``others used 38 % of this machine while it was measured``; nothing where it was left alone."""
    if load is None:
        return ""
    others, stolen = load.get("others", 0.0), load.get("stolen", 0.0)
    parts = [f"others used {others:.0%} of this machine"] if others >= _WORTH_SAYING else []
    parts += [f"its host gave {stolen:.0%} to other guests"] if stolen >= _WORTH_SAYING else []
    return f"{' and '.join(parts)} while it was measured".replace("%", " %") if parts else ""


@dataclass(frozen=True)
class Peak:
    """The most memory that was resident, in bytes, as the kernel counted it.

    Attributes:
        parent: of this process.
        child: of the largest process that it started and that has ended. One measures at a time.
    """

    parent: int
    child: int

    @staticmethod
    def so_far() -> "Peak":
        """The peaks of this process and of its children."""
        kinds = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
        return Peak(*(1024 * resource.getrusage(kind).ru_maxrss for kind in kinds))

    @property
    def bytes(self) -> int:
        """Of both together: never less than what was resident at one time."""
        return self.parent + self.child

    def __str__(self) -> str:
        parts = f"{self.child / 1e9:.1f} GB the process that measured, {self.parent / 1e9:.1f} GB this one"
        return f"At most {self.bytes / 1e9:.1f} GB of memory were resident ({parts})."


def _times() -> tuple[float, float, float, float] | None:
    """Seconds of all cores, those that were busy, those stolen, and those of this process and its children."""
    try:
        words = _STAT.read_text(encoding="ascii").splitlines()[0].split()[1:9]
    except OSError:
        return None
    user, nice, system, idle, waiting, irq, softirq, steal = (int(word) / os.sysconf("SC_CLK_TCK") for word in words)
    busy = user + nice + system + irq + softirq
    return busy + idle + waiting + steal, busy, steal, sum(os.times()[:4])
