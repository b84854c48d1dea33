from __future__ import annotations

import base64
import hashlib
import io
import json
import re
from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image

from banet_monai.data.inputs import find_inputs
from banet_monai.dicom import SeriesReader, write_seg
from banet_monai.report.page import NotResultsError, write_report
from banet_monai.report.page.loading import _as_named
from banet_monai.report.page.results import CaseResult
from banet_monai.report.page.sources import Source
from tests import dicom_samples
from tests.report_folders import Element, Page, box, evaluated, result_folder

LESION, OTHER = box(10, 8, 34, 30), box(12, 8, 30, 30)
EVIL = "x\"><img src=y onerror=alert(1)>&'"


def page_of(out: Path, **options: object) -> Element:
    return Page.read(write_report(out, **options))  # type: ignore[arg-type]


def names(root: Element) -> list[str]:
    return [row.one("th").text for row in root.one("table", id="figures").one("tbody").all("tr")]


def notes(root: Element, name: str) -> str:
    return " ".join(note.text for note in root.one("article", data_name=name).all("ul", class_="notes"))


def figures(root: Element, name: str) -> dict[str, str]:
    parts = root.one("article", data_name=name).one("dl").all("div")
    return {part.one("dt").text: part.one("dd").text for part in parts}


def picture(element: Element) -> Image.Image:
    kind, _, content = element["src"].partition(",")
    assert kind == "data:image/jpeg;base64"
    return Image.open(io.BytesIO(base64.b64decode(content)))


def test_an_evaluation_shows_truth_and_prediction_worst_first_with_means_and_intervals(tmp_path: Path) -> None:
    pairs = {"good": (LESION, LESION), "bad": (LESION, box(30, 8, 40, 30)), "fair": (LESION, OTHER)}
    out = result_folder(tmp_path, {name: pred for name, (pred, _) in pairs.items()})
    (tmp_path / "masks").mkdir()
    for name, (_, truth) in pairs.items():
        Image.fromarray(truth * 255).save(tmp_path / "masks" / f"{name}.png")
    summary = evaluated(out, pairs)

    root = page_of(out, images=tmp_path)
    assert root.one("h1").text == "Evaluation report"
    assert names(root) == ["bad", "fair", "good"]
    assert [card["data-name"] for card in root.all("article")] == ["bad", "fair", "good"]
    assert figures(root, "fair")["JA"] == "0.750"  # 18 of 24 columns
    mean = summary["overall"]["metrics"]["ja"]["mean"]
    assert f"{mean:.3f}" in root.one("section", id="figures-of-all").text
    for card in root.all("article"):
        assert len(card.all("g", class_="truth")) == 1
        assert len(card.all("g", class_="prediction")) == 1


def test_the_outline_runs_along_the_mask_in_pixels_of_the_picture(tmp_path: Path) -> None:
    root = page_of(result_folder(tmp_path, {"a": LESION}), images=tmp_path / "images")
    card = root.one("article")
    image = card.one("img")
    assert (image["width"], image["height"]) == ("48", "40")
    assert picture(image).size == (48, 40)
    assert card.one("div", class_="frame").one("svg")["viewbox"] == "0 0 48 40"
    data = card.one("g", class_="prediction").all("path", class_="line")[0]["d"]
    start, steps = re.fullmatch(r"M([\d. -]+)l(.+)Z", data).groups()  # type: ignore[union-attr]
    numbers = [float(value) for value in re.findall(r"-?(?:\d+\.?\d*|\.\d+)", steps)]
    points = np.cumsum([[float(value) for value in start.split()], *np.reshape(numbers, (-1, 2)).tolist()], axis=0)
    np.testing.assert_allclose(points.min(axis=0), (10, 8), atol=0.06)
    np.testing.assert_allclose(points.max(axis=0), (34, 30), atol=0.06)


