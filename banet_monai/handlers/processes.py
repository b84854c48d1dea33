"""Several processes that work on one run: joining them, and who of them speaks."""

from __future__ import annotations

import logging
import os
from datetime import timedelta

import torch
import torch.distributed as dist

from banet_monai.processes import process_device, process_rank, processes_here

__all__ = ["join_processes", "process_device", "process_rank"]


def join_processes(patience_hours: float | None = None) -> int:
    """Join the processes that ``torchrun`` started; only rank 0 logs its progress.

    By NCCL where each has a GPU of its own, else by gloo: on the CPU, and where several share a GPU
    (:func:`banet_monai.processes.process_device`), which NCCL refuses.

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
    device = process_device()
    if device.type == "cuda":
        torch.cuda.set_device(device)
    if not dist.is_initialized():
        own = device.type == "cuda" and processes_here() <= torch.cuda.device_count()
        timeout = None if patience_hours is None else timedelta(hours=patience_hours)
        dist.init_process_group("nccl" if own else "gloo", timeout=timeout)
    rank = process_rank()
    if rank > 0:
        logging.disable(logging.INFO)  # warnings and errors of every process are shown
    return rank
