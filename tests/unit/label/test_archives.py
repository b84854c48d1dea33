from __future__ import annotations

import pytest
import torch

from banet_monai.label import check_archive, code_digest, require_same_code, sources_digest
from tests.bundle_runs import random_network
from tests.label_fakes import make_archive


@pytest.fixture(scope="module")
def state():
    return random_network().state_dict()


@pytest.fixture
def archive(tmp_path, state):
    root = make_archive(tmp_path / "banet_skin_lesion_segmentation")
    torch.save(state, root / "models" / "model.pt")
    return root


def test_a_complete_archive_passes(archive):
    check_archive(archive)


@pytest.mark.parametrize("name", ["configs/inference.json", "configs/train.json", "banet_monai/__init__.py"])
def test_a_missing_file_is_named(archive, name):
    (archive / name).unlink()
    with pytest.raises(FileNotFoundError, match=rf"is no built archive: it lacks {name}\. Build one"):
        check_archive(archive)


def test_an_archive_without_weights_is_refused_with_the_training_command(archive):
    (archive / "models" / "model.pt").unlink()
    with pytest.raises(FileNotFoundError, match=r"has no weights yet .*train\.json --bundle_root .*--dataset_dir"):
        check_archive(archive)


def test_weights_that_do_not_fit_are_refused_with_the_names_that_differ(archive, state):
    name = next(iter(state))
    state = {("other." + key if key == name else key): value for key, value in state.items()}
    torch.save(state, archive / "models" / "model.pt")
    with pytest.raises(ValueError, match=rf"model\.pt does not fit BANet, nothing was loaded: .*{name}"):
        check_archive(archive)


def test_a_second_file_of_weights_is_refused_because_monai_label_would_offer_it(archive, state):
    torch.save(state, archive / "models" / "best.pt")
    with pytest.raises(ValueError, match=r"models' also holds best\.pt; only model\.pt may lie there"):
        check_archive(archive)


@pytest.mark.parametrize("word", ["detection", "classification", "deepgrow", "DeepEdit"])
def test_a_name_that_misleads_monai_label_is_refused(archive, word):
    renamed = archive.rename(archive.with_name(f"skin_{word}"))
    with pytest.raises(ValueError, match=rf"MONAI Label would take 'skin_{word}' for a {word.lower()} model"):
        check_archive(renamed)


def test_a_name_with_a_comma_is_refused_because_it_would_be_two(archive):
    with pytest.raises(ValueError, match=r"'skin,lesion' for several models"):
        check_archive(archive.rename(archive.with_name("skin,lesion")))


def test_archives_with_the_same_code_may_share_a_server(tmp_path):
    require_same_code([make_archive(tmp_path / name) for name in ("skin", "polyp")])


def test_archives_with_other_versions_of_the_package_are_refused_by_name(tmp_path):
    first, second = make_archive(tmp_path / "skin", version="1.0"), make_archive(tmp_path / "polyp", version="1.1")
    with pytest.raises(ValueError, match=r"'skin' \(1\.0\) and 'polyp' \(1\.1\) carry different versions"):
        require_same_code([first, second])


def test_archives_of_one_version_with_other_code_are_refused_too(tmp_path):
    first, second = make_archive(tmp_path / "skin"), make_archive(tmp_path / "polyp")
    (second / "banet_monai" / "networks" / "banet.py").write_text("# other layers\n")
    with pytest.raises(ValueError, match="carry different versions of banet_monai"):
        require_same_code([first, second])


def test_code_is_told_by_names_and_contents_of_modules_and_by_nothing_else(tmp_path):
    first, second = make_archive(tmp_path / "a"), make_archive(tmp_path / "b")
    (second / "banet_monai" / "__pycache__").mkdir()
    (second / "banet_monai" / "__pycache__" / "banet.pyc").write_bytes(b"compiled")
    (second / "configs" / "train.json").write_text('{"other": 1}')
    assert code_digest(first) == code_digest(second)
    (second / "banet_monai" / "extra.py").touch()
    assert code_digest(first) != code_digest(second)


def test_sources_of_an_archive_are_package_bundle_and_builder(tmp_path):
    for name in ("banet_monai/a.py", "bundle/configs/train.json", "tools/build_bundle.py", "docs/page.md"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    before = sources_digest(tmp_path)
    (tmp_path / "docs" / "page.md").write_text("y")
    (tmp_path / "banet_monai" / "__pycache__").mkdir()
    (tmp_path / "banet_monai" / "__pycache__" / "a.pyc").touch()
    assert sources_digest(tmp_path) == before
    (tmp_path / "bundle" / "configs" / "train.json").write_text("y")
    assert sources_digest(tmp_path) != before
