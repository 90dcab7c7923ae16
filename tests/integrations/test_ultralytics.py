"""YOLO with attention: inserted, trained by ultralytics' own trainer, resumed, fused, saved, exported, deployed."""

import copy
import importlib
import json
import os
import pickle
import re
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import nn

import recalib
from recalib import RecalibError, deploy, insert_, remove_, sites
from recalib.deploy.deploy import tree_difference
from recalib.integrations import ultralytics as adapter
from recalib.surgery import inserted

SIZE = (1, 3, 64, 64)
TINY = {"imgsz": 64, "batch": 2, "workers": 0, "device": "cpu", "plots": False, "val": False, "amp": False,
        "verbose": False, "optimizer": "SGD", "deterministic": False, "warmup_epochs": 0}  # fmt: skip
pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning",
    "ignore:.*torch.jit:FutureWarning",
    "ignore:.*inside a function that is executed by a Tuner",
)


def squares(channels):
    """A module of the user's own, which other processes can import."""
    return nn.Conv2d(channels, channels, 1)


def lively(model):
    torch.manual_seed(0)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.2)
            nn.init.normal_(module.running_mean, std=0.2)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
        if isinstance(module, recalib.attention.Blend):
            nn.init.normal_(module.weight)
    return model.eval()


TINY_YAML = """
nc: 80
backbone:
  - [-1, 1, Conv, [8, 3, 2]]
  - [-1, 1, Conv, [16, 3, 2]]
  - [-1, 1, C2f, [16, True]]
  - [-1, 1, Conv, [32, 3, 2]]
  - [-1, 1, C2f, [32, True]]
head:
  - [[2, 4], 1, Detect, [nc]]
"""


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    """A YOLOv8 of six layers, as a yaml."""
    path = tmp_path_factory.mktemp("tiny") / "yolov8-tiny.yaml"
    path.write_text(TINY_YAML)
    return path


@pytest.fixture
def yolo():
    def make(name="yolo11n.yaml"):
        from ultralytics import YOLO

        made = YOLO(name)
        lively(made.model)
        return made

    return make


def predictions(model, x=None):
    x = torch.rand(SIZE, generator=torch.Generator().manual_seed(0)) if x is None else x
    with torch.no_grad():
        return model(x)[0]


def same(found, expected):
    assert float((found - expected).abs().max()) <= 1e-4 * float(expected.abs().max())


@pytest.mark.parametrize(
    ("name", "residual", "blocks"),
    [
        ("yolov5n.yaml", ("model.2.m.0.cv2", 7), ["model.2", "model.4", "model.6", "model.8", "model.9"]),
        ("yolov8n.yaml", ("model.2.m.0.cv2", 6), ["model.2", "model.4", "model.6", "model.8", "model.9"]),
        ("yolo11n.yaml", ("model.2.m.0.cv2", 13), ["model.2", "model.4", "model.6", "model.8", "model.9"]),
    ],
)
def test_sites_are_bottlenecks_and_blocks_up_to_the_head(yolo, name, residual, blocks):
    model = yolo(name).model
    found = sites(model)
    assert (found[0].name, len(found)) == residual
    after = [site.name for site in sites(model, "blocks")]
    assert after[:5] == blocks
    assert not any(name.startswith(f"model.{len(model.model) - 1}") for name in after)
    assert sites(model, "stages")[-1].size == (7, 7)


@pytest.mark.parametrize("where", [None, "blocks", "C3k2", "model.*.C3k2"])
def test_the_identity_leaves_predictions_and_everything_else_follows(yolo, where):
    model = yolo().model
    expected, keys = predictions(model), set(model.state_dict())
    insertion = insert_(model, "eca", where=where, identity=True)
    assert insertion.sites
    assert torch.equal(predictions(model), expected)
    assert keys < set(model.state_dict())
    lively(model)
    expected = predictions(model)
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model)), copy.deepcopy(model).fuse(verbose=False)):
        same(predictions(other), expected)
        assert len(inserted(other).sites) == len(insertion.sites)
    deployed = deploy(model, SIZE)
    same(predictions(deployed), expected)
    assert deployed.about.difference <= 1e-4
    same(predictions(copy.deepcopy(deployed).fuse(verbose=False)), expected)


def test_a_norm_that_fuse_deletes_is_warned_about(yolo):
    model = yolo().model
    with pytest.warns(UserWarning, match=r"model.2.cv1.bn: fuse\(\) of ultralytics deletes.*name 'model.2.cv1' inst"):
        insert_(model, "se", where=["model.2.cv1.bn"])


def test_the_handle_is_told_apart_from_the_network(yolo):
    handle = yolo()
    for verb in (lambda m: insert_(m, "se"), sites, deploy, remove_):
        with pytest.raises(RecalibError, match=r"YOLO holds a network: call .* on its .model"):
            verb(handle)


