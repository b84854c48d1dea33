import math

import pytest
import torch
from monai.data import MetaTensor
from monai.losses import FocalLoss

from banet_monai.losses import BANetLoss, boundary_term, edge_target, focal, mask_target, signed_distance

LN2 = math.log(2)


def square(size=10, start=3, stop=7):
    """One square of ones, (1, 1, size, size)."""
    mask = torch.zeros(1, 1, size, size)
    mask[..., start:stop, start:stop] = 1
    return mask


def training_output(channels=1, edge_channels=None, spatial=(8, 8), fill=0.0):
    edge_channels = channels if edge_channels is None else edge_channels
    return {
        "mask": torch.full((2, channels, *spatial), fill),
        "stage_masks": [torch.full((2, channels, *spatial), fill) for _ in range(4)],
        "stage_edges": [torch.full((2, edge_channels, *spatial), fill) for _ in range(4)],
    }


# Edge targets


def test_edge_of_one_pixel_is_the_block_around_it():
    mask = torch.zeros(1, 1, 7, 7)
    mask[0, 0, 3, 3] = 1
    expected = torch.zeros(1, 1, 7, 7)
    expected[0, 0, 2:5, 2:5] = 1
    assert torch.equal(edge_target(mask), expected)


@pytest.mark.parametrize(("width", "pixels"), [(1, 36 - 4), (2, 64 - 0)])
def test_edge_lies_width_pixels_on_either_side_of_the_outline(width, pixels):
    assert edge_target(square(), width).sum() == pixels  # a 4x4 square: dilated to 6x6 or 8x8, eroded to 2x2 or 0


def test_frame_of_the_image_is_no_edge():
    mask = torch.zeros(1, 1, 6, 8)
    mask[..., :4] = 1  # runs out of the image on three sides
    expected = torch.zeros(1, 1, 6, 8)
    expected[..., 3:5] = 1
    assert torch.equal(edge_target(mask), expected)
    assert not edge_target(torch.ones(1, 1, 6, 8)).any()


def test_edges_of_a_volume_and_of_each_channel_are_computed_on_their_own():
    mask = torch.zeros(1, 2, 7, 7, 7)
    mask[0, 1, 3, 3, 3] = 1
    edges = edge_target(mask)
    assert edges[0, 0].sum() == 0
    assert edges[0, 1].sum() == 27


@pytest.mark.parametrize("dtype", [torch.uint8, torch.bool, torch.int64, torch.bfloat16])
def test_edge_target_takes_any_dtype(dtype):
    assert torch.equal(edge_target(square().to(dtype)), edge_target(square()))


def test_edge_target_refuses_a_width_below_one():
    with pytest.raises(ValueError, match="width must be at least 1 pixel, got 0"):
        edge_target(square(), width=0)


def test_edge_target_refuses_a_mask_without_channel_axis():
    with pytest.raises(ValueError, match=r"4 or 5 axes, got shape \(5, 5\)"):
        edge_target(torch.zeros(5, 5))


# Values of the loss


def test_uncertain_maps_cost_ln2_each():
    label = torch.randint(0, 2, (2, 1, 8, 8), generator=torch.Generator().manual_seed(0))
    assert BANetLoss()(training_output(), label).item() == pytest.approx(9 * LN2)  # the mask, 4 masks, 4 edge maps


def test_weights_multiply_the_stages_and_the_edges():
    loss = BANetLoss(stage_weights=(1, 0.5, 0.25, 0), edge_weight=2)
    label = torch.ones(2, 1, 8, 8)
    assert loss(training_output(), label).item() == pytest.approx(LN2 * (1 + 1.75 * 3))


def test_uncertain_softmax_maps_cost_the_log_of_the_number_of_classes():
    label = torch.randint(0, 3, (2, 1, 8, 8), generator=torch.Generator().manual_seed(0))
    value = BANetLoss(mode="multiclass")(training_output(3, edge_channels=2), label)
    assert value.item() == pytest.approx(5 * math.log(3) + 4 * LN2)