def test_sizes_and_diameters_are_measured_where_the_run_left_none(tmp_path: Path) -> None:
    root = page_of(result_folder(tmp_path, {"a": LESION}), images=tmp_path / "images")
    shown = figures(root, "a")
    assert shown["Area"] == "528 px²"  # 24 x 22 pixels
    assert shown["Components"] == "1"
    drawing = root.one("figure", class_="drawing")
    assert len(drawing.all("path", class_="chord")) == 2
    assert drawing.all("text")[0].text == shown["Longest diameter"]


def test_measurements_that_the_run_has_written_are_shown_as_they_are(tmp_path: Path) -> None:
    from banet_monai.measurements import measure, write_measurements

    out = result_folder(tmp_path, {"a": LESION})
    found = measure(LESION.T, spacing=0.5, labels=["lesion"])
    write_measurements(out / "a_measurements.json", found, case="a")
    assert figures(page_of(out), "a")["Area"] == "132 mm²"


def test_uncertainty_decides_the_order_and_maps_are_shown(tmp_path: Path) -> None:
    entries = {"sure": {"uncertainty": 0.1}, "unsure": {"uncertainty": {"score": 0.6, "method": "tta"}}}
    out = result_folder(tmp_path, {"sure": LESION, "unsure": OTHER}, entries=entries)
    grey = np.zeros((40, 48), dtype=np.uint16)
    grey[:, 24:] = 65535
    for key in ("uncertainty", "boundary"):
        Image.fromarray(grey).save(out / f"unsure_{key}.png")
    root = page_of(out, images=tmp_path / "images")
    assert names(root) == ["unsure", "sure"]
    assert figures(root, "unsure")["Uncertainty"] == "0.600"
    maps = root.one("article", data_name="unsure").all("figure", class_="map")
    assert [shown.one("figcaption").text for shown in maps] == ["Uncertainty", "Boundary map"]
    pixels = np.asarray(picture(maps[0].one("img"))).astype(int)
    assert pixels[:, :20].max() < 40  # certain is dark
    assert pixels[:, 28:].min(axis=(0, 1))[0] > 220  # uncertain is pale yellow
    assert not root.one("article", data_name="sure").all("figure", class_="map")


def test_names_with_html_in_them_are_text_everywhere(tmp_path: Path) -> None:
    reason = "</script><script>alert(2)</script>"
    extra = [{"path": EVIL + ".txt", "fate": "skipped", "reason": reason}]
    entries = {EVIL: {"warnings": [reason], "uncertainty": 0.5}}
    out = result_folder(tmp_path, {EVIL: LESION}, images=False, extra=extra, entries=entries, device=reason)
    text = write_report(out, title=reason).read_text(encoding="utf-8")
    assert "onerror=alert(1)>" not in text
    assert "<script>alert" not in text
    root = Page(text).root
    assert len(root.all("script")) == 1
    assert names(root) == [EVIL]
    assert root.one("article")["data-name"] == EVIL
    assert root.one("h1").text == reason
    assert json.loads(root.one("pre").text)["device"] == reason


def test_a_name_that_is_no_unicode_does_not_stop_the_page(tmp_path: Path) -> None:
    out = result_folder(tmp_path, {}, extra=[{"path": "\udcff.txt", "fate": "skipped", "reason": "no image"}])
    assert "\ufffd.txt" in page_of(out).text


def test_an_evaluated_case_whose_name_is_no_unicode_has_its_figures(tmp_path: Path) -> None:
    name = "mole_\udcff"  # as Python reads the byte 0xff of a file's name
    out = result_folder(tmp_path, {name: LESION}, images=False)
    evaluated(out, {name: (LESION, OTHER)})
    root = page_of(out)
    assert figures(root, "mole_\ufffd")["JA"] == "0.750"  # 18 of 24 columns
    assert "the manifest does not have" not in root.text