def test_training_by_the_plain_trainer_is_an_error_and_not_a_plain_yolo(yolo, tiny, boxes, tmp_path):
    handle = yolo(tiny)
    insert_(handle.model, "eca", identity=True)
    handle.ckpt = {"model": handle.model}  # as loaded from a file
    with pytest.raises(RecalibError, match=r"this YOLO has attention.*trainer=recalib.integrations.ultralytics"):
        handle.train(data=str(boxes), epochs=1, project=str(tmp_path), **TINY)
    remove_(handle.model)
    assert type(handle.model.yaml) is dict


def test_pretrained_weights_and_attention_survive_training_resuming_and_export(yolo, tiny, boxes, tmp_path):
    from ultralytics import YOLO

    plain = yolo(tiny)
    plain.ckpt = {}
    plain.save(tmp_path / "plain.pt")
    expected = predictions(YOLO(tmp_path / "plain.pt").model.eval())
    kind = adapter.trainer("se", where="blocks", reduction=8)
    start = kind(overrides={"model": str(tmp_path / "plain.pt"), "data": str(boxes), "project": str(tmp_path), **TINY})
    start.data["nc"] = 80
    built = start.get_model(cfg=str(tiny), weights=YOLO(tmp_path / "plain.pt").model).eval()
    same(predictions(built), expected)

    handle = YOLO(tmp_path / "plain.pt")
    handle.train(trainer=kind, data=str(boxes), epochs=2, project=str(tmp_path), name="run", save_period=1, **TINY)
    names = [site.name for site in inserted(handle.model).sites]
    assert "model.2" in names
    trained = YOLO(tmp_path / "run" / "weights" / "last.pt")
    assert [site.name for site in inserted(trained.model).sites] == names
    blends = [module for module in trained.model.modules() if isinstance(module, recalib.attention.Blend)]
    assert any(float(blend.weight.abs().max()) > 0 for blend in blends)

    first = YOLO(tmp_path / "run" / "weights" / "epoch0.pt")
    with pytest.raises(RecalibError, match="this YOLO has attention"):
        first.train(resume=True)
    resumed = YOLO(tmp_path / "run" / "weights" / "epoch0.pt")
    resumed.train(trainer=kind, resume=True)
    assert [site.name for site in inserted(resumed.model).sites] == names
    with pytest.raises(RecalibError, match="the weights have attention that this trainer would lose"):
        YOLO(tmp_path / "run" / "weights" / "last.pt").train(
            trainer=adapter.trainer("ab"), data=str(boxes), epochs=1, project=str(tmp_path), **TINY
        )

    model = trained.model.eval()
    expected = predictions(model)
    same(predictions(deploy(model, SIZE)), expected)
    for form in ("onnx", "openvino"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of PyTorch's tracer, about ultralytics' head
            path = trained.export(format=form, imgsz=64, **({"simplify": False} if form == "onnx" else {}))
        same(run_exported(form, path), expected)


def run_exported(form, path):
    x = torch.rand(SIZE, generator=torch.Generator().manual_seed(0)).numpy()
    if form == "onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        return torch.from_numpy(session.run(None, {session.get_inputs()[0].name: x})[0])
    import openvino

    network = openvino.Core().compile_model(next(Path(path).glob("*.xml")), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return torch.from_numpy(network([x])[0])


def test_validation_and_averaged_weights_see_attention(yolo, tiny, boxes, tmp_path):
    from ultralytics.utils.torch_utils import ModelEMA

    handle = yolo(tiny)
    options = {"data": str(boxes), "imgsz": 64, "workers": 0, "plots": False, "verbose": False, "conf": 0.001,
               "project": str(tmp_path)}  # fmt: skip
    handle.model.names = {i: str(i) for i in range(80)}
    plain = copy.deepcopy(handle).val(**options).results_dict
    insert_(handle.model, "srm", where="C2f", identity=True)
    assert copy.deepcopy(handle).val(**options).results_dict == plain
    average = ModelEMA(handle.model)
    lively(handle.model)
    average.update(handle.model)
    assert inserted(average.ema).sites == inserted(handle.model).sites
    blends = [m for m in average.ema.modules() if isinstance(m, recalib.attention.Blend)]
    assert blends
    assert all(float(blend.weight.abs().max()) > 0 for blend in blends)


@pytest.mark.parametrize("task", ["segment", "pose"])
def test_other_tasks_have_their_own_trainer_as_its_base(yolo, task):
    handle = yolo({"segment": "yolo11n-seg.yaml", "pose": "yolo11n-pose.yaml"}[task])
    base = handle.task_map[task]["trainer"]
    kind = adapter.trainer("eca", base=base)
    assert issubclass(kind, base)
    model, x = handle.model, torch.rand(SIZE)
    with torch.no_grad():
        expected = model(x)
        insert_(model, "eca", identity=True)
        assert tree_difference(model(x), expected) == 0
        lively(model)
        assert deploy(model, x).about.difference <= 1e-4


def test_the_launcher_of_several_processes_starts_this_trainer(yolo, tiny, boxes, tmp_path):
    """ultralytics writes the trainer's class and the model to a file, and runs a script that trains from it."""
    from ultralytics import YOLO
    from ultralytics.utils.dist import generate_ddp_file

    plain = yolo(tiny)
    plain.ckpt = {}
    plain.save(tmp_path / "plain.pt")
    kind = adapter.trainer("se", where="C2f")
    settings = {"model": str(tmp_path / "plain.pt"), "data": str(boxes), "epochs": 1, "name": "run", **TINY}
    trainer = kind(overrides={**settings, "project": str(tmp_path)})
    trainer.model = trainer.get_model(cfg=str(tiny), weights=YOLO(tmp_path / "plain.pt").model, verbose=False)
    script = generate_ddp_file(trainer)
    done = subprocess.run([sys.executable, "-W", "ignore", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    (last,) = tmp_path.glob("run*/weights/last.pt")
    assert len(inserted(YOLO(last).model).sites) == 2


@pytest.mark.slow
@pytest.mark.skipif("RECALIB_DATA" not in os.environ, reason="RECALIB_DATA is not set")
def test_the_examples_of_the_page_run_on_coco(yolo, tmp_path, monkeypatch):
    """As written, with a yolo11n.pt of random weights and a coco8.yaml of eight images of COCO."""
    page = Path(__file__).parents[2] / "docs" / "ultralytics.md"
    blocks = re.findall(r"^```python\n(.*?)^```$", page.read_text(), re.M | re.S)
    assert len(blocks) == 2
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("ultralytics.cfg.TESTS_RUNNING", False)
    monkeypatch.setitem(importlib.import_module("ultralytics.utils").SETTINGS, "runs_dir", str(tmp_path / "runs"))
    coco8(Path(os.environ["RECALIB_DATA"]) / "coco_mini", tmp_path)
    handle = yolo()
    handle.ckpt = {}
    handle.save("yolo11n.pt")
    names = {}
    for i, block in enumerate(blocks, 1):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            exec(compile(block, f"docs/ultralytics.md, block {i}", "exec"), names)
    assert len([*tmp_path.rglob("best.onnx")]) == 3


def coco8(mini, folder):
    """Eight images of COCO in ultralytics' layout."""
    held = json.loads((mini / "instances_val2017.json").read_text())
    classes = {category["id"]: i for i, category in enumerate(held["categories"])}
    for kind in ("images", "labels"):
        (folder / "coco8" / kind).mkdir(parents=True)
    for image in held["images"][:8]:
        W, H = image["width"], image["height"]
        with Image.open(mini / "val2017" / image["file_name"]) as picture:
            picture.convert("RGB").save(folder / "coco8" / "images" / f"{image['id']}.jpg")
        lines = []
        for box in (a for a in held["annotations"] if a["image_id"] == image["id"] and not a["iscrowd"]):
            x, y, w, h = box["bbox"]
            lines.append(f"{classes[box['category_id']]} {(x + w / 2) / W} {(y + h / 2) / H} {w / W} {h / H}")
        (folder / "coco8" / "labels" / f"{image['id']}.txt").write_text("\n".join(lines))
    names = "".join(f"  {i}: {category['name']}\n" for i, category in enumerate(held["categories"]))
    (folder / "coco8.yaml").write_text(f"path: {folder / 'coco8'}\ntrain: images\nval: images\nnames:\n{names}")


def test_other_processes_find_the_trainer_by_its_name():
    kind = adapter.trainer(squares, where=["model.2", "model.4"], identity=False)
    assert adapter.trainer(squares, where=["model.2", "model.4"], identity=False) is kind
    assert pickle.loads(pickle.dumps(kind)) is kind
    kind = adapter.trainer({0: "se", 2: "eca"}, kernel_size=(3, 5, 7))
    code = f"from {kind.__module__} import {kind.__name__} as kind; print(kind.__doc__)"
    told = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.splitlines()[-1].startswith("DetectionTrainer with attention {0: 'se', 2: 'eca'}")


def test_a_trainer_of_what_nobody_can_import_works_here_and_says_so_elsewhere():
    kind = adapter.trainer(lambda channels: nn.Identity())
    assert getattr(adapter, kind.__name__) is kind
    with pytest.raises(RecalibError, match="cannot import by its name"):
        adapter.__getattr__("Trainer_here_99")
    for name in ("Trainer_00", "Trainr"):
        with pytest.raises(AttributeError, match=f"no attribute '{name}'"):
            adapter.__getattr__(name)


def test_import_recalib_imports_no_ultralytics():
    code = "import sys, recalib; print(recalib.integrations.ultralytics.trainer and 'ultralytics' in sys.modules)"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "False"