def test_uncertain_multilabel_maps_in_3d_cost_ln2_each():
    label = torch.randint(0, 2, (2, 2, 4, 4, 4), generator=torch.Generator().manual_seed(0))
    value = BANetLoss(mode="multilabel")(training_output(2, spatial=(4, 4, 4)), label)
    assert value.item() == pytest.approx(9 * LN2)


def test_plain_logits_give_the_mask_term_alone():
    assert BANetLoss()(torch.zeros(1, 1, 10, 10), square()).item() == pytest.approx(LN2)


def test_empty_stage_lists_give_the_mask_term_alone():
    output = {"mask": torch.zeros(1, 1, 10, 10), "stage_masks": [], "stage_edges": []}
    assert BANetLoss()(output, square()).item() == pytest.approx(LN2)


def test_dice_is_added_to_the_masks_with_its_weight():
    logits = torch.full((1, 1, 10, 10), 50.0)  # everything is foreground
    without, with_dice = (BANetLoss(dice_weight=weight)(logits, square()).item() for weight in (0, 2))
    assert with_dice - without == pytest.approx(2 * (1 - (2 * 16 + 1) / (100 + 16 + 1)), rel=1e-5)


@pytest.mark.parametrize("mode", ["binary", "multiclass", "multilabel"])
def test_empty_masks_predicted_empty_cost_nothing_and_never_less(mode):
    label = torch.zeros(2, 2 if mode == "multilabel" else 1, 8, 8)
    channels = 1 if mode == "binary" else 2
    output = training_output(channels, edge_channels=1 if mode == "multiclass" else channels, fill=-40.0)
    if mode == "multiclass":
        for masks in [output["mask"], *output["stage_masks"]]:
            masks[:, 0] = 40.0
    value = BANetLoss(mode=mode, dice_weight=1.0)(output, label).item()
    assert value >= 0
    assert value == pytest.approx(0, abs=1e-6)


def test_edge_maps_are_compared_with_the_edge_of_each_foreground_class():
    label = torch.zeros(1, 1, 10, 10)
    label[..., 1:4, 1:4] = 1
    label[..., 6:9, 6:9] = 2
    masks = torch.cat([label == value for value in (0, 1, 2)], dim=1).float()
    edges = torch.cat([edge_target(masks[:, 1:2]), edge_target(masks[:, 2:3])], dim=1)
    output = {
        "mask": masks * 60 - 30,
        "stage_masks": [masks * 60 - 30] * 4,
        "stage_edges": [edges * 60 - 30] * 4,
    }
    loss = BANetLoss(mode="multiclass")
    assert loss(output, label).item() == pytest.approx(0, abs=1e-6)
    output["stage_edges"] = [edges.flip(1) * 60 - 30] * 4
    assert loss(output, label).item() > 1


# Precision, types, gradients


@pytest.mark.parametrize("mode", ["binary", "multiclass", "multilabel"])
def test_bfloat16_predictions_are_computed_in_float32(mode):
    generator = torch.Generator().manual_seed(0)
    channels = 1 if mode == "binary" else 3
    logits = torch.randn(2, channels, 16, 16, generator=generator).bfloat16()
    label = torch.randint(0, 2, (2, channels if mode == "multilabel" else 1, 16, 16), generator=generator)
    loss = BANetLoss(mode=mode, dice_weight=1.0)
    expected = loss(logits.float(), label)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = loss(logits, label)
    assert value.dtype == torch.float32
    assert torch.equal(value, expected)


def test_meta_tensors_give_the_same_value_as_plain_tensors():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 1, 8, 8, generator=generator)
    label = torch.randint(0, 2, (2, 1, 8, 8), generator=generator)
    value = BANetLoss()(MetaTensor(logits), MetaTensor(label))
    assert type(value) is torch.Tensor
    assert torch.equal(value, BANetLoss()(logits, label))


