"""Files of torch.export from strangers: what would run is refused before it does."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from banet_monai.backends import load_exported
from banet_monai.export import describe, export
from banet_monai.export.checking import UnsafeFileError, check_program_file
from banet_monai.networks import BANet

SMALL = {"encoder": "mobilenet_v2", "output_stride": 16, "width": 8, "aspp_channels": 8, "separable": True}


class Evil:
    """Makes a folder when it is unpickled."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.mkdir, (self.place,)


def pickled(value: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    network = BANet(**SMALL).eval()
    path = tmp_path_factory.mktemp("exported") / "model.pt2"
    return export(network, path, to="torch-export", description=describe(network, task="skin_lesion"))


def changed(file: Path, path: Path, part: str, change: Callable[[bytes], bytes], *, name: str = "") -> Path:
    """A copy in which one part is another, or a part called ``name`` is added."""
    with zipfile.ZipFile(file) as old, zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as new:
        for entry in old.infolist():
            inner = "model/" + entry.filename.split("/", 1)[1]
            data = old.read(entry)
            if inner.endswith(part) and name:
                new.writestr(f"model/{name}", change(data))
            new.writestr(inner, change(data) if inner.endswith(part) and not name else data)
    return path


def in_json(change: Callable[[Any], None]) -> Callable[[bytes], bytes]:
    def apply(data: bytes) -> bytes:
        content = json.loads(data)
        change(content)
        return json.dumps(content).encode()

    return apply


def test_a_file_of_banet_export_passes_whatever_its_archive_is_called(file: Path, tmp_path: Path) -> None:
    check_program_file(file.read_bytes())
    copy = changed(file, tmp_path / "copy.pt2", "none", bytes)
    assert load_exported(copy, task="skin_lesion").description.task == "skin_lesion"


def test_a_network_of_volumes_passes_too(tmp_path: Path) -> None:
    network = BANet(spatial_dims=3, in_channels=1, out_channels=3, edge_channels=2, stem_stride=1, **SMALL).eval()
    path = export(network, tmp_path / "m.pt2", to="torch-export", description=describe(network, task="hippocampus"))
    check_program_file(path.read_bytes())


def test_a_pickle_of_anything_but_tensors_is_not_unpickled(file: Path, tmp_path: Path) -> None:
    mark = tmp_path / "code ran"
    evil = changed(file, tmp_path / "evil.pt2", "data/sample_inputs/model.pt", lambda _: pickled({"x": Evil(mark)}))
    with pytest.raises(ValueError, match=r"cannot be read \(its part 'data/sample_inputs/model\.pt' holds more than"):
        load_exported(evil, task="skin_lesion")
    assert not mark.exists()


@pytest.mark.parametrize("name", ["data/weights/model.pt", "data/constants/model.pt"])
def test_an_older_form_of_the_weights_is_looked_into_as_well(file: Path, tmp_path: Path, name: str) -> None:
    mark = tmp_path / "code ran"
    part = "data/sample_inputs/model.pt"
    evil = changed(file, tmp_path / "evil.pt2", part, lambda _: pickled({"x": Evil(mark)}), name=name)
    with pytest.raises(ValueError, match=f"its part '{name}' holds more than tensors"):
        load_exported(evil)
    assert not mark.exists()


def with_pickle(content: Any) -> None:
    next(iter(content["config"].values()))["use_pickle"] = True


def with_object(content: Any) -> None:
    next(iter(content["config"].values()))["path_name"] = "opaque_obj_0"


def with_formula(content: Any) -> None:
    text = json.dumps(content["graph_module"]["graph"])
    first = text.index('"expr_str": "') + len('"expr_str": "')
    end = text.index('"', first)
    content["graph_module"]["graph"] = json.loads(text[:first] + "__import__('os').mkdir('x')" + text[end:])


def with_condition(content: Any) -> None:
    content["guards_code"] = ["__import__('os').mkdir('x')"]


def with_function(content: Any) -> None:
    content["graph_module"]["graph"]["nodes"][0]["target"] = "torch.hub.load"


def with_file(content: Any) -> None:
    content["graph_module"]["graph"]["nodes"][0]["target"] = "torch.ops.aten.from_file.default"


def with_container(content: Any) -> None:
    signature = content["graph_module"]["module_call_graph"][0]["signature"]
    spec = {"type": "collections.defaultdict", "context": '{"default_factory_module": "os"}', "children_spec": []}
    signature["in_spec"] = json.dumps([1, spec])


@pytest.mark.parametrize(
    ("part", "change", "message"),
    [
        ("model_weights_config.json", with_pickle, "names pickled objects"),
        ("model_weights_config.json", with_object, "names pickled objects"),
        ("models/model.json", with_formula, "its graph has the expr_str"),
        ("models/model.json", with_condition, "its graph has the guards_code"),
        ("models/model.json", with_function, "its graph has the operator 'torch.hub.load'"),
        ("models/model.json", with_file, "its graph has the operator 'torch.ops.aten.from_file"),
        ("models/model.json", with_container, "its graph has the structure of inputs"),
    ],
)
def test_whatever_else_pytorch_would_run_is_refused(
    file: Path, tmp_path: Path, part: str, change: Callable[[Any], None], message: str
) -> None:
    evil = changed(file, tmp_path / "evil.pt2", part, in_json(change))
    with pytest.raises(UnsafeFileError, match=message):
        check_program_file(evil.read_bytes())


def test_compiled_code_is_refused(file: Path, tmp_path: Path) -> None:
    name = "data/aotinductor/model/model.so"
    evil = changed(file, tmp_path / "evil.pt2", "archive_version", bytes, name=name)
    with pytest.raises(UnsafeFileError, match=f"its part '{name}' is none that 'banet export' writes"):
        check_program_file(evil.read_bytes())


def test_the_description_is_looked_at_first(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.export, "load", lambda *_, **__: pytest.fail("it was loaded"))
    with pytest.raises(ValueError, match="is for the task 'skin_lesion', not 'polyp'"):
        load_exported(file, task="polyp")
