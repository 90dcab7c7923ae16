"""What runs after an installation without extras: every command's help, and all that needs no more."""

import subprocess
import sys

import pytest

from recalib.cli import COMMANDS
from recalib.errors import RecalibError, install_line, not_installed, require_packages

EXTRAS = [
    "lightning_fabric", "faster_coco_eval", "onnx", "onnxscript", "onnxruntime", "openvino", "nncf", "altair",
    "vl_convert", "datasets", "optuna", "wandb", "tensorboard", "mlflow", "ray", "webdataset", "ultralytics",
]  # fmt: skip
WITHOUT = f"""
import sys
from importlib.machinery import PathFinder

class Without(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.partition(".")[0] in {EXTRAS} else super().find_spec(name, path, target)

sys.meta_path[sys.meta_path.index(PathFinder)] = Without
from recalib.cli import main
"""


def without_extras(code, *arguments, cwd=None):
    return subprocess.run(
        [sys.executable, "-c", WITHOUT + code, *map(str, arguments)], capture_output=True, text=True, timeout=250,
        check=False, cwd=cwd,
    )  # fmt: skip


def test_every_command_has_help():
    done = without_extras(
        "import contextlib, io\n"
        "for words in [[name] for name in sys.argv[1:]] + [['detect', s] for s in "
        "('check', 'train', 'evaluate', 'predict')]:\n"
        "    with contextlib.redirect_stdout(io.StringIO()) as said, contextlib.suppress(SystemExit):\n"
        "        assert main([*words, '--help']) == 0, words\n"
        "    assert 'recalib ' + ' '.join(words) in said.getvalue(), words\n",
        *COMMANDS,
    )
    assert done.returncode == 0, done.stderr


def test_what_needs_an_extra_names_the_line_that_installs_it(tmp_path, monkeypatch):
    (tmp_path / "sweep.yaml").write_text("method: random\nmetric: {name: top1}\nparameters: {lr: {values: [0.1]}}\n")
    done = without_extras(
        "for words in (['compare', 'cifar_resnet8'], ['train', 'cifar-paper', '--data', '.'], "
        "['sweep', 'sweep.yaml', '--data', '.']):\n"
        "    print(main(words))",
        cwd=tmp_path,
    )
    assert done.stdout.split() == ["2"] * 3, done.stderr
    page, train, sweep = done.stderr.splitlines()
    monkeypatch.chdir(tmp_path)
    assert page == f"recalib: pages and figures: altair, vl_convert not installed: {install_line('report')}"
    assert install_line("train") in train
    assert install_line("sweep") in sweep


def test_a_network_is_exported_and_predicts_without_extras(tmp_path):
    from PIL import Image

    Image.new("RGB", (40, 30), "red").save(tmp_path / "red.png")
    done = without_extras(
        "import recalib\n"
        "model = recalib.cifar_resnet(8, attention='eca')\n"
        "recalib.save_checkpoint(model, 'net.safetensors')\n"
        "print(main(['predict', 'red.png', '--weights', 'net.safetensors']))\n"
        "export = ['export', 'net.safetensors', '--to', 'torch-export', '--size', '32', '--out', 'net.pt2']\n"
        "print(main(export))\n",
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert [line for line in done.stdout.splitlines() if line in "0 1 2"] == ["0", "0"], done


def test_what_to_install_is_what_was_installed():
    assert install_line("train").endswith("[train]'")
    assert not_installed(("sys", "json"), "train") is None
    assert not_installed(("no_such_thing", "no.such.thing"), "train") == (
        f"no_such_thing, no.such.thing not installed: {install_line('train')}"
    )
    with pytest.raises(RecalibError, match="training: no_such_thing not installed: pip install"):
        require_packages(("no_such_thing",), "train", "training")


@pytest.mark.parametrize(
    ("origin", "wanted"),
    [
        (None, "recalib[train]"),
        ('{"url": "file:///home/me/my%20clone", "dir_info": {}}', "/home/me/my clone[train]"),
        ('{"url": "https://example.org/recalib.git", "vcs_info": {}}', "recalib[train]"),
    ],
)
def test_the_line_names_the_index_or_the_folder_that_it_came_from(origin, wanted, tmp_path, monkeypatch):
    from recalib import errors

    class Installed:
        def read_text(self, name):
            return origin

    monkeypatch.setattr(errors, "__file__", str(tmp_path / "site-packages" / "recalib" / "errors.py"))
    monkeypatch.setattr(errors.importlib.metadata, "distribution", lambda _: Installed())
    assert install_line("train") == f"pip install '{wanted}'"