@pytest.mark.parametrize("mode", ["binary", "multiclass", "multilabel"])
def test_gradient_agrees_with_finite_differences(mode):
    generator = torch.Generator().manual_seed(0)
    channels, edge_channels = {"binary": (1, 1), "multiclass": (3, 2), "multilabel": (2, 2)}[mode]
    shapes = [(1, n, 4, 4) for n in (channels, *(channels,) * 4, *(edge_channels,) * 4)]
    maps = [torch.randn(shape, generator=generator, dtype=torch.float64, requires_grad=True) for shape in shapes]
    n_values = 3 if mode == "multiclass" else 2
    label = torch.randint(0, n_values, (1, 2 if mode == "multilabel" else 1, 4, 4), generator=generator)
    loss = BANetLoss(mode=mode, dice_weight=0.5, stage_weights=(1, 0.8, 0.6, 0.4))

    def function(mask, *stages):
        return loss({"mask": mask, "stage_masks": stages[:4], "stage_edges": stages[4:]}, label)

    assert torch.autograd.gradcheck(function, maps)


def test_every_map_receives_a_gradient():
    output = training_output()
    maps = [output["mask"], *output["stage_masks"], *output["stage_edges"]]
    for tensor in maps:
        tensor.requires_grad_()
    BANetLoss()(output, torch.ones(2, 1, 8, 8)).backward()
    assert all(tensor.grad is not None and tensor.grad.abs().sum() > 0 for tensor in maps)


# What is refused


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mode": "softmax"}, "mode must be one of .*got 'softmax'"),
        ({"stage_weights": (1, 2)}, r"one number or 4, got \(1, 2\)"),
        ({"dice_weight": -1}, "must not be negative.*dice_weight=-1"),
        ({"edge_width": 0}, "edge_width must be at least 1 pixel, got 0"),
    ],
)
def test_impossible_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        BANetLoss(**options)


def test_label_values_out_of_range_are_named():
    label = square() * 255
    with pytest.raises(ValueError, match=r"whole numbers from 0 to 1, got also \[255.0\]"):
        BANetLoss()(torch.zeros(1, 1, 10, 10), label)
    with pytest.raises(ValueError, match=r"whole numbers from 0 to 2, got also \[0.5, 7.0\]"):
        mask_target(torch.tensor([0, 0.5, 2, 7]).reshape(1, 1, 2, 2), "multiclass", 3)
    with pytest.raises(ValueError, match=r"whole numbers from 0 to 1, got also \[nan"):
        mask_target(torch.tensor([0, 1, 1, math.nan]).reshape(1, 1, 2, 2), "binary", 1)


def test_two_channels_are_refused_in_binary_mode():
    with pytest.raises(ValueError, match=r"needs one output channel.*use mode 'multiclass'"):
        BANetLoss()(torch.zeros(1, 2, 10, 10), square())


def test_label_of_other_channels_is_refused():
    with pytest.raises(ValueError, match=r"mode 'multilabel' must be \(batch, 2, \*spatial\).*got shape \(1, 1, 10"):
        BANetLoss(mode="multilabel")(torch.zeros(1, 2, 10, 10), square())


def test_label_of_another_size_is_refused():
    with pytest.raises(ValueError, match=r"'mask' has shape \(1, 1, 8, 8\), but its target has \(1, 1, 10, 10\)"):
        BANetLoss()(torch.zeros(1, 1, 8, 8), square())


def test_wrong_number_of_edge_channels_names_the_remedy():
    with pytest.raises(ValueError, match="build the network with edge_channels=2"):
        BANetLoss(mode="multiclass")(training_output(3, edge_channels=3), torch.zeros(2, 1, 8, 8))


def test_missing_keys_are_named():
    with pytest.raises(ValueError, match=r"missing are \['stage_masks', 'stage_edges'\]"):
        BANetLoss()({"mask": torch.zeros(1, 1, 10, 10)}, square())


def test_half_the_stages_are_refused():
    output = training_output()
    output["stage_edges"] = output["stage_edges"][:2]
    with pytest.raises(ValueError, match="both hold 4 maps or none, got 4 and 2"):
        BANetLoss()(output, torch.zeros(2, 1, 8, 8))


