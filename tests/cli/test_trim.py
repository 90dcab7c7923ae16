"""``recalib trim`` from a checkpoint to one with fewer gates."""

import json
import multiprocessing
import shutil
import signal
import time

import pytest
import torch

import recalib
from recalib.cli import main


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """An eight-layer network with SE, as `recalib train` writes one."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "se.safetensors"
    network = recalib.cifar_resnet(8, attention="se")
    for name, parameter in network.named_parameters():
        if "attention" in name:
            torch.nn.init.normal_(parameter)
    recalib.save_checkpoint(network, path, normalization=[[0.5] * 3, [0.25] * 3], classes=[str(i) for i in range(10)])
    return path


@pytest.fixture
def trim(checkpoint, cifar, tmp_path):
    def command(*flags, source=checkpoint, data=cifar):
        return main([
            "trim", str(source), "--data", str(data), "--to", str(tmp_path / "trimmed.safetensors"),
            "--images", "40", "--rounds", "2", *flags,
        ])  # fmt: skip

    return command


def test_a_trimmed_checkpoint_is_one_like_any_other(trim, checkpoint, tmp_path, capsys):
    page = tmp_path / "page.html"
    assert trim("--keep", "1", "--no-test", "--json", str(tmp_path / "out.json"), "--page", str(page)) == 0
    assert "layer1.0" in page.read_text()
    assert "<svg" in page.read_text()
    result = json.loads((tmp_path / "out.json").read_text())
    assert [set(site) >= {"name", "frozen", "variation", "loss", "ms"} for site in result["sites"]] == [True] * 3
    assert sum(site["frozen"] for site in result["sites"]) == result["frozen"] == 2
    assert result["sentence"] in capsys.readouterr().out
    assert result["top1_before"] is not None
    trimmed = recalib.load_checkpoint(tmp_path / "trimmed.safetensors")
    assert sum(isinstance(module, recalib.attention.SE) for module in trimmed.modules()) == 1
    seen = recalib.inspect_checkpoint(tmp_path / "trimmed.safetensors")
    assert seen.normalization == ((0.5,) * 3, (0.25,) * 3)
    assert len(seen.metadata["trimmed"]) == 2
    assert seen.metadata["classes"] == [str(i) for i in range(10)]


@pytest.fixture
def pictures(tmp_path):
    """Forty pictures of two classes to train on, and eight to test on, laid out as ImageNet is."""
    from PIL import Image

    for half, count in (("train", 20), ("val", 4)):
        for label, colour in (("cold", (0, 0, 200)), ("warm", (200, 0, 0))):
            folder = tmp_path / "data" / half / label
            folder.mkdir(parents=True)
            for i in range(count):
                Image.new("RGB", (40, 40), tuple(c + 2 * i for c in colour)).save(folder / f"{i}.png")
    return tmp_path / "data"


def test_fine_tuning_is_a_run_of_the_usual_kind_and_the_test_set_is_looked_at_once(trim, pictures, tmp_path):
    torch.manual_seed(0)
    recalib.save_checkpoint(recalib.cifar_resnet(8, attention="eca", num_classes=2), tmp_path / "two.safetensors")
    flags = ("--keep", "1", "--finetune", "1", "--trained", "attention+norms", "--images", "20", "--json",
             str(tmp_path / "out.json"))  # fmt: skip
    assert trim(*flags, source=tmp_path / "two.safetensors", data=pictures) == 0
    result = json.loads((tmp_path / "out.json").read_text())
    assert [point["frozen"] for point in result["curve"] if point["finetuned"]] == [2]
    test = result["test"]
    assert test["loss"]["images"] == 8
    assert test["top1_before"] - test["top1_after"] == pytest.approx(test["loss"]["points"])
    work, name = tmp_path / "trimmed-trim", "2-frozen-attention+norms"
    config = json.loads((work / name / "config.json").read_text())
    assert (config["recipe"]["holdout"], config["recipe"]["trained"]) == (0.5, "attention+norms")
    frozen, tuned, final = (
        recalib.load_checkpoint(file).state_dict()
        for file in (work / f"{name}.safetensors", work / name / "last.safetensors", tmp_path / "trimmed.safetensors")
    )
    assert all(torch.equal(tuned[key], tensor) for key, tensor in final.items())
    still = {key for key, tensor in frozen.items() if torch.equal(tensor, tuned[key])}
    assert {"conv1.weight", "fc.weight"} <= still
    assert "bn1.weight" not in still


def test_fine_tuning_needs_images_that_nothing_is_judged_on(trim, pictures, tmp_path, capsys):
    recalib.save_checkpoint(recalib.cifar_resnet(8, attention="eca", num_classes=2), tmp_path / "two.safetensors")
    assert trim("--finetune", "1", source=tmp_path / "two.safetensors", data=pictures) == 2
    assert "all 40 training images are looked at: --images leaves some to tune on" in capsys.readouterr().err


def test_what_is_there_is_gone_on_with_only_where_asked(trim, capsys, tmp_path):
    assert trim("--keep", "1", "--no-test") == 0
    steps = (tmp_path / "trimmed-trim" / "steps.jsonl").read_text()
    assert trim("--keep", "0", "--no-test") == 2
    assert "holds a run already; add --resume" in capsys.readouterr().err
    assert trim("--keep", "0", "--no-test", "--resume") == 0
    assert (tmp_path / "trimmed-trim" / "steps.jsonl").read_text() == steps
    assert trim("--keep", "0", "--no-test", "--resume", "--runtime", "onnxruntime") == 2
    assert "begun with other settings: runtime 'eager', now 'onnxruntime'" in capsys.readouterr().err


@pytest.mark.slow(reason="four processes, two of them killed")
def test_a_trimming_that_is_killed_and_resumed_ends_as_an_undisturbed_one(checkpoint, cifar, tmp_path):
    """Times are measured once and kept; so the undisturbed one starts from those of the killed one."""
    words = ["trim", str(checkpoint), "--data", str(cifar), "--images", "200", "--rounds", "2", "--keep", "0",
             "--no-test", "--resume"]  # fmt: skip
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(["recalib.study.checkpoint", "recalib.cli.trim"])

    def trimming(name):
        to = ["--to", str(tmp_path / f"{name}.safetensors"), "--json", str(tmp_path / f"{name}.json")]
        return processes.Process(target=main, args=([*words, *to],))

    steps = tmp_path / "killed-trim" / "steps.jsonl"
    for lines in (2, 4):  # times and every gate alone, two steps
        running = trimming("killed")
        running.start()
        while running.is_alive() and (not steps.exists() or steps.read_text().count("\n") < lines):
            time.sleep(0.001)
        running.kill()
        running.join()
        assert running.exitcode == -signal.SIGKILL
    shutil.copytree(steps.parent, tmp_path / "calm-trim")
    (tmp_path / "calm-trim" / "steps.jsonl").write_text(steps.read_text().splitlines()[0] + "\n")
    for name in ("killed", "calm"):
        running = trimming(name)
        running.start()
        running.join()
        assert running.exitcode == 0
    results = [json.loads((tmp_path / f"{name}.json").read_text()) for name in ("killed", "calm")]
    for key in ("curve", "sites", "loss", "frozen"):
        assert results[0][key] == results[1][key]
    killed, calm = (recalib.load_checkpoint(tmp_path / f"{name}.safetensors").state_dict()
                    for name in ("killed", "calm"))  # fmt: skip
    assert killed.keys() == calm.keys()
    assert all(torch.equal(tensor, calm[key]) for key, tensor in killed.items())


def test_a_folder_of_images_has_no_labels(trim, pictures, capsys):
    assert trim("--keep", "1", data=pictures / "val" / "warm") == 0
    said = capsys.readouterr().out
    assert "no labels: what counts is agreement with the untrimmed network" in said
    assert "points of agreement lost on 2 training images" in said


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--loss", "0.1", "--keep", "3"), "--loss and --keep: give one of --loss, --time and --keep"),
        (("--time", "few"), "--time few: write it as 3%"),
        (("--keep", "4"), "keep 4: should be from 0 to 3"),
        (("--runtime", "eagre"), "unknown runtime 'eagre'; did you mean eager?"),
    ],
)
def test_mistakes_are_one_line(trim, capsys, flags, message):
    assert trim(*flags) == 2
    assert message in capsys.readouterr().err
