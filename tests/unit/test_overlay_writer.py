import numpy as np
import torch
from ignite.engine import Engine
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from banet_monai.handlers import EventWriter, OverlayWriter
from banet_monai.handlers.overlays import PREDICTION, TRUTH, outlined_pair


def square(*spatial, low, high):
    mask = torch.zeros(1, *spatial)
    mask[0, low:high, low:high] = 1
    return mask


def test_truth_and_prediction_are_drawn_in_their_own_colours():
    image = torch.zeros(3, 200, 200)
    image[:, :1] = 1.0  # a range to scale by
    shown = outlined_pair(image, square(200, 200, low=20, high=60), square(200, 200, low=120, high=180))
    colours = {tuple(pixel) for pixel in shown.reshape(-1, 3).tolist()}
    assert TRUTH in colours
    assert PREDICTION in colours
    assert tuple(shown[100, 100]) == (0, 0, 0)


def test_the_slice_with_most_of_the_truth_is_shown():
    label = torch.zeros(1, 40, 50, 3)
    label[0, 5:10, 5:10, 0] = 1
    label[0, 5:30, 5:30, 2] = 1
    image = torch.zeros(1, 40, 50, 3)
    image[0, 20:, :, 2] = 1.0
    shown = outlined_pair(image, label, torch.zeros_like(label))
    assert shown.shape == (50, 40, 3)  # rows are y, columns are x
    assert shown[45, 35].tolist() == [255, 255, 255]  # only the last slice has anything there


def test_a_validation_leaves_one_picture_of_the_first_cases_in_tensorboard(tmp_path):
    case = {"image": torch.rand(3, 32, 32), "label": square(32, 32, low=4, high=9), "pred": torch.zeros(1, 32, 32)}
    writer = OverlayWriter(EventWriter(str(tmp_path)), count=2, tag="overlays")
    engine = Engine(lambda engine, batch: [case])
    writer.attach(engine)
    engine.run([0, 1, 2], max_epochs=1)
    writer.writer.close()
    assert len(writer.pictures) == 2
    events = EventAccumulator(str(tmp_path)).Reload()
    picture = events.Images("overlays")
    assert len(picture) == 1
    assert (picture[0].width, picture[0].height) == (2 * 256 + 4, 256)
    assert np.frombuffer(picture[0].encoded_image_string[:4], np.uint8).tolist() == [137, 80, 78, 71]  # a PNG
