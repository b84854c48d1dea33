"""Example overlays of validation in TensorBoard: truth and prediction as two outlines."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine, Events
from monai.data import MetaTensor
from numpy.typing import NDArray

from banet_monai.handlers.processes import process_rank
from banet_monai.handlers.tensorboard import EventWriter
from banet_monai.report.overlays import contact_sheet, draw_outline, to_grey_levels

__all__ = ["OverlayWriter", "outlined_pair"]

TRUTH = (255, 255, 255)
LINE = 2  # pixels of the working picture
PREDICTION = (230, 159, 0)  # orange of Okabe and Ito: seen by colour-blind eyes beside white


def outlined_pair(image: torch.Tensor, label: torch.Tensor, pred: torch.Tensor) -> NDArray[np.uint8]:
    """Truth (white) and prediction (orange) on a picture, or on the slice of a volume that holds most of the truth.

    Args:
        image: ``(C, W, H)`` or ``(C, W, H, D)``, any value range.
        label: label ids ``(1, *spatial)``.
        pred: label ids ``(1, *spatial)``.

    Returns:
        ``(H, W, 3)`` uint8.
    """
    if image.ndim == 4:
        index = int((label[0] > 0).sum(dim=(0, 1)).argmax())
        image, label, pred = image[..., index], label[..., index], pred[..., index]
    shown = to_grey_levels(image.float())
    shown = draw_outline(shown, (label[0] > 0).numpy().T.astype(np.uint8), color=TRUTH, width=LINE)
    return draw_outline(shown, (pred[0] > 0).numpy().T.astype(np.uint8), color=PREDICTION, width=LINE)


class OverlayWriter:
    """Writes the first cases of every validation as one picture to TensorBoard.

    Args:
        writer: where to.
        count: how many cases.
        tag: name of the picture in TensorBoard.
    """

    def __init__(
        self, writer: EventWriter, count: int = 6, *, tag: str = "validation: truth white, prediction orange"
    ) -> None:
        self.writer = writer
        self.count = count
        self.tag = tag
        self.pictures: list[NDArray[np.uint8]] = []

    def attach(self, engine: Engine) -> None:
        """Registers for ``engine``, the validator; on other ranks than the first it does nothing."""
        if process_rank() == 0:
            engine.add_event_handler(Events.EPOCH_STARTED, lambda engine: self.pictures.clear())
            engine.add_event_handler(Events.ITERATION_COMPLETED, self.collect)
            engine.add_event_handler(Events.EPOCH_COMPLETED, self.write)

    def collect(self, engine: Engine) -> None:
        """Draw the cases of a step until there are enough."""
        output: Any = engine.state.output
        for case in output:
            if len(self.pictures) >= self.count or not isinstance(case, Mapping):
                return
            image, label, pred = (_plain(case[key]) for key in ("image", "label", "pred"))
            self.pictures.append(outlined_pair(image, label, pred))

    def write(self, engine: Engine) -> None:
        """Write the sheet under the epoch of the run."""
        if self.pictures:
            self.writer.add_image(self.tag, contact_sheet(self.pictures), engine.state.epoch)


def _plain(tensor: Any) -> torch.Tensor:
    return (tensor.as_tensor() if isinstance(tensor, MetaTensor) else tensor).detach().cpu()