def test_nothing_from_elsewhere_may_load_and_only_our_own_script_may_run(tmp_path: Path) -> None:
    root = page_of(result_folder(tmp_path, {"a": LESION}), images=tmp_path / "images")
    metas = [meta["content"] for meta in root.all("meta") if meta["http-equiv"] == "Content-Security-Policy"]
    (policy,) = metas
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == "'none'"
    assert rules["img-src"] == "data:"
    for tag in ("script", "style"):
        content = "".join(str(child) for child in root.one(tag).children)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert rules[f"{tag}-src"] == f"'sha256-{digest}'"
    assert not [element for element in root.all() if element["style"]]
    addresses = [element[name] for element in root.all() for name in ("src", "href") if element[name]]
    assert all(address.startswith(("data:", "#")) for address in addresses)
    assert "http" not in "".join(str(child) for child in root.one("style").children)


def test_the_page_can_be_used_without_seeing_it(tmp_path: Path) -> None:
    out = result_folder(tmp_path, {"a": LESION, "b": OTHER}, entries={"a": {"uncertainty": 0.2}})
    root = page_of(out, images=tmp_path / "images")
    assert root.one("html")["lang"] == "en"
    assert all(image["alt"] for image in root.all("img"))
    for svg in root.all("svg"):
        assert svg["aria-hidden"] == "true" or (svg["role"] == "img" and svg["aria-label"])
    assert all(button.text for button in root.all("button") if button["id"] != "theme")
    identifiers = [element["id"] for element in root.all() if element["id"]]
    assert len(set(identifiers)) == len(identifiers)
    for element in root.all():
        assert element["aria-labelledby"] in {"", *identifiers}
        assert element["href"].removeprefix("#") in {"", "data:,", *identifiers}
    headings = root.one("table", id="figures").one("thead").all("th")
    assert all(heading["scope"] == "col" and heading.one("button") for heading in headings)
    assert [heading["aria-sort"] for heading in headings if heading["aria-sort"]] == ["descending"]
    for field in [*root.all("select"), *root.all("input")]:
        labels = [label for label in root.all("label") if label["for"] == field["id"] or field in label.all("input")]
        assert labels
    assert [heading.tag for heading in root.all() if re.fullmatch("h[1-6]", heading.tag)][:2] == ["h1", "h2"]


def test_an_empty_and_a_full_mask_are_shown_and_said(tmp_path: Path) -> None:
    masks = {"none": box(0, 0, 0, 0), "all": box(0, 0, 48, 40), "one": LESION}
    root = page_of(result_folder(tmp_path, masks), images=tmp_path / "images")
    assert "No foreground" in notes(root, "none")
    assert "Everything is foreground" in notes(root, "all")
    assert "touches the border" in notes(root, "all")
    assert notes(root, "one") == ""
    assert figures(root, "none")["Area"] == "0 px²"
    assert len(root.one("article", data_name="none").all("figure")) == 1
    tiles = {tile.one("dt").text: tile.one("dd").text for tile in root.one("dl", class_="tiles").all("div")}
    assert tiles["without foreground"] == "1"


def test_every_component_is_outlined_and_holes_too(tmp_path: Path) -> None:
    mask = np.maximum(box(2, 2, 12, 12), box(20, 2, 40, 30))
    mask[10:15, 25:30] = 0
    root = page_of(result_folder(tmp_path, {"a": mask}), images=tmp_path / "images")
    assert figures(root, "a")["Components"] == "2"
    data = root.one("article").one("g", class_="prediction").all("path", class_="line")[0]["d"]
    assert data.count("M") == 3


def test_a_mask_of_noise_stays_small_and_says_what_is_left_out(tmp_path: Path) -> None:
    noise = (np.random.default_rng(0).random((300, 300)) > 0.5).astype(np.uint8)
    page = write_report(result_folder(tmp_path, {"a": noise}), images=tmp_path / "images")
    assert page.stat().st_size < 400_000
    assert re.search(r"\d+ small regions not outlined", page.read_text(encoding="utf-8"))


