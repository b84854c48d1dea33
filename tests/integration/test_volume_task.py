"""The 3D task by the same commands: it trains, and writes label volumes in the geometry of each input."""

from __future__ import annotations

import json
import shutil

import nibabel
import numpy as np
import pytest

from tests.bundle_runs import ROOT, make_clone, run

pytestmark = pytest.mark.slow

TRAIN = "['bundle/configs/train.json','bundle/tasks/hippocampus/train.json']"
INFER = "['bundle/configs/inference.json','bundle/tasks/hippocampus/inference.json']"
WINDOW = "[16,16,16]"
OBLIQUE = np.array([[0.9, -0.3, 0.1, 12.0], [0.3, 0.9, -0.2, -7.0], [-0.05, 0.25, 1.1, 30.0], [0, 0, 0, 1]])


def volume(seed, shape=(20, 18, 17)):
    """Noise with two boxes, 1 in front and 2 behind, and their labels."""
    label = np.zeros(shape, np.uint8)
    label[5:14, 9:14, 5:12] = 1
    label[5:14, 4:9, 5:12] = 2
    image = np.random.default_rng(seed).normal(100, 5, shape) + 60 * label
    return image.astype(np.float32), label


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    folder = make_clone(tmp_path_factory.mktemp("clone"))
    shutil.copytree(ROOT / "bundle" / "tasks", folder / "bundle" / "tasks")
    for name in ("imagesTr", "labelsTr"):
        (folder / "data" / name).mkdir(parents=True)
    for number in range(4):
        image, label = volume(number)
        nibabel.Nifti1Image(image, OBLIQUE).to_filename(folder / "data" / "imagesTr" / f"case_{number}.nii.gz")
        nibabel.Nifti1Image(label, OBLIQUE).to_filename(folder / "data" / "labelsTr" / f"case_{number}.nii.gz")
    return folder


@pytest.fixture(scope="module")
def weights(clone):
    run(
        clone,
        *("monai.bundle", "run", "training", "--config_file", TRAIN),
        dataset_dir=clone / "data",
        output_dir=clone / "run",
        val_fraction=0.25,
        window=WINDOW,
        batch_size=2,
        num_workers=0,
        max_epochs=2,
    )
    return clone / "run" / "model.pt"


def test_label_volumes_have_the_size_the_affine_and_the_ids_of_the_task(clone, weights):
    out = clone / "results"
    run(
        clone,
        *("monai.bundle", "run", "--config_file", INFER),
        dataset_dir=clone / "data" / "imagesTr",
        output_dir=out,
        checkpoint=weights,
        roi_size=WINDOW,
    )
    assert json.loads((out / "manifest.json").read_text())["counts"] == {"done": 4, "skipped": 0, "failed": 0}
    for number in range(4):
        mask = nibabel.load(out / f"case_{number}_mask.nii.gz")
        assert mask.shape == (20, 18, 17)
        assert mask.get_data_dtype() == np.uint8
        np.testing.assert_allclose(mask.affine, OBLIQUE, atol=1e-5)
        assert set(np.unique(np.asarray(mask.dataobj))) <= {0, 1, 2}


def test_a_picture_given_to_the_3d_network_fails_by_name_and_the_volumes_are_done(clone, weights):
    mixed = clone / "mixed"
    mixed.mkdir()
    shutil.copy(clone / "data" / "imagesTr" / "case_0.nii.gz", mixed)
    shutil.copy(next((clone / "demo" / "val" / "images").iterdir()), mixed / "photo.png")
    output = run(
        clone,
        *("monai.bundle", "run", "--config_file", INFER),
        expect=None,
        dataset_dir=mixed,
        output_dir=clone / "mixed_results",
        checkpoint=weights,
        roi_size=WINDOW,
    )
    assert "1 of 2 cases failed: photo: " in output
    assert (clone / "mixed_results" / "case_0_mask.nii.gz").is_file()
