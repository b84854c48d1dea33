"""Cases divided among processes, each case once."""

from __future__ import annotations

from collections.abc import Sized

from monai.data import DistributedSampler

from banet_monai.processes import process_count

__all__ = ["CaseShares"]


class CaseShares(DistributedSampler):
    """The cases of this process: every case goes to exactly one process, and shares differ by one case at most.

    MONAI's ``DistributedSampler`` without padding and shuffling, and with a remedy in its refusal.

    Args:
        dataset: the cases, in the same order in every process.

    Raises:
        ValueError: when there are more processes than cases.
    """

    def __init__(self, dataset: Sized) -> None:
        processes, cases = process_count(), len(dataset)
        if cases < processes:
            raise ValueError(
                f"{processes} processes cannot share {cases} case{'' if cases == 1 else 's'}, each needs one; start "
                f"{cases or 'fewer'} at most (torchrun --nproc_per_node) or give more cases."
            )
        super().__init__(dataset, even_divisible=False, shuffle=False)  # type: ignore[arg-type]