def test_pictures_of_noise_stay_within_their_share_of_the_page(tmp_path: Path) -> None:
    side = 512
    out = result_folder(tmp_path, {f"{n}": box(100, 100, 400, 380, size=(side, side)) for n in range(2)})
    size = write_report(out, images=tmp_path / "images").stat().st_size
    assert size / 2 * 200 < 30e6  # two pages' worth of head and script count too
    with Image.open(out / "report" / "0.png") as drawn:
        assert drawn.size[0] > side


def test_nan_is_shown_sorted_last_and_said(tmp_path: Path) -> None:
    entries = {"a": {"uncertainty": 0.1}, "b": {"uncertainty": {"score": "NaN"}}, "c": {"uncertainty": 0.9}}
    out = result_folder(tmp_path, {"a": LESION, "b": LESION, "c": LESION}, entries=entries)
    values = np.full((48, 40), 0.5, dtype=np.float32)
    values[:4] = np.nan
    nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), out / "b_uncertainty.nii.gz")
    root = page_of(out, images=tmp_path / "images")
    assert names(root) == ["c", "a", "b"]
    assert "uncertainty is not a number" in notes(root, "b")
    assert "not a number at 160 of 1920 pixels" in notes(root, "b")
    assert root.one("article", data_name="b").one("figure", class_="map").all("img")


def test_cases_without_truth_stand_beside_those_with_one(tmp_path: Path) -> None:
    out = result_folder(tmp_path, {"a": LESION, "b": LESION})
    truth = tmp_path / "truth"
    truth.mkdir()
    Image.fromarray(OTHER * 255).save(truth / "b_mask.png")
    root = page_of(out, images=tmp_path / "images", truth=truth)
    assert names(root) == ["b", "a"]
    assert figures(root, "b")["JA"] == "0.750"
    assert "JA" not in figures(root, "a")
    assert "1 cases, 0 missed" in root.one("section", id="figures-of-all").text


def test_thousands_of_cases_stand_in_the_table_and_the_first_have_pictures(tmp_path: Path) -> None:
    masks = {f"case_{n:02d}": LESION for n in range(3)}
    entries = {name: {"uncertainty": n / 10} for n, name in enumerate(masks)}
    more = [
        {"path": f"m{n}.png", "fate": "result", "result": f"m{n}_mask.png", "uncertainty": -float(n + 1)}
        for n in range(3000)
    ]
    out = result_folder(tmp_path, masks, entries=entries, extra=more)
    root = page_of(out, images=tmp_path / "images", pictures=2)
    assert len(names(root)) == 3003
    assert [card["data-name"] for card in root.all("article")] == ["case_02", "case_01"]
    assert "The first 2 cases in this order have pictures here; the other 3001" in root.one("section", id="cases").text
    assert sorted(path.name for path in (out / "report").iterdir()) == ["case_01.png", "case_02.png"]


def test_a_damaged_mask_and_a_missing_picture_are_said_and_the_rest_goes_on(tmp_path: Path) -> None:
    out = result_folder(tmp_path, {"broken": LESION, "fine": LESION, "gone": LESION, "lost": LESION})
    (out / "broken_mask.png").write_bytes(b"\x89PNG\r\n\x1a\n damaged")
    (out / "gone_mask.png").unlink()
    (tmp_path / "images" / "lost.png").unlink()
    root = page_of(out, images=tmp_path / "images")
    assert "'broken_mask.png' cannot be read" in notes(root, "broken")
    assert "'gone_mask.png' is missing" in notes(root, "gone")
    assert "image was not found" in notes(root, "lost")
    assert root.one("article", data_name="lost").all("g", class_="prediction")
    assert notes(root, "fine") == ""


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("overall", "metrics", "ja"), {"mean": 0.5}),
        (("classes", "lesion"), None),
        (("overall", "misses"), "none"),
        (("interval",), {}),
    ],
)
def test_a_damaged_summary_is_said_and_the_rest_goes_on(tmp_path: Path, place: tuple[str, ...], value: object) -> None:
    out = result_folder(tmp_path, {"a": LESION, "b": LESION})
    summary = evaluated(out, {"a": (LESION, OTHER), "b": (LESION, LESION)})
    entry = summary
    for key in place[:-1]:
        entry = entry[key]
    entry[place[-1]] = value
    (out / "summary.json").write_text(json.dumps(summary), encoding="utf-8")
    root = page_of(out)
    assert "summary.json cannot be read" in root.one("section", id="overview").text
    assert figures(root, "a")["JA"] == "0.750"


