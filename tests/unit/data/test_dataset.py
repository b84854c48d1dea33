import logging

import numpy as np
import pytest
import torch
from monai.data import DataLoader, MetaTensor
from PIL import Image

from banet_monai.data import CaseDataset, mask_ids


def load(item):
    """Read every picture of the item, as (channel, column, row), closing the files even when they are broken."""
    result = dict(item)
    for key in ("image", "label") if "label" in item else ("image",):
        with Image.open(item[key]) as picture:
            result[key] = torch.tensor(np.asarray(picture).T.copy())
    return result


def load_with_label(item):
    return load({**item, "label": item["label"]})


@pytest.fixture
def folder(tmp_path):
    for name in ("a.png", "c.png"):
        Image.fromarray(np.full((8, 12, 3), 7, np.uint8)).save(tmp_path / name)
    (tmp_path / "b.png").write_bytes((tmp_path / "a.png").read_bytes()[:-20])
    return tmp_path


def failing(error: Exception):
    def transform(item):
        raise error

    return transform


def failure_of(item: dict, error: Exception) -> str:
    return CaseDataset([item], failing(error))[0]["failure"]


def test_a_broken_file_is_reported_and_the_others_are_done(folder, caplog):
    data = [{"image": str(folder / name)} for name in ("a.png", "b.png", "c.png")]
    with caplog.at_level(logging.DEBUG):
        items = [batch for batch in DataLoader(CaseDataset(data, load), batch_size=1)]
    assert [item["failure"] for item in items] == [[""], ["b.png is truncated or corrupt"], [""]]
    assert [item["name"] for item in items] == [["a"], ["b"], ["c"]]
    assert items[0]["image"].shape == (1, 3, 12, 8)
    assert "skipped: b.png is truncated or corrupt" in caplog.text
    assert str(folder) not in caplog.text


@pytest.mark.parametrize(("dims", "shape"), [(2, (4, 32, 32)), (3, (4, 32, 32, 32))])
def test_the_stand_in_is_zeros_of_the_networks_channels(folder, dims, shape):
    item = CaseDataset([{"image": str(folder / "b.png")}], load, channels=4, spatial_dims=dims)[0]
    assert isinstance(item["image"], MetaTensor)
    assert item["image"].shape == shape
    assert not torch.any(item["image"])


def test_a_missing_file_is_said(tmp_path):
    assert CaseDataset([{"image": str(tmp_path / "gone.png")}], load)[0]["failure"] == "gone.png does not exist"


def test_a_missing_label_is_said(folder):
    dataset = CaseDataset([{"image": str(folder / "a.png")}], load_with_label)
    assert dataset[0]["failure"] == "a.png: the case has no label"


def test_a_broken_label_is_named_rather_than_its_image(folder):
    item = {"image": str(folder / "a.png"), "label": str(folder / "b.png")}
    assert CaseDataset([item], load_with_label)[0]["failure"] == "b.png is truncated or corrupt"


def test_messages_of_the_package_are_passed_on(folder):
    def transform(item):
        try:
            mask_ids(np.array([0, 77, 255]))
        except ValueError as error:
            raise RuntimeError("applying transform") from error

    failure = CaseDataset([{"image": str(folder / "a.png")}], transform)[0]["failure"]
    assert failure.startswith("a.png: a mask with 3 different values (0, 77, 255) cannot be read")


def test_messages_of_others_are_not_passed_on_since_they_may_quote_the_file(folder):
    failure = failure_of(
        {"image": str(folder / "a.png")}, ValueError("bad date 19700101 of DOE^JANE in /data/secret/a.png")
    )
    assert failure.startswith("a.png: could not be processed (ValueError at test_dataset.py:")
    assert not any(word in failure for word in ("1970", "DOE", "secret"))


def test_an_image_of_several_files_is_named_by_its_folder(tmp_path):
    files = [tmp_path / "series_7" / f"{number}.dcm" for number in range(2)]
    files[0].parent.mkdir()
    for file in files:
        file.write_bytes(b"")
    item = CaseDataset([{"image": [str(file) for file in files]}], load)[0]
    assert (item["name"], item["failure"]) == ("series_7", "0.dcm is empty (0 bytes)")


def test_too_little_memory_is_said(folder):
    assert failure_of({"image": str(folder / "a.png")}, MemoryError()) == "a.png: does not fit into memory"


def test_an_item_without_an_image_is_reported():
    item = CaseDataset([{}], load)[0]
    assert (item["name"], item["failure"]) == ("case_0", "the case: the case has no image and no label")


def test_several_samples_of_one_case_each_say_that_they_are_good(folder):
    dataset = CaseDataset([{"image": str(folder / "a.png")}], lambda item: [dict(item), dict(item)])
    assert [sample["failure"] for sample in dataset[0]] == ["", ""]


def test_interruption_is_not_swallowed(folder):
    dataset = CaseDataset([{"image": str(folder / "a.png")}], failing(KeyboardInterrupt()))  # type: ignore[arg-type]
    with pytest.raises(KeyboardInterrupt, match=r"^$"):
        dataset[0]


def test_options_are_checked():
    with pytest.raises(ValueError, match=r"channels >= 1 and spatial_dims 2 or 3, got 3 and 4"):
        CaseDataset([], load, spatial_dims=4)
