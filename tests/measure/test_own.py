"""A user's own network and own module, and those that an installed package registers, in every command."""

import json
import sys

import pytest

from recalib import RecalibError
from recalib.cli import main
from recalib.measure.networks import module_names
from recalib.runtimes import find_runtime
from recalib.surgery import checked_name

MINE = '''
import torch
from torch import nn
from recalib.attention import Attention
from recalib.models import create_model
from recalib.ops import Affine
from recalib.runtimes.eager import Eager

class Halves(Attention):
    """y = x * sigmoid(w * m)."""

    def __init__(self, channels, identity=False, **factory):
        super().__init__(channels, identity, **factory)
        self.weight = nn.Parameter(torch.ones(channels, **factory))

    def gate(self, moments):
        return Affine(scale=(moments.mean * self.weight).sigmoid())

class Boxes(nn.Module):
    """A network that gives more than a tensor."""

    def __init__(self):
        super().__init__()
        self.body = create_model("resnet8")

    def forward(self, images):
        return {"boxes": self.body(images), "count": len(images)}

class Slow(Eager):
    name = "slow"

broken = 3
'''


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """A module in the working directory, and a package that registers what is in it."""
    (tmp_path / "mine.py").write_text(MINE)
    info = tmp_path / "mine-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: mine\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[recalib.attention]\nhalves = mine:Halves\nlost = mine:Nothing\n"
        "[recalib.runtimes]\nslow = mine:Slow\nodd = mine:broken\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    sys.modules.pop("mine", None)


def test_compare_measures_a_module_and_a_network_of_ones_own_in_a_packages_runtime(mine):
    command = ["compare", "mine:Boxes", "--attention", "mine:Halves", "--runtime", "slow", "--rounds", "5"]
    assert main([*command, "--size", "32", "--json", "out.json"]) == 0
    cells = json.loads((mine / "out.json").read_text())["cells"]
    assert {(cell["module"], cell["status"]) for cell in cells} == {("baseline", "ok"), ("mine:Halves", "ok")}
    assert {(cell["model"], cell["runtime"]) for cell in cells} == {("mine:Boxes", "slow")}
    assert len({cell["form"] for cell in cells if cell["deployed"]}) == 2


def test_cost_and_sites_take_them_too(mine):
    assert main(["cost", "mine:Boxes", "--attention", "halves", "mine:Halves", "--json", "cost.json"]) == 0
    plain, *own = (cell["params"] for cell in json.loads((mine / "cost.json").read_text())["cells"])
    assert own == [plain + 16 + 32 + 64] * 2
    assert main(["sites", "mine:Boxes", "--attention", "halves", "--json", "sites.json"]) == 0
    assert [site["params"] for site in json.loads((mine / "sites.json").read_text())["sites"]] == [16, 32, 64]


def test_export_takes_them_too(mine):
    assert main(["export", "resnet8", "--attention", "mine:Halves", "--to", "torch-export", "--out", "own.pt2"]) == 0


def test_a_package_adds_a_runtime(mine):
    runtime = find_runtime("slow")
    assert runtime.name == "slow"
    assert runtime.target == "compile"  # the plainest form, of those that deploy knows


@pytest.mark.parametrize(
    ("find", "name", "message"),
    [
        (checked_name, "lost", "mine:Nothing cannot be imported"),
        (checked_name, "mine:broken", "not callable|channels -> module"),
        (checked_name, "mine:absent", "package.module:name"),
        (find_runtime, "odd", "is a int, not a Runtime"),
        (find_runtime, "slwo", "did you mean slow"),
    ],
)
def test_what_does_not_exist_is_one_line(mine, find, name, message):
    with pytest.raises(RecalibError, match=message):
        find(name)


def test_names_of_the_catalogue_are_written_as_it_has_them(mine):
    assert module_names(["meanrew", "timm:eca", "halves", "ab"]) == ["baseline", "ab", "timm:eca", "halves"]
