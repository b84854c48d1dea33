import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from banet_monai import __version__
from banet_monai.bundles import find_bundle
from banet_monai.cli import cli
from banet_monai.commands.running import Outcome

ADDRESS = "http://127.0.0.1:1/dicom-web/studies/1.2.3"
SERVICE = "http://127.0.0.1:1/dicom-web"


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "picture.png"
    Image.fromarray(np.zeros((40, 64, 3), np.uint8)).save(path)
    return str(path)


@pytest.fixture
def out(tmp_path):
    return str(tmp_path / "out")


@pytest.fixture
def runs(monkeypatch):
    """Instead of running, remembers (plan, path); the outcome is one case that is done, or what is set."""

    class Runs(list):
        outcome = Outcome(Path("out"), {"done": 1, "skipped": 0, "failed": 0}, {"a": ["a_mask.dcm", "a_overlay.png"]})

        def __call__(self, plan, path):
            self.append((plan, path))
            return replace(self.outcome, output_dir=Path(plan.changes.get("output_dir", "out")))

        @property
        def changes(self):
            return self[-1][0].changes

    recorder = Runs()
    monkeypatch.setattr("banet_monai.commands.segment.run_plan", recorder)
    monkeypatch.setattr("banet_monai.commands.evaluate.run_plan", recorder)
    return recorder


def banet(*words, **options):
    return CliRunner().invoke(cli, [str(word) for word in words], **options)


def only_error(result, code=2):
    """The one line of an error, without what stands before it."""
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output
    lines = result.stderr.splitlines()
    assert len(lines) == 1, lines
    assert lines[0].startswith("banet: error: ")
    return lines[0].removeprefix("banet: error: ")


# ---- help and mistakes -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "command", [[], ["segment"], ["evaluate"], ["info"], ["store"], ["prepare"], ["report"], ["gallery"], ["export"]]
)
def test_every_command_explains_itself(command):
    result = banet(*command, "--help")
    assert result.exit_code == 0
    assert result.output.startswith("Usage: banet")


def test_without_a_command_the_help_is_shown():
    assert banet().output == banet("--help").output


def test_the_package_can_be_run_as_a_module():
    command = [sys.executable, "-m", "banet_monai", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, f"banet {__version__}\n")


def test_the_version_is_that_of_the_package():
    assert banet("--version").output == f"banet {__version__}\n"


