import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from banet_monai.transforms import RandBackgroundCropd, RandLesionCropd
from banet_monai.transforms.crops import _outline, places_that_keep, places_without


def case(size=(40, 30), lesion=(slice(10, 20), slice(5, 15))):
    """The picture holds the place of each pixel, so that a crop says where it comes from."""
    x, y = torch.meshgrid(torch.arange(size[0]), torch.arange(size[1]), indexing="ij")
    label = torch.zeros(1, *size, dtype=torch.uint8)
    label[:, lesion[0], lesion[1]] = 1
    return {"image": torch.stack([x, y]).float(), "label": label}


def test_places_that_keep_a_whole_small_mask_are_those_around_it():
    mask = np.zeros((6, 5), dtype=bool)
    mask[2:4, 1:3] = True
    assert places_that_keep(mask, 3, 1.0).tolist() == [[1, 0], [1, 1], [2, 0], [2, 1]]


def test_half_of_a_mask_may_be_cut_off():
    mask = np.zeros((4, 4), dtype=bool)
    mask[:, 0] = True  # four pixels in a row
    assert places_that_keep(mask, 2, 0.5).tolist() == [[0, 0], [1, 0], [2, 0]]
    assert places_that_keep(mask, 2, 0.6).tolist() == []


def test_an_empty_mask_is_kept_everywhere():
    assert len(places_that_keep(np.zeros((5, 4), dtype=bool), 3, 1.0)) == 3 * 2


def test_the_outline_of_a_square_is_its_rim_and_the_frame_is_none():
    mask = np.zeros((6, 6), dtype=bool)
    mask[0:4, 1:5] = True  # touches the frame at the first axis
    rim = {tuple(place) for place in _outline(mask).tolist()}
    inner = {(x, y) for x in range(3) for y in (2, 3)}
    assert rim == {(x, y) for x in range(4) for y in range(1, 5)} - inner


def test_without_the_lesion_the_crop_is_a_square_of_the_short_side():
    transform = RandLesionCropd(["image", "label"], 30, prob=0.0).set_random_state(0)
    starts = set()
    for _ in range(50):
        out = transform(case())
        assert out["image"].shape == (2, 30, 30)
        starts.add(int(out["image"][0, 0, 0]))
        assert torch.equal(out["image"][1], case()["image"][1, :30])  # nothing resampled
    assert min(starts) >= 0
    assert max(starts) <= 10
    assert len(starts) > 5


def test_picture_and_mask_are_cut_alike_and_brought_to_the_size():
    mask = case()["label"].float()
    transform = RandLesionCropd(["image", "label"], 60, prob=1.0, scale=(0.5, 0.5)).set_random_state(0)
    for _ in range(20):
        out = transform({"image": mask, "label": mask.to(torch.uint8)})
        assert out["image"].shape == out["label"].shape == (1, 60, 60)
        assert out["label"].dtype == torch.uint8
        assert torch.equal(out["image"] > 0.5, out["label"] > 0)


def test_a_side_that_is_too_small_for_the_lesion_grows():
    data = case(size=(40, 40), lesion=(slice(5, 35), slice(5, 35)))
    transform = RandLesionCropd(["image", "label"], 40, prob=1.0, scale=(0.2, 0.2), keep=1.0, outline_prob=0.0)
    start, side = transform.set_random_state(0).draw(data["label"][0].numpy() > 0)
    assert 30 <= side <= 40
    assert all(place <= 5 and place + side >= 35 for place in start)


def test_a_lesion_longer_than_any_square_gives_the_largest_square():
    data = case(size=(60, 20), lesion=(slice(0, 60), slice(5, 15)))
    transform = RandLesionCropd(["image", "label"], 20, prob=1.0, keep=1.0, outline_prob=0.0).set_random_state(0)
    assert transform.draw(data["label"][0].numpy() > 0)[1] == 20
    assert transform(data)["image"].shape == (2, 20, 20)


def test_an_empty_mask_gives_a_square_of_the_drawn_side_anywhere():
    transform = RandLesionCropd(["image", "label"], 30, prob=1.0, scale=(0.5, 0.5)).set_random_state(0)
    starts = {transform.draw(np.zeros((40, 30), dtype=bool)) for _ in range(30)}
    assert {side for _, side in starts} == {15}
    assert len(starts) > 20


