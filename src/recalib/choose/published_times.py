"""The only times that the paper prints as numbers, those of its Table 2; its curves were published as pictures."""

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from recalib.choose.published import network_name
from recalib.measure.cells import BASELINE


@dataclass(frozen=True)
class Times:
    """A network's published times in one framework.

    Attributes:
        framework: the paper's name of it.
        label: whose they are, in a word or two.
        setting: what they were measured on, and how.
        ms: by module, the baseline among them.
    """

    framework: str
    label: str
    setting: str
    ms: dict[str, float]

    def overheads(self) -> dict[str, float]:
        """Ratio of each module's time to the baseline's."""
        return {module: ms / self.ms[BASELINE] for module, ms in self.ms.items() if module != BASELINE}


def times(model: str) -> list[Times]:
    """Published times of a network, a framework each; nothing for most."""
    data = _data()
    found = data["ms"].get(network_name(model), {})
    return [Times(framework, data["label"], data["setting"], ms) for framework, ms in found.items()]


@cache
def _data() -> dict[str, Any]:
    data: dict[str, Any] = json.loads(Path(__file__).with_suffix(".json").read_text(encoding="utf-8"))
    return data
