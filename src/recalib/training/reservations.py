"""Reservations about a run's figures, wherever they are shown: data was left out, nothing was learnt."""

from collections.abc import Mapping
from typing import Any


def reservations(config: Mapping[str, Any], facts: Mapping[str, Any], metrics: Mapping[str, Any]) -> list[str]:
    """Reasons why a run is not to be compared with others as if it were whole.

    Args:
        config: the run's.
        facts: those it notes of its data; empty for runs of older versions.
        metrics: those of its last evaluation.

    Returns:
        Sentences without a full stop, such as ``"trained on 100 of 50,000 images"``; none of a run that is whole.
    """
    said = []
    for part, did in (("train", "trained"), ("test", "evaluated")):
        used, there = facts.get(f"{part}_images"), facts.get(f"{part}_images_there")
        if used is not None and there is not None and used + facts.get("aside_images", 0) * (part == "train") < there:
            said.append(f"{did} on {used:,} of {there:,} images")
    if not facts and config.get("recipe", {}).get("limit") is not None:
        said.append(f"limited to {config['recipe']['limit']:,} images")
    return [*said, *_unlearnt(facts, metrics)]


def _unlearnt(facts: Mapping[str, Any], metrics: Mapping[str, Any]) -> list[str]:
    classes, images = facts.get("classes"), metrics.get("images")
    if "top1" in metrics and classes and images:
        from scipy.stats import binom

        hits = round(metrics["top1"] * images / 100)
        if binom.sf(hits - 1, images, 1 / classes) > 0.025:
            return [f"no better than chance ({100 / classes:.3g} %)"]
    if metrics.get("AP", 1.0) < 0.001:
        return ["finds next to nothing"]
    if "miou" in metrics and classes and metrics["miou"] < 1 / classes:
        return ["no better than one class everywhere"]
    return []