def test_damaged_measurements_are_said_and_the_case_is_measured_here(tmp_path: Path) -> None:
    out = result_folder(tmp_path, {"a": LESION})
    entry = {"component": None, "slice": None, "spacing": {"unit": "px"}, "area": {"unit": "px2"}}  # without its value
    (out / "a_measurements.json").write_text(json.dumps({"cases": [{"measurements": [entry]}]}), encoding="utf-8")
    root = page_of(out)
    assert "'a_measurements.json' cannot be read (KeyError)" in notes(root, "a")
    assert figures(root, "a")["Area"] == "528 px²"  # 24 x 22 pixels
    assert root.all("g", class_="prediction")
    row = page_of(out, pictures=0).one("table", id="figures").one("tbody").one("tr")
    assert "data-warned" in row.attributes


def test_a_case_without_pictures_has_the_notes_of_its_measurements(tmp_path: Path) -> None:
    from banet_monai.measurements import measure, write_measurements

    touching, inside = box(0, 8, 34, 30), LESION
    out = result_folder(tmp_path, {"cut": touching, "whole": inside})
    for name, mask in (("cut", touching), ("whole", inside)):
        write_measurements(out / f"{name}_measurements.json", measure(mask.T), case=name)
    rows = page_of(out, pictures=0).one("table", id="figures").one("tbody").all("tr")
    assert [row["data-name"] for row in rows if "data-warned" in row.attributes] == ["cut"]


def test_a_truth_of_values_between_is_refused_as_an_evaluation_does(tmp_path: Path) -> None:
    out = result_folder(tmp_path, {"a": LESION})
    (tmp_path / "masks").mkdir()
    Image.fromarray(LESION * 127 + OTHER * 128).save(tmp_path / "masks" / "a.png")  # 0, 127, 255
    root = page_of(out, truth=tmp_path / "masks")
    assert "a mask with 3 different values (0, 127, 255) cannot be read" in notes(root, "a")
    assert "JA" not in figures(root, "a")


def test_the_overlay_of_the_run_stands_in_for_an_image_that_is_gone(tmp_path: Path) -> None:
    out = result_folder(tmp_path, {"a": LESION}, images=False)
    Image.fromarray(np.full((40, 48, 3), 200, dtype=np.uint8)).save(out / "a_overlay.png")
    card = page_of(out).one("article")
    assert card.all("figcaption")[0].text == "Outline, as drawn by the run"
    assert np.asarray(picture(card.one("img"))).mean() == pytest.approx(200, abs=2)


def test_a_mask_of_another_size_than_its_image_is_shown_without_it(tmp_path: Path) -> None:
    out = result_folder(tmp_path, {"a": LESION})
    Image.new("RGB", (20, 20)).save(tmp_path / "images" / "a.png")
    root = page_of(out, images=tmp_path / "images")
    assert "shown without the image" in notes(root, "a")
    assert not root.one("article").all("img")


