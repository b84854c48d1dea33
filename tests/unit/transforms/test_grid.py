from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from monai.data import MetaTensor, decollate_batch, list_data_collate
from monai.transforms import Compose, Invertd
from numpy.typing import NDArray

from banet_monai.transforms import RestoreGridd, ToWorkingGridd
from banet_monai.transforms.grid import resize_labels, resize_linear

AXIAL = np.diag([0.7, 0.7, 5.0, 1.0])


def image(*shape: int, affine: NDArray[Any] | None = None, **meta: Any) -> MetaTensor:
    values = torch.arange(float(np.prod(shape))).reshape(shape)
    return MetaTensor(values, affine=torch.as_tensor(np.eye(4) if affine is None else affine), meta={**meta})


def working(picture: MetaTensor, **options: Any) -> MetaTensor:
    return ToWorkingGridd("image", **options)({"image": picture})["image"]


def restored(picture: MetaTensor, pred: torch.Tensor) -> MetaTensor:
    return RestoreGridd("pred")({"image": picture, "pred": pred})["pred"]


# --- the rank table: one test per row and network


def test_a_picture_goes_to_the_short_side_and_keeps_its_aspect() -> None:
    assert working(image(3, 60, 40), scale="short_side", image_size=20).shape == (3, 30, 20)
    assert working(image(3, 40, 60), scale="short_side", image_size=80).shape == (3, 80, 120)


def test_a_picture_is_refused_by_a_3d_network() -> None:
    with pytest.raises(ValueError, match=r"is a picture of \(60, 40\); spatial_dims=3 needs a volume"):
        working(image(1, 60, 40), scale="native", spatial_dims=3)


def test_a_last_axis_of_one_is_a_picture_and_comes_back() -> None:
    on_grid = working(image(3, 60, 40, 1), image_size=20)
    assert on_grid.shape == (3, 30, 20)
    assert restored(on_grid, torch.zeros(1, 30, 20)).shape == (1, 60, 40, 1)


def test_a_last_axis_of_one_is_refused_by_a_3d_network() -> None:
    with pytest.raises(ValueError, match="spatial_dims=3 needs a volume with more than one slice"):
        working(image(1, 60, 40, 1), scale="native", spatial_dims=3)


def test_a_volume_for_a_2d_network_has_its_slices_last_and_is_scaled_in_plane() -> None:
    on_grid = working(image(1, 9, 60, 40, affine=np.diag([5.0, 0.7, 0.7, 1.0])), image_size=20)
    assert on_grid.shape == (1, 30, 20, 9)


def test_a_volume_for_a_3d_network_keeps_its_axes() -> None:
    assert working(image(1, 12, 10, 8), scale="native", spatial_dims=3).shape == (1, 12, 10, 8)
    on_grid = working(image(1, 12, 10, 8, affine=AXIAL), scale="spacing", spacing=1.0, spatial_dims=3)
    assert on_grid.shape == (1, 8, 7, 40)


