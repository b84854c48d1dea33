"""Several processes that work on one run: joining them, and who of them speaks."""

from __future__ import annotations

import logging
import os
from datetime import timedelta

import torch
import torch.distributed as dist

from banet_monai.processes import process_rank

__all__ = ["join_processes", "process_rank"]


def join_processes(patience_hours: float | None = None) -> int:
    """Join the processes that ``torchrun`` started: NCCL on CUDA, gloo on the CPU; only rank 0 logs its progress.

    Args:
        patience_hours: how long a process waits for another before it gives up. None: PyTorch's own limit, minutes. A
            process that fails ends the others at once, whatever this is.

    Returns:
        The rank of this process.

    Raises:
        RuntimeError: when the process was not started by ``torchrun``.
    """
    if "LOCAL_RANK" not in os.environ:
        raise RuntimeError(
            "multi_gpu_train.json and multi_gpu_evaluate.json need processes that torchrun started: torchrun "
            "--standalone --nnodes=1 --nproc_per_node=<number of GPUs> -m monai.bundle run training --config_file "
            "\"['bundle/configs/train.json','bundle/configs/multi_gpu_train.json']\""
        )
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    if not dist.is_initialized():
        timeout = None if patience_hours is None else timedelta(hours=patience_hours)
        dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo", timeout=timeout)
    rank = process_rank()
    if rank > 0:
        logging.disable(logging.INFO)  # warnings and errors of every process are shown
    return rank
