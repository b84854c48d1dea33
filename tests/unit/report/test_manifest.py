from __future__ import annotations

import json
import logging
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from banet_monai.data.inputs import find_inputs
from banet_monai.report import CasesFailedError, RunReport


def manifest(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    return content


def records(root: Path) -> list[dict[str, Any]]:
    series = [str(root / "ct" / f"{index}.dcm") for index in range(3)]
    return [{"image": str(root / "a.png"), "name": "a"}, {"image": series, "name": "ct"}]


def test_every_file_found_has_its_fate(tmp_path: Path) -> None:
    report = RunReport(
        tmp_path / "out", input_root=tmp_path, records=records(tmp_path), skipped=[("notes.txt", "not an image format")]
    )
    report.done("a", tmp_path / "out" / "a_mask.png")
    report.done("ct", tmp_path / "out" / "ct_mask.nii.gz")
    report.finish()
    entries = manifest(tmp_path / "out")["files"]
    assert all(entry.pop("seconds") >= 0 for entry in entries if entry["fate"] == "result")
    assert entries == [
        {"path": "a.png", "fate": "result", "result": "a_mask.png"},
        {"path": "ct", "fate": "result", "result": "ct_mask.nii.gz"},
        {"path": "ct/0.dcm", "fate": "part of case", "case": "ct"},
        {"path": "ct/1.dcm", "fate": "part of case", "case": "ct"},
        {"path": "ct/2.dcm", "fate": "part of case", "case": "ct"},
        {"path": "notes.txt", "fate": "skipped", "reason": "not an image format"},
    ]


def test_what_find_inputs_returns_can_be_given_as_it_is(tmp_path: Path) -> None:
    from banet_monai.data.inputs import find_inputs

    (tmp_path / "sub").mkdir()
    for name in ("a.png", "sub/b.jpg", "notes.txt"):
        (tmp_path / name).write_bytes(b"x")
    report = RunReport(tmp_path / "out", inputs=find_inputs(tmp_path, exclude=tmp_path / "out"))
    report.done("a", tmp_path / "out" / "a_mask.png")
    report.done("sub/b", tmp_path / "out" / "sub" / "b_mask.png")
    report.finish()
    fates = {entry["path"]: entry["fate"] for entry in manifest(tmp_path / "out")["files"]}
    assert fates == {"a.png": "result", "sub/b.jpg": "result", "notes.txt": "skipped"}


def test_the_manifest_says_what_the_run_was_given_unless_paths_are_secret(tmp_path: Path) -> None:
    from banet_monai.data.inputs import find_inputs

    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.png").write_bytes(b"x")
    for folder, hidden in (("out", False), ("secret", True)):
        report = RunReport(tmp_path / folder, no_paths=hidden)
        report.begin(find_inputs(tmp_path / "in", no_paths=hidden))
        report.done("case-0001" if hidden else "a", tmp_path / folder / "a_mask.png")
        report.finish()
    assert manifest(tmp_path / "out")["input"] == "../in"
    assert "input" not in manifest(tmp_path / "secret")


def test_inputs_may_be_announced_when_the_run_begins(tmp_path: Path) -> None:
    from banet_monai.data.inputs import find_inputs

    for name in ("a.png", "notes.txt"):
        (tmp_path / name).write_bytes(b"x")
    report = RunReport(tmp_path / "out", no_paths=True)
    report.begin(find_inputs(tmp_path, exclude=tmp_path / "out", no_paths=True))
    report.failed("case-0001", f"'{tmp_path}/a.png' is torn")
    with pytest.raises(CasesFailedError, match=r"1 of 1 cases failed"):
        report.finish()
    assert "a.png" not in (tmp_path / "out" / "manifest.json").read_text()
    assert report.counts == {"done": 0, "skipped": 1, "failed": 1}


def test_a_failed_case_is_in_the_manifest_and_ends_the_run_with_an_error(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    report = RunReport(tmp_path / "out", input_root=tmp_path, records=records(tmp_path))
    report.done("ct", tmp_path / "out" / "ct_mask.nii.gz")
    report.failed("a", "a.png is empty (0 bytes)")
    with (
        caplog.at_level(logging.INFO),
        pytest.raises(CasesFailedError, match=r"^1 of 2 cases failed: a: a\.png is empty \(0 bytes\)$"),
    ):
        report.finish()
    assert "1 done, 0 skipped, 1 failed." in caplog.text
    content = manifest(tmp_path / "out")
    content["files"][0].pop("seconds")
    assert content["files"][0] == {"path": "a.png", "fate": "failed", "reason": "a.png is empty (0 bytes)"}
    assert content["counts"] == {"done": 1, "skipped": 0, "failed": 1}


def test_a_case_that_nobody_reported_on_counts_as_failed(tmp_path: Path) -> None:
    report = RunReport(tmp_path, records=[{"image": "a.png", "name": "a"}])
    with pytest.raises(RuntimeError, match="1 of 1 cases failed: a: it was not processed"):
        report.finish()


def test_a_failed_case_whose_older_result_is_still_there_gets_a_warning(tmp_path: Path) -> None:
    (tmp_path / "a_mask.dcm").write_bytes(b"of an earlier run")
    (tmp_path / "ct_mask.nii.gz").write_bytes(b"of this run")
    report = RunReport(tmp_path, records=[{"image": f"{name}.dcm", "name": name} for name in ("a", "b", "ct")])
    report.failed("a", "cut short")
    report.failed("b", "cut short")
    report.done("ct", tmp_path / "ct_mask.nii.gz")
    with pytest.raises(CasesFailedError, match="2 of 3 cases failed"):
        report.finish()
    assert {name: len(texts) for name, texts in report.warnings.items()} == {"a": 1}
    assert "earlier run" in manifest(tmp_path)["files"][0]["warnings"][0]


def test_a_file_name_that_is_no_utf8_stands_in_the_manifest(tmp_path: Path) -> None:
    name = os.fsdecode(b"\xff")
    RunReport(tmp_path, skipped=[(name, "not an image format")]).finish()
    assert manifest(tmp_path)["files"][0]["path"] == name


def test_a_manifest_that_cannot_be_written_is_said_in_words(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").mkdir()
    with pytest.raises(RuntimeError, match=r"manifest\.json cannot be written: Is a directory; free some space"):
        RunReport(tmp_path).finish()


def test_the_manifest_names_versions_device_weights_and_times(tmp_path: Path) -> None:
    (tmp_path / "model.pt").write_bytes(b"abc")
    RunReport(tmp_path / "out", weights=tmp_path / "model.pt", device="cpu").finish()
    content = manifest(tmp_path / "out")
    assert content["notice"] == "For research use, not a medical device."
    assert set(content["versions"]) == {"banet_monai", "monai", "torch", "python"}
    assert content["device"] == "cpu"
    # SHA-256 of "abc": FIPS 180-2, appendix B.1
    digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert content["weights"] == {"file": "model.pt", "sha256": digest}
    assert content["started"] <= content["ended"]


def test_no_absolute_path_gets_into_the_manifest(tmp_path: Path) -> None:
    report = RunReport(
        tmp_path / "out",
        input_root=tmp_path,
        records=records(tmp_path),
        skipped=[("b.txt", f"cannot open {tmp_path}/b.txt")],
        weights=tmp_path / "model.pt",
    )
    report.failed("a", f"cannot write {tmp_path / 'out' / 'a_mask.png'}: disk full")
    report.failed("ct", f"no slice in {tmp_path}")
    with pytest.raises(RuntimeError, match="2 of 2 cases failed") as caught:
        report.finish()
    assert str(tmp_path) not in (tmp_path / "out" / "manifest.json").read_text()
    assert str(tmp_path) not in str(caught.value)
    assert "a_mask.png: disk full" in str(caught.value)


def test_inputs_outside_the_root_are_named_by_their_file_name(tmp_path: Path) -> None:
    report = RunReport(tmp_path / "out", input_root=tmp_path / "in", records=records(tmp_path / "elsewhere"))
    assert report.files["a"] == ["a.png"]


def test_two_inputs_of_one_name_are_refused(tmp_path: Path) -> None:
    twice = [{"image": "a.png", "name": "a"}, {"image": "a.jpg", "name": "a"}]
    with pytest.raises(ValueError, match="two inputs have the name 'a'"):
        RunReport(tmp_path, records=twice)


def test_writing_leaves_only_the_manifest(tmp_path: Path) -> None:
    RunReport(tmp_path / "out").finish()
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["manifest.json"]


def test_a_result_may_consist_of_several_files_and_carry_warnings(tmp_path: Path) -> None:
    report = RunReport(tmp_path, records=[{"image": "a.dcm", "name": "a"}])
    report.done("a", tmp_path / "a_mask.dcm", tmp_path / "a_overlay.png")
    for _ in range(2):
        report.warned("a", "the modality is MR")
    report.finish()
    (entry,) = manifest(tmp_path)["files"]
    assert entry["result"] == "a_mask.dcm"
    assert entry["also"] == ["a_overlay.png"]
    assert entry["warnings"] == ["the modality is MR"]
    assert report.counts == {"done": 1, "skipped": 0, "failed": 0}


def test_seconds_of_a_case_count_from_the_end_of_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter([10.0, 12.5, 12.75])
    monkeypatch.setattr("banet_monai.report.manifest.time.perf_counter", lambda: next(clock))
    report = RunReport(tmp_path, records=[{"image": "a.png", "name": "a"}, {"image": "b.png", "name": "b"}])
    report.done("a", tmp_path / "a_mask.png")
    report.failed("b", "b.png is empty")
    assert report.seconds == {"a": 2.5, "b": 0.25}


def test_many_failures_are_named_in_part_and_counted_in_full(tmp_path: Path) -> None:
    report = RunReport(tmp_path, records=[{"image": f"{k:02d}.png", "name": f"{k:02d}"} for k in range(12)])
    for k in range(12):
        report.failed(f"{k:02d}", "empty")
    with pytest.raises(CasesFailedError, match=r"^12 of 12 cases failed: 00: empty; .*; and 2 more, all in manifest"):
        report.finish()
    assert sum(entry["fate"] == "failed" for entry in manifest(tmp_path)["files"]) == 12


def test_without_paths_no_file_or_folder_name_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    from banet_monai.data.inputs import find_inputs

    folder = tmp_path / "DOE^JANE"
    folder.mkdir()
    (folder / "jane.doe.png").write_bytes(b"x")
    (folder / "notes of jane.txt").write_bytes(b"x")
    inputs = find_inputs(tmp_path, exclude=tmp_path / "out", no_paths=True)
    report = RunReport(tmp_path / "out", inputs=inputs, no_paths="true")
    report.failed(inputs.cases[0].name, f"jane.doe.png is empty, see 'DOE^JANE' and {folder / 'jane.doe.png'}")
    with pytest.raises(CasesFailedError, match="1 of 1 cases failed: case-0001: case-0001 is empty") as caught:
        report.finish()
    for told in (str(caught.value), caplog.text, (tmp_path / "out" / "manifest.json").read_text()):
        assert "jane" not in told.lower()


def test_without_paths_plain_numbers_in_a_reason_stay_numbers(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for name in ("1", "2", "12345678"):
        (tmp_path / "in" / name).write_bytes(b"\0" * 128 + b"DICM")
    report = RunReport(tmp_path / "out", inputs=find_inputs(tmp_path / "in", no_paths=True), no_paths=True)
    told = report._without_paths("slice 1 of 2, 1 mm apart, of '1' and '2', of 12345678")
    assert told == "slice 1 of 2, 1 mm apart, of 'case-0001' and 'case-0003', of case-0002"
    assert report._without_paths("1 is empty (0 bytes)") == "case-0001 is empty (0 bytes)"
    assert report._without_paths("3 slices are missing") == "3 slices are missing"


def test_a_relative_folder_that_is_a_plain_word_does_not_eat_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    report = RunReport("out")
    full = tmp_path / "out" / "a_mask.png"
    told = report._without_paths(f"without place: the output of 'out' is in {full}, out/b.png and /x/out/c.png")
    assert told == "without place: the output of '.' is in a_mask.png, b.png and /x/out/c.png"


def two_processes(monkeypatch: pytest.MonkeyPatch, rank: int, other: list[dict[str, Any]]) -> None:
    """This process as one of two; the other one holds ``other``: results, failures, warnings, seconds, facts."""
    monkeypatch.setattr("banet_monai.report.manifest.process_count", lambda: 2)
    monkeypatch.setattr("banet_monai.report.manifest.process_rank", lambda: rank)
    monkeypatch.setattr(
        "banet_monai.report.manifest.gather", lambda mine: [mine, other] if rank == 0 else [other, mine]
    )


def test_rank_0_writes_the_cases_of_all_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = [{"b": ["b_mask.png"]}, {"c": "c.png is empty"}, {"b": ["the modality is MR"]}, {"b": 0.5, "c": 0.25}]
    two_processes(monkeypatch, 0, [*other, {"b": {"score": 0.25}}])
    report = RunReport(tmp_path, records=[{"image": f"{name}.png", "name": name} for name in "abcd"])
    report.done("a", tmp_path / "a_mask.png")
    with pytest.raises(CasesFailedError, match=r"^2 of 4 cases failed: c: c.png is empty; d: it was not processed"):
        report.finish()
    content = manifest(tmp_path)
    assert content["processes"] == 2
    assert content["counts"] == {"done": 2, "skipped": 0, "failed": 2}
    known = {"score": 0.25, "warnings": ["the modality is MR"], "seconds": 0.5}
    assert {"path": "b.png", "fate": "result", "result": "b_mask.png", **known} in content["files"]


def test_other_ranks_write_nothing_and_raise_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    two_processes(monkeypatch, 1, [{}, {"a": "a.png is empty"}, {}, {"a": 0.5}, {}])
    report = RunReport(tmp_path / "out", records=[{"image": "a.png", "name": "a"}])
    report.finish()
    assert not (tmp_path / "out").exists()


def test_numbers_of_a_case_stand_in_its_entry_if_it_has_a_result(tmp_path: Path) -> None:
    report = RunReport(tmp_path, records=[{"image": f"{name}.png", "name": name} for name in "ab"])
    report.done("a", tmp_path / "a_mask.png")
    report.failed("b", "b.png is empty")
    for name in "ab":
        report.noted(name, {"score": 0.5, "method": "tta"})
    report.noted("a", {"score": 0.75})
    with pytest.raises(CasesFailedError, match=r"^1 of 2 cases failed"):
        report.finish()
    entries = {entry["path"]: entry for entry in manifest(tmp_path)["files"]}
    assert (entries["a.png"]["score"], entries["a.png"]["method"]) == (0.75, "tta")
    assert "score" not in entries["b.png"]


def run_with_a_page(root: Path, **options: Any) -> Path:
    """A run of one picture that is done, with the mask of its upper left corner."""
    (root / "in").mkdir()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 48, 3), dtype=np.uint8)).save(root / "in" / "a.png")
    mask = np.zeros((40, 48), dtype=np.uint8)
    mask[8:20, 8:24] = 255
    (root / "out").mkdir()
    Image.fromarray(mask).save(root / "out" / "a_mask.png")
    found = find_inputs(root / "in", no_paths=bool(options.get("no_paths")))
    report = RunReport(root / "out", inputs=found, **options)
    (name,) = report.files
    (root / "out" / "a_mask.png").rename(root / "out" / f"{name}_mask.png")
    report.done(name, root / "out" / f"{name}_mask.png")
    report.finish()
    return root / "out"


@pytest.mark.parametrize("no_paths", [False, True])
def test_a_page_is_written_by_the_run_itself_with_the_images_that_it_was_given(tmp_path: Path, no_paths: bool) -> None:
    out = run_with_a_page(tmp_path, page="true", no_paths=no_paths)
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "data:image/jpeg" in page
    assert ("a.png" in page) != no_paths
    assert len(list((out / "report").glob("*.png"))) == 1


def test_without_a_wish_for_it_there_is_no_page(tmp_path: Path) -> None:
    assert sorted(path.name for path in run_with_a_page(tmp_path).iterdir()) == ["a_mask.png", "manifest.json"]


def test_a_page_is_there_when_cases_failed_and_the_failures_are_what_is_raised(tmp_path: Path) -> None:
    report = RunReport(tmp_path, records=[{"image": name, "name": name} for name in "ab"], page=True)
    Image.fromarray(np.eye(32, dtype=np.uint8) * 255).save(tmp_path / "a_mask.png")
    report.done("a", tmp_path / "a_mask.png")
    report.failed("b", "it is damaged")
    with pytest.raises(CasesFailedError, match=r"1 of 2 cases failed: b: it is damaged"):
        report.finish()
    assert "it is damaged" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_a_page_that_cannot_be_written_leaves_the_manifest_and_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "report.html").mkdir()
    report = RunReport(tmp_path, records=[{"image": "a.png", "name": "a"}], page=True)
    Image.fromarray(np.eye(32, dtype=np.uint8) * 255).save(tmp_path / "a_mask.png")
    report.done("a", tmp_path / "a_mask.png")
    with pytest.raises(RuntimeError, match=r"the results are written, but not their page"):
        report.finish()
    assert manifest(tmp_path)["counts"]["done"] == 1


