"""Pushing a bundle to the Hugging Face Hub, with the Hub replaced by something that remembers what it was asked."""

from __future__ import annotations

import json
import sys
import types
from pathlib import Path
from types import SimpleNamespace

import pytest

import banet_monai
from tests.archives import MAIN, copy_bundle, put
from tools.build_bundle import build
from tools.push_bundle import main, push

VERSION = banet_monai.__version__


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return build("skin_lesion", tmp_path_factory.mktemp("dist"))


class Hub:
    """Repositories as the Hub keeps them: each upload is a commit, and a tag stays on the one that it was made for."""

    def __init__(self):
        self.made, self.uploads, self.tags = [], [], {}

    def repo_exists(self, repo_id):
        return bool(self.made)

    def list_repo_refs(self, repo_id):
        return SimpleNamespace(tags=[SimpleNamespace(name=name) for name in self.tags])

    def create_repo(self, **options):
        self.made.append(options)

    def upload_folder(self, repo_id, folder_path):
        root = Path(folder_path)
        self.uploads.append({p.relative_to(root).as_posix(): p.read_bytes() for p in root.rglob("*") if p.is_file()})
        return f"https://huggingface.co/{repo_id}"

    def create_tag(self, *, repo_id, tag, exist_ok=False):
        if tag in self.tags and not exist_ok:
            raise RuntimeError(f"409: tag {tag} exists")
        self.tags.setdefault(tag, len(self.uploads))

    def delete_tag(self, *, repo_id, tag):
        del self.tags[tag]


@pytest.fixture
def hub(monkeypatch):
    """The Hub, replaced by something that remembers what it was asked."""
    hub = Hub()

    def log_in(token=None):
        assert token is None  # the stored login is used
        return hub

    module = types.ModuleType("huggingface_hub")
    module.HfApi = log_in
    monkeypatch.setitem(sys.modules, "huggingface_hub", module)
    monkeypatch.setattr("monai.bundle.scripts.huggingface_hub", module)
    return hub


def contents(folder) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_whole_bundle_is_pushed_with_its_version_and_a_card_for_the_hub(bundle, hub):
    before = contents(bundle)
    assert push(bundle, "jane/banet").endswith(
        f"the tags {VERSION} and latest_version: https://huggingface.co/jane/banet"
    )
    assert hub.made == [{"repo_id": "jane/banet", "private": True, "exist_ok": True}]
    assert hub.tags == {VERSION: 1, "latest_version": 1}
    (uploaded,) = hub.uploads
    card = uploaded.pop("README.md").decode()
    assert card.startswith("---\ntags:\n- monai")
    assert "license: apache-2.0" in card
    assert uploaded == before == contents(bundle)


def test_dry_run_sends_nothing(bundle, hub, capsys):
    assert main([str(bundle), "--repo", "jane/banet", "--dry-run"]) == 0
    assert (hub.made, hub.uploads, hub.tags) == ([], [], {})
    line = capsys.readouterr().out
    assert line.startswith(f"Would push {len(contents(bundle))} files of {MAIN}, ")
    assert line.endswith(f"as jane/banet with the tags {VERSION} and latest_version; nothing was sent.\n")


def test_new_repository_is_public_only_when_asked_for(bundle, hub):
    assert main([str(bundle), "--repo", "jane/banet", "--public"]) == 0
    assert hub.made == [{"repo_id": "jane/banet", "private": False, "exist_ok": True}]


def test_latest_version_moves_and_a_version_stays(bundle, hub, tmp_path, monkeypatch):
    push(bundle, "jane/banet")
    with pytest.raises(ValueError, match=rf"jane/banet holds version {VERSION} already, nothing was sent"):
        push(bundle, "jane/banet")
    newer = copy_bundle(bundle, tmp_path)
    metadata = newer / "configs" / "metadata.json"
    content = json.loads(metadata.read_text())
    content |= {"version": "99.0.0", "changelog": {"99.0.0": "later", **content["changelog"]}}
    put(metadata, json.dumps(content, indent=4) + "\n")
    monkeypatch.setattr("tools.push_bundle.FILE_CHECKS", ())  # this package has another version
    push(newer, "jane/banet")
    assert hub.tags == {VERSION: 1, "99.0.0": 2, "latest_version": 2}


def test_bundle_with_a_fault_is_not_pushed(bundle, hub, tmp_path):
    broken = copy_bundle(bundle, tmp_path)
    (broken / "LICENSE").unlink()
    with pytest.raises(ValueError, match=r"not ready, nothing was sent:\n  files: LICENSE is missing"):
        push(broken, "jane/banet")
    assert (hub.made, hub.uploads, hub.tags) == ([], [], {})


def test_repository_must_have_an_owner(bundle, hub, capsys):
    assert main([str(bundle), "--repo", "banet"]) == 1
    assert capsys.readouterr().err == "push_bundle: --repo must be OWNER/NAME, got 'banet'.\n"


def test_missing_package_is_named_with_its_installation(bundle, monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)  # importing it now raises ImportError
    with pytest.raises(ImportError, match=r"pip install huggingface_hub, then hf auth login"):
        push(bundle, "jane/banet")
