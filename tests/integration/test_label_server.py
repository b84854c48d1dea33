"""MONAI Label itself serves the built archive: its outlines are those of ``monai.bundle run``, its errors say why."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

import nibabel
import numpy as np
import pytest
from PIL import Image

from banet_monai.data.skin_phantom import skin_picture, skin_volume
from banet_monai.machine import one_core
from banet_monai.segmenter import Segmenter
from tests import dicom_samples
from tests.bundle_runs import SECONDS
from tests.dicom_objects import write, write_all
from tests.label_server import NAME, banet_label, built_archive, label_environment, read_mask
from tests.orthanc import free_port

OBLIQUE = np.array([[0.8, 0.1, 0, -20], [-0.1, 0.8, 0, 35], [0, 0, 3, 10], [0, 0, 0, 1]])
PLANE = ["picture", "grey", "photo", "flat"]
IMAGES = {
    "picture": "picture.png",
    "grey": "grey.png",
    "photo": "photo.jpg",
    "scan": "scan.tif",
    "flat": "flat.nii.gz",
    "volume": "volume.nii.gz",
    "single": "single.dcm",
    "series": "series",
}
# ids of MONAI Label are file names without suffix; it lists no folder, which is named by its path
LISTED = [name for name in IMAGES if name != "series"]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("label")


@pytest.fixture(scope="module")
def archive(place):
    return built_archive(place / "dist")


@pytest.fixture(scope="module")
def studies(place):
    """One image of each kind, none of them symmetric or square."""
    folder = place / "studies"
    folder.mkdir()
    rng = np.random.default_rng(0)
    picture, _ = skin_picture(rng, 120, 150)
    Image.fromarray(picture).save(folder / "picture.png")
    Image.fromarray(picture).convert("L").save(folder / "grey.png")
    Image.fromarray(picture).save(folder / "photo.jpg", quality=90)
    Image.fromarray(skin_picture(rng, 150, 110)[0]).save(folder / "scan.tif")
    volume, _ = skin_volume(rng, (72, 80, 5))  # rows, columns, slices
    nibabel.save(nibabel.Nifti1Image(volume.transpose(1, 0, 2), OBLIQUE), folder / "volume.nii.gz")
    nibabel.save(nibabel.Nifti1Image(volume[:, :, 2].T, OBLIQUE), folder / "flat.nii.gz")
    write_all(dicom_samples.ct_series(size=(4, 60, 76), seed=1), folder / "series")
    write(dicom_samples.xray(size=(1, 64, 80)), folder / "single.dcm")
    return folder


@pytest.fixture(scope="module")
def server(place, archive, studies):
    folder = place / "server"
    folder.mkdir()
    with banet_label(folder, free_port(), studies, "--bundle", archive, "--no-scoring") as running:
        yield running


def plain_run(archive, studies, output, **options):
    """What ``monai.bundle run`` makes of the studies in our own environment: case name to its mask."""
    flags = [word for name, value in options.items() for word in (f"--{name}", str(value).lower())]
    line = [sys.executable, "-m", "monai.bundle", "run", "--config_file", str(archive / "configs" / "inference.json")]
    line += ["--bundle_root", str(archive), "--dataset_dir", str(studies), "--output_dir", str(output), *flags]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(line, cwd=output.parent, env=environment, capture_output=True, text=True, timeout=SECONDS)
    assert done.returncode == 0, done.stderr[-3000:]
    results = {}
    for entry in json.loads((output / "manifest.json").read_text())["files"]:
        if entry["fate"] == "result":
            results[entry["path"].split("/")[0].split(".")[0]] = output / entry["result"]
    return results


@pytest.fixture(scope="module")
def plain(place, archive, studies):
    return plain_run(archive, studies, place / "plain")


def ask(server, studies, name, **params):
    return server.infer(studies / "series" if name == "series" else name, **params)


def assert_same(answer, expected, folder, *, differing=0):
    """Same voxels, but for ``differing`` of them, in the same place."""
    voxels, affine = answer.array(folder)
    wanted, wanted_affine = read_mask(expected)
    wanted = wanted.reshape(voxels.shape)  # a plane of NIfTI has a third axis of one here and none there
    assert voxels.dtype == np.uint8
    assert set(np.unique(voxels)) <= {0, 1}
    assert np.count_nonzero((voxels > 0) != (wanted > 0)) <= differing
    if wanted_affine is not None:
        np.testing.assert_allclose(affine, wanted_affine, atol=1e-4)


def test_info_names_labels_options_and_strategies(server):
    info = server.info()
    assert info["labels"] == ["skin lesion"]
    model = info["models"][NAME]
    assert model["labels"] == {"skin lesion": 1}
    assert (model["type"], model["dimension"]) == ("segmentation", 2)
    options = {
        name: model["config"][name] for name in ("threshold", "smallest_part", "overlap", "sw_batch_size", "tta")
    }
    assert options == {"threshold": 0.5, "smallest_part": 0.1, "overlap": 0.5, "sw_batch_size": 8, "tta": False}
    assert set(info["strategies"]) == {"random", "first", "epistemic"}
    assert set(info["trainers"]) == {NAME}


@pytest.mark.parametrize("name", IMAGES)
def test_an_outline_is_that_of_monai_bundle_run_in_voxels_and_place(server, studies, plain, tmp_path, name):
    assert_same(ask(server, studies, name), plain[name], tmp_path)


def test_the_studies_hold_something_to_outline(plain):
    assert {name for name, path in plain.items() if read_mask(path)[0].any()} >= {"picture", "photo", "flat", "volume"}


@pytest.mark.parametrize("name", ["volume", "series", "single"])
def test_nrrd_of_uint8_as_slicer_and_ohif_ask_for_it(server, studies, plain, tmp_path, name):
    answer = ask(server, studies, name, result_extension=".nrrd", result_dtype="uint8")
    assert answer.suffix == ".nrrd"
    assert_same(answer, plain[name], tmp_path)


def test_a_jpeg_gets_a_png_because_jpeg_loses_label_ids(server):
    assert server.infer("photo").suffix == ".png"


def test_an_uploaded_file_gets_the_outline_of_the_listed_one(server, studies, plain, tmp_path):
    for name in ("picture", "volume", "single"):
        assert_same(server.infer(file=studies / IMAGES[name]), plain[name], tmp_path)


def test_a_series_uploaded_as_a_session_gets_the_outline_of_its_folder(server, studies, plain, tmp_path):
    files = [("files", (path.name, path.read_bytes())) for path in sorted((studies / "series").iterdir())]
    made = server.http.put(f"{server.root}/session/", files=files, timeout=60).json()
    assert_same(server.infer(session=made["session_id"]), plain["series"], tmp_path)


def test_options_of_the_panel_act_as_the_options_of_a_plain_run(server, archive, studies, plain, tmp_path):
    few = tmp_path / "few"
    few.mkdir()
    for name in ("picture.png", "volume.nii.gz"):
        shutil.copyfile(studies / name, few / name)
    options = {"threshold": 0.1, "tta": True, "overlap": 0.0, "sw_batch_size": 1}
    expected = plain_run(archive, few, tmp_path / "out", **options)
    for name in ("picture", "volume"):
        assert_same(server.infer(name, **options), expected[name], tmp_path)
        assert_same(server.infer(name), plain[name], tmp_path)  # and only for the request that named them


@pytest.mark.parametrize("threshold", [0.2, "0.8"])
def test_a_threshold_alone_moves_the_outline(server, archive, studies, plain, tmp_path, threshold):
    segmenter = Segmenter(archive, device="cpu", options={"temperature": 1.0})  # thresholds count without one
    with one_core():  # as the server: bfloat16 differs by the number of cores
        probability = segmenter(studies / "picture.png").probability[0]
    voxels, _ = server.infer("picture", threshold=threshold).array(tmp_path)
    np.testing.assert_array_equal(voxels, probability >= float(threshold))
    assert (voxels.sum() > (read_mask(plain["picture"])[0] > 0).sum()) == (float(threshold) < 0.5)


def test_random_chooses_among_the_studies(server):
    assert {server.next_image("random")["id"] for _ in range(3)} <= set(LISTED)


def bad_requests(folder):
    """What is asked for, and words of the refusal."""
    (folder / "torn.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    (folder / "torn.nii.gz").write_bytes(b"\x1f\x8b broken")
    (folder / "notes.txt").write_text("no image")
    nibabel.save(nibabel.Nifti1Image(np.zeros((8, 8, 4, 2), np.float32), np.eye(4)), folder / "two.nii.gz")
    return [
        ({"image": "nonsense"}, 404, "there is no image 'nonsense'"),
        ({"image": "picture", "model": "nothing"}, 400, "no model 'nothing'"),
        ({"file": folder / "torn.png"}, 400, "is no picture that PIL knows"),
        ({"file": folder / "torn.nii.gz"}, 400, "truncated, corrupt or no NIfTI"),
        ({"file": folder / "notes.txt"}, 400, "of no known kind; PNG, JPEG"),
        ({"file": folder / "two.nii.gz"}, 400, "2 entries, but the network takes 3 channels"),
        ({"image": "picture", "overlap": 2}, 400, "overlap must be at least 0 and below 1, got 2"),
        ({"image": "picture", "threshold": "much"}, 400, "threshold must be a number, got 'much'"),
        ({}, 500, "Neither Image nor File"),
    ]


def test_a_bad_request_is_told_why_and_the_server_goes_on(server, plain, tmp_path):
    for request, status, words in bad_requests(tmp_path):
        answer = server.infer(**request)
        assert (answer.status, words in answer.detail) == (status, True), (request, answer)
    assert_same(server.infer("picture"), plain["picture"], tmp_path)


def test_a_label_for_an_unknown_image_and_an_unknown_strategy_are_refused_in_words(server, plain):
    got = server.http.put(
        f"{server.root}/datastore/label",
        params={"image": "nonsense"},
        files={"label": ("mask.png", plain["picture"].read_bytes())},
        timeout=60,
    )
    assert (got.status_code, got.json()) == (404, {"detail": "Image nonsense not found"})
    got = server.http.post(f"{server.root}/activelearning/nonsense", json={}, timeout=60)
    assert got.status_code == 400
    assert "no such strategy 'nonsense'" in got.json()["detail"]


@pytest.mark.parametrize(
    ("headers", "words"),
    [
        ({"Origin": "http://elsewhere.example"}, "requests of the web page 'http://elsewhere.example' are refused"),
        ({"Host": "elsewhere.example:8000"}, "this server is not asked as 'elsewhere.example:8000'"),
    ],
)
def test_web_pages_of_others_see_and_change_nothing(server, plain, studies, headers, words):
    url, mask = f"{server.root}/datastore/label", {"label": ("mask.png", plain["picture"].read_bytes())}
    asked = [
        server.http.get(f"{server.root}/info/", headers=headers, timeout=60),
        server.http.put(url, params={"image": "picture", "tag": "evil"}, files=mask, headers=headers, timeout=60),
        server.http.options(url, headers={**headers, "Access-Control-Request-Method": "PUT"}, timeout=60),
    ]
    for got in asked:
        assert (got.status_code, words in got.json()["detail"]) == (403, True)
        assert "access-control-allow-origin" not in got.headers
    assert not (studies / "labels" / "evil").exists()
    own = {"Origin": server.root}
    assert server.http.get(f"{server.root}/info/", headers=own, timeout=60).status_code == 200


def test_names_of_images_and_tags_lead_nowhere_else(server, plain, studies, place):
    before = {path for path in place.rglob("evil*")}
    content = plain["picture"].read_bytes()
    asked = [
        ("label", {"image": "picture", "tag": "../../evil"}, {"label": ("mask.png", content)}),
        ("label", {"image": "picture", "tag": str(place / "evil")}, {"label": ("mask.png", content)}),
        ("image", {"image": "../evil"}, {"file": ("evil.png", content)}),
    ]
    for what, query, files in asked:
        got = server.http.put(f"{server.root}/datastore/{what}", params=query, files=files, timeout=60)
        assert (got.status_code, "it would lead elsewhere" in got.json()["detail"]) == (400, True)
    answer = server.infer("picture", save_label=True, label_tag="../../evil")
    assert (answer.status, "it would lead elsewhere" in answer.detail) == (400, True)
    assert {path for path in place.rglob("evil*")} == before == set()
    assert (studies / "picture.png").is_file()


def test_nothing_is_left_beside_the_application(server, place):
    assert {path.name for path in (place / "server").iterdir()} == {"app", "server.log", "sessions"}
    assert {path.name for path in (place / "server" / "app").iterdir()} <= {
        *("main.py", "banet_asgi.py", "banet_guard.py", "monaibundle_main.py"),
        *("lib", "model", "logs", "bin", "__pycache__"),
    }


IN_THE_ENVIRONMENT = """
import importlib, importlib.util, json, pkgutil, sys
sys.path.insert(0, {archive!r})
import numpy, pydicom
assert importlib.util.find_spec("highdicom") is None
import banet_monai
assert banet_monai.__file__.startswith({archive!r})
for module in pkgutil.walk_packages(banet_monai.__path__, "banet_monai."):
    importlib.import_module(module.name)
from monai.bundle import ConfigParser
parser = ConfigParser(ConfigParser.load_config_file({archive!r} + "/configs/inference.json"))
parser["bundle_root"] = {archive!r}
for part in ("network_def", "preprocessing", "inferer", "postprocessing", "displayable_configs"):
    parser.get_parsed_content(part)
print(json.dumps([numpy.__version__, pydicom.__version__]))
"""


def test_package_and_configuration_need_no_more_than_the_environment_of_monai_label_has(archive, tmp_path):
    line = [str(label_environment() / "bin" / "python"), "-W", "ignore", "-c"]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    code = IN_THE_ENVIRONMENT.format(archive=str(archive))
    done = subprocess.run([*line, code], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=SECONDS)
    assert done.returncode == 0, done.stderr[-3000:]
    numpy_version, pydicom_version = json.loads(done.stdout)
    assert numpy_version.startswith("1.26.")
    assert pydicom_version.startswith("2.4.")
    assert list(tmp_path.iterdir()) == []