# Focal factor and boundary term


def test_the_focal_factor_is_one_minus_the_probability_of_the_truth_to_the_power():
    entropy = torch.tensor([LN2, -math.log(0.9), 0.0])
    torch.testing.assert_close(focal(entropy, 2.0), torch.tensor([0.25 * LN2, -0.01 * math.log(0.9), 0.0]))
    assert focal(entropy, 0.0) is entropy


def test_focal_masks_are_those_of_monai():
    logits, label = torch.randn(2, 1, 6, 6, generator=torch.Generator().manual_seed(0)), torch.ones(2, 1, 6, 6)
    label[..., :3] = 0
    torch.testing.assert_close(BANetLoss(focal_gamma=2.0)(logits, label), FocalLoss(gamma=2.0)(logits, label))


def test_the_focal_factor_leaves_the_edges_alone():
    label = torch.ones(2, 1, 8, 8)
    value = BANetLoss(focal_gamma=2.0)(training_output(), label)
    assert value.item() == pytest.approx(5 * 0.25 * LN2 + 4 * LN2)


def test_focal_softmax_maps_that_are_uncertain_cost_their_share():
    label = torch.zeros(2, 1, 8, 8)
    output = {"mask": torch.zeros(2, 3, 8, 8), "stage_masks": [], "stage_edges": []}
    value = BANetLoss(mode="multiclass", focal_gamma=1.0)(output, label)
    assert value.item() == pytest.approx(math.log(3) * 2 / 3)


@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0])
def test_a_pixel_that_is_surely_right_has_a_finite_slope(gamma):
    logits = torch.full((1, 1, 4, 4), 200.0, requires_grad=True)
    BANetLoss(focal_gamma=gamma)(logits, torch.ones(1, 1, 4, 4)).backward()
    assert torch.isfinite(logits.grad).all()


def test_distances_count_from_between_the_pixels_and_are_negative_inside():
    mask = torch.zeros(1, 1, 8, 1)
    mask[0, 0, :3] = 1
    expected = [-2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 3.5, 4.5]
    assert (signed_distance(mask).flatten() * 8).tolist() == pytest.approx(expected)


def test_masks_without_an_outline_have_no_distance_and_others_of_the_batch_do():
    masks = torch.zeros(2, 2, 4, 4, 4)
    masks[0, 1] = 1
    masks[1, 0, 0] = 1
    assert [bool(distance.any()) for distance in signed_distance(masks).flatten(0, 1)] == [False, False, True, False]


def test_a_wrong_pixel_costs_its_distance_from_the_outline():
    target = torch.zeros(1, 1, 8, 2)
    target[:, :, :3] = 1
    wrong = target.clone()
    wrong[0, 0, 7, 0] = 1  # 4.5 pixels outside
    wrong[0, 0, 0, 1] = 0  # 2.5 pixels inside
    assert boundary_term(target, target).item() == 0
    assert boundary_term(wrong, target).item() == pytest.approx((4.5 + 2.5) / 8 / 16)


def test_the_boundary_term_is_added_for_the_final_mask_with_its_weight():
    target = torch.zeros(2, 1, 8, 8)
    target[:, :, :3] = 1
    # everywhere one half: the mean distance of all pixels from the outline, halved
    term = (0.5 + 1.5 + 2.5 + 0.5 + 1.5 + 2.5 + 3.5 + 4.5) / 8 / 8 / 2
    for mode, foreground in (("binary", 1), ("multilabel", 1), ("multiclass", 2)):
        output = training_output(foreground, edge_channels=1)
        plain, added = (BANetLoss(mode=mode, boundary_weight=weight)(output, target).item() for weight in (0.0, 3.0))
        assert added - plain == pytest.approx(3 * term, rel=1e-4)


@pytest.mark.parametrize("option", ["focal_gamma", "boundary_weight"])
def test_a_negative_exponent_or_boundary_weight_is_refused(option):
    with pytest.raises(ValueError, match=rf"weights must not be negative, got .*{option}=-1"):
        BANetLoss(**{option: -1})
