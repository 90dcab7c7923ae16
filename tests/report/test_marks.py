"""A module looks the same everywhere, unlike every other, in both themes."""

import re
from itertools import combinations
from pathlib import Path

import pytest

import recalib.report
from recalib.attention import attention_names
from recalib.report.marks import marks

DEFAULTS = ["baseline", "ab", "eca", "se", "srm", "multi_se", "gct"]
COLOURS = {
    name: pair
    for name, *pair in re.findall(
        r"--([\w-]+): light-dark\((#\w{6}), (#\w{6})\)",
        Path(recalib.report.__file__).with_name("page.css").read_text(encoding="utf-8"),
    )
}


def luminance(colour):
    channels = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(a, b):
    """WCAG 2's ratio of two colours."""
    dark, light = sorted((luminance(a), luminance(b)))
    return (light + 0.05) / (dark + 0.05)


def test_default_modules_look_the_same_whatever_else_is_measured():
    alone, among = marks(DEFAULTS), marks(["timm:cbam", "ge", *reversed(DEFAULTS)])
    assert all(alone[name] == among[name] for name in DEFAULTS)


def test_no_two_modules_of_the_catalogue_look_alike():
    looks = marks(["baseline", *attention_names(), "timm:cbam"])
    assert len(looks) == len(set(looks.values()))


def test_default_modules_differ_in_colour_and_in_shape():
    looks = [mark for name, mark in marks(DEFAULTS).items() if name != "baseline"]
    for a, b in combinations(looks, 2):
        assert a.colour != b.colour
        assert a.shape != b.shape


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
def test_marks_and_texts_stand_out_from_the_ground(theme):
    ground = COLOURS["paper"][theme]
    marked = [name for name in COLOURS if name.startswith("module-")] + ["plain"]
    assert len(marked) == 9
    assert all(contrast(COLOURS[name][theme], ground) >= 3 for name in marked)  # WCAG 2.1: graphics
    assert all(contrast(COLOURS[name][theme], ground) >= 4.5 for name in ("ink", "muted", "accent", "alert"))