def test_multi_frame_colour_is_a_stack_of_pictures_along_the_last_axis() -> None:
    assert working(image(3, 60, 40, 5), image_size=20).shape == (3, 30, 20, 5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"image_size": "abc"}, "image_size must be a number, got 'abc'"),
        ({"image_size": 64.5}, r"image_size must be a whole number of at least 1, got 64\.5"),
        ({"image_size": 0}, "image_size must be a whole number of at least 1, got 0"),
        ({"image_size": [64, 64]}, r"'short_side' needs one image_size, got \(64, 64\)"),
        ({"scale": "spacing", "spacing": 0}, "spacing must be one positive number of mm, or 2, got 0"),
        ({"scale": "spacing", "spacing": [1, 1, 1]}, "spacing must be one positive number of mm, or 2, got"),
        ({"scale": "spacing", "spacing": "x"}, "spacing must be a number, got 'x'"),
    ],
)
def test_sizes_and_spacings_that_are_none_are_refused_at_once(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ToWorkingGridd("image", **options)


# --- slice axis


@pytest.mark.parametrize("axis", [0, 1])
def test_an_axis_of_one_is_a_picture_wherever_it_stands(axis: int) -> None:
    size = [60, 40]
    size.insert(axis, 1)
    on_grid = working(image(1, *size, affine=AXIAL), image_size=20)
    assert on_grid.shape == (1, 30, 20)
    assert restored(on_grid, torch.zeros(1, 30, 20)).shape == (1, *size)
    with pytest.raises(ValueError, match="spatial_dims=3 needs a volume with more than one slice"):
        working(image(1, *size), scale="native", spatial_dims=3)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_the_affine_of_a_single_slice_says_where_its_pixels_are(axis: int) -> None:
    size, others = [8, 6], [other for other in range(3) if other != axis]
    size.insert(axis, 1)
    on_grid = working(image(1, *size, affine=AXIAL), image_size=3)  # (1, 4, 3): pixels twice as large
    assert on_grid.shape == (1, 4, 3)
    first = np.zeros(3)
    first[others] = 0.5  # of the file, where pixel 0 of the working grid lies
    np.testing.assert_allclose(on_grid.affine.numpy()[:3, 3], AXIAL[:3, :3] @ first)
    for working_axis, original in enumerate(others):
        np.testing.assert_allclose(on_grid.affine.numpy()[:3, working_axis], 2 * AXIAL[:3, original])
    back = restored(on_grid, torch.zeros(1, 4, 3))
    assert back.shape == (1, *size)
    np.testing.assert_allclose(back.affine.numpy(), AXIAL)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_the_slice_axis_is_that_of_the_largest_spacing(axis: int) -> None:
    spacing = [0.7, 0.8, 0.9, 1.0]
    spacing[axis] = 3.0
    on_grid = working(image(1, 4, 5, 6, affine=np.diag(spacing)), scale="native")
    assert on_grid.shape[-1] == (4, 5, 6)[axis]


def test_among_equal_spacings_slices_run_from_feet_to_head() -> None:
    sagittal_first = np.array([[0, 0, -1, 0], [-1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1.0]])  # axis 1 is feet to head
    assert working(image(1, 4, 5, 6, affine=sagittal_first), scale="native").shape == (1, 4, 6, 5)


def test_spacings_within_one_percent_are_equal() -> None:
    on_grid = working(image(1, 4, 5, 6, affine=np.diag([1.005, 1.0, 1.0, 1.0])), scale="native")
    assert on_grid.shape == (1, 4, 5, 6)


def test_a_slice_axis_that_is_named_is_taken() -> None:
    assert working(image(1, 4, 5, 6, affine=AXIAL), scale="native", slice_axis=0).shape == (1, 5, 6, 4)


# --- scale rules


def test_stretch_brings_both_sides_to_image_size() -> None:
    assert working(image(3, 60, 40), scale="stretch", image_size=32).shape == (3, 32, 32)
    assert working(image(3, 60, 40), scale="stretch", image_size=(32, 16)).shape == (3, 32, 16)


def test_native_changes_no_value() -> None:
    picture = image(3, 7, 5)
    assert torch.equal(working(picture, scale="native").as_tensor(), picture.as_tensor())


def test_spacing_resamples_in_plane_for_a_2d_network() -> None:
    on_grid = working(image(1, 20, 30, 4, affine=AXIAL), scale="spacing", spacing=1.4)
    assert on_grid.shape == (1, 10, 15, 4)
    np.testing.assert_allclose(on_grid.pixdim, [1.4, 1.4, 5.0])


def test_spacing_is_refused_for_a_picture_without_millimetres() -> None:
    with pytest.raises(ValueError, match="has no pixel spacing in mm"):
        working(image(3, 20, 30, spacing_unit="px"), scale="spacing", spacing=1.0)


# --- geometry


def test_the_working_affine_puts_the_corners_of_the_image_where_they_were() -> None:
    affine = np.array([[0.8, -0.3, 0.1, -20], [0.4, 1.2, -0.2, 5], [0.1, 0.3, 2.5, 40], [0, 0, 0, 1.0]])
    picture = image(1, 20, 30, 4, affine=affine)
    on_grid = working(picture, image_size=10)
    for low, high in ((np.array([-0.5, -0.5, -0.5]), np.array([19.5, 29.5, 3.5])),):
        for old, new in ((low, low), (high, np.array(on_grid.shape[1:]) - 0.5)):
            np.testing.assert_allclose(on_grid.affine.numpy() @ [*new, 1], affine @ [*old, 1], atol=1e-9)


def test_the_file_name_and_other_meta_stay() -> None:
    on_grid = working(image(3, 60, 40, filename_or_obj="a.png"), image_size=20)
    assert on_grid.meta["filename_or_obj"] == "a.png"


def test_meta_of_the_new_grid_can_be_changed_without_the_image_knowing() -> None:
    picture = image(3, 60, 40, window=[40.0, 400.0])
    on_grid = working(picture, image_size=20)
    back = restored(on_grid, torch.zeros(1, 30, 20))
    for changed in (on_grid, back):
        changed.meta["window"][0] = 0.0
        changed.meta["kind"] = "other"
        changed.affine[0, 0] = 7.0
        changed.applied_operations.clear()
    assert picture.meta["window"] == [40.0, 400.0]
    assert "kind" not in picture.meta
    assert picture.affine[0, 0] == 1.0
    assert working(picture, image_size=20).meta["window"] == [40.0, 400.0]


def test_orientation_ras_turns_a_volume_for_a_3d_network_without_interpolation() -> None:
    lps = np.diag([-1.0, -1.0, 1.0, 1.0])
    volume = image(1, 4, 5, 6, affine=lps)
    on_grid = working(volume, scale="native", spatial_dims=3, orientation="RAS")
    assert torch.equal(on_grid.as_tensor(), volume.as_tensor().flip([1, 2]))
    np.testing.assert_allclose(on_grid.affine.numpy()[:3, :3], np.eye(3))
    np.testing.assert_allclose(on_grid.affine.numpy()[:3, 3], [-3, -4, 0])


# --- masks


def disc(size: int, radius: float) -> torch.Tensor:
    y, x = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    centre = (size - 1) / 2
    return ((y - centre) ** 2 + (x - centre) ** 2 <= radius**2).to(torch.uint8)[None]


def test_a_mask_follows_its_image() -> None:
    data = {"image": image(3, 60, 40), "label": MetaTensor(torch.ones(1, 60, 40, dtype=torch.uint8))}
    on_grid = ToWorkingGridd(("image", "label"), image_size=20)(data)
    assert on_grid["label"].shape == (1, 30, 20)
    assert on_grid["label"].dtype == torch.uint8
    assert torch.equal(on_grid["label"].affine, on_grid["image"].affine)


@pytest.mark.parametrize(("size", "mask_size"), [((60, 40), (60, 40, 1)), ((60, 40, 1), (60, 40))])
def test_a_mask_of_a_plane_may_have_or_lack_the_last_axis_of_its_image(
    size: tuple[int, ...], mask_size: tuple[int, ...]
) -> None:
    mask = torch.zeros(1, *mask_size)
    mask[0, 10:30, 20:25] = 1
    pair = {"image": image(3, *size), "label": MetaTensor(mask)}
    result = ToWorkingGridd(("image", "label"), scale="native")(pair)
    assert result["label"].shape == (1, 60, 40)
    assert result["label"][0, 10:30, 20:25].min() == 1
    assert result["label"].sum() == 100


def test_a_mask_of_another_size_is_refused_with_both_sizes() -> None:
    data = {"image": image(3, 60, 40), "label": image(1, 40, 60, filename_or_obj="/x/m.png")}
    with pytest.raises(ValueError, match=r"'m\.png' \(label\) is \(40, 60\), but image is \(60, 40\)"):
        ToWorkingGridd(("image", "label"), image_size=20)(data)


def test_resized_masks_hold_no_new_ids_and_no_mixture() -> None:
    labels = torch.zeros(1, 40, 40, dtype=torch.uint8)
    labels[:, 10:30, 10:20], labels[:, 10:30, 20:30] = 1, 3
    for size in ((17, 23), (80, 61)):
        assert resize_labels(labels, size).unique().tolist() == [0, 1, 3]


def test_outlines_of_resized_masks_are_closer_to_the_true_shape_than_nearest_neighbours() -> None:
    ours = nearest = 0
    for size, radius in ((24, 31.3), (37, 40.0), (50, 44.7), (160, 38.2)):
        true = disc(size, radius * size / 101)
        mask = disc(101, radius)
        plain = torch.nn.functional.interpolate(mask[None].float(), (size, size), mode="nearest-exact")[0]
        ours += int((resize_labels(mask, (size, size)) != true).sum())
        nearest += int((plain != true).sum())
    assert ours < 0.75 * nearest


def test_a_mask_of_one_value_stays_of_one_value() -> None:
    assert resize_labels(torch.full((1, 9, 9), 2, dtype=torch.uint8), (4, 5)).unique().tolist() == [2]


def test_halving_averages_pairs_because_shrinking_is_antialiased() -> None:
    stripes = torch.tensor([0.0, 1.0]).repeat(8).expand(1, 16, 16)
    assert torch.allclose(resize_linear(stripes, (8, 8))[:, :, 1:-1], torch.tensor(0.5), atol=1e-6)


def test_three_axes_resample_like_three_one_axis_resamplings() -> None:
    ramp = torch.arange(12.0)[:, None, None] + 10 * torch.arange(10.0)[:, None] + 100 * torch.arange(8.0)
    doubled = resize_linear(ramp[None], (24, 20, 16))[0]
    inside = (torch.arange(24.0) + 0.5) / 2 - 0.5, (torch.arange(20.0) + 0.5) / 2 - 0.5, (torch.arange(16.0) + 0.5) / 2
    expected = inside[0][:, None, None] + 10 * inside[1][:, None] + 100 * (inside[2] - 0.5)
    torch.testing.assert_close(doubled[1:-1, 1:-1, 1:-1], expected[1:-1, 1:-1, 1:-1])


# --- and back


def test_a_prediction_gets_the_shape_affine_and_meta_of_the_file() -> None:
    affine = np.diag([5.0, 0.7, 0.7, 1.0])
    on_grid = working(image(1, 9, 60, 40, affine=affine, filename_or_obj="a.nii.gz"), image_size=20)
    pred = restored(on_grid, torch.rand(2, 30, 20, 9))
    assert pred.shape == (2, 9, 60, 40)
    np.testing.assert_allclose(pred.affine.numpy(), affine)
    assert pred.meta["filename_or_obj"] == "a.nii.gz"
    assert pred.applied_operations == []


def test_without_a_resize_the_prediction_comes_back_unchanged() -> None:
    affine = np.array([[0, 0, -1, 0], [-1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1.0]])
    volume = image(1, 4, 5, 6, affine=affine)
    for options in ({"spatial_dims": 2}, {"spatial_dims": 3, "orientation": "RAS"}):
        on_grid = working(volume, scale="native", **options)
        assert torch.equal(restored(on_grid, on_grid.as_tensor()).as_tensor(), volume.as_tensor())


def test_the_record_survives_a_batch() -> None:
    batch = list_data_collate([{"image": working(image(3, 60, 40), image_size=20)} for _ in range(2)])
    batch["pred"] = torch.rand(2, 1, 30, 20)
    for item in decollate_batch(batch):
        assert RestoreGridd("pred")(item)["pred"].shape == (1, 60, 40)


def test_a_prediction_without_a_record_is_left_alone() -> None:
    pred = torch.rand(1, 4, 4)
    assert restored(image(3, 4, 4), pred) is pred
    assert RestoreGridd("pred")({"pred": pred})["pred"] is pred


def test_a_prediction_of_another_size_is_refused() -> None:
    on_grid = working(image(3, 60, 40, filename_or_obj="/x/a.png"), image_size=20)
    with pytest.raises(ValueError, match=r"prediction for 'a\.png' is \(20, 30\), but its image was resampled to"):
        restored(on_grid, torch.rand(1, 20, 30))


def test_monais_invertd_gives_the_same_for_a_meta_tensor() -> None:
    preprocessing = Compose([ToWorkingGridd("image", image_size=20)])
    data = preprocessing({"image": image(3, 60, 40, 1)})
    data["pred"] = MetaTensor(torch.rand(1, 30, 20))
    ours = RestoreGridd("pred")(data)["pred"]
    stock = Invertd("pred", transform=preprocessing, orig_keys="image", nearest_interp=False)(data)["pred"]
    assert torch.equal(ours.as_tensor(), stock.as_tensor())
    assert torch.equal(ours.affine, stock.affine)


def test_a_mask_is_inverted_as_a_mask() -> None:
    transform = ToWorkingGridd(("image", "label"), image_size=20)
    mask = torch.zeros(1, 60, 40, dtype=torch.uint8)
    mask[:, 16:44, 10:30] = 2  # its edges are edges of working pixels
    back = transform.inverse(transform({"image": image(3, 60, 40), "label": MetaTensor(mask)}))
    assert back["label"].unique().tolist() == [0, 2]
    assert (back["label"].as_tensor() != mask).sum() <= 4  # its corners
    assert back["image"].shape == (3, 60, 40)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scale": "long_side"}, "scale must be one of"),
        ({"spatial_dims": 4}, "spatial_dims must be 2 or 3"),
        ({"spatial_dims": 3}, "a 3D network needs scale 'native' or 'spacing'"),
        ({"scale": "spacing"}, "needs spacing in mm"),
        ({"slice_axis": 3}, "slice_axis must be 0, 1, 2 or None"),
        ({"image_size": (3, 4)}, "'short_side' needs one image_size"),
    ],
)
def test_options_that_disagree_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ToWorkingGridd("image", **options)