def volume(root: Path, *, spacing: tuple[float, float, float] = (1.0, 1.0, 4.0)) -> Path:
    """A ball of 12 mm radius in a NIfTI volume and its mask."""
    out = result_folder(
        root, {}, extra=[{"path": "scan.nii.gz", "fate": "result", "result": "scan_mask.nii.gz", "seconds": 1}]
    )
    places = np.stack(
        np.meshgrid(*[np.arange(n) * s for n, s in zip((40, 44, 12), spacing, strict=True)], indexing="ij")
    )
    inside = np.linalg.norm(places - np.array([20, 22, 24]).reshape(3, 1, 1, 1), axis=0) <= 12
    affine = np.diag([*spacing, 1.0])
    (root / "images").mkdir(exist_ok=True)
    nibabel.save(nibabel.Nifti1Image((inside * 100 + 20).astype(np.int16), affine), root / "images" / "scan.nii.gz")
    nibabel.save(nibabel.Nifti1Image(inside.astype(np.uint8), affine), out / "scan_mask.nii.gz")
    nibabel.save(nibabel.Nifti1Image(inside * np.float32(0.5), affine), out / "scan_uncertainty.nii.gz")
    return out


def test_a_volume_is_a_row_of_slices_and_three_projections(tmp_path: Path) -> None:
    root = page_of(volume(tmp_path), images=tmp_path / "images")
    card = root.one("article")
    assert [title.text.split(":")[0] for title in card.all("p", class_="strip-title")] == [
        "Slices",
        "Uncertainty",
        "Projections",
    ]
    captions = [caption.text for caption in card.all("figcaption")]
    assert captions[:5] == [f"Slice {number} of 12" for number in (3, 5, 6, 7, 9)]  # counted from the head
    assert captions[-3:] == ["Axial", "Coronal", "Sagittal"]
    sizes = [(image["width"], image["height"]) for image in card.all("img")[-3:]]
    assert sizes == [("40", "44"), ("40", "48"), ("44", "48")]  # 12 slices of 4 mm are 48 mm high
    assert card.all("g", class_="measure")
    assert figures(root, "scan")["Volume"].endswith(" ml")
    assert float(figures(root, "scan")["Longest diameter"].split()[0]) == pytest.approx(24, abs=5)  # of whole voxels
    with Image.open(tmp_path / "out" / "report" / "scan.png") as drawn:
        assert drawn.size[1] > 100


def test_a_mask_without_its_image_is_measured_in_the_unit_of_its_file(tmp_path: Path) -> None:
    names = {"photo": (LESION.T[..., None], "unknown"), "clip": (np.stack([LESION.T] * 4, axis=-1), "unknown")}
    names["scan"] = (np.stack([LESION.T] * 4, axis=-1), "mm")
    extra = [{"path": f"{name}.dcm", "fate": "result", "result": f"{name}_mask.nii.gz"} for name in names]
    out = result_folder(tmp_path, {}, extra=extra)
    for name, (ids, unit) in names.items():
        mask = nibabel.Nifti1Image(ids, np.diag([-0.5, -0.5, 1.0, 1.0]))
        mask.header.set_xyzt_units(unit)
        nibabel.save(mask, out / f"{name}_mask.nii.gz")
    root = page_of(out)
    assert figures(root, "photo")["Area"] == f"{int(LESION.sum())} px²"
    assert "Volume" not in figures(root, "clip")
    assert figures(root, "scan")["Volume"].endswith(" ml")


def seg_results(root: Path) -> Path:
    """A CT series with a SEG of its middle slices, and the same as NIfTI truth of all slices, stored as RAS."""
    files = dicom_samples.write_samples(dicom_samples.ct_series(orientation=[1, 0, 0, 0, 1, 0]), root / "images" / "ct")
    meta = SeriesReader().get_data(SeriesReader().read(files))[1]
    ids = np.zeros((18, 23, 5), dtype=np.uint8)
    ids[4:12, 6:15, 1:3] = 1
    out = result_folder(root, {}, extra=[{"path": "ct", "fate": "result", "result": "ct_mask.dcm"}])
    write_seg(ids, files, out / "ct_mask.dcm", task="lung")
    truth = nibabel.as_closest_canonical(nibabel.Nifti1Image(ids, meta["affine"]))
    assert not np.array_equal(np.asanyarray(truth.dataobj), ids)
    truth.header.set_xyzt_units("mm")
    (root / "truth").mkdir()
    nibabel.save(truth, root / "truth" / "ct.nii.gz")
    return out


