import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from banet_monai.losses import BANetLoss, edge_target

fast = settings(max_examples=30, deadline=None)
AXES = st.sampled_from([(-1,), (-2,), (-2, -1)])


@st.composite
def masks(draw):
    height, width = draw(st.integers(1, 9)), draw(st.integers(1, 9))
    bits = draw(st.lists(st.integers(0, 1), min_size=height * width, max_size=height * width))
    return torch.tensor(bits).reshape(1, 1, height, width)


@st.composite
def training_cases(draw):
    """Random logits of a training step with their label, and the loss for them."""
    mode = draw(st.sampled_from(["binary", "multiclass", "multilabel"]))
    channels = 1 if mode == "binary" else draw(st.integers(2, 3))
    size = draw(st.integers(2, 6)), draw(st.integers(2, 6))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    edges = channels - 1 if mode == "multiclass" else channels
    scale = draw(st.sampled_from([0.1, 3.0, 60.0]))
    output = {
        "mask": torch.randn(2, channels, *size, generator=generator) * scale,
        "stage_masks": [torch.randn(2, channels, *size, generator=generator) * scale for _ in range(4)],
        "stage_edges": [torch.randn(2, edges, *size, generator=generator) * scale for _ in range(4)],
    }
    n_values, label_channels = (channels, 1) if mode == "multiclass" else (2, channels)
    label = torch.randint(0, n_values, (2, label_channels, *size), generator=generator)
    return BANetLoss(mode=mode, dice_weight=draw(st.sampled_from([0.0, 1.0]))), output, label


def change(output, function):
    return {key: [function(item) for item in v] if isinstance(v, list) else function(v) for key, v in output.items()}


@given(masks())
@fast
def test_object_and_background_share_one_edge(mask):
    assert torch.equal(edge_target(mask), edge_target(1 - mask))


@given(masks(), AXES)
@fast
def test_edge_moves_with_the_image(mask, axes):
    assert torch.equal(edge_target(mask.flip(axes)), edge_target(mask).flip(axes))


@given(masks(), st.integers(1, 3))
@fast
def test_a_wider_edge_contains_a_narrower_one(mask, width):
    assert torch.all(edge_target(mask, width + 1) >= edge_target(mask, width))


@given(masks(), st.integers(1, 3))
@fast
def test_edge_marks_the_pixels_that_see_another_value_within_reach(mask, width):
    rows, columns = mask.shape[2:]
    edges = edge_target(mask, width)[0, 0]
    for i in range(rows):
        for j in range(columns):
            window = mask[0, 0, max(0, i - width) : i + width + 1, max(0, j - width) : j + width + 1]
            assert edges[i, j] == (window.min() != window.max())


@given(training_cases())
@fast
def test_loss_is_finite_and_not_negative(case):
    loss, output, label = case
    value = loss(output, label)
    assert torch.isfinite(value)
    assert value >= 0


@given(training_cases(), AXES)
@fast
def test_loss_does_not_change_when_image_and_label_are_flipped(case, axes):
    loss, output, label = case
    flipped = loss(change(output, lambda maps: maps.flip(axes)), label.flip(axes))
    torch.testing.assert_close(flipped, loss(output, label), rtol=1e-4, atol=1e-5)


@given(training_cases())
@fast
def test_loss_does_not_depend_on_the_order_of_the_batch(case):
    loss, output, label = case
    swapped = loss(change(output, lambda maps: maps.flip(0)), label.flip(0))
    torch.testing.assert_close(swapped, loss(output, label), rtol=1e-4, atol=1e-5)


@given(masks(), st.sampled_from([0.0, 1.0]))
@fast
def test_perfect_predictions_cost_nothing(mask, dice_weight):
    logits, edges = mask * 80.0 - 40, edge_target(mask) * 80 - 40
    output = {"mask": logits, "stage_masks": [logits] * 4, "stage_edges": [edges] * 4}
    value = BANetLoss(dice_weight=dice_weight)(output, mask)
    torch.testing.assert_close(value, torch.tensor(0.0), atol=1e-5, rtol=0)


@given(masks(), st.integers(0, 2**31))
@fast
def test_binary_cross_entropy_treats_object_and_background_alike(mask, seed):
    generator = torch.Generator().manual_seed(seed)
    logits, edges = (torch.randn(mask.shape, generator=generator) for _ in range(2))
    output = {"mask": logits, "stage_masks": [logits] * 4, "stage_edges": [edges] * 4}
    inverted = {"mask": -logits, "stage_masks": [-logits] * 4, "stage_edges": [edges] * 4}
    torch.testing.assert_close(BANetLoss()(output, mask), BANetLoss()(inverted, 1 - mask))


@given(masks(), st.integers(0, 2**31))
@fast
def test_one_label_of_many_is_the_binary_loss(mask, seed):
    logits = torch.randn(mask.shape, generator=torch.Generator().manual_seed(seed))
    binary, multilabel = (BANetLoss(mode=mode, dice_weight=1.0)(logits, mask) for mode in ("binary", "multilabel"))
    torch.testing.assert_close(binary, multilabel)
