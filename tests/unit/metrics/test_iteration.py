import numpy as np
import pytest
import torch
from ignite.engine import Engine
from monai.bundle import ConfigParser
from monai.data import MetaTensor

from banet_monai.metrics import BoundaryIoUMetric, JaccardMetric, OverlapMetric, SurfaceMetric

TRUE = torch.zeros(1, 12, 16)
TRUE[0, 2:6, 2:6] = 1
SHIFTED = TRUE.roll(2, dims=2)  # JA 1/3, Dice 1/2
EMPTY = torch.zeros_like(TRUE)


@pytest.mark.parametrize("as_batch", [False, True])
def test_mean_over_images_counts_a_miss_as_zero(as_batch):
    metric = JaccardMetric()
    pred, true = [TRUE, SHIFTED, EMPTY], [TRUE] * 3
    values = metric(torch.stack(pred), torch.stack(true)) if as_batch else metric(pred, true)
    torch.testing.assert_close(values, torch.tensor([[1], [1 / 3], [0]], dtype=torch.float64))
    assert metric.aggregate().item() == pytest.approx((1 + 1 / 3 + 0) / 3)


def test_values_add_up_over_calls_until_reset():
    metric = JaccardMetric()
    metric([TRUE], [TRUE])
    metric([EMPTY], [TRUE])
    assert metric.aggregate().item() == 0.5
    metric.reset()
    metric([TRUE], [TRUE])
    assert metric.aggregate().item() == 1


@pytest.mark.parametrize(
    ("name", "expected"),
    [("jaccard", 1 / 3), ("dice", 0.5), ("sensitivity", 0.5), ("specificity", 168 / 176), ("accuracy", 176 / 192)],
)
def test_overlap_metric_takes_the_figures_by_name(name, expected):
    metric = OverlapMetric(name)
    metric([SHIFTED], [TRUE])
    assert metric.aggregate().item() == pytest.approx(expected)


@pytest.mark.parametrize(("name", "expected"), [("hd95", (2 + 20) / 2), ("nsd", 0.5), ("assd", None)])
def test_surface_metric_penalises_a_miss(name, expected):
    metric = SurfaceMetric(name)
    metric([SHIFTED, EMPTY], [TRUE, TRUE])  # the diagonal of 12 x 16 pixels is 20
    value = metric.aggregate().item()
    assert value == pytest.approx(expected) if expected else 10 < value < 11


def test_surface_metric_scales_with_the_spacing_given_or_read():
    affine = np.diag([3.0, 0.5, 1, 1])
    true, pred = (MetaTensor(mask, affine=affine) for mask in (TRUE, SHIFTED))
    for spacing, expected in [(None, 2), (3, 6), ((1, 0.5), 1), ("meta", 1)]:
        metric = SurfaceMetric(spacing=spacing)
        metric([pred, pred], [true, true])
        assert metric.aggregate().item() == pytest.approx(expected)


def test_boundary_metric_compares_the_bands():
    metric = BoundaryIoUMetric()  # bands of one pixel: 12 each, of which the lines of two squares share 4
    metric([SHIFTED, TRUE], [TRUE, TRUE])
    assert metric.aggregate().item() == pytest.approx((4 / 20 + 1) / 2)


def test_background_channel_is_left_out_unless_asked_for():
    pred, true = (torch.cat([1 - mask, mask]) for mask in (SHIFTED, TRUE))
    foreground, everything = JaccardMetric(), JaccardMetric(include_background=True)
    foreground([pred], [true])
    everything([pred], [true])
    assert foreground.aggregate().item() == pytest.approx(1 / 3)
    assert everything.aggregate().item() == pytest.approx((1 / 3 + 168 / 184) / 2)


def test_label_ids_are_taken_when_the_number_of_classes_is_known():
    metric = JaccardMetric(num_classes=3, reduction="mean_batch")
    metric([SHIFTED], [TRUE])
    metric([TRUE * 2], [TRUE * 2])
    assert metric.aggregate().tolist() == pytest.approx([(1 / 3 + 1) / 2, 1])  # an absent class is found absent
    assert metric.aggregate("none").shape == (2, 2)


def test_metric_handler_of_a_configuration_puts_the_mean_into_the_engine():
    handler = ConfigParser(
        {
            "metric": {
                "_target_": "IgniteMetricHandler",
                "metric_fn": {"_target_": "banet_monai.metrics.JaccardMetric"},
                "output_transform": "$monai.handlers.from_engine(['pred', 'label'])",
            },
            "imports": ["$import monai"],
        }
    ).get_parsed_content("metric")
    outputs = [[{"pred": TRUE, "label": TRUE}, {"pred": EMPTY, "label": TRUE}], [{"pred": SHIFTED, "label": TRUE}]]
    engine = Engine(lambda _, batch: batch)
    handler.attach(engine, "val_ja")
    engine.run(outputs)
    assert engine.state.metrics["val_ja"] == pytest.approx((1 + 0 + 1 / 3) / 3)
    assert engine.state.metric_details["val_ja"].shape == (3, 1)


def test_aggregating_without_an_image_is_an_error():
    with pytest.raises(ValueError, match="JaccardMetric has seen no image"):
        JaccardMetric().aggregate()


def test_metric_without_truth_is_an_error():
    with pytest.raises(ValueError, match="JaccardMetric needs the truth"):
        JaccardMetric()([TRUE])


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: OverlapMetric("iou"), "metric_name must be one of .*'jaccard'.* got 'iou'"),
        (lambda: SurfaceMetric("hd"), "metric_name must be one of .*'hd95'.* got 'hd'"),
        (lambda: SurfaceMetric(spacing="mm"), "'meta' or None, got 'mm'"),
        (lambda: JaccardMetric(num_classes=1), "at least 2.*num_classes=1"),
    ],
)
def test_unknown_options_are_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()
