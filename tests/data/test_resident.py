import pytest
import torch

from recalib.data import Images, Normalization, ResidentTest, ResidentTrain, normalization

CPU = torch.device("cpu")
PLAIN = Normalization((0, 0, 0), (1 / 255, 1 / 255, 1 / 255))  # pixels stay whole numbers


@pytest.fixture
def images():
    draw = torch.Generator().manual_seed(0)
    pixels = torch.randint(1, 256, (50, 3, 8, 8), dtype=torch.uint8, generator=draw)
    return Images(pixels, torch.arange(50), ("a",) * 50)


def train(images, **options):
    return ResidentTrain(images, PLAIN, options.pop("batch", 16), device=CPU, seed=options.pop("seed", 0), **options)


def joined(batches):
    return [torch.cat(column) for column in zip(*batches, strict=True)]


def crops_of(image):
    """Every 8x8 crop of an image padded by 4, and its mirror image, by plain slicing."""
    padded = torch.zeros(3, 16, 16)
    padded[:, 4:12, 4:12] = image
    crops = [padded[:, y : y + 8, x : x + 8] for y in range(9) for x in range(9)]
    return torch.stack(crops + [crop.flip(-1) for crop in crops])


def test_every_image_comes_once_an_epoch_in_another_order(images):
    feed = train(images)
    first, second = joined(feed.epoch(0))[1], joined(feed.epoch(1))[1]
    assert sorted(first.tolist()) == sorted(second.tolist()) == list(range(50))
    assert first.tolist() != second.tolist()


def test_every_image_is_one_of_the_crops_of_the_padded_image_or_its_mirror(images):
    for x, label in zip(*joined(train(images).epoch(0)), strict=True):
        assert (crops_of(images.pixels[label].float()) == x.round()).flatten(1).all(1).any()


def test_crops_and_mirrors_are_all_drawn_and_evenly(images):
    one = Images(images.pixels[:1].expand(4000, -1, -1, -1), torch.zeros(4000, dtype=torch.int64), ("a",))
    drawn, _ = joined(train(one).epoch(0))
    crops = crops_of(images.pixels[0].float())
    which = (drawn.round().flatten(1)[:, None] == crops.flatten(1)).all(2).float().argmax(1)
    counts = torch.bincount(which, minlength=162).double()
    assert (counts > 0).all()
    chi_square = float(((counts - 4000 / 162) ** 2 / (4000 / 162)).sum())
    assert chi_square < 225  # 161 degrees of freedom: p = 0.0006


def test_an_epoch_that_is_entered_in_the_middle_goes_on_as_it_would_have(images):
    feed = train(images)
    whole, rest = list(feed.epoch(3)), list(feed.epoch(3, start=2))
    assert len(rest) == len(whole) - 2
    for (x, y), (z, w) in zip(whole[2:], rest, strict=True):
        assert torch.equal(x, z)
        assert torch.equal(y, w)


def test_seed_and_attempt_change_the_order(images):
    orders = [joined(train(images, seed=s).epoch(0, attempt=a))[1].tolist() for s, a in [(0, 0), (1, 0), (0, 1)]]
    assert len({tuple(order) for order in orders}) == 3


def test_two_processes_share_each_batch_of_one(images):
    whole = list(train(images).epoch(0))
    halves = [list(train(images, share=(rank, 2)).epoch(0)) for rank in (0, 1)]
    for (x, y), (a, la), (b, lb) in zip(whole, *halves, strict=True):
        assert torch.equal(x[0::2], a)
        assert torch.equal(x[1::2], b)
        assert torch.equal(y[0::2], la)
        assert torch.equal(y[1::2], lb)


@pytest.mark.parametrize(("drop_last", "share", "steps"), [(False, (0, 1), 4), (True, (0, 1), 3), (False, (2, 3), 3)])
def test_length_is_the_number_of_batches(images, drop_last, share, steps):
    feed = train(images, drop_last=drop_last, share=share)
    assert len(feed) == len(list(feed.epoch(0))) == steps


def test_the_test_set_comes_in_order_and_each_process_sees_its_part(images):
    x, y = joined(ResidentTest(images, PLAIN, 16, device=CPU))
    assert torch.equal(x.round().byte(), images.pixels)
    assert torch.equal(y, images.labels)
    parts = [joined(ResidentTest(images, PLAIN, 16, device=CPU, share=(rank, 3)))[1] for rank in range(3)]
    assert sorted(torch.cat(parts).tolist()) == list(range(50))


def test_normalisation_is_that_of_the_papers():
    pixels = torch.full((1, 3, 1, 1), 51, dtype=torch.uint8)
    expected = (torch.tensor([0.2, 0.2, 0.2]) - torch.tensor([0.4914, 0.4822, 0.4465])) / torch.tensor(
        [0.2023, 0.1994, 0.2010]
    )
    torch.testing.assert_close(normalization("cifar")(pixels).flatten(), expected)