def test_the_affine_says_where_the_pixels_come_from():
    data = {key: MetaTensor(value) for key, value in case().items()}
    transform = RandLesionCropd(["image", "label"], 60, prob=1.0, scale=(0.5, 0.5)).set_random_state(0)
    out = transform(data)["image"]
    middle = torch.tensor([30.0, 20.0, 0.0, 1.0], dtype=torch.float64)
    x, y = (out.affine @ middle)[:2].tolist()
    assert out[:, 30, 20].tolist() == pytest.approx([x, y], abs=1e-4)
    assert torch.equal(data["image"].affine, torch.eye(4, dtype=torch.float64))


def test_the_same_seed_draws_the_same():
    transform = RandLesionCropd(["image", "label"], 30, prob=1.0)
    first, again = (transform.set_random_state(5)(case())["image"] for _ in range(2))
    assert torch.equal(first, again)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scale": (0.0, 1.0)}, r"scale must be two rising shares .* got \(0.0, 1.0\)"),
        ({"scale": (0.9, 0.5)}, "scale must be two rising shares"),
        ({"keep": 1.5}, "keep and outline_prob must lie in"),
        ({"outline_prob": -0.1}, "keep and outline_prob must lie in"),
        ({"size": 0}, "size must be at least 1 pixel, got 0"),
    ],
)
def test_impossible_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        RandLesionCropd("image", **({"size": 30} | options))


def test_a_volume_and_a_picture_of_another_size_are_refused():
    transform = RandLesionCropd(["image", "label"], 8)
    with pytest.raises(ValueError, match="must be the mask of a picture"):
        transform({"image": torch.zeros(1, 8, 8, 8), "label": torch.zeros(1, 8, 8, 8)})
    with pytest.raises(ValueError, match=r"'image' is \(1, 8, 9\), its mask \(1, 8, 8\)"):
        transform({"image": torch.zeros(1, 8, 9), "label": torch.zeros(1, 8, 8)})


def test_places_without_a_mask_are_those_that_do_not_touch_it():
    mask = np.zeros((5, 4), dtype=bool)
    mask[2, 1] = True
    assert places_without(mask, 2).tolist() == [[0, 0], [0, 1], [0, 2], [1, 2], [2, 2], [3, 0], [3, 1], [3, 2]]
    assert places_without(mask, 4).tolist() == []


def test_a_square_of_background_has_the_size_and_an_empty_mask_and_lies_where_the_lesion_is_not():
    transform = RandBackgroundCropd(["image", "label"], 12, prob=1.0, scale=(0.4, 0.4), margin=0.0).set_random_state(0)
    starts = set()
    for _ in range(60):
        out = transform(case())
        assert out["image"].shape == (2, 12, 12)
        assert not out["label"].any()
        x, y = out["image"][0, 0, 0], out["image"][1, 0, 0]
        starts.add((int(x), int(y)))
        assert torch.equal(out["image"][0, :, 0], torch.arange(12) + x)  # 0.4 of 30 pixels: nothing resampled
    assert len(starts) > 20
    assert all(x >= 20 or y >= 15 for x, y in starts)  # left and below the lesion there is no room for it


def test_a_margin_keeps_the_lesions_surroundings_out():
    data = case(size=(40, 40), lesion=(slice(18, 22), slice(18, 22)))
    transform = RandBackgroundCropd(["image", "label"], 8, prob=1.0, scale=(0.2, 0.2), margin=0.1).set_random_state(0)
    for _ in range(100):
        start, side = transform.draw(data["label"][0].numpy() > 0)
        assert side == 8
        assert any(place <= 6 or place >= 26 for place in start)  # 4 pixels about pixels 18 to 21 stay out


def test_the_square_of_background_shrinks_until_it_fits_and_else_the_picture_stays():
    data = case(size=(40, 40), lesion=(slice(10, 40), slice(0, 40)))  # ten rows are free
    transform = RandBackgroundCropd(["image", "label"], 8, prob=1.0, scale=(0.2, 0.9), margin=0.0).set_random_state(0)
    sides = {transform.draw(data["label"][0].numpy() > 0)[1] for _ in range(50)}
    assert sides <= {8, 9, 10}
    full = case(size=(40, 40), lesion=(slice(0, 40), slice(0, 40)))
    assert transform(full)["image"] is full["image"]
    never = RandBackgroundCropd(["image", "label"], 8, prob=0.0).set_random_state(0)
    assert all(never(data)["label"] is data["label"] for _ in range(20))


def test_impossible_options_of_the_background_crop_are_refused():
    with pytest.raises(ValueError, match=r"margin must be a share of the short side in \[0, 1\), got 1"):
        RandBackgroundCropd("image", 8, margin=1)
    with pytest.raises(ValueError, match="scale must be two rising shares"):
        RandBackgroundCropd("image", 8, scale=(0.5, 0.2))
