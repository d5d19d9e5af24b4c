"""Loading of batches: each is read as a whole, in this process or in others.

Conventions
    Files that lie on other machines are brought by this process, whatever reads them: the number of a batch is handed out when
    its files are here (`avsrobust.training.arrivals`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from torch.utils.data import DataLoader, Dataset

from avsrobust.training.arrivals import TrainingArrivals
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

    def loader(
        self, workers: int, *, pinned: bool = False, arrivals: TrainingArrivals | None = None
    ) -> DataLoader[Any]:
        """Return a loader of the batches, in order.

        Args:
            workers: Processes that read; 0: this one reads.
            pinned: Whether batches lie in pinned memory, from which a GPU copies without waiting.
            arrivals: Brings the files of batches; None: they are here.
        """
        numbers = None if arrivals is None or arrivals.is_local else _Arriving(self, arrivals)
        return DataLoader(self, batch_size=None, num_workers=workers, pin_memory=pinned, sampler=numbers)

    def arriving(self, arrivals: TrainingArrivals) -> Iterator[int]:
        """Yield the number of each batch once its files are here; raises as `TrainingArrivals.staying` does."""
        return arrivals.staying(
            (number, self._samples.files_of(indices)) for number, indices in enumerate(self._indices)
        )


@dataclass(frozen=True)
class _Arriving:
    """The numbers of batches, as their files arrive: what torch calls a sampler."""

    batches: TrainingBatches
    arrivals: TrainingArrivals

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[int]:
        return self.batches.arriving(self.arrivals)