def test_a_seg_is_compared_on_the_grid_of_its_images_with_a_truth_of_another_orientation(tmp_path: Path) -> None:
    root = page_of(seg_results(tmp_path), images=tmp_path / "images", truth=tmp_path / "truth")
    assert figures(root, "ct")["JA"] == "1.000"
    assert root.one("article").all("figcaption")[0].text.endswith("of 5")


def test_a_seg_without_its_images_says_nothing_of_where_these_end(tmp_path: Path) -> None:
    root = page_of(seg_results(tmp_path))
    assert "Volume" in figures(root, "ct")
    assert "To the border" not in figures(root, "ct")
    assert "touches the border" not in notes(root, "ct")
    assert not [caption for caption in root.one("article").all("figcaption") if " of " in caption.text]


def test_notes_about_many_files_that_are_called_by_numbers_stay_short() -> None:
    name = "1.2.840.113619.2.55.3.2831868886.123.1375690748.467"
    case = CaseResult(name=name, path=name, files=(), warnings=())
    source = Source(image=tuple(f"/in/{number}" for number in range(40)), label="/in/truth-7.nii.gz")
    note = "'7' is missing; slice 7 of 40, truth-7.nii.gz has 12 slices."
    assert _as_named(note, case, source) == f"'{name}' is missing; slice 7 of 40, {name} has 12 slices."


def test_no_attribute_of_a_patient_is_read_unless_asked_for(tmp_path: Path) -> None:
    dicom_samples.write_samples(dicom_samples.xray(size=(1, 48, 40)), tmp_path / "images" / "xray")
    (case,) = find_inputs(tmp_path / "images").cases
    extra = [{"path": case.source, "fate": "result", "result": f"{case.name}_mask.nii.gz"}]
    out = result_folder(tmp_path, {}, extra=extra)
    mask = nibabel.Nifti1Image(box(10, 8, 30, 30, size=(40, 48)).T[..., None], np.eye(4))
    (out / f"{case.name}_mask.nii.gz").parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(mask, out / f"{case.name}_mask.nii.gz")
    hidden = write_report(out, images=tmp_path / "images").read_text(encoding="utf-8")
    assert "The image" not in notes(Page(hidden).root, case.name)
    shown = page_of(out, images=tmp_path / "images", patient_data=True)
    private = {part.one("dt").text: part.one("dd").text for part in shown.all("div", class_="private")}
    assert set(private) >= {"Patient's name", "Patient ID"}
    assert "data of patients" in shown.one("p", class_="banner").text
    assert not [value for value in private.values() if len(value) > 3 and value in hidden]
    assert 'class="banner"' not in hidden


def test_the_input_that_the_manifest_names_is_found_without_being_asked_for(tmp_path: Path) -> None:
    out = result_folder(tmp_path, {"a": LESION}, input="../images")
    assert page_of(out).one("article").all("img")


def test_case_numbers_of_a_run_without_paths_find_their_images(tmp_path: Path) -> None:
    out = result_folder(tmp_path, {"case-0001": LESION}, images=False)
    (tmp_path / "images").mkdir()
    Image.new("RGB", (48, 40)).save(tmp_path / "images" / "jane_doe.png")
    page = write_report(out, images=tmp_path / "images")
    assert Page.read(page).one("article").all("img")
    assert "jane" not in page.read_text(encoding="utf-8")


def test_a_broken_image_is_named_as_the_manifest_names_it(tmp_path: Path) -> None:
    out = result_folder(tmp_path, {"case-0001": LESION, "case-0002": LESION}, images=False)
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "jane_doe.png").write_bytes(b"\x89PNG\r\n\x1a\n damaged")
    Image.new("RGB", (48, 40)).save(tmp_path / "images" / "zoe.png")
    page = write_report(out, images=tmp_path / "images")
    assert "The image cannot be read: 'case-0001'" in notes(Page.read(page), "case-0001")
    assert "jane" not in page.read_text(encoding="utf-8")


