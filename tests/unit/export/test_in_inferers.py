import pytest
import torch

from banet_monai import export
from banet_monai.inferers import FlipInferer, SegmentationInferer
from banet_monai.networks import BANet


def tiny(**options):
    torch.manual_seed(0)
    options = {
        "encoder": "mobilenet_v2",
        "output_stride": 16,
        "width": 8,
        "aspp_channels": 8,
        "separable": True,
        **options,
    }
    return BANet(**options).eval()


@pytest.fixture
def made(monkeypatch):
    """How often an optimized network was made."""
    calls, plain = [], export.optimizing.optimize
    monkeypatch.setattr(
        export.optimizing, "optimize", lambda *args, **options: calls.append(options) or plain(*args, **options)
    )
    return calls


@pytest.mark.parametrize("shape", [(1, 3, 32, 32), (1, 3, 40, 70), (1, 3, 33, 40, 3)])
@torch.no_grad()
def test_logits_are_those_of_the_network_itself(made, shape):
    network, x = tiny(), torch.rand(shape)
    plain = SegmentationInferer(roi_size=32, amp="none", optimize=False)(x, network)
    assert made == []
    fast = SegmentationInferer(roi_size=32, amp="none")(x, network)
    torch.testing.assert_close(fast, plain, rtol=0, atol=1e-4)
    assert made == [{"dtype": torch.float32}]


@torch.no_grad()
def test_the_fast_form_is_made_once_for_all_inferers_and_views(made):
    network = tiny()
    for _ in range(2):
        FlipInferer(SegmentationInferer(roi_size=32, amp="bf16"))(torch.rand(1, 3, 40, 40), network)
    assert made == [{"dtype": torch.bfloat16}]


def test_network_made_in_inference_mode_is_used_itself(made):
    """Changes of its weights could not be seen."""
    with torch.inference_mode():
        network, x = tiny(), torch.rand(1, 3, 32, 32)
        logits = SegmentationInferer(roi_size=32, amp="none")(x, network)
        torch.testing.assert_close(logits, network(x))
    assert made == []


@torch.no_grad()
def test_dropout_in_training_mode_still_drops(made):
    network, x = tiny(dropout=0.5).train(), torch.rand(1, 3, 32, 32)
    inferer = SegmentationInferer(roi_size=32, amp="none")
    assert not torch.equal(inferer(x, network), inferer(x, network))
    assert made == []


@torch.no_grad()
def test_new_weights_are_seen(made):
    network, x = tiny(), torch.rand(1, 3, 32, 32)
    inferer = SegmentationInferer(roi_size=32, amp="none")
    inferer(x, network)
    for parameter in network.head.parameters():
        parameter.zero_()
    assert torch.equal(inferer(x, network), torch.zeros(1, 1, 32, 32))


def test_gradients_flow_where_they_are_wanted():
    x = torch.rand(1, 3, 32, 32, requires_grad=True)
    SegmentationInferer(roi_size=32, amp="none")(x, tiny()).sum().backward()
    assert x.grad is not None


def test_the_switch_takes_text():
    assert SegmentationInferer(roi_size=32, optimize="false").optimize is False
    with pytest.raises(ValueError, match="optimize must be true or false, got 'maybe'"):
        SegmentationInferer(roi_size=32, optimize="maybe")
