"""Pushing a bundle to the Hugging Face Hub, with the Hub replaced by something that remembers what it was asked."""

from __future__ import annotations

import sys
import types
from pathlib import Path

import pytest

import banet_monai
from tests.archives import MAIN, copy_bundle
from tools.build_bundle import build
from tools.push_bundle import main, push

VERSION = banet_monai.__version__


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return build("skin_lesion", tmp_path_factory.mktemp("dist"))


@pytest.fixture
def hub(monkeypatch):
    """Calls that the Hub got, in order, and the files that were uploaded."""
    calls, uploaded = [], {}

    class HfApi:
        def __init__(self, token=None):
            assert token is None  # the stored login is used

        def create_repo(self, **options):
            calls.append(("create_repo", options))

        def upload_folder(self, repo_id, folder_path):
            calls.append(("upload_folder", repo_id))
            root = Path(folder_path)
            uploaded.update({p.relative_to(root).as_posix(): p.read_bytes() for p in root.rglob("*") if p.is_file()})
            return f"https://huggingface.co/{repo_id}"

        def create_tag(self, **options):
            calls.append(("create_tag", options["repo_id"], options["tag"]))

    module = types.ModuleType("huggingface_hub")
    module.HfApi = HfApi
    monkeypatch.setitem(sys.modules, "huggingface_hub", module)
    monkeypatch.setattr("monai.bundle.scripts.huggingface_hub", module)
    return calls, uploaded


def contents(folder) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_whole_bundle_is_pushed_with_its_version_and_a_card_for_the_hub(bundle, hub):
    before = contents(bundle)
    assert push(bundle, "jane/banet").endswith(
        f"the tags {VERSION} and latest_version: https://huggingface.co/jane/banet"
    )
    calls, uploaded = hub
    assert calls == [
        ("create_repo", {"repo_id": "jane/banet", "private": True, "exist_ok": True}),
        ("upload_folder", "jane/banet"),
        ("create_tag", "jane/banet", VERSION),
        ("create_tag", "jane/banet", "latest_version"),
    ]
    card = uploaded.pop("README.md").decode()
    assert card.startswith("---\ntags:\n- monai")
    assert "license: apache-2.0" in card
    assert uploaded == before == contents(bundle)


def test_dry_run_sends_nothing(bundle, hub, capsys):
    assert main([str(bundle), "--repo", "jane/banet", "--dry-run"]) == 0
    assert hub == ([], {})
    line = capsys.readouterr().out
    assert line.startswith(f"Would push {len(contents(bundle))} files of {MAIN}, ")
    assert line.endswith(f"as jane/banet with the tags {VERSION} and latest_version; nothing was sent.\n")


def test_new_repository_is_public_only_when_asked_for(bundle, hub):
    assert main([str(bundle), "--repo", "jane/banet", "--public"]) == 0
    assert hub[0][0] == ("create_repo", {"repo_id": "jane/banet", "private": False, "exist_ok": True})


def test_bundle_with_a_fault_is_not_pushed(bundle, hub, tmp_path):
    broken = copy_bundle(bundle, tmp_path)
    (broken / "LICENSE").unlink()
    with pytest.raises(ValueError, match=r"not ready, nothing was sent:\n  files: LICENSE is missing"):
        push(broken, "jane/banet")
    assert hub == ([], {})


def test_repository_must_have_an_owner(bundle, hub, capsys):
    assert main([str(bundle), "--repo", "banet"]) == 1
    assert capsys.readouterr().err == "push_bundle: --repo must be OWNER/NAME, got 'banet'.\n"


def test_missing_package_is_named_with_its_installation(bundle, monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)  # importing it now raises ImportError
    with pytest.raises(ImportError, match=r"pip install huggingface_hub, then hf auth login"):
        push(bundle, "jane/banet")
