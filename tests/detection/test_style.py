"""Style-adversarial training: what is reversed, and by how much."""

import torch
from torch.nn import functional as F

from recalib.detection.detectors import build_detector
from recalib.detection.style import Adversarial, GradientReversal, StyleAdversary

LABELS = {"timeofday": ["daytime", "night"], "weather": ["clear", "rainy", "snowy"]}
DOMAINS = [{"timeofday": "night", "weather": "snowy"}, {"timeofday": "daytime"}]


def test_the_reversal_is_the_identity_forward_and_minus_the_weight_backward():
    x = torch.randn(5, dtype=torch.float64, requires_grad=True)
    y = GradientReversal.apply(x, 0.3)
    assert torch.equal(y, x)
    (y**3).sum().backward()
    torch.testing.assert_close(x.grad, -0.3 * 3 * x.detach() ** 2)


def adversary(weight=0.25):
    torch.manual_seed(0)
    return StyleAdversary(4, LABELS, weight).double()


def test_features_descend_against_the_finite_difference_of_the_loss_and_heads_along_it():
    made, eps = adversary(), 1e-6
    features = torch.randn(2, 4, 3, 5, dtype=torch.float64, requires_grad=True)

    def loss(x):
        return sum(made(x, DOMAINS).values())

    loss(features).backward()
    first = made.heads["timeofday"][0].weight
    with torch.no_grad():
        for index in ((0, 0, 0, 0), (1, 3, 2, 4), (0, 2, 1, 1)):
            step = torch.zeros_like(features)
            step[index] = eps
            difference = (loss(features + step) - loss(features - step)) / (2 * eps)
            torch.testing.assert_close(features.grad[index], -0.25 * difference, rtol=1e-5, atol=1e-9)
        for index in ((0, 0), (9, 5)):
            there = []
            for sign in (1, -1):
                first[index] += sign * eps
                there.append(loss(features))
                first[index] -= sign * eps
            difference = (there[0] - there[1]) / (2 * eps)
            torch.testing.assert_close(first.grad[index], difference, rtol=1e-5, atol=1e-9)


def test_style_is_the_mean_and_variance_of_each_channel():
    made = adversary()
    features = torch.randn(2, 4, 6, 7, dtype=torch.float64)
    rows = features.flatten(2)
    style = torch.cat([rows.mean(2), ((rows - rows.mean(2, keepdim=True)) ** 2).mean(2)], 1)
    expected = F.cross_entropy(made.heads["timeofday"](style), torch.tensor([1, 0]))
    torch.testing.assert_close(made(features, DOMAINS)["style_timeofday"], expected)


def test_an_image_without_a_label_does_not_count_for_it():
    made = adversary()
    features = torch.randn(2, 4, 3, 3, dtype=torch.float64)
    both, first = made(features, DOMAINS), made(features[:1], DOMAINS[:1])
    torch.testing.assert_close(both["style_weather"], first["style_weather"])
    nothing = made(features, [{}, {"weather": "volcanic ash"}])
    assert {name: value.item() for name, value in nothing.items()} == {"style_timeofday": 0, "style_weather": 0}


def test_a_detector_with_an_adversary_has_its_losses_and_predicts_as_before():
    detector = build_detector("fasterrcnn_resnet18_fpn", num_classes=3, min_size=64, max_size=64)
    made = Adversarial(detector, LABELS, 0.1)
    images = [torch.rand(3, 64, 64) for _ in range(2)]
    targets = [
        {"boxes": torch.tensor([[4.0, 4, 40, 50]]), "labels": torch.tensor([1]), "domain": domain} for domain in DOMAINS
    ]
    losses = made.train()(images, targets)
    assert {"loss_classifier", "style_timeofday", "style_weather"} < losses.keys()
    (losses["style_timeofday"] + losses["style_weather"]).backward()
    touched = {name for name, p in detector.backbone.body.named_parameters() if p.grad is not None and p.grad.any()}
    assert any(name.startswith("layer2") for name in touched)
    assert not any(name.startswith(("layer3", "layer4")) for name in touched)
    predicted = made.eval()(images)
    for ours, theirs in zip(predicted, detector(images), strict=True):
        assert torch.equal(ours["boxes"], theirs["boxes"])
