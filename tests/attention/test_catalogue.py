"""Names, aliases, options and the errors that say what would be right."""

import ast
import copy
import inspect
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from recalib import RecalibError, attention, attention_names, create_attention, param_groups
from recalib.attention import CATALOGUE


def test_the_names_are_stable():
    assert attention_names() == [
        "ab", "bam", "cbam", "coord", "eca", "eca_ns", "ecam", "ela", "fca", "gc", "gct", "ge", "multi_se", "scse",
        "se", "se_var1", "se_var2", "se_var3", "sge", "simam", "srm", "triplet",
    ]  # fmt: skip


@pytest.mark.parametrize(("alias", "cls"), [("meanrew", "AB"), ("multise", "MultiSE"), ("Multi-SE", "MultiSE")])
def test_names_of_the_original_code_resolve(alias, cls):
    assert type(create_attention(alias, 8)) is getattr(attention, cls)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("ecaa", 8, {}), r"unknown attention 'ecaa'; did you mean eca"),
        (("se", 8, {"reductoin": 4}), r"unknown option of se 'reductoin'; did you mean reduction\?"),
        (("eca", 8, {"kernel_size": 4}), r"kernel_size=4: ECA takes an odd number"),
        (("eca", 8, {"kernel_size": "3557"}), r"one odd number per stage"),
        (("gct", 8, {"mode": "l3"}), r"mode='l3': GCT takes 'l2' or 'l1'"),
        (("se", 8, {"reduction": 0}), r"reduction=0"),
        (("se", 0, {}), r"channels=0"),
        (("timm:foo", 8, {}), r"unknown attention layer of timm 'foo'; there are"),
    ],
)
def test_a_mistake_is_one_line_that_says_what_would_be_right(arguments, message):
    name, channels, options = arguments
    with pytest.raises(RecalibError, match=message) as caught:
        create_attention(name, channels, **options)
    assert "\n" not in str(caught.value)


def test_timms_layers_are_made_by_name():
    x = torch.randn(1, 64, 8, 8)
    assert create_attention("timm:eca", 64)(x).shape == x.shape
    assert torch.equal(create_attention("timm:se", 64, identity=True)(x), x)


def test_classes_serve_as_timms_attn_layer():
    import timm

    network = timm.create_model("resnet18", block_args={"attn_layer": attention.ECA}, num_classes=2)
    assert isinstance(network.layer1[0].se, attention.ECA)


@pytest.mark.parametrize("name", attention_names())
def test_every_mechanism_is_described(name):
    for cls in CATALOGUE[name].classes:
        assert cls.title
        assert cls.formula.startswith("y = ")
        assert "20" in cls.paper
        assert "https://" in inspect.getdoc(cls) or "Klomp" in inspect.getdoc(cls)


def test_what_modules_mark_is_not_decayed_even_in_a_deepcopy():
    network = torch.nn.ModuleList(create_attention(n, 4, identity=True) for n in ("srm", "gct", "se", "ab"))
    network = copy.deepcopy(network)
    decayed, spared = param_groups(network, 1e-4)
    names = {id(p): name for name, p in network.named_parameters()}
    assert (decayed["weight_decay"], spared["weight_decay"]) == (1e-4, 0.0)
    assert {names[id(p)] for p in spared["params"]} == {
        "0.weight", "0.bn.weight", "0.bn.bias", "0.blend.weight", "0.blend.bias",
        "1.beta", "2.blend.weight", "2.blend.bias",
    }  # fmt: skip
    assert "3.weight" in {names[id(p)] for p in decayed["params"]}, "AB is decayed, as in the original code"


def test_norms_and_biases_are_spared_on_request():
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 1), torch.nn.BatchNorm2d(4), torch.nn.Linear(4, 2))
    network[2].weight.requires_grad_(False)
    decayed, spared = param_groups(network, 1e-4, decay_norms_and_biases=False)
    assert len(decayed["params"]) == 1
    assert len(spared["params"]) == 4


def test_importing_needs_torch_alone():
    heavy = "timm torchvision onnx onnxruntime openvino altair scipy tyro rich triton"
    code = f"import sys, recalib; print([m for m in {heavy.split()!r} if m in sys.modules])"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"


OTHERS = {  # words of other projects, which are spelled as a mechanism's name
    ("surgery/blocks/timm.py", "se"),  # an attribute of timm's blocks
    ("surgery/checkpoints/networks.py", "scse"),  # an option of segmentation_models.pytorch's
}


def test_nothing_outside_names_a_mechanism_but_the_catalogue():
    """Tables of checkpoint formats aside; everything else asks the description."""
    classes = {cls.__name__ for mechanism in CATALOGUE.values() for cls in mechanism.classes}
    root = Path(attention.__file__).parents[1]
    named = set()
    for path in root.rglob("*.py"):
        place = path.relative_to(root).as_posix()
        if place.startswith("attention/") or place in ("__init__.py", "surgery/checkpoints/formats.py"):
            continue
        tree = ast.parse(path.read_text())
        calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
        letters = {id(a) for call in calls for a in call.args if getattr(call.func, "attr", "") in ("open", "rstrip")}
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and id(node) not in letters and node.value in CATALOGUE:
                named.add((place, node.value))
            if isinstance(node, ast.ImportFrom) and str(node.module).startswith("recalib.attention"):
                named |= {(place, alias.name) for alias in node.names if alias.name in classes}
    assert named == OTHERS


def lines_of_code(path, *names):
    """How many lines of a file, or of some of its functions, are code: no documentation, comments, blanks, imports."""
    text = path.read_text().splitlines()
    tree = ast.parse("\n".join(text))
    wanted = [n for n in ast.walk(tree) if getattr(n, "name", "") in names] if names else [tree]
    own = {i for n in wanted for i in range(getattr(n, "lineno", 1), getattr(n, "end_lineno", len(text)) + 1)}
    for node in ast.walk(tree):
        first = node.body[0] if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and node.body else None
        said = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
        for n in (first if said else None, node if isinstance(node, ast.Import | ast.ImportFrom) else None):
            own -= set() if n is None else set(range(n.lineno, n.end_lineno + 1))
    return sum(bool(text[i - 1].strip()) and not text[i - 1].strip().startswith("#") for i in own)


@pytest.mark.parametrize("name", attention_names())
def test_a_mechanism_is_a_short_file_and_its_gate_shorter(name):
    path = Path(inspect.getfile(CATALOGUE[name].classes[0]))
    assert lines_of_code(path) <= 60
    if isinstance(create_attention(name, 8), attention.Attention):
        assert lines_of_code(path, "__init__", "gate") <= 30
