"""Machines that cells were measured on, by names that people can tell apart."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

Machine = dict[str, Any]
_OF_A_RUN = ("precision", "protocol", "layout")  # what a description says beside the machine, and cells say themselves


def named(described: Mapping[str, Machine]) -> tuple[dict[str, str], dict[str, Machine]]:
    """Name machines by their processor, and number those that would have the same name.

    Two descriptions are of one machine if they agree in all that both tell: a package that was installed later makes
    no other machine, as nothing measured before can have used it.

    Args:
        described: what `recalib.runtimes.machine.describe` said, by fingerprint; an empty one is a machine of its own.

    Returns:
        The name for each fingerprint, and each named machine's description.
    """
    groups: list[list[str]] = []
    for key, machine in described.items():
        same = (group for group in groups if all(_agree(machine, described[other]) for other in group))
        group = next(same, None)
        if group is None:
            groups.append([key])
        else:
            group.append(key)
    names: dict[str, str] = {}
    machines: dict[str, Machine] = {}
    seen: Counter[str] = Counter()
    for group in groups:
        name = _name(described[group[0]]) or group[0]
        seen[name] += 1
        name = name if seen[name] == 1 else f"{name} ({seen[name]})"
        names |= dict.fromkeys(group, name)
        machines[name] = _merged([described[key] for key in group])
    return names, machines


def together(machines: Mapping[str, Machine]) -> Machine:
    """One description: of a single machine its own; of several what they share, and what is each one's by its name."""
    descriptions = list(machines.values())
    if len(descriptions) < 2:
        return descriptions[0] if descriptions else {}
    first = descriptions[0]
    shared = {key: first[key] for key in first if all(one.get(key) == first[key] for one in descriptions)}
    own = {name: {k: v for k, v in one.items() if k not in shared} for name, one in machines.items()}
    return {"device": "; ".join(machines)} | {k: v for k, v in shared.items() if k != "device"} | own


def _agree(one: Machine, other: Machine) -> bool:
    return bool(one and other) and all(
        _agree(one[key], other[key]) if isinstance(one[key], dict) and isinstance(other[key], dict)
        else one[key] == other[key]
        for key in one.keys() & other.keys() - {*_OF_A_RUN}
    )  # fmt: skip


def _name(machine: Machine) -> str:
    device = machine.get("device", "")
    return f"{device}, {machine['threads']} threads" if "threads" in machine and not machine.get("gpu") else device


def _merged(descriptions: list[Machine]) -> Machine:
    """All that any of them tells; of what differs, each value once."""
    merged: Machine = {}
    for key in dict.fromkeys(key for one in descriptions for key in one):
        values = [one[key] for one in descriptions if key in one]
        if isinstance(values[0], dict):
            merged[key] = _merged(values)
        else:
            once = [value for i, value in enumerate(values) if value not in values[:i]]
            merged[key] = once[0] if len(once) == 1 else ", ".join(map(str, once))
    return merged
