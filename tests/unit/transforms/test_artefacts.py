import pytest
import torch
from monai.data import MetaTensor

from banet_monai.transforms import RandGeld, RandHaird, RandInkd, RandRulerd, RandVignetted
from banet_monai.transforms.intensity import IMAGENET_MEAN, IMAGENET_STD

ARTEFACTS = [RandHaird, RandRulerd, RandInkd, RandGeld, RandVignetted]
SIZE = (64, 48)
DARKEST, BRIGHTEST = (
    ((value - torch.tensor(IMAGENET_MEAN)) / torch.tensor(IMAGENET_STD))[:, None, None] for value in (0.0, 1.0)
)


def case(channels=3):
    """Even skin, with a lesion in its mask alone."""
    label = torch.zeros(1, *SIZE, dtype=torch.uint8)
    label[:, 20:40, 10:30] = 1
    return {"image": MetaTensor(torch.zeros(channels, *SIZE), meta={"filename_or_obj": "a.png"}), "label": label}


@pytest.mark.parametrize("artefact", ARTEFACTS)
@pytest.mark.parametrize("channels", [1, 3])
def test_the_picture_changes_within_its_range_and_the_mask_not_at_all(artefact, channels):
    transform = artefact("image", prob=1.0).set_random_state(0)
    changed = 0
    for _ in range(10):
        data = case(channels)
        out = transform(data)
        assert out["label"] is data["label"]
        assert out["image"].shape == data["image"].shape
        assert out["image"].dtype == torch.float32
        assert out["image"].meta["filename_or_obj"] == "a.png"
        if channels == 3:
            assert (out["image"] >= DARKEST - 1e-5).all()
            assert (out["image"] <= BRIGHTEST + 1e-5).all()
        assert not data["image"].any()
        changed += bool(out["image"].any())
    assert changed >= 8  # a stroke may fall beside the picture


@pytest.mark.parametrize("artefact", ARTEFACTS)
def test_the_same_seed_draws_the_same_and_another_seed_another(artefact):
    transform = artefact("image", prob=1.0)
    first, again, other = (transform.set_random_state(seed)(case())["image"] for seed in (3, 3, 4))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("artefact", ARTEFACTS)
def test_probability_zero_returns_the_picture_itself(artefact):
    data = case()
    assert artefact("image", prob=0.0)(data)["image"] is data["image"]


@pytest.mark.parametrize("artefact", ARTEFACTS)
def test_two_pictures_of_a_case_get_the_same_artefact(artefact):
    data = case() | {"second": torch.zeros(3, *SIZE)}
    out = artefact(["image", "second"], prob=1.0).set_random_state(1)(data)
    assert torch.equal(out["image"].as_tensor(), out["second"])


def test_hairs_cover_little_of_the_picture():
    out = RandHaird("image", prob=1.0, count=(5, 5)).set_random_state(0)({"image": torch.zeros(3, 128, 128)})
    # at most five hairs of 1.2 sides length and 0.009 sides width, drawn at least as wide as a pixel allows
    assert 0 < (out["image"] != 0).any(dim=0).float().mean() < 5 * 1.4 * 3 / 128


@pytest.mark.parametrize(("light", "sign"), [(0.0, -1), (1.0, 1)])
def test_hairs_are_darker_than_skin_or_lighter(light, sign):
    transform = RandHaird("image", prob=1.0, light=light, count=(10, 10)).set_random_state(0)
    for _ in range(5):
        assert (transform(case())["image"] * sign >= 0).all()


def test_a_ring_of_ink_leaves_the_middle_of_the_lesion_free():
    transform = RandInkd("image", prob=1.0, label_key="label", width=(0.01, 0.02)).set_random_state(0)
    for _ in range(20):
        assert not transform(case())["image"][:, 27:33, 17:23].any()


def test_the_tube_hides_nothing_of_the_lesion_where_the_mask_is_known():
    for seed in range(20):
        data = case()
        data["label"][:, 0:3, 0:3] = 1  # a corner
        known = RandVignetted("image", prob=1.0, label_key="label").set_random_state(seed)(data)["image"]
        assert known[:, data["label"][0] > 0].abs().max() < 1e-4


def test_the_tube_darkens_the_corner_where_the_mask_is_not_known():
    out = RandVignetted("image", prob=1.0, radius=(0.4, 0.4), opacity=(1.0, 1.0)).set_random_state(0)(case())["image"]
    assert (out[:, 0, 0] < -1.5).all()  # nearly black
    assert not out[:, 32, 24].any()


@pytest.mark.parametrize("artefact", [RandInkd, RandVignetted])
def test_an_empty_mask_is_no_obstacle(artefact):
    data = case() | {"label": torch.zeros(1, *SIZE)}
    assert artefact("image", prob=1.0, label_key="label").set_random_state(0)(data)["image"].any()


def test_volumes_are_refused():
    with pytest.raises(ValueError, match="only pictures"):
        RandHaird("image", prob=1.0)({"image": torch.zeros(1, 8, 8, 8)})