def test_a_page_is_yes_or_no(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"page must be true or false, got 'maybe'"):
        RunReport(tmp_path, page="maybe")


def test_a_run_tells_those_that_wait_for_its_beginning_once_and_late_ones_at_once(tmp_path):
    report, told = RunReport(tmp_path / "out"), []
    report.at_begin(lambda: told.append("early"))
    assert told == []
    (tmp_path / "in").mkdir()
    Image.new("L", (4, 4)).save(tmp_path / "in" / "a.png")
    report.begin(find_inputs(tmp_path / "in"))
    report.at_begin(lambda: told.append("late"))
    assert told == ["early", "late"]


def test_records_without_paths_are_told_by_their_numbers(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    image, mask = tmp_path / "images" / "DOE_JANE.png", tmp_path / "masks" / "DOE_JANE_mask.png"
    series = [str(tmp_path / "ROE_MAX" / name) for name in ("roe.1.dcm", "roe.2.dcm")]
    records = [
        {"name": "case-0001", "image": str(image), "label": str(mask)},
        {"name": "case-0002", "image": series},
    ]
    report = RunReport(tmp_path / "out", records=records, input_root=tmp_path, no_paths=True)
    report.done("case-0001", tmp_path / "out" / "case-0001_mask.png")
    report.failed("case-0002", "'roe.2.dcm' is empty, not like 'DOE_JANE_mask.png' of DOE_JANE.png")
    with pytest.raises(CasesFailedError):
        report.finish()
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert [entry["path"] for entry in manifest["files"]] == [
        "case-0001",
        "case-0002",
        "case-0002/0001",
        "case-0002/0002",
    ]
    assert manifest["files"][1]["reason"] == "'case-0002/0002' is empty, not like 'case-0001' of case-0001"
    for told in (caplog.text, str(manifest)):
        assert "doe" not in told.lower()
        assert "roe" not in told.lower()