@pytest.mark.parametrize(
    "words",
    [["--help"], ["--version"], ["info"], ["info", "FOLDER"], ["segment", "FOLDER", "-o", "x", "--set", "treshold=1"]],
)
def test_what_needs_no_network_does_not_load_torch(words, picture):
    words = [str(Path(picture).parent) if word == "FOLDER" else word for word in words]
    code = (
        "import sys\nfrom banet_monai.cli import cli\n"
        f"cli.main({words!r}, standalone_mode=False)\n"
        "sys.exit('torch was loaded' if 'torch' in sys.modules else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


# what is typed, with IN, OUT and FOLDER as stand-ins, and what the answer holds
MISTAKES = {
    "command": ("segmnt", "there is no command 'segmnt' (did you mean 'segment'?)"),
    "option": ("segment IN -o OUT --overlaps", "there is no option '--overlaps' (did you mean '--overlay'?)"),
    "format": ("segment IN -o OUT --format nifty", "(did you mean 'nifti'?)"),
    "format in a list": ("segment IN -o OUT --format png,dicomseg", "(did you mean 'dicom-seg'?)"),
    "kind": ("segment IN -o OUT --seg-kind fractal", "(did you mean 'fractional'?)"),
    "task": (
        "segment IN -o OUT --task lnug",
        "no task 'lnug' (did you mean 'lung'?); there are skin_lesion, hippocampus,",
    ),
    "task of info": ("info --task lungs", "(did you mean 'lung'?)"),
    "setting": ("segment IN -o OUT --set treshold=1", "no entry 'treshold' (did you mean 'threshold'?)"),
    "nested setting": ("segment IN -o OUT --set network_def::widht=1", "(did you mean 'network_def::width'?)"),
    "setting without value": ("segment IN -o OUT --set overlap", "'overlap' is not NAME=VALUE"),
    "word for a number": (
        "segment IN -o OUT --set overlap=half",
        "--set overlap: 'half' is no number; the default is 0.5.",
    ),
    "setting with an option": ("segment IN -o OUT --set output_dir=x", "--set output_dir: use -o."),
    "evaluation setting": ("evaluate IN --set seeed=1", "(did you mean 'seed'?)"),
    "device": ("segment IN -o OUT --device gpu", "'gpu' is no device; cpu, cuda and cuda:0 are."),
    "device as a setting": ("segment IN -o OUT --set device=gpu", "'gpu' is no device; cpu, cuda and cuda:0 are."),
    "threshold": ("segment IN -o OUT --threshold 3", "3.0 is not in the range 0<=x<=1"),
    "series rule": ("segment IN -o OUT --series modalty=CT", "did you mean 'modality'?"),
    "samples of nothing": ("segment IN -o OUT --samples 4", "--samples is the number of predictions of --uncertainty"),
    "kind of uncertainty": ("segment IN -o OUT --uncertainty dropout", "(did you mean 'mc_dropout'?)"),
    "NaN as a threshold": ("segment IN -o OUT --threshold nan", "'nan' is no number from 0 to 1"),
    "NaN as a share": ("evaluate IN --val-fraction nan", "'nan' is no number from 0 to 1"),
    "kind of no object": ("segment IN -o OUT --seg-kind fractional", "add dicom-seg to --format"),
    "unused setting": (
        "segment IN -o OUT --task hippocampus --set scale=native",
        "--set scale: the task 'hippocampus' does not use it.",
    ),
    "unused setting without a default": (
        "segment IN -o OUT --task hippocampus --set spacing=[1,1]",
        "--set spacing: the task 'hippocampus' does not use it.",
    ),
    "unused threshold": (
        "segment IN -o OUT --task hippocampus --set threshold=0.4",
        "--set threshold: the task 'hippocampus' does not use it.",
    ),
    "dropout of a file": (
        "segment IN -o OUT --backend onnx --uncertainty mc_dropout",
        "an exported network has no dropout; use --backend torch.",
    ),
    "ensemble of a file": (
        "segment IN -o OUT --backend openvino --set uncertainty=ensemble",
        "an exported network has no place for the weights of others; use --backend torch.",
    ),
    "edges of a file": (
        "segment IN -o OUT --backend onnx --set boundary=true",
        "an exported network has no edge branch; use --backend torch.",
    ),
    "file that is not there": (
        "segment IN -o OUT --backend onnx --set exported=a/b.onnx --task hippocampus --weights IN",
        "there is no file 'a/b.onnx'; make it: banet export a/b.onnx --to onnx --task hippocampus --weights",
    ),
    "report without object": ("segment IN -o OUT --structured-report", "add dicom-seg to --format"),
    "backend": ("segment IN -o OUT --backend onxx", "(did you mean 'onnx'?)"),
    "no output": ("segment IN", "Missing option '-o'; 'banet segment --help' shows how it is used."),
    "weights": ("segment IN -o OUT --weights none.pt", "'none.pt' does not exist"),
    "bundle": ("segment IN -o OUT --bundle FOLDER", "is no bundle: it has no configs/inference.json."),
    "missing input": ("segment FOLDER/pictur.png -o OUT", "/picture.png'?)"),
    "address of no study": (f"segment {SERVICE} -o OUT", "the address names no study or series"),
    "store without address": ("segment IN -o OUT --store", "--store needs a DICOMweb address"),
    "store of pictures": (f"segment IN -o OUT --store {SERVICE} --format png", "add dicom-seg to --format"),
    "secret that is not there": (f"segment {ADDRESS} -o OUT --store --token-env NO_SUCH", "--token-env NO_SUCH"),
    "store to nowhere": ("store FOLDER pacs", "URL must be a DICOMweb address"),
    "nothing to store": (f"store FOLDER {SERVICE}", "holds no *_mask.dcm"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_one_line_with_the_remedy_and_nothing_is_run(name, picture, out, runs):
    line, message = MISTAKES[name]
    for short, path in {"IN": picture, "OUT": out, "FOLDER": str(Path(picture).parent)}.items():
        line = re.sub(rf"\b{short}\b", path, line)
    assert message in only_error(banet(*line.split()))
    assert not runs
    assert not Path(out).exists()


@pytest.mark.parametrize("place", ["picture.png", "picture.png/deeper/out"])
def test_an_output_folder_that_is_a_file_is_refused(place, picture, runs):
    error = only_error(banet("segment", picture, "-o", Path(picture).parent / place))
    assert error.endswith("picture.png' is a file, a folder is needed.")


def test_an_output_folder_that_cannot_be_written_is_refused(monkeypatch, picture, out, runs):
    monkeypatch.setattr("os.access", lambda place, mode: False)
    assert "nothing can be written" in only_error(banet("segment", picture, "-o", out))


def test_an_unexpected_error_is_one_line_without_what_it_quotes(monkeypatch, picture, out):
    def fail(plan, path):
        raise KeyError("Doe^Secret")

    monkeypatch.setattr("banet_monai.commands.segment.run_plan", fail)
    result = banet("segment", picture, "-o", out)
    assert only_error(result, code=1).startswith("unexpected KeyError at test_cli.py:")
    assert "Secret" not in result.output


def test_the_debug_variable_shows_the_traceback(monkeypatch, picture, out):
    def fail(plan, path):
        raise KeyError("where")

    monkeypatch.setattr("banet_monai.commands.segment.run_plan", fail)
    result = banet("segment", picture, "-o", out, env={"BANET_DEBUG": "1"})
    assert result.exit_code == 1
    assert "Traceback (most recent call last)" in result.stderr


def test_ctrl_c_before_the_first_case_is_one_line(monkeypatch, picture, out):
    def stop(plan, path):
        raise KeyboardInterrupt

    monkeypatch.setattr("banet_monai.commands.segment.run_plan", stop)
    result = banet("segment", picture, "-o", out)
    assert result.exit_code == 130
    assert result.stderr.strip() == "banet: error: interrupted."


# ---- what reaches the configuration ----------------------------------------------------------------------------------


def test_without_options_the_configuration_decides(picture, out, runs):
    assert banet("segment", picture, "-o", out).exit_code == 0
    assert sorted(runs.changes) == ["bundle_root", "checkpoint", "output_dir"]
    assert runs[0][1] == Path(picture)


def test_options_become_entries_of_the_configuration(picture, out, runs):
    result = banet(
        *("segment", picture, "-o", out, "--format", "nifti,contours", "--format", "dicom-seg", "--format", "nifti"),
        *("--seg-kind", "labelmap", "--threshold", "0.25", "--overlay", "--irregular", "slices", "--no-paths"),
        *("--smallest-part", "0"),
        *("--series", "modality=CT", "--series", "number=3;number=4", "--device", "cpu", "--set", "sw_batch_size=2"),
        *("--set", "network_def::dropout=0", "--set", "scale=native", "--set", "spacing=[1, 2.5]"),
    )
    assert result.exit_code == 0, result.output
    assert {name: value for name, value in runs.changes.items() if name not in ("bundle_root", "checkpoint")} == {
        "output_dir": out,
        "format": "nifti,contours,dicom-seg",
        "seg_kind": "labelmap",
        "threshold": 0.25,
        "smallest_part": 0,
        "overlay": True,
        "irregular": "slices",
        "no_paths": True,
        "series": ["modality=CT", "number=3;number=4"],
        "device": "$torch.device('cpu')",
        "sw_batch_size": 2,
        "network_def::dropout": 0,
        "scale": "native",
        "spacing": [1, 2.5],
    }


@pytest.mark.parametrize("command", ["segment", "evaluate"])
def test_what_is_written_beside_the_masks_can_be_asked_for(command, picture, out, runs):
    words = ("--uncertainty", "mc_dropout", "--samples", "4", "--measurements", "--overlay")
    assert banet(command, picture, "-o", out, *words).exit_code == 0
    wanted = {"uncertainty": "mc_dropout", "uncertainty_samples": 4, "measurements": True, "overlay": True}
    assert wanted.items() <= runs.changes.items()


def test_a_backend_is_a_configuration_laid_over_the_tasks(picture, out, runs, tmp_path):
    mine = tmp_path / "mine.onnx"
    mine.touch()
    assert banet("segment", picture, "-o", out, "--backend", "onnx", "--set", f"exported={mine}").exit_code == 0
    plan = runs[0][0]
    assert [file.name for file in plan.configs()] == ["inference.json", "inference_onnx.json"]
    assert plan.changes["exported"] == str(mine)
    assert banet("evaluate", picture, "-o", out, "--backend", "torch").exit_code == 0
    assert [file.name for file in runs[1][0].configs()] == ["inference.json", "evaluate.json"]


def test_a_structured_report_needs_measurements_and_brings_them(picture, out, runs):
    assert banet("segment", picture, "-o", out, "--format", "dicom-seg", "--structured-report").exit_code == 0
    assert {"measurements": True, "structured_report": True}.items() <= runs.changes.items()


@pytest.mark.parametrize("command", ["segment", "evaluate"])
def test_the_page_of_a_run_is_written_from_its_input_or_the_results_stay(command, picture, out, runs, monkeypatch):
    def write(folder, *, images):
        pages.append((folder, images))
        if len(pages) > 1:
            raise OSError("no space left")
        return folder / "report.html"

    pages = []
    monkeypatch.setattr("banet_monai.report.page.write_report", write)
    result = banet(command, picture, "-o", out, "--report")
    assert (result.exit_code, pages) == (0, [(Path(out), Path(picture))])
    assert "report: " in result.output
    result = banet(command, picture, "-o", out, "--report")
    assert result.exit_code == 1
    assert "the results are written, but not their report" in result.stderr


def test_a_task_may_be_the_folder_of_its_configuration(picture, out, runs, tmp_path):
    folder = tmp_path / "mole"
    folder.mkdir()
    (folder / "inference.json").write_text('{"threshold": 0.3}')
    (folder / "model.pt").write_bytes(b"weights")
    assert banet("segment", picture, "-o", out, "--task", folder).exit_code == 0
    plan = runs[0][0]
    assert plan.task.configs()[-1] == folder / "inference.json"
    assert plan.changes["checkpoint"] == str(folder / "model.pt")


def test_a_task_without_weights_says_how_to_train_them(picture, out, runs, tmp_path, monkeypatch):
    monkeypatch.chdir(find_bundle().root.parent)
    (tmp_path / "mole").mkdir()
    (tmp_path / "mole" / "inference.json").write_text('{"checkpoint": "runs/mole/model.pt"}')
    error = only_error(banet("segment", picture, "-o", out, "--task", tmp_path / "mole"))
    assert "the task 'mole' has no weights at 'runs/mole/model.pt'" in error
    assert f"run training --config_file \"['bundle/configs/train.json','{tmp_path}/mole/train.json']\"" in error
    assert "--weights FILE" in error


@pytest.mark.parametrize("name", ["threshold", "smallest_part"])
def test_a_threshold_for_a_task_without_one_is_refused(name, picture, out, runs):
    option = f"--{name.replace('_', '-')}"
    words = ("segment", picture, "-o", out, "--task", "hippocampus", "--weights", picture, option, "0.4")
    assert f"no {name} is used" in only_error(banet(*words))


def test_evaluation_gets_its_options_and_configurations(picture, runs, tmp_path):
    (tmp_path / "ids.txt").write_text("picture")
    words = ("--val-ids", tmp_path / "ids.txt", "--val-fraction", "0.5", "--task", "lung", "--weights", picture)
    assert banet("evaluate", tmp_path, "-o", tmp_path / "out", *words).exit_code == 0
    plan, path = runs[0]
    assert (plan.changes["val_ids"], plan.changes["val_fraction"]) == (str(tmp_path / "ids.txt"), 0.5)
    assert path == tmp_path
    assert [f"{file.parent.name}/{file.name}" for file in plan.task.configs(evaluate=True)] == [
        "configs/inference.json",
        "lung/inference.json",
        "configs/evaluate.json",
        "lung/evaluate.json",
    ]


# ---- the end of a run ------------------------------------------------------------------------------------------------


def test_the_end_is_a_count_and_where_the_results_are(picture, out, runs):
    result = banet("segment", picture, "-o", out)
    assert result.stdout == f"1 done, 0 skipped, 0 failed\nresults and manifest.json: {out}\n"
    assert result.stderr == ""


def test_quiet_says_nothing_when_all_is_done(picture, out, runs):
    assert banet("segment", picture, "-o", out, "--quiet").output == ""


def test_failures_are_one_line_each_and_the_exit_code_is_1(picture, out, runs):
    counts = {"done": 12, "skipped": 3, "failed": 2}
    runs.outcome = replace(runs.outcome, counts=counts, failures={"b": "b.png is empty", "a": "a.dcm is truncated"})
    result = banet("segment", picture, "-o", out)
    assert result.exit_code == 1
    assert result.stderr == "banet: failed: a: a.dcm is truncated\nbanet: failed: b: b.png is empty\n"
    assert result.stdout.startswith("12 done, 3 skipped, 2 failed\n")


def test_a_warning_that_concerns_many_cases_is_one_line(picture, out, runs):
    runs.outcome = replace(runs.outcome, warnings={name: ["odd"] for name in "edcba"} | {"f": ["even", "odd"]})
    result = banet("segment", picture, "-o", out)
    assert result.exit_code == 0
    assert result.stderr == "banet: warning: a, b, c and 3 more: odd\nbanet: warning: f: even\n"


def test_ctrl_c_says_what_is_kept(picture, out, runs):
    runs.outcome = replace(runs.outcome, counts={"done": 3, "skipped": 0, "failed": 7}, interrupted=True)
    error = only_error(banet("segment", picture, "-o", out), code=130)
    assert error == f"interrupted; 3 of 10 cases are done and kept in {out} (see manifest.json)."


def test_a_run_that_breaks_off_says_why_and_what_is_kept(picture, out, runs):
    runs.outcome = replace(runs.outcome, counts={"done": 3, "skipped": 0, "failed": 7}, broken_off="no memory.")
    error = only_error(banet("segment", picture, "-o", out), code=1)
    assert error == f"the run broke off: no memory; 3 of 10 cases are done and kept in {out} (see manifest.json)."


# ---- PACS ------------------------------------------------------------------------------------------------------------


class FakeWeb:
    """A DICOMweb service in memory: gives one file, takes what it is told to take."""

    failing = ""
    log: list = []  # noqa: RUF012  # cleared by the fixture

    def __init__(self, base_url, **options):
        self.log.append(("open", base_url, options))

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.close()

    def close(self):
        pass

    def retrieve(self, study, series=None, *, folder, progress):
        from banet_monai.dicom.web import PacsError

        if self.failing == "retrieve":
            raise PacsError("the server is not there.")
        folder.mkdir(parents=True)
        (folder / "0001.dcm").write_bytes(b"DICM")
        self.log.append(("retrieve", study, series))
        progress(1, 1)
        if self.failing == "second series":
            raise PacsError("1 of 2 series was not retrieved.", retrieved=(folder / "0001.dcm",))

    def store(self, paths, *, progress=None):
        from banet_monai.dicom.web import StoreFailure, StoreReport

        self.log.append(("store", list(paths)))
        if self.failing == "store":
            return StoreReport(failed=tuple(StoreFailure(path, "the server is full.") for path in paths))
        return StoreReport(stored=tuple(paths))


@pytest.fixture
def web(monkeypatch):
    FakeWeb.log, FakeWeb.failing = [], ""
    monkeypatch.setattr("banet_monai.dicom.web.DicomWeb", FakeWeb)
    return FakeWeb


def test_a_study_is_fetched_segmented_and_stored_where_it_came_from(web, out, runs):
    result = banet("segment", ADDRESS, "--store", "-o", out)
    assert result.exit_code == 0, result.output
    assert runs.changes["format"] == "dicom-seg"
    assert ("retrieve", "1.2.3", None) in web.log
    assert web.log[-1] == ("store", [Path(out) / "a_mask.dcm"])
    assert {entry[1] for entry in web.log if entry[0] == "open"} == {SERVICE}
    assert result.stdout.endswith("PACS: 1 stored, 0 already there, 0 failed\n")
    assert not runs[0][1].exists()  # the fetched files are gone


def test_the_word_after_store_is_the_input_unless_it_is_an_address(web, picture, out, runs):
    assert banet("segment", "-o", out, "--store", ADDRESS, picture).exit_code == 0
    assert runs[-1][1] == Path(picture)
    assert "--store needs" in only_error(banet("segment", "-o", out, "--store", picture))


def test_web_options_reach_the_service(web, picture, out, runs):
    words = ("--timeout", "5", "--retries", "0", "--ca-bundle", picture, "--client-cert", picture, "--no-verify")
    result = banet(
        *("segment", picture, "-o", out, "--store", SERVICE, *words, "--token-env", "PACS_TOKEN"),
        env={"PACS_TOKEN": "secret"},
    )
    assert result.exit_code == 0, result.output
    assert web.log[0][2] == {
        "timeout": 5.0,
        "retries": 0,
        "ca_bundle": Path(picture),
        "client_cert": Path(picture),
        "verify": False,
        "token": "secret",
    }
    assert "secret" not in result.output


def test_a_server_that_is_not_there_is_one_line(web, out, runs):
    web.failing = "retrieve"
    assert only_error(banet("segment", ADDRESS, "-o", out), code=1) == "the server is not there."
    assert not runs


def test_what_arrived_of_a_study_is_segmented_and_the_exit_code_is_1(web, out, runs):
    web.failing = "second series"
    error = only_error(banet("segment", ADDRESS, "-o", out), code=1)
    assert error == "1 of 2 series was not retrieved; going on with what arrived."
    assert len(runs) == 1


def test_results_that_cannot_be_stored_stay_and_the_line_says_how_to_send_them(web, out, runs):
    web.failing = "store"
    error = only_error(banet("segment", ADDRESS, "-o", out, "--store"), code=1)
    assert error == (
        "1 of 1 results were not stored: the server is full; the results stay in "
        f"{out}; 'banet store {out} {SERVICE}' sends them later."
    )


def test_a_run_without_a_dicom_result_stores_nothing_and_says_so(web, picture, out, runs):
    runs.outcome = replace(runs.outcome, results={"a": ["a_mask.png"]})
    result = banet("segment", picture, "-o", out, "--store", SERVICE)
    assert (result.exit_code, result.stderr) == (0, "banet: warning: there is no DICOM SEG to store.\n")
    assert not [entry for entry in web.log if entry[0] == "store"]


def test_results_of_an_earlier_run_are_stored(web, tmp_path):
    (tmp_path / "deep").mkdir()
    for name in ("a_mask.dcm", "deep/b_mask.dcm", "a_mask.nii.gz", "other.dcm", ".c_mask.dcm"):
        (tmp_path / name).write_bytes(b"x")
    result = banet("store", tmp_path, SERVICE)
    assert (result.exit_code, result.output) == (0, "PACS: 2 stored, 0 already there, 0 failed\n")
    assert web.log[-1] == ("store", [tmp_path / "a_mask.dcm", tmp_path / "deep" / "b_mask.dcm"])


def test_storing_an_earlier_run_may_fail_and_be_repeated(web, tmp_path):
    web.failing = "store"
    (tmp_path / "a_mask.dcm").write_bytes(b"x")
    assert "the same command sends what is missing" in only_error(banet("store", tmp_path, SERVICE), code=1)


@pytest.mark.parametrize("name", ["photo.png", "deep/volume.nii.gz"])
def test_an_output_folder_that_holds_images_of_the_input_is_refused(tmp_path, name, runs):
    inner = tmp_path / "ds" / "images"
    (inner / name).parent.mkdir(parents=True)
    (inner / name).touch()
    (inner / "notes.txt").touch()
    error = only_error(banet("segment", tmp_path / "ds", "-o", inner))
    assert f"holds 1 images of INPUT, such as '{Path(name).name}', which would be left out; give another" in error
    assert not runs


@pytest.mark.parametrize("manifest", [True, False])
def test_an_output_folder_with_results_of_a_run_inside_the_input_is_fine(tmp_path, manifest, runs):
    inner = tmp_path / "ds" / "out"
    inner.mkdir(parents=True)
    (inner / ("a.png" if manifest else "a_mask.png")).touch()
    if manifest:
        (inner / "manifest.json").write_text('{"notice": "For research use, not a medical device."}')
    assert banet("segment", tmp_path / "ds", "-o", inner).exit_code == 0
    assert len(runs) == 1
