"""A data set that stays on the device, and batches augmented there.

Order, crops and flips of an epoch are drawn once, from a generator seeded by (seed, epoch): a run that resumes in the
middle needs to know only the epoch and the step, and every process draws the same and takes its share of each batch.
"""

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional as F

from recalib.data.cifar import Images
from recalib.data.normalization import Normalization
from recalib.data.order import Share, generator_for, order_of, share_of, steps_in

Batch = tuple[Tensor, Tensor]


class ResidentTrain:
    """Training batches: shuffled, cropped at random from the image padded with 4 zeros a side, flipped at random.

    Args:
        images: the data set.
        normalization: mean and std of the pixels.
        batch: images a step, over all processes.
        device: place of the data.
        seed: decides order and augmentation.
        drop_last: let images that do not fill a batch sit out the epoch.
        share: this process and how many there are; a batch that does not divide loses its rest.
        repeat: passes over the images in an epoch.
    """

    pad = 4

    def __init__(
        self,
        images: Images,
        normalization: Normalization,
        batch: int,
        *,
        device: torch.device,
        seed: int,
        drop_last: bool = False,
        share: Share = (0, 1),
        repeat: int = 1,
    ) -> None:
        self.repeat, self.count = repeat, len(images.labels) * repeat
        self.size = images.pixels.shape[-1]
        padded = F.pad(images.pixels, [self.pad] * 4).to(device)
        # every crop there is, as a view (N, 9, 9, 3, H, W): cropping is indexing
        self.crops = padded.unfold(2, self.size, 1).unfold(3, self.size, 1).permute(0, 2, 3, 1, 4, 5)
        self.labels = images.labels.to(device)
        self.normalization, self.batch, self.seed, self.drop_last, self.share = (
            normalization, batch, seed, drop_last, share,
        )  # fmt: skip

    def __len__(self) -> int:
        """Steps in an epoch."""
        return steps_in(self.count, self.batch, self.drop_last, self.share)

    def epoch(self, epoch: int, start: int = 0, attempt: int = 0) -> Iterator[Batch]:
        """This process's share of the batches of an epoch.

        Args:
            epoch: counts from 0.
            start: the first step wanted.
            attempt: another number, another order: for a run that was rolled back.

        Yields:
            Images (N, 3, H, W), float32, and labels (N,).
        """
        count, draw = self.count, generator_for(self.seed, epoch, attempt)
        order = order_of(len(self.labels), self.repeat, draw)
        corner = torch.randint(2 * self.pad + 1, (2, count), generator=draw)
        flip = torch.rand(count, generator=draw) < 0.5
        plan = [t.to(self.labels.device) for t in (order, *corner, flip)]
        for step in range(start, len(self)):
            mine = share_of(step, self.batch, count, self.share)
            yield self._batch(*(t[mine] for t in plan))

    def _batch(self, index: Tensor, top: Tensor, left: Tensor, flip: Tensor) -> Batch:
        crops = self.crops[index, top, left]
        mirrored = torch.where(flip[:, None, None, None], crops.flip(-1), crops)
        return self.normalization(mirrored), self.labels[index]


class ResidentTest:
    """Test batches: in order, untouched but for the normalisation; each process sees its own part once.

    Args:
        images: the data set.
        normalization: mean and std of the pixels.
        batch: images a step in each process.
        device: place of the data.
        share: this process and how many there are.
    """

    def __init__(
        self,
        images: Images,
        normalization: Normalization,
        batch: int,
        *,
        device: torch.device,
        share: Share = (0, 1),
    ) -> None:
        rank, world = share
        self.pixels, self.labels = (t[rank::world].to(device) for t in (images.pixels, images.labels))
        self.normalization, self.batch = normalization, batch

    def __len__(self) -> int:
        """Number of batches."""
        return -(-len(self.labels) // self.batch)

    def __iter__(self) -> Iterator[Batch]:
        """Images (N, 3, H, W), float32, and labels (N,)."""
        for pixels, labels in zip(self.pixels.split(self.batch), self.labels.split(self.batch), strict=True):
            yield self.normalization(pixels), labels
