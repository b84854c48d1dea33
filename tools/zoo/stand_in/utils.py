"""Stands in for ``ci/unit_tests/utils.py`` of the model zoo, so that its unit tests run without a copy of the zoo.

The functions have the zoo's names and arguments as far as the tests of this project use them, and do the same.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from monai.bundle import ConfigParser, ConfigWorkflow

__all__ = ["check_workflow", "export_config_and_run_mgpu_cmd"]


def check_workflow(workflow: ConfigWorkflow, check_properties: bool = False) -> None:
    """Initialize, check, run and finalize a workflow.

    Raises:
        ValueError: when it lacks a property.
    """
    workflow.initialize()
    if check_properties and (missing := workflow.check_properties()):
        raise ValueError(f"the workflow lacks {missing}")
    workflow.run()
    workflow.finalize()


def export_config_and_run_mgpu_cmd(
    config_file: Sequence[str],
    meta_file: str,
    override_dict: Mapping[str, Any],
    output_path: str,
    *,
    logging_file: str,
    workflow_type: str = "train",
    ngpu: int = 2,
    check_config: bool = False,
) -> None:
    """Write the merged configuration with its overrides, check it and run it in ``ngpu`` processes.

    Raises:
        ValueError: when it lacks a property.
        subprocess.CalledProcessError: when the run fails.
    """
    parser = ConfigParser()
    parser.read_config(list(config_file))
    parser.update(pairs=dict(override_dict))
    ConfigParser.export_config_file(parser.config, output_path, indent=4)

    files = {"config_file": output_path, "meta_file": meta_file, "logging_file": logging_file}
    if check_config:
        workflow = ConfigWorkflow(workflow_type=workflow_type, **files)
        workflow.initialize()
        if missing := workflow.check_properties():
            raise ValueError(f"the workflow lacks {missing}")

    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nnodes=1", f"--nproc_per_node={ngpu}"]
    options = [text for name, value in files.items() for text in (f"--{name}", value)]
    environment = {**os.environ, "PYTHONPATH": override_dict.get("bundle_root", ".")}
    subprocess.run([*launcher, "-m", "monai.bundle", "run", *options], env=environment, check=True)
