# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#     http://www.apache.org/licenses/LICENSE-2.0
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.
"""Training and evaluation in several processes; started by torchrun in the root of the zoo's repository.

Without a GPU two processes work on the CPU.
"""

import json
import shutil
import tempfile
import unittest
from pathlib import Path

import torch
from parameterized import parameterized
from test_banet_skin_lesion_segmentation import CONFIGS, FILES, SMALL, SMALL_TRAINING, make_pictures
from utils import export_config_and_run_mgpu_cmd

TEST_CASE_TRAIN = [{**SMALL_TRAINING, "init": "none"}]
TEST_CASE_EVALUATE = [{**SMALL}]


class TestBANetSkinLesionMGPU(unittest.TestCase):
    """The configurations with those for several processes laid over them."""

    def setUp(self):
        self.folder = Path(tempfile.mkdtemp())
        make_pictures(self.folder / "data" / "train", "abcd")
        make_pictures(self.folder / "data" / "val", "xyz")
        self.paths = {"dataset_dir": str(self.folder / "data"), "output_dir": str(self.folder / "output")}

    def tearDown(self):
        shutil.rmtree(self.folder)

    def run_in_processes(self, names, override):
        """Export the merged configuration, check it and run it."""
        export_config_and_run_mgpu_cmd(
            config_file=[str(CONFIGS / f"{name}.json") for name in names],
            override_dict={**override, **self.paths},
            output_path=str(self.folder / "override.json"),
            workflow_type="train" if "train" in names else "infer",
            ngpu=torch.cuda.device_count() or 2,
            check_config=True,
            **FILES,
        )

    @parameterized.expand([TEST_CASE_TRAIN])
    def test_train_mgpu_config(self, override):
        """All processes train one network, which one of them writes."""
        ckpt_dir = self.folder / "models"
        self.run_in_processes(["train", "multi_gpu_train"], {**override, "ckpt_dir": str(ckpt_dir)})
        state = torch.load(ckpt_dir / "model.pt", weights_only=True)
        assert not [name for name in state if name.startswith("module.")]

    @parameterized.expand([TEST_CASE_EVALUATE])
    def test_evaluate_mgpu_config(self, override):
        """One table with every case."""
        self.run_in_processes(["evaluate", "multi_gpu_evaluate"], override)
        assert json.loads((self.folder / "output" / "summary.json").read_text())["n"] == 3


if __name__ == "__main__":
    unittest.main()
