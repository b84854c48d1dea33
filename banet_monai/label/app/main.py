"""MONAI Label's application for bundles, with what it lacks for annotation: uncertainty, strictness, plain refusals.

This file is copied into an application folder beside ``monaibundle_main.py``, MONAI Label's own ``main.py``, and runs
in MONAI Label's environment.
"""

from __future__ import annotations

import os
import sys
from typing import Any

import monaibundle_main
from banet_guard import is_plain_name
from monailabel.interfaces.app import MONAILabelApp
from monailabel.interfaces.exception import ImageNotFoundException, MONAILabelError, MONAILabelException
from monailabel.tasks.activelearning.epistemic import Epistemic
from monailabel.tasks.scoring.epistemic_v2 import EpistemicScoring

__all__ = ["AnnotationApp"]


class OneByOneScoring(EpistemicScoring):
    """Scores one image after the other: torch uses all cores for one, and a bundle's configuration is not shared."""

    def __call__(self, request: dict[str, Any], datastore: Any) -> Any:
        """Scores what has no score of the present weights."""
        return super().__call__({"max_workers": 1, **request}, datastore)


class AnnotationApp(monaibundle_main.MyApp, MONAILabelApp):  # the second base is looked for by its name
    """``monaibundle`` with the strategy ``epistemic``, strict loading of weights, and refusals in words."""

    def __init__(self, app_dir: str, studies: str, conf: dict[str, str]) -> None:
        super().__init__(app_dir, studies, conf)
        scored = [method.infer_task for method in self._scoring_methods.values()]
        for task in (*self._infers.values(), *self._trainers.values(), *scored):
            task.load_strict = True  # weights that do not fit are refused, not loaded in part

    def init_datastore(self) -> Any:
        """MONAI Label's own, which writes nothing outside its folder, whatever an image or a tag is called."""
        store = super().init_datastore()
        add_image, save_label = store.add_image, store.save_label

        def add_plain(image_id: str, *others: Any) -> Any:
            _require_plain(image_id)
            return add_image(image_id, *others)

        def save_plain(image_id: str, file: str, tag: str, info: Any) -> Any:
            _require_plain(image_id, tag)
            return save_label(image_id, file, tag, info)

        store.add_image, store.save_label = add_plain, save_plain
        return store

    def init_strategies(self) -> dict[str, Any]:
        """MONAI Label's own and ``epistemic``: the image whose outline is least certain."""
        return {**super().init_strategies(), "epistemic": Epistemic(desc="The image whose outline is least certain")}

    def init_scoring_methods(self) -> dict[str, Any]:
        """The entropy of probabilities, not of finished masks."""
        methods = super().init_scoring_methods()
        discretize = getattr(sys.modules.get("banet_monai.transforms"), "DiscretizeLabelsd", None)
        for name, method in methods.items():
            task = method.infer_task
            if discretize is not None:
                task.post_filter = [*task.post_filter, discretize]
            methods[name] = OneByOneScoring(task, method.max_samples, method.simulation_size)
        return methods

    def infer(self, request: dict[str, Any], datastore: Any = None) -> Any:
        """An outline; an image that is not there is refused before anything is read."""
        image = request.get("image")
        if isinstance(image, str) and not os.path.exists(image):  # noqa: PTH110
            self._require_image(image, datastore or self.datastore())
        return super().infer(request, datastore)

    def _require_image(self, image: str, datastore: Any) -> None:
        try:
            found = bool(datastore.get_image_uri(image))
        except (IndexError, KeyError):  # a DICOMweb server that lists no such series
            found = False
        if not found:
            raise ImageNotFoundException(f"there is no image '{image}' among the studies.")


def _require_plain(*names: str) -> None:
    for name in names:
        if not is_plain_name(name or ""):
            raise MONAILabelException(
                MONAILabelError.INVALID_INPUT, f"'{name}' is no name of an image or a tag: it would lead elsewhere."
            )
