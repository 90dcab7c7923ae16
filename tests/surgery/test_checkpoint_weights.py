"""Released weights, on real images, against forward passes that are written out on the tensors alone."""

import importlib.util
import io
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from recalib.models import cifar_resnet
from recalib.surgery import insert_, inspect_checkpoint, load_checkpoint

IMAGES = 1000


def data(*parts):
    root = os.environ.get("RECALIB_DATA")
    if root is None:
        pytest.skip("RECALIB_DATA is not set")
    return Path(root, *parts)


def load_module(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def cifar10():
    """The first test images of CIFAR-10 as values in [0, 1], (N, 3, 32, 32), and their labels."""
    with np.load(data("cifar10", "test_batch.npz")) as batch:
        raw, offsets, labels = batch["webp"].tobytes(), batch["offsets"], batch["labels"]
    strips = (Image.open(io.BytesIO(raw[offsets[i] : offsets[i + 1]])) for i in range(IMAGES // 100))
    pixels = np.concatenate([np.asarray(strip.convert("RGB")).reshape(-1, 32, 32, 3) for strip in strips])
    return torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255, torch.from_numpy(labels[:IMAGES].astype(np.int64))


def normalised(images, info):
    mean, std = (torch.tensor(values)[:, None, None] for values in info.normalization)
    return (images - mean) / std


def conv_norm(w, x, conv, norm, stride=1, padding=1, groups=1):
    y = F.conv2d(x, w[f"{conv}.weight"], stride=stride, padding=padding, groups=groups)
    return norm_(w, y, norm)


def norm_(w, y, norm):
    scale = w[f"{norm}.weight"] / (w[f"{norm}.running_var"] + 1e-5).sqrt()
    shift = w[f"{norm}.bias"] - w[f"{norm}.running_mean"] * scale
    return y * scale[:, None, None] + shift[:, None, None]


def cifar_forward(w, x, blocks, attention, shortcut):
    x = conv_norm(w, x, "conv1", "bn1").relu()
    for stage in (1, 2, 3):
        for i in range(blocks):
            name, stride = f"layer{stage}.{i}", 2 if stage > 1 and i == 0 else 1
            y = conv_norm(w, x, f"{name}.conv1", f"{name}.bn1", stride).relu()
            y = attention(w, conv_norm(w, y, f"{name}.conv2", f"{name}.bn2"), name)
            x = (y + (x if stride == 1 else shortcut(w, x, name))).relu()
    return x.mean((2, 3))


def option_a(w, x, name):
    every_second = x[:, :, ::2, ::2]
    zeros = torch.zeros_like(every_second[:, ::2])
    return torch.cat([zeros, every_second, zeros], 1)


def projection(w, x, name):
    return conv_norm(w, x, f"{name}.downsample.0", f"{name}.downsample.1", 2, 0)


def srm(w, y, name):
    pixels = y.flatten(2)
    t = torch.stack([pixels.mean(2), pixels.std(2)], 2)
    z = (t * w[f"{name}.se.cfc.weight"].squeeze(1)).sum(2)
    return y * norm_(w, z[:, :, None, None], f"{name}.se.bn").sigmoid()


def tensors(path):
    loaded = torch.load(path, map_location="cpu", weights_only=True)
    return {k.removeprefix("module."): v for k, v in loaded.get("state_dict", loaded).items()}


def assert_same_predictions(network, forward, x, labels):
    network.eval()
    logits = torch.cat([network(batch) for batch in x.split(50)])  # small batches stay in the cache
    expected = torch.cat([forward(batch) for batch in x.split(50)])
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-4)
    correct = int((logits.argmax(1) == labels).sum())
    assert correct == int((expected.argmax(1) == labels).sum())
    assert correct > 0.9 * len(labels)


@pytest.mark.parametrize(
    ("file", "depth"), [("resnet20-12fca82f.th", 20), ("resnet32-d509ac18.th", 32), ("resnet56-4bfd9763.th", 56)]
)
@torch.inference_mode()
def test_akamasters_networks_predict_as_they_should(cifar10, file, depth):
    path = data("weights", "cifar10_resnet", file)
    info = inspect_checkpoint(path)
    assert (info.format, info.architecture) == ("akamaster", f"cifar_resnet{depth}_pad")
    assert info.missing == info.unexpected == ()
    x, w = normalised(cifar10[0], info), tensors(path)

    def forward(x):
        features = cifar_forward(w, x, (depth - 2) // 6, lambda w, y, name: y, option_a)
        return features @ w["linear.weight"].T + w["linear.bias"]

    assert_same_predictions(load_checkpoint(path), forward, x, cifar10[1])


@torch.inference_mode()
def test_srm_resnet32_predicts_as_it_should(cifar10):
    path = data("weights", "cifar10_srm_resnet32", "cifar_best_srmnet.pth")
    info = inspect_checkpoint(path)
    assert (info.format, info.architecture, info.attention) == ("evgenykashin", "cifar_resnet32", "srm")
    assert info.missing == info.unexpected == ()
    x, w = normalised(cifar10[0], info), tensors(path)

    def forward(x):
        return cifar_forward(w, x, 5, srm, projection) @ w["fc.weight"].T + w["fc.bias"]

    assert_same_predictions(load_checkpoint(path), forward, x, cifar10[1])


@torch.inference_mode()
def test_mobilenets_state_dict_gives_torchvisions_network():
    folder = data("weights", "mobilenet_v2_imagenet")
    w = load_module(folder / "load.py").state_dict(folder / "mobilenet_v2_1.0_224_int8.npz")
    network = load_checkpoint(w)
    assert inspect_checkpoint(w).architecture == "torchvision:mobilenet_v2"
    x = torch.randn(2, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(network.eval()(x), mobilenet_forward(w, x), rtol=1e-4, atol=1e-4)


def mobilenet_forward(w, x):
    def layer(x, name, stride=1, groups=1):
        conv, norm = f"{name}.0", f"{name}.1"
        y = conv_norm(w, x, conv, norm, stride, w[f"{conv}.weight"].shape[-1] // 2, groups)
        return y.clamp(0, 6)

    x = layer(x, "features.0", 2)
    for i in range(1, 18):
        name, y = f"features.{i}.conv", x
        if i > 1:
            y = layer(y, f"{name}.0")
        depthwise, project = (1, 2) if i > 1 else (0, 1)
        y = layer(y, f"{name}.{depthwise}", 2 if i in (2, 4, 7, 14) else 1, y.shape[1])
        y = conv_norm(w, y, f"{name}.{project}", f"{name}.{project + 1}", padding=0)
        x = x + y if x.shape == y.shape else y
    return layer(x, "features.18").mean((2, 3)) @ w["classifier.1.weight"].T + w["classifier.1.bias"]


@torch.inference_mode()
def test_released_weights_load_before_or_after_insertion(cifar10):
    path = data("weights", "cifar10_resnet", "resnet20-12fca82f.th")
    x = cifar10[0][:8]
    before, after = load_checkpoint(path), cifar_resnet(20, shortcut="pad")
    insert_(before, "ab")
    insert_(after, "ab")
    load_checkpoint(path, model=after, strict=False)
    torch.testing.assert_close(after.eval()(x), before.eval()(x))
