"""The network of a finished run, on the cases of its evaluation or on others, with the bundle's own configuration."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from monai.bundle import ConfigParser
from monai.data import decollate_batch
from monai.transforms import Activationsd, Compose

from banet_monai.inferers import FlipInferer
from banet_monai.transforms import RestoreGridd
from benchmarks.accuracy.definitions import Run
from benchmarks.accuracy.execution import Places, Workplace, lay_over

__all__ = ["Predictor"]


class Predictor:
    """What a finished run predicts.

    Args:
        run: a run of one foreground class.
        places: where it lies.
        checkpoint: other weights for the run's network than those it ended with.
        tta: average over flips and quarter turns.
        cases: entries laid over the evaluation configuration, to see other cases than the run's held-back ones.

    Raises:
        FileNotFoundError: when the weights or the data are not there.
        ValueError: when the network has several channels.
    """

    def __init__(
        self,
        run: Run,
        places: Places,
        *,
        checkpoint: Path | None = None,
        tta: bool = False,
        cases: Mapping[str, Any] | None = None,
    ) -> None:
        overlay = {**lay_over(run, places)[1], **(cases or {}), "picture_batch": 1}
        overlay["checkpoint"] = str(checkpoint or Workplace(run, places).weights)
        if not Path(overlay["checkpoint"]).is_file():
            raise FileNotFoundError(f"'{overlay['checkpoint']}' does not exist: the run '{run.name}' is not finished.")
        self._parser = ConfigParser(ConfigParser.load_config_files([str(file) for file in run.evaluation_files()]))
        self._parser.update(overlay)
        self.device, self.network, inferer = (
            self._parser.get_parsed_content(n) for n in ("device", "network", "inferer")
        )
        if int(self._parser.get("network_def").get("out_channels", 1)) != 1:
            raise ValueError(f"'{run.name}' has several classes; this is for one.")
        self._parser.get_parsed_content("weights")
        self._inferer = FlipInferer(inferer, enabled=tta)
        self._restore = Compose([Activationsd("pred", sigmoid=True), RestoreGridd("pred")])
        self.network.eval()

    def batches(self) -> Iterator[dict[str, Any]]:
        """The cases, loaded, one in each batch.

        Raises:
            ValueError: when a case cannot be read.
        """
        for batch in self._parser.get_parsed_content("dataloader"):
            if failure := next((text for text in batch["failure"] if text), ""):
                raise ValueError(f"a case cannot be read: {failure}")
            yield batch

    def predict(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """The case of a batch with ``pred``: probabilities ``(1, *spatial)`` on the grid of its file, on the CPU."""
        with torch.inference_mode():
            pred = self._inferer(batch["image"].to(self.device), self.network)
        case = self._restore(decollate_batch({**batch, "pred": pred})[0])
        case["pred"] = case["pred"].as_tensor().float().cpu()
        return dict(case)
