from __future__ import annotations

import gc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from monai.data import MetaTensor
from torch import nn

from banet_monai.inferers import FlipInferer, SegmentationInferer
from banet_monai.networks import BANet
from banet_monai.uncertainty import SplitUncertaintyd, UncertaintyInferer
from tests.bundle_runs import Payload


def directly(image: torch.Tensor, network: Callable[..., Any]) -> torch.Tensor:
    return network(image)


class Constant(nn.Module):
    """A logit everywhere, as a weight."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.tensor([value]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.zeros_like(x[:, :1]) + self.value


class Pixelwise(nn.Module):
    """Logit of every pixel from this pixel alone, with the same rounding wherever it lies."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x[:, :1] * 2.5 + x[:, 1:2] - x[:, 2:]


class Ramp(nn.Module):
    """Logits of the place alone: 0, 1, 2, ... along the first spatial axis."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        steps = torch.arange(x.shape[2], dtype=torch.float32)
        return steps.reshape(1, 1, -1, *[1] * (x.ndim - 3)).expand(x.shape[0], 1, *x.shape[2:]).clone()


def pointwise(channels: int = 1) -> nn.Module:
    torch.manual_seed(0)
    return nn.Conv2d(3, channels, 1).eval().requires_grad_(False)


def saved(folder: Path, *values: float) -> list[str]:
    paths = [folder / f"member{index}.pt" for index in range(len(values))]
    for path, value in zip(paths, values, strict=True):
        torch.save(Constant(value).state_dict(), path)
    return [str(path) for path in paths]


def test_without_a_method_the_result_is_that_of_the_inferer() -> None:
    network, image = pointwise(), torch.randn(1, 3, 5, 6)
    assert torch.equal(UncertaintyInferer(directly)(image, network), network(image))


def test_one_pass_has_no_variance_and_agrees_with_itself() -> None:
    network, image = pointwise(), torch.randn(2, 3, 5, 6)
    result = UncertaintyInferer(directly, method="entropy")(image, network)
    assert result.shape == (2, 4, 5, 6)
    torch.testing.assert_close(result[:, :1], network(image), atol=1e-4, rtol=1e-4)
    assert torch.count_nonzero(result[:, 1:3]) == 0
    assert torch.equal(result[:, 3], torch.ones(2, 5, 6))


@pytest.mark.parametrize("shape", [(1, 3, 8, 8), (2, 3, 8, 5), (1, 3, 6, 8, 3)])
def test_flips_and_turns_of_a_network_that_follows_them_agree_to_the_bit(shape: tuple[int, ...]) -> None:
    network = Pixelwise()
    plain = SegmentationInferer(roi_size=64 if len(shape) == 4 else (8, 8), amp="none")
    inferer = directly if len(shape) == 4 else plain
    result = UncertaintyInferer(inferer, method="tta")(torch.randn(shape), network)
    assert torch.count_nonzero(result[:, 1]) == 0
    assert torch.equal(result[:, 3], torch.ones_like(result[:, 3]))


def test_mean_and_variance_over_flips_are_those_of_the_views() -> None:
    result = UncertaintyInferer(directly, method="tta", quarter_turns=False, flip_axes=(0,))(
        torch.zeros(1, 3, 3, 2), Ramp()
    )
    ramp = torch.tensor([0.0, 1.0, 2.0]).sigmoid()
    views = torch.stack([ramp, ramp.flip(0)])
    torch.testing.assert_close(result[0, 0, :, 0].sigmoid(), views.mean(dim=0))
    torch.testing.assert_close(result[0, 1, :, 0], views.var(dim=0, correction=0))


def test_samples_limit_the_views() -> None:
    seen: list[int] = []

    def count(image: torch.Tensor, network: Callable[..., Any]) -> torch.Tensor:
        seen.append(1)
        return network(image)

    UncertaintyInferer(count, method="tta", samples=3)(torch.zeros(1, 3, 4, 4), pointwise())
    UncertaintyInferer(count, method="tta", samples=50)(torch.zeros(1, 3, 4, 4), pointwise())
    assert len(seen) == 3 + 8  # there are no more than eight


def test_an_ensemble_is_the_network_and_its_further_members(tmp_path: Path) -> None:
    network = Constant(0.0)
    inferer = UncertaintyInferer(directly, method="ensemble", members=saved(tmp_path, 2.0, -2.0, -3.0))
    result = inferer(torch.zeros(1, 3, 2, 2), network)[0, :, 0, 0]
    shares = torch.tensor([0.0, 2.0, -2.0, -3.0]).sigmoid()
    assert result[0].sigmoid().item() == pytest.approx(shares.mean().item(), abs=1e-6)
    assert result[1].item() == pytest.approx(shares.var(correction=0).item(), abs=1e-6)
    assert result[3].item() == 0.5  # the mean is below one half, as two of the four are
    assert network.value.item() == 0.0


def test_members_follow_the_network_that_is_given(tmp_path: Path) -> None:
    inferer = UncertaintyInferer(directly, method="ensemble", members=",".join(saved(tmp_path, 1.0)))
    image = torch.zeros(1, 3, 2, 2)
    first = inferer(image, Constant(1.0))
    assert torch.count_nonzero(first[:, 1]) == 0
    assert inferer(image, Constant(-1.0))[0, 1].max() > 0.01


def test_members_of_a_banet_are_whole_networks_of_their_own(tmp_path: Path) -> None:
    def network(seed: int) -> BANet:
        torch.manual_seed(seed)
        return BANet(encoder="mobilenet_v2", output_stride=16, width=8, aspp_channels=8, separable=True).eval()

    torch.save(network(1).state_dict(), tmp_path / "one.pt")
    image, plain = torch.rand(1, 3, 40, 32), SegmentationInferer(roi_size=32, amp="none")
    with torch.inference_mode():
        result = UncertaintyInferer(plain, method="ensemble", members=[tmp_path / "one.pt"])(image, network(0))
        shares = torch.stack([plain(image, network(seed)).sigmoid() for seed in (0, 1)])
    torch.testing.assert_close(result[:, :1].sigmoid(), shares.mean(dim=0), atol=1e-5, rtol=1e-4)


def test_members_are_checked_before_anything_runs(tmp_path: Path) -> None:
    one, other = saved(tmp_path, 1.0, 2.0)
    torch.save({"weight": torch.zeros(2)}, tmp_path / "foreign.pt")
    torch.save(Payload(), tmp_path / "code.pt")
    (tmp_path / "damaged.pt").write_bytes(b"no weights")

    def ensemble(*members: str, checkpoint: str | None = None) -> UncertaintyInferer:
        return UncertaintyInferer(directly, method="ensemble", members=members, checkpoint=checkpoint)

    with pytest.raises(ValueError, match=r"an ensemble needs the weight files of its further members, got none"):
        ensemble()
    with pytest.raises(FileNotFoundError, match=r"no weights file .*missing\.pt"):
        ensemble(one, str(tmp_path / "missing.pt"))
    with pytest.raises(
        ValueError, match=r"share one architecture: .*foreign\.pt' and .*differ in 2 entries \(value, weight\)"
    ):
        ensemble(one, str(tmp_path / "foreign.pt"))
    with pytest.raises(ValueError, match=r"share one architecture: .*foreign\.pt"):
        ensemble(one, checkpoint=str(tmp_path / "foreign.pt"))
    with pytest.raises(ValueError, match=r"code\.pt holds Python objects that could run code"):
        ensemble(str(tmp_path / "code.pt"))
    with pytest.raises(ValueError, match=r"damaged\.pt"):
        ensemble(str(tmp_path / "damaged.pt"))
    with pytest.raises(ValueError, match=r"needs different weights, .* is named twice"):
        ensemble(one, one)
    torch.save(Constant(1.0).state_dict(), other)
    with pytest.raises(ValueError, match=r"needs different weights, .*member1\.pt' holds those of"):
        ensemble(one, other)
    with pytest.raises(ValueError, match=r"'.*member0\.pt' and 'Conv2d' differ"):
        ensemble(one)(torch.zeros(1, 3, 2, 2), pointwise())
    assert not (tmp_path / "pwned").exists()


def test_several_classes_come_back_as_logits_of_their_mean() -> None:
    network, image = pointwise(4), torch.randn(1, 3, 6, 6)
    result = UncertaintyInferer(directly, method="tta", activation="softmax")(image, network)
    assert result.shape == (1, 7, 6, 6)
    torch.testing.assert_close(result[:, :4].softmax(dim=1), network(image).softmax(dim=1), atol=1e-5, rtol=1e-4)


def test_a_picture_of_several_windows_keeps_its_size_and_meta() -> None:
    network = nn.Sequential(nn.Conv2d(3, 1, 3, padding=1), nn.Dropout2d(0.5)).eval()
    image = MetaTensor(torch.rand(1, 3, 40, 25), meta={"filename_or_obj": "mole.png"})
    plain = SegmentationInferer(roi_size=16, amp="none")
    for method in ("entropy", "mc_dropout", "tta"):
        result = UncertaintyInferer(plain, method=method)(image, network)
        assert isinstance(result, MetaTensor)
        assert result.shape == (1, 4, 40, 25)
        assert result.meta["filename_or_obj"] == "mole.png"


def test_it_works_inside_the_inferer_of_flips_and_around_it() -> None:
    network, image = pointwise(), torch.randn(1, 3, 6, 6)
    inside = FlipInferer(UncertaintyInferer(directly, method="tta"))(image, network)
    around = UncertaintyInferer(FlipInferer(directly), method="tta")(image, network)
    torch.testing.assert_close(inside, around, atol=1e-4, rtol=1e-4)


class Weighing(nn.Module):
    """Dropout, and the bytes of all tensors that are alive at the second and the last pass."""

    def __init__(self, passes: int) -> None:
        super().__init__()
        self.dropout = nn.Dropout2d(0.5)
        self.passes = 0
        self.weighed = (2, passes)
        self.bytes: list[int] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.passes += 1
        if self.passes in self.weighed:
            alive = [item.untyped_storage() for item in gc.get_objects() if type(item) is torch.Tensor]
            self.bytes.append(sum({storage.data_ptr(): storage.nbytes() for storage in alive}.values()))
        return self.dropout(x)[:, :1]


@pytest.mark.parametrize(("method", "samples"), [("mc_dropout", 64), ("tta", 8)])
def test_memory_does_not_grow_with_the_number_of_samples(method: str, samples: int) -> None:
    network, image = Weighing(samples), torch.rand(1, 3, 128, 128)
    UncertaintyInferer(directly, method=method, samples=samples)(image, network)
    assert network.passes == samples
    second, last = network.bytes
    # a turned view may be a copy of the image; a kept sample would be a third of one, for each of the passes between
    assert last - second <= image.untyped_storage().nbytes()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "dropout"}, r"uncertainty must be one of none, entropy, mc_dropout, tta, ensemble, got 'dropout'"),
        ({"method": "mc_dropout", "samples": 1}, r"mc_dropout needs at least 2 samples to compare, got 1"),
        ({"method": "tta", "samples": 2.5}, r"tta needs at least 2 samples to compare, got 2.5"),
        ({"activation": "tanh"}, r"activation must be one of .*'tanh'"),
        ({"flip_axes": (0, 3)}, r"flip_axes must be different spatial axes"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        UncertaintyInferer(directly, **options)


def test_an_inferer_that_returns_no_tensor_is_refused() -> None:
    def broken(image: torch.Tensor, network: Callable[..., Any]) -> dict[str, torch.Tensor]:
        return {"mask": image}

    for method in ("none", "entropy", "tta"):
        with pytest.raises(TypeError, match=r"must return a tensor of logits, got dict"):
            UncertaintyInferer(broken, method=method)(torch.zeros(1, 3, 4, 4), pointwise())


def test_members_that_are_sure_of_foreground_but_not_of_its_class_do_not_disagree() -> None:
    """Of several classes all but the background count as one (docs/uncertainty.md)."""
    calls: list[int] = []

    def another_class_each_time(image: torch.Tensor, network: Callable[..., Any]) -> torch.Tensor:
        logits = torch.zeros(1, 4, *image.shape[2:])
        logits[:, 1 + len(calls) % 3] = 20.0
        calls.append(1)
        return logits

    inferer = UncertaintyInferer(another_class_each_time, method="tta", samples=3, activation="softmax")
    result = inferer(torch.zeros(1, 3, 4, 4), pointwise())
    record = SplitUncertaintyd(out_channels=4, activation="softmax")({"pred": result[0]})
    assert record["scores"]["disagreement"] == pytest.approx(0, abs=1e-6)
    assert record["uncertainty"][1].max() > 0.2  # the map of the variance says it


def test_members_are_copies_of_the_network_inside_a_wrapper(tmp_path: Path) -> None:
    image, members = torch.zeros(1, 3, 2, 2), saved(tmp_path, 2.0)
    wrapped = UncertaintyInferer(directly, method="ensemble", members=members)(image, nn.DataParallel(Constant(0.0)))
    plain = UncertaintyInferer(directly, method="ensemble", members=members)(image, Constant(0.0))
    assert torch.equal(wrapped, plain)
