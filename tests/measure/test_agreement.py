"""How far a reduced precision is from float32, on images that int8 was not calibrated on."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from recalib.data.normalization import NORMALIZATIONS
from recalib.errors import RecalibError
from recalib.measure.agreement import agreement, calibration_images, check_images, notes, read_samples, with_samples
from recalib.measure.cells import Cell
from recalib.runtimes import Settings, find_protocol
from recalib.runtimes.samples import Samples, batches_of, noise

FORM = NORMALIZATIONS["imagenet"]


def pictures(folder, count):
    """Grey images, each of one value: 0, 10, 20, ..."""
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(count):
        Image.fromarray(np.full((20, 30, 3), 10 * i, np.uint8)).save(folder / f"{i:02}.png")


def greys(images):
    pixels = images * torch.tensor(FORM.std)[:, None, None] + torch.tensor(FORM.mean)[:, None, None]
    return [round(float(value) * 25.5) for value in pixels.mean((1, 2, 3))]


def test_one_half_of_a_folder_calibrates_and_the_other_is_judged(tmp_path):
    pictures(tmp_path, 7)
    samples = read_samples(tmp_path, (16, 16), 0.9, FORM, None)
    assert greys(samples.calibration) == [1, 3, 5]
    assert greys(samples.images) == [0, 2, 4, 6]
    assert samples.labels is None
    pictures(tmp_path / "one", 1)
    with pytest.raises(RecalibError, match="holds one image"):
        read_samples(tmp_path / "one", (16, 16), 0.9, FORM, None)


def test_a_folder_without_images_is_refused_before_anything_is_measured(tmp_path, cifar):
    check_images(None)
    check_images(cifar)
    with pytest.raises(RecalibError, match="holds no images"):
        check_images(tmp_path)
    with pytest.raises(RecalibError, match="'nowhere': no such folder"):
        check_images(Path("nowhere"))


def test_what_is_evaluated_was_never_calibrated_on(tmp_path, cifar):
    pictures(tmp_path / "val" / "ant", 2)
    assert calibration_images(None, tmp_path) is None  # noise rather than what is judged
    with pytest.raises(RecalibError, match="int8 must not see the images it is evaluated on"):
        calibration_images(tmp_path / "val" / "..", tmp_path)
    pictures(tmp_path / "train" / "ant", 2)
    assert calibration_images(None, tmp_path) == tmp_path / "train"
    assert calibration_images(tmp_path / "others", tmp_path) == tmp_path / "others"
    assert calibration_images(None, cifar) == cifar  # its training images


def test_images_of_a_data_set_are_named_by_their_half_and_labelled_for_a_network_of_its_classes(tmp_path):
    for name in ("ant", "bee"):
        pictures(tmp_path / "train" / name, 3)
    samples = read_samples(tmp_path, (16, 16), 1.0, FORM, 2)
    assert samples.source == "training images"
    assert samples.labels.tolist() == [0, 0, 1]
    assert read_samples(tmp_path, (16, 16), 1.0, FORM, 10).labels is None
    pictures(tmp_path / "val" / "ant", 2)
    assert read_samples(tmp_path, (24, 16), 1.0, FORM, None).source == "validation images"


def test_cifars_training_images_calibrate_and_its_test_images_are_judged(cifar):
    samples = read_samples(cifar, (40, 32), 1.0, FORM, 10)
    assert samples.source == "cifar10, test images"
    assert samples.images.shape == samples.calibration.shape == (128, 3, 40, 32)
    assert samples.labels.shape == (128,)
    assert not torch.equal(samples.images, samples.calibration)


def test_large_images_are_fewer(cifar):
    assert len(read_samples(cifar, (448, 448), 1.0, FORM, None).images) == 32


def test_float32_needs_no_samples_and_others_get_noise_that_says_so():
    network = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    for precision in ("fp32", "int8"):
        settings = Settings(precision, 1, torch.device("cpu"), find_protocol("clean"))
        samples = with_samples(settings, network, "net", (8, 12), None, None).samples
        assert (samples is None) == (precision == "fp32")
    assert samples.source == "noise"
    assert samples.images.shape[1:] == (3, 8, 12)
    assert not torch.equal(samples.images, samples.calibration)


def test_agreement_counts_images_and_takes_the_worst_difference():
    expected = torch.tensor([[2.0, 1.0], [0.0, 4.0], [1.0, 0.0]])
    found = torch.tensor([[2.0, 1.5], [3.0, 4.0], [1.0, 2.0]])
    images = torch.arange(3.0).reshape(3, 1, 1, 1).expand(3, 3, 2, 2)
    session = SimpleNamespace(infer=lambda batch: found[batch[:, 0, 0, 0].long()])
    samples = Samples(images, images, "images of a folder", torch.tensor([0, 1, 1]), trained=True)
    assert agreement(session, samples, expected, 2) == {
        "images": 3,
        "source": "images of a folder",
        "weights": "checkpoint",
        "relative_difference": 2.0,
        "top1_agreement": pytest.approx(200 / 3),
        "top1": 100.0,
        "top1_fp32": pytest.approx(200 / 3),
    }


def test_a_line_a_runtime_and_precision_says_what_was_found_and_on_what():
    how = {"model": "net", "module": "se", "runtime": "openvino", "size": 32, "batch": 1, "precision": "int8"}
    how |= {"protocol": "clean", "machine": "m"}
    found = {"images": 9, "source": "images of a folder", "weights": "checkpoint"}
    cells = [
        Cell(**how, deployed=deployed, agreement=found | {"top1_agreement": top1, "relative_difference": difference})
        for deployed, top1, difference in ((False, 90.0, 0.25), (True, 99.5, 0.125))
    ]
    (line,) = notes(cells)
    assert line == (
        "int8 in openvino: top-1 as in float32 on 90.0 to 99.5 % of images, largest relative difference 2.5e-01 "
        "(images of a folder, checkpoint weights)"
    )
    cells[1].agreement |= {"source": "noise"}
    assert notes(cells)[1].endswith("(noise, checkpoint weights, which tells nothing of accuracy)")


def test_batches_are_filled_up_from_the_first_images():
    images = torch.arange(3.0).reshape(3, 1, 1, 1)
    assert [batch.flatten().tolist() for batch in batches_of(images, 2)] == [[0, 1], [2, 0]]
    assert [batch.flatten().tolist() for batch in batches_of(images, 4)] == [[0, 1, 2, 0]]
    assert noise((8, 8)) is noise((8, 8))