def test_one_case_alone_makes_a_page_without_histograms(tmp_path: Path) -> None:
    root = page_of(result_folder(tmp_path, {"a": LESION}), images=tmp_path / "images")
    assert root.one("p", class_="facts").text.startswith("1 case ")
    assert not root.all("svg", class_="chart")


def test_one_evaluated_case_has_means_without_intervals(tmp_path: Path) -> None:
    out = result_folder(tmp_path, {"a": LESION})
    evaluated(out, {"a": (LESION, OTHER)})
    rows = page_of(out).one("section", id="figures-of-all").one("tbody").all("tr")
    assert [cell.text for cell in rows[0].all("td")] == ["0.750", "–", "0.750"]  # noqa: RUF001


def test_a_run_in_which_all_failed_still_makes_a_page(tmp_path: Path) -> None:
    out = result_folder(tmp_path, {}, extra=[{"path": "a.png", "fate": "failed", "reason": "a.png is empty"}])
    root = page_of(out)
    assert "a.png is empty" in root.one("section", id="left-out").text
    assert "no case with a result" in root.one("section", id="cases").text


def test_an_older_page_stays_when_the_new_one_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = result_folder(tmp_path, {"a": LESION})
    page = write_report(out)
    before = page.read_bytes()

    def full(path: Path, content: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space left"):
        write_report(out, title="new", pngs=False)
    assert page.read_bytes() == before
    assert sorted(path.name for path in out.iterdir() if path.name.startswith(".")) == []


@pytest.mark.parametrize(
    ("prepare", "message"),
    [
        (lambda folder: None, "does not exist"),
        (
            lambda folder: folder.mkdir(),
            r"has no manifest.json \(it is empty\); the folder that 'banet segment -o OUT'",
        ),
        (lambda folder: (folder / "x").mkdir(parents=True), r"has no manifest.json \(it holds x\)"),
        (lambda folder: folder.write_text("x"), "is a file; the folder"),
    ],
)
def test_a_folder_without_results_is_refused_with_what_is_missing(
    tmp_path: Path, prepare: object, message: str
) -> None:
    prepare(tmp_path / "out")  # type: ignore[operator]
    with pytest.raises(NotResultsError, match=message):
        write_report(tmp_path / "out")


@pytest.mark.parametrize(
    ("content", "message"), [("{", "cannot be read"), ("[]", "lists no files"), ("{}", "lists no files")]
)
def test_a_manifest_of_something_else_is_refused(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "manifest.json").write_text(content)
    with pytest.raises(NotResultsError, match=message):
        write_report(tmp_path)


def test_images_that_are_not_there_or_other_ones_are_refused(tmp_path: Path) -> None:
    out = result_folder(tmp_path, {"a": LESION})
    with pytest.raises(FileNotFoundError, match="do not exist; give what the run was given"):
        write_report(out, images=tmp_path / "nowhere")
    (tmp_path / "other").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "other" / "b.png")
    with pytest.raises(ValueError, match="holds none of the 1 cases"):
        write_report(out, images=tmp_path / "other")
    with pytest.raises(FileNotFoundError, match="folder of true masks"):
        write_report(out, truth=tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"a mask for none of the 1 cases; 'a\.png'"):
        write_report(out, truth=tmp_path / "other")
    with pytest.raises(ValueError, match="pictures must be"):
        write_report(out, pictures=-1)


def test_files_outside_the_folder_are_not_opened(tmp_path: Path) -> None:
    out = result_folder(
        tmp_path, {}, extra=[{"path": "a.png", "fate": "result", "result": "../images/secret_mask.png"}]
    )
    (tmp_path / "images").mkdir()
    Image.fromarray(LESION * 255).save(tmp_path / "images" / "secret_mask.png")
    card = page_of(out).one("article")
    assert not card.all("g", class_="prediction")
    assert not (tmp_path / "images" / "secret.png").exists()
