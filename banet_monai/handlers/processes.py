"""Several processes that train one network: joining them, and who of them speaks."""

from __future__ import annotations

import logging
import os

import torch
import torch.distributed as dist

__all__ = ["join_processes", "process_rank"]


def join_processes() -> int:
    """Join the processes that ``torchrun`` started: NCCL on CUDA, gloo on the CPU; only rank 0 logs its progress.

    Returns:
        The rank of this process.

    Raises:
        RuntimeError: when the process was not started by ``torchrun``.
    """
    if "LOCAL_RANK" not in os.environ:
        raise RuntimeError(
            "multi_gpu_train.json needs processes that torchrun started: torchrun --standalone --nnodes=1 "
            "--nproc_per_node=<number of GPUs> -m monai.bundle run training --config_file "
            "\"['bundle/configs/train.json','bundle/configs/multi_gpu_train.json']\""
        )
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    if not dist.is_initialized():
        dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    rank = dist.get_rank()
    if rank > 0:
        logging.disable(logging.INFO)  # warnings and errors of every process are shown
    return rank


def process_rank() -> int:
    """Rank of this process; 0 when there is only one."""
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0
