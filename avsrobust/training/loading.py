"""Loading of batches: each is read as a whole, in this process or in others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch.utils.data import DataLoader, Dataset

from avsrobust.training.data import TrainingSet
from avsrobust.training.model import Batch
from avsrobust.training.sampler import SampleIndex


class TrainingBatches(Dataset[Batch]):
    """The batches of a run, in order, for a loader that reads each as a whole.

    Args:
        samples: The samples.
        indices: The samples of each batch.
    """

    def __init__(self, samples: TrainingSet, indices: Sequence[Sequence[SampleIndex]]) -> None:
        self._samples = samples
        self._indices = indices

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, number: int) -> Batch:
        """Return a batch. Raises as `TrainingSet.read_batch` does."""
        return self._samples.read_batch(self._indices[number])

    def loader(self, workers: int, *, pinned: bool = False) -> DataLoader[Any]:
        """Return a loader of the batches, in order.

        Args:
            workers: Processes that read; 0: this one reads.
            pinned: Whether batches lie in pinned memory, from which a GPU copies without waiting.
        """
        return DataLoader(self, batch_size=None, num_workers=workers, pin_memory=pinned)
