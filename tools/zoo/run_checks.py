"""Checks of a built bundle that run it with MONAI's own functions, as the model zoo's build server does.

    python run_checks.py BUNDLE REPORT CHECK ...

It is a program of its own so that the package of the bundle is imported and no other, and it works in an empty folder.
``REPORT`` becomes a JSON object from the name of each check to what was wrong ("" where it holds).
"""

from __future__ import annotations

import json
import shutil
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

__all__ = ["RUN_CHECKS", "SCHEMA", "main"]

SCHEMA = Path(__file__).with_name("meta_schema_20240725.json")
NETWORK = "network_def"
TOLERANCE = 1e-3  # of logits, between PyTorch and what was exported


class _Place:
    """Paths of a bundle as MONAI's functions take them."""

    def __init__(self, bundle: Path) -> None:
        self.root = bundle
        self.weights = bundle / "models" / "model.pt"
        self.metadata = str(bundle / "configs" / "metadata.json")
        self.inference = str(bundle / "configs" / "inference.json")

    def network(self) -> Any:
        """The network of inference.json with its weights, all of them."""
        from banet_monai.networks import load_weights

        network = self._parser().get_parsed_content(NETWORK)
        load_weights(network, self.weights)
        return network.eval()

    def images(self) -> list[Any]:
        """Two inputs: of the size in the metadata, and two at once of another size."""
        import torch

        stated = json.loads(Path(self.metadata).read_text())["network_data_format"]["inputs"]["image"]
        channels, shape = stated["num_channels"], stated["spatial_shape"]
        generator = torch.Generator().manual_seed(0)
        sizes = [(1, channels, *shape), (2, channels, *(size - 16 for size in shape))]
        return [torch.rand(size, generator=generator) for size in sizes]

    def require_same(self, exported: Callable[[Any], Any]) -> None:
        """Raises where the exported network computes something else."""
        import torch

        network = self.network()
        for image in self.images():
            with torch.no_grad():
                torch.testing.assert_close(exported(image), network(image), rtol=TOLERANCE, atol=TOLERANCE)

    def _parser(self) -> Any:
        from monai.bundle import ConfigParser

        parser = ConfigParser()
        parser.read_config(self.inference)
        parser["bundle_root"] = str(self.root)
        return parser


def check_package(place: _Place) -> None:
    """The bundle brings its own package."""
    import banet_monai

    origin = Path(banet_monai.__file__ or "").resolve().parent
    if origin != (place.root / "banet_monai").resolve():
        raise ValueError(f"the bundle has no package banet_monai of its own: it was imported from {origin}")


def check_metadata(place: _Place) -> None:
    """``verify_metadata`` with the zoo's schema, from a file because an existing one is not downloaded."""
    from monai.bundle import verify_metadata

    stated = json.loads(Path(place.metadata).read_text())["schema"]
    if not stated.endswith(f"/{SCHEMA.name}"):
        raise ValueError(f"the metadata names the schema {stated}, here is {SCHEMA.name}")
    verify_metadata(meta_file=place.metadata, filepath=shutil.copy(SCHEMA, "schema.json"))


def check_weights(place: _Place) -> None:
    """The weights are tensors by name and fit the network, all of them; MONAI itself would load a part."""
    import torch

    place.network()
    content = torch.load(place.weights, map_location="cpu", weights_only=True)
    if not all(isinstance(value, torch.Tensor) for value in content.values()):
        raise ValueError("models/model.pt is no flat state dictionary: MONAI's exports would take random weights")


def check_network_data(place: _Place) -> None:
    """``verify_net_in_out``: shape and type of input and output are those of the metadata."""
    from monai.bundle import verify_net_in_out

    verify_net_in_out(
        net_id=NETWORK, meta_file=place.metadata, config_file=place.inference, bundle_root=str(place.root)
    )


def check_properties_train(place: _Place) -> None:
    """``check_properties`` of the training workflow."""
    _check_properties(place, "train", "train.json")


def check_properties_inference(place: _Place) -> None:
    """``check_properties`` of the inference workflow."""
    _check_properties(place, "inference", "inference.json")


def _check_properties(place: _Place, kind: str, config: str) -> None:
    from monai.bundle import create_workflow

    workflow = create_workflow(
        workflow_type=kind,
        config_file=str(place.root / "configs" / config),
        meta_file=place.metadata,
        logging_file=str(place.root / "configs" / "logging.conf"),
        bundle_root=str(place.root),
        output_dir="output",  # not in the bundle
    )
    if missing := workflow.check_properties():
        raise ValueError(f"configs/{config} lacks {missing}")


def check_ckpt_export(place: _Place) -> None:
    """``ckpt_export``: the TorchScript file computes what the network computes."""
    import torch
    from monai.bundle import ckpt_export

    ckpt_export(
        net_id=NETWORK,
        filepath="model.ts",
        ckpt_file=str(place.weights),
        meta_file=place.metadata,
        config_file=place.inference,
        bundle_root=str(place.root),
    )
    place.require_same(torch.jit.load("model.ts"))  # type: ignore[no-untyped-call]


def check_onnx_export(place: _Place) -> None:
    """``onnx_export`` for every batch and image size: ONNX Runtime computes what the network computes."""
    import onnxruntime
    import torch
    from monai.bundle import onnx_export

    dims = place.images()[0].ndim - 2
    axes = {0: "batch"} | dict(zip(range(2, 2 + dims), ("width", "height", "depth"), strict=False))
    names = {"input_names": ["image"], "output_names": ["pred"]}
    onnx_export(
        net_id=NETWORK,
        filepath="model.onnx",
        ckpt_file=str(place.weights),
        meta_file=place.metadata,
        config_file=place.inference,
        bundle_root=str(place.root),
        use_trace=True,
        converter_kwargs={**names, "dynamic_axes": {"image": axes, "pred": axes}},
    )
    session = onnxruntime.InferenceSession("model.onnx", providers=["CPUExecutionProvider"])
    place.require_same(lambda image: torch.from_numpy(session.run(None, {"image": image.numpy()})[0]))


RUN_CHECKS: dict[str, Callable[[_Place], None]] = {
    "package": check_package,
    "metadata": check_metadata,
    "weights": check_weights,
    "net_in_out": check_network_data,
    "properties_train": check_properties_train,
    "properties_inference": check_properties_inference,
    "ckpt_export": check_ckpt_export,
    "onnx_export": check_onnx_export,
}
"""Every check by its name; each raises where it does not hold."""


def main(bundle: str, report: str, *names: str) -> None:
    """Run checks and write the report."""
    place = _Place(Path(bundle).resolve())
    sys.path.insert(0, str(place.root))
    results = {}
    for name in names:
        try:
            RUN_CHECKS[name](place)
            results[name] = ""
        except Exception as error:  # whatever a check raises is its finding
            traceback.print_exc()
            results[name] = f"{type(error).__name__}: {error}"
    Path(report).write_text(json.dumps(results), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
