"""Files for other runtimes hold the network that they were made of, its labels and its preprocessing."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

import recalib
from recalib.deploy.about import About, imagenet_names, label_names
from recalib.deploy.classifier import classify, open_classifier, open_exported_classifier
from recalib.deploy.classifier_file import export_classifier, relative_difference
from recalib.errors import RecalibError, WorkFailed
from recalib.measure.networks import perturb_
from recalib.runtimes.engine import missing

BROADCAST = [
    ("cbam", "coord", "triplet"),
    ("simam", "ela", "fca"),
    ("gc", "sge", "scse"),
    ("bam", "ecam", "eca"),
]
SUFFIX = {"onnx": ".onnx", "openvino": ".xml", "torch-export": ".pt2"}


def made(model="cifar_resnet20", attention="eca"):
    torch.manual_seed(0)
    classifier = open_classifier(model, attention=attention)
    perturb_(classifier.network)
    return classifier


def in_float64(network, images):
    with torch.inference_mode():
        expected = network.double()(images.double())
    network.float()
    return expected


@pytest.mark.parametrize("to", SUFFIX)
def test_a_file_for_any_batch_and_size_agrees_with_float64(to, tmp_path):
    classifier = made()
    path = tmp_path / f"net{SUFFIX[to]}"
    done = export_classifier(classifier.network, path, replace(classifier.about, dynamic=True), to=to)
    assert done.difference < 1e-5
    read = open_exported_classifier(path)
    for shape in ((1, 3, 32, 32), (7, 3, 40, 24)):
        images = torch.randn(shape)
        assert relative_difference(read.network(images), in_float64(classifier.network, images)) < 1e-5


@pytest.mark.parametrize("to", ["onnx", "openvino"])
@pytest.mark.parametrize("names", BROADCAST, ids=" ".join)
def test_mechanisms_that_look_at_rows_columns_and_pixels_are_in_files_for_any_batch_and_size(to, names, tmp_path):
    torch.manual_seed(0)
    network = recalib.cifar_resnet(8)
    recalib.insert_(network, dict(enumerate(names)))
    perturb_(network.eval())
    path = tmp_path / f"net{SUFFIX[to]}"
    about = replace(made("cifar_resnet8", None).about, dynamic=True)
    assert export_classifier(network, path, about, to=to).difference < 1e-5
    run = open_exported_classifier(path).network
    for shape in ((1, 3, 32, 32), (7, 3, 37, 21)):
        images = torch.randn(shape)
        assert relative_difference(run(images), in_float64(network, images)) < 1e-4


def test_a_file_for_one_batch_takes_any_number_of_images_and_no_other_size(tmp_path):
    classifier = made(attention="se")
    path = tmp_path / "net.onnx"
    export_classifier(classifier.network, path, replace(classifier.about, batch=4, dynamic=False))
    network = open_exported_classifier(path).network
    for count in (1, 4, 7):
        images = torch.randn(count, 3, 32, 32)
        assert relative_difference(network(images), in_float64(classifier.network, images)) < 1e-5
    with pytest.raises(RecalibError, match="holds for 32x32 only"):
        network(torch.randn(4, 3, 40, 32))
    with pytest.raises(RecalibError, match="size 40x32"):
        open_exported_classifier(path, (40, 32))


@pytest.mark.parametrize("to", SUFFIX)
def test_labels_and_preprocessing_come_back(to, tmp_path):
    classifier = made(attention=None)
    about = replace(classifier.about, labels=("a, b", "é", *"cdefghij"), mean=(0.1, 0.2, 0.3), size=(32, 48), crop=0.9)
    path = tmp_path / f"net{SUFFIX[to]}"
    export_classifier(classifier.network, path, about, to=to)
    assert open_exported_classifier(path).about == about


def test_a_file_that_differs_too_much_is_not_left_behind(tmp_path):
    classifier = made()
    with pytest.raises(WorkFailed, match="differs from PyTorch"):
        export_classifier(classifier.network, tmp_path / "net.onnx", classifier.about, tolerance=0)
    assert list(tmp_path.iterdir()) == []


def test_the_opset_is_the_one_that_was_asked_for(tmp_path):
    import onnx

    classifier = made()
    export_classifier(classifier.network, tmp_path / "net.onnx", classifier.about, opset=18)
    assert onnx.load(tmp_path / "net.onnx").opset_import[0].version == 18
    with pytest.raises(RecalibError, match="opset 7"):
        export_classifier(classifier.network, tmp_path / "old.onnx", classifier.about, opset=7)


def test_exporting_leaves_the_network_as_it_was(tmp_path):
    classifier = made()
    network = classifier.network.train()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    export_classifier(network, tmp_path / "net.pt2", classifier.about, to="torch-export")
    assert network.training
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


@pytest.mark.parametrize(("to", "dynamic"), [("onnx", False), ("onnx", True), ("openvino", True)])
def test_int8_is_calibrated_and_compared_on_different_images_and_keeps_the_metadata(to, dynamic, tmp_path):
    draw = np.random.default_rng(0)
    for i in range(6):
        Image.fromarray(draw.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(tmp_path / f"{i}.png")
    classifier = made("cifar_resnet8")
    about = replace(classifier.about, labels=tuple("abcdefghij"), dynamic=dynamic)
    path = tmp_path / f"net{SUFFIX[to]}"
    files = sorted(tmp_path.glob("*.png"))
    done = export_classifier(classifier.network, path, about, to=to, precision="int8", files=files)
    assert done.shapes[0] == (3, 3, 32, 32)
    assert 1e-4 < done.difference < 0.5
    assert 0 <= done.top1_agreement <= 100
    read = open_exported_classifier(path)
    assert read.about == about
    images = torch.randn(2, 3, 32, 32)
    assert 1e-4 < relative_difference(read.network(images), in_float64(classifier.network, images)) < 0.5
    weights = path.with_suffix(".bin" if to == "openvino" else ".onnx")
    parameters = sum(one.numel() for one in classifier.network.parameters())
    assert weights.stat().st_size < 3 * parameters  # float32 alone takes 4, without the graph
    with pytest.raises(RecalibError, match="give two or more"):
        export_classifier(classifier.network, path, about, to=to, precision="int8", files=files[:1])


def test_a_format_without_int8_says_which_have_it(tmp_path):
    with pytest.raises(RecalibError, match="torch-export: int8 is written to onnx and openvino only"):
        export_classifier(made().network, tmp_path / "net.pt2", made().about, to="torch-export", precision="int8")


@pytest.mark.skipif(missing() is None, reason="what is said without TensorRT")
def test_tensorrt_says_what_to_do_instead(tmp_path):
    classifier = made()
    with pytest.raises(RecalibError, match=r"tensorrt.*trtexec"):
        export_classifier(classifier.network, tmp_path / "net.engine", classifier.about, to="tensorrt")


@pytest.mark.parametrize("suffix", SUFFIX.values())
def test_what_is_no_exported_file_is_named_in_one_line(suffix, tmp_path):
    path = tmp_path / f"broken{suffix}"
    path.write_bytes(b"not a network")
    with pytest.raises(RecalibError) as caught:
        open_exported_classifier(path)
    assert path.name in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_thousand_outputs_are_imagenets_and_folders_get_their_names():
    assert imagenet_names()[0] == "tench"
    assert label_names(None, 1000) == imagenet_names()
    assert label_names(["n01440764", "n02123045"], 2) == ("tench", "tabby")
    assert label_names(["cat", "dog"], 2) == ("cat", "dog")
    assert label_names(None, 10) == ()
    assert label_names(None, 10, "cifar_resnet20_pad")[3] == "cat"
    assert label_names(["x"] * 10, 10, "cifar_resnet20")[3] == "x"
    assert label_names(None, 100, "cifar_resnet20") == ()
    assert About("net").name(3) == "class 3"


def test_the_most_probable_classes_come_first_and_a_broken_image_has_none(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "noise.png")
    classifier = made()
    (found,) = classify(classifier, [tmp_path / "noise.png"])
    probabilities = [p for _, p in found.classes]
    assert len(probabilities) == 5
    assert probabilities == sorted(probabilities, reverse=True)
    assert sum(probabilities) <= 1 + 1e-6
    (tmp_path / "broken.png").write_bytes(b"no image")
    broken, noise = classify(classifier, [tmp_path / "broken.png", tmp_path / "noise.png"])
    assert (broken.file.name, broken.classes) == ("broken.png", ())
    assert noise.classes == found.classes


def test_what_is_not_finite_or_of_another_shape_is_infinitely_far():
    ones = torch.ones(2, 3)
    assert relative_difference(ones, torch.tensor([[1.0, 1, 1], [1, 2, 1]])) == 0.5
    assert math.isinf(relative_difference(ones * float("nan"), ones))
    assert math.isinf(relative_difference(ones[:1], ones))


@pytest.mark.slow  # 24 exports of ImageNet networks: minutes
@pytest.mark.parametrize("to", ["onnx", "openvino"])
@pytest.mark.parametrize("module", ["se", "eca", "srm", "ab", "multi_se", "gct"])
@pytest.mark.parametrize("model", ["resnet18", "torchvision:mobilenet_v2"])
def test_every_module_agrees_with_pytorch_at_two_batches_and_sizes(model, module, to, tmp_path):
    classifier = made(model, module)
    path = tmp_path / f"net{SUFFIX[to]}"
    export_classifier(classifier.network, path, replace(classifier.about, dynamic=True), to=to)
    read = open_exported_classifier(path)
    for shape in ((n, 3, *size) for n in (1, 7) for size in ((224, 224), (320, 192))):
        images = torch.randn(shape)
        with torch.inference_mode():
            assert relative_difference(read.network(images), classifier.network(images)) <= 1e-4
