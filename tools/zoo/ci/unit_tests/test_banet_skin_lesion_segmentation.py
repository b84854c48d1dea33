# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#     http://www.apache.org/licenses/LICENSE-2.0
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.
"""Every configuration of the bundle runs on small pictures; started in the root of the zoo's repository."""

import shutil
import tempfile
import unittest
from pathlib import Path

import numpy as np
import torch
from monai.bundle import ConfigWorkflow, create_workflow
from parameterized import parameterized
from PIL import Image
from utils import check_workflow

BUNDLE = Path("models", "banet_skin_lesion_segmentation").absolute()
CONFIGS = BUNDLE / "configs"
FILES = {"meta_file": str(CONFIGS / "metadata.json"), "logging_file": str(CONFIGS / "logging.conf")}
SMALL = {"bundle_root": str(BUNDLE), "image_size": 64}
SMALL_TRAINING = {**SMALL, "max_epochs": 1, "batch_size": 2, "num_workers": 0}

TEST_CASE_RANDOM = [{**SMALL_TRAINING, "init": "none"}]
TEST_CASE_SHIPPED = [{**SMALL_TRAINING, "init": "shipped", "limit": 2}]
TEST_CASE_INFER = [{**SMALL}]
TEST_CASE_EVALUATE = [{**SMALL}]


def make_pictures(folder, names):
    """Pictures of a dark disc, 96 x 80 pixels, and their masks, in ``images/`` and ``masks/``."""
    rng = np.random.default_rng([ord(name) for name in names])
    rows, columns = np.mgrid[:80, :96]
    for kind in ("images", "masks"):
        (folder / kind).mkdir(parents=True)
    for name in names:
        inside = (rows - rng.integers(30, 50)) ** 2 + (columns - rng.integers(35, 60)) ** 2 < rng.integers(15, 25) ** 2
        image = rng.integers(150, 220, (*inside.shape, 3))
        image[inside] //= 3
        Image.fromarray(image.astype(np.uint8)).save(folder / "images" / f"{name}.png")
        Image.fromarray(inside.astype(np.uint8) * 255).save(folder / "masks" / f"{name}.png")


class TestBANetSkinLesion(unittest.TestCase):
    """Training, evaluation and inference."""

    def setUp(self):
        self.folder = Path(tempfile.mkdtemp())
        make_pictures(self.folder / "data" / "train", "abcd")
        make_pictures(self.folder / "data" / "val", "xy")
        self.paths = {"dataset_dir": str(self.folder / "data"), "output_dir": str(self.folder / "output")}

    def tearDown(self):
        shutil.rmtree(self.folder)

    def workflow(self, kind, config, override):
        """Workflow of one configuration of the bundle."""
        options = {**FILES, **self.paths, **override}
        return ConfigWorkflow(workflow_type=kind, config_file=str(CONFIGS / f"{config}.json"), **options)

    @parameterized.expand([TEST_CASE_RANDOM, TEST_CASE_SHIPPED])
    def test_train_config(self, override):
        """Training writes a flat state dictionary."""
        ckpt_dir = self.folder / "models"
        check_workflow(self.workflow("train", "train", {**override, "ckpt_dir": str(ckpt_dir)}), check_properties=True)
        state = torch.load(ckpt_dir / "model.pt", weights_only=True)
        assert all(isinstance(value, torch.Tensor) for value in state.values())

    @parameterized.expand([TEST_CASE_EVALUATE])
    def test_evaluate_config(self, override):
        """Evaluation writes its table."""
        check_workflow(self.workflow("infer", "evaluate", override), check_properties=True)
        assert (self.folder / "output" / "summary.json").is_file()

    @parameterized.expand([TEST_CASE_INFER])
    def test_infer_config(self, override):
        """Inference writes a mask of the picture's size for each picture."""
        self.paths["dataset_dir"] = str(self.folder / "data" / "val" / "images")
        check_workflow(self.workflow("infer", "inference", override), check_properties=True)
        masks = sorted((self.folder / "output").rglob("*_mask.png"))
        assert [mask.name for mask in masks] == ["x_mask.png", "y_mask.png"]
        with Image.open(masks[0]) as mask:
            assert mask.size == (96, 80)

    def test_create_workflow(self):
        """The network can be had without running anything."""
        options = {**FILES, **self.paths, "bundle_root": str(BUNDLE)}
        workflow = create_workflow(workflow_type="infer", config_file=str(CONFIGS / "inference.json"), **options)
        network = workflow.network_def.eval()
        with torch.no_grad():
            assert network(torch.zeros(1, 3, 64, 96)).shape == (1, 1, 64, 96)


if __name__ == "__main__":
    unittest.main()
