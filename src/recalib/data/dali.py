"""ImageNet's training images read, decoded and augmented by NVIDIA DALI; on a GPU the decoding happens there."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from recalib.data.imagenet import Folder
from recalib.data.normalization import Normalization
from recalib.data.order import Share, generator_for, order_of, seed_for, share_of, steps_in
from recalib.data.resident import Batch
from recalib.errors import RecalibError, WorkFailed, require_packages


class DaliTrain:
    """Training batches as `FolderTrain` makes them; an image that cannot be read stops the run.

    Order follows from (seed, epoch); crops and flips from these and the step that an epoch is entered at.

    Args:
        folder: the images, files of their own.
        normalization: mean and std of the pixels.
        batch: images a step, over all processes.
        size: side of a crop.
        device: place of the batches.
        workers: reading threads.
        seed: decides order and augmentation.
        drop_last: let images that do not fill a batch sit out the epoch.
        share: this process and how many there are.
        repeat: passes over the images in an epoch.

    Raises:
        RecalibError: where DALI is not installed, or the images are rows of parquet files.
    """

    def __init__(
        self, folder: Folder, normalization: Normalization, batch: int, *, size: int, device: torch.device,
        workers: int, seed: int, drop_last: bool = False, share: Share = (0, 1), repeat: int = 1,
    ) -> None:  # fmt: skip
        require_packages(("nvidia.dali",), "dali", "--reader dali")
        if not all(isinstance(file, Path) for file in folder.files):
            raise RecalibError("--reader dali reads folders of images, no parquet; --reader torchvision reads both")
        self.folder, self.normalization, self.size, self.device = folder, normalization, size, device
        self.batch, self.workers, self.seed = batch, workers, seed
        self.drop_last, self.share = drop_last, share
        self.repeat, self.count = repeat, len(folder.files) * repeat

    def __len__(self) -> int:
        """Steps in an epoch."""
        return steps_in(self.count, self.batch, self.drop_last, self.share)

    def epoch(self, epoch: int, start: int = 0, attempt: int = 0) -> Iterator[Batch]:
        """This process's share of the batches of an epoch, from step ``start`` on.

        Raises:
            WorkFailed: at an image that cannot be read.
        """
        order = order_of(len(self.folder.files), self.repeat, generator_for(self.seed, epoch, attempt)).tolist()
        mine = [order[share_of(step, self.batch, self.count, self.share)] for step in range(start, len(self))]
        draws = seed_for(self.seed, epoch, attempt, start, self.share[0]) % 2**31
        pipeline = self._pipeline([index for indices in mine for index in indices], draws)
        for indices in mine:
            try:
                images = torch.from_dlpack(pipeline.run()[0].as_tensor()).clone()  # the next run reuses it
            except RuntimeError as error:
                names = ", ".join(str(self.folder.files[index]) for index in indices[:3])
                raise WorkFailed(f"DALI cannot read one of {names}, ...: {_reason(error)}") from None
            labels = torch.tensor([self.folder.labels[index] for index in indices], device=self.device)
            yield self.normalization(images[: len(indices)]), labels

    def _pipeline(self, order: list[int], seed: int) -> Any:
        from nvidia.dali import fn, pipeline_def, types

        gpu = self.device.type == "cuda"
        files = [str(self.folder.files[index]) for index in order]

        @pipeline_def
        def pictures() -> Any:
            encoded, _ = fn.readers.file(files=files, pad_last_batch=True)
            crops = fn.decoders.image_random_crop(
                encoded, device="mixed" if gpu else "cpu", output_type=types.RGB,
                random_area=[0.08, 1.0], random_aspect_ratio=[3 / 4, 4 / 3],
            )  # fmt: skip
            resized = fn.resize(crops, size=[self.size, self.size], interp_type=types.INTERP_LINEAR, antialias=True)
            flipped = fn.flip(resized, horizontal=fn.random.coin_flip())
            return fn.transpose(flipped, perm=[2, 0, 1])

        place = self.device.index or 0 if gpu else None
        each = self.batch // self.share[1]
        made = pictures(batch_size=each, num_threads=max(self.workers, 1), device_id=place, seed=seed)
        made.build()
        return made


def _reason(error: RuntimeError) -> str:
    lines = [line.strip() for line in str(error).splitlines() if "error" in line.lower()]
    return lines[-1] if lines else "no reason given"
