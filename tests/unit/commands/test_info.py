import json
import os

import nibabel as nib
import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from banet_monai.cli import cli
from tests.dicom_objects import image, series, write, write_all

TASKS = ("skin_lesion", "hippocampus")


def info(*words):
    result = CliRunner().invoke(cli, ["info", *map(str, words)])
    assert "Traceback" not in result.output
    return result


@pytest.fixture
def folder(tmp_path):
    """A CT series, an X-ray, a SEG, an oblique NIfTI volume, a picture, a broken picture and a note."""
    volume = nib.Nifti1Image(np.zeros((6, 5, 4), np.int16), np.diag([0.5, 0.75, 2.0, 1.0]))
    volume.header.set_xyzt_units("mm")
    objects = series(np.zeros((3, 8, 12), np.int16), spacing=(0.8, 0.5), step=2.0)
    for ds in objects:
        ds.SeriesDescription = "Liver, late"
    write_all(objects, tmp_path / "ct", order=range(3))
    write(image(np.zeros((9, 7), np.uint8), modality="DX", SeriesInstanceUID="1.2.9"), tmp_path / "xray.dcm")
    write(image(np.zeros((8, 8), np.uint8), modality="SEG", SeriesInstanceUID="1.2.8"), tmp_path / "seg.dcm")
    nib.save(volume, tmp_path / "volume.nii.gz")
    Image.new("RGB", (20, 10)).save(tmp_path / "mole.png")
    (tmp_path / "broken.png").write_bytes(b"no picture")
    (tmp_path / "notes.txt").write_text("Doe^Secret")
    return tmp_path


def test_json_tells_what_an_input_holds_and_what_was_left_out(folder):
    contents = json.loads(info(folder, "--json").stdout)
    images = {item.pop("name"): item for item in contents["images"]}
    nothing = {"modality": "", "description": "", "series_number": None, "spacing": [], "files": 1, "dicom": False}
    assert images == {
        "broken": {**nothing, "kind": "unreadable", "size": [], "frames": 1},
        "mole": {**nothing, "kind": "picture", "size": [20, 10], "frames": 1},
        "volume": {**nothing, "kind": "nifti", "size": [6, 5], "frames": 4, "spacing": [0.5, 0.75, 2.0]},
        "ct": {
            "kind": "series",
            "modality": "CT",
            "description": "Liver, late",
            "series_number": 4,
            "size": [12, 8],
            "frames": 3,
            "spacing": [0.5, 0.8, 2.0],
            "files": 3,
            "dicom": True,
        },
        "xray": {
            **nothing,
            "kind": "picture",
            "modality": "DX",
            "series_number": 4,
            "size": [7, 9],
            "frames": 1,
            "dicom": True,
        },
    }
    assert contents["left_out"] == [
        {"path": "notes.txt", "reason": "not an image format"},
        {"path": "seg.dcm", "reason": "non-image DICOM object (SEG)"},
    ]


def test_the_table_has_one_line_per_image_and_one_per_reason(folder):
    lines = info(folder).stdout.splitlines()
    assert lines[0] == "5 images"
    cells = [line.split("  ") for line in lines[1:7]]
    assert [[word.strip() for word in line if word] for line in cells][2] == [
        *("ct", "DICOM series", "CT", "4", "12 x 8", "3", "0.5 x 0.8 x 2", "3", "Liver, late"),
    ]
    assert lines[8:] == [
        "2 files left out",
        "  not an image format: notes.txt",
        "  non-image DICOM object (SEG): seg.dcm",
    ]


def test_file_names_cannot_break_the_table(tmp_path):
    for name in ("a\nb.png", "\x1b[2J.png", os.fsdecode(b"\xff.png"), "c\nd.txt"):
        (tmp_path / name).write_bytes(b"no picture")
    lines = info(tmp_path).stdout.splitlines()
    assert sorted(line.split()[0] for line in lines[2:5]) == ["?", "?[2J", "a?b"]
    assert lines[-1] == "  not an image format: c?d.txt"


def test_nothing_of_the_patient_is_shown(folder):
    for words in ((folder,), (folder, "--json"), (folder, "--task", "skin_lesion")):
        output = info(*words).output
        for secret in ("Secret", "ID-SECRET", "19700102", "1.2.826", "1970"):
            assert secret not in output


def test_series_rules_choose_what_is_listed(folder):
    contents = json.loads(info(folder, "--series", "description=*liver*", "--json").stdout)
    assert [item["name"] for item in contents["images"]] == ["ct"]
    reasons = {item["path"]: item["reason"] for item in contents["left_out"]}
    assert reasons["mole.png"] == reasons["xray.dcm"] == "not chosen by the series rules"


def test_with_a_task_images_of_another_modality_are_named(folder):
    assert "of another modality: ct, xray" in info(folder, "--task", "skin_lesion").stdout
    contents = json.loads(info(folder, "--task", "lung", "--json").stdout)
    assert contents["task"]["other_modality"] == ["ct"]


def test_an_input_without_images_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("none")
    result = info(tmp_path)
    assert result.exit_code == 2
    assert result.stderr.startswith("banet: error: there is no image in")
    assert len(result.stderr.splitlines()) == 1


def test_without_an_input_versions_tasks_and_expectations_are_shown():
    text = info().stdout
    assert text.startswith("banet-monai 0.1.0, python 3.")
    assert "\n  skin_lesion  ready" in text
    assert "\nwhat skin_lesion expects\n" in text
    assert text.rstrip().endswith("For research use, not a medical device.")
    assert info("--task", "hippocampus").stdout.count("3D") == 1


def test_json_without_an_input_is_what_the_files_say():
    facts = json.loads(info("--json").stdout)
    assert facts["versions"]["banet-monai"] == "0.1.0"
    assert [task["name"] for task in facts["tasks"]] == ["skin_lesion", "hippocampus", "lung", "polyp"]
    assert facts["tasks"][0]["there"] is True
    assert (facts["expects"]["channels"], facts["expects"]["spatial_dims"]) == (3, 2)
    assert facts["options"]["threshold"] == 0.5
    assert not {"dataset_dir", "output_dir", "network_def", "run", "imports"} & set(facts["options"])


def test_an_installation_shows_no_option_that_the_task_does_not_use():
    main, hippocampus = (json.loads(info("--task", task, "--json").stdout)["options"] for task in TASKS)
    unused = {"scale", "spacing", "image_size", "intensity", "slice_axis", "threshold"}
    assert unused <= set(main)
    assert not unused & set(hippocampus)
    assert {"overlap", "tta", "format"} <= set(hippocampus)


def test_names_of_another_modality_are_no_commands_for_the_terminal(tmp_path):
    write_all(series(np.zeros((3, 8, 12), np.int16)), tmp_path / "bad\x1b[31mname", order=range(3))
    result = CliRunner().invoke(cli, ["info", str(tmp_path), "--task", "skin_lesion"], color=True)
    assert "of another modality: bad?[31mname" in result.output
    assert "\x1b" not in result.output
