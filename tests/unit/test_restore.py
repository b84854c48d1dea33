"""The weights that shipped come back, and those that were trained are not lost."""

from __future__ import annotations

import hashlib

import pytest
from click.testing import CliRunner

from banet_monai.restore import main, restore_shipped_weights


@pytest.fixture
def bundle(tmp_path):
    """The folder of a built bundle whose weights were replaced by training."""
    for path, content in {
        "configs/inference.json": b"{}",
        "models/shipped/model.pt": b"shipped",
        "models/model.pt": b"trained",
    }.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(content)
    return tmp_path


def files(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_shipped_weights_come_back_and_the_trained_ones_are_kept(bundle):
    kept = restore_shipped_weights(bundle)
    assert kept == bundle / "models" / "trained" / f"{hashlib.sha256(b'trained').hexdigest()[:12]}.pt"
    assert files(bundle / "models") == {
        "model.pt": b"shipped",
        "shipped/model.pt": b"shipped",
        kept.relative_to(bundle / "models").as_posix(): b"trained",
    }


def test_weights_of_every_training_are_kept(bundle):
    restore_shipped_weights(bundle)
    (bundle / "models" / "model.pt").write_bytes(b"trained again")
    restore_shipped_weights(bundle)
    assert {path.read_bytes() for path in (bundle / "models" / "trained").iterdir()} == {b"trained", b"trained again"}


def test_restoring_twice_changes_nothing(bundle):
    restore_shipped_weights(bundle)
    before = files(bundle)
    assert restore_shipped_weights(bundle) is None
    assert files(bundle) == before


def test_missing_weights_come_back(bundle):
    (bundle / "models" / "model.pt").unlink()
    assert restore_shipped_weights(bundle) is None
    assert (bundle / "models" / "model.pt").read_bytes() == b"shipped"


def test_bundle_without_shipped_weights_is_left_alone(bundle):
    (bundle / "models" / "shipped" / "model.pt").unlink()
    with pytest.raises(FileNotFoundError, match=r"models/shipped/model\.pt' does not exist.*no weights to restore"):
        restore_shipped_weights(bundle)
    assert (bundle / "models" / "model.pt").read_bytes() == b"trained"


def test_folder_that_is_no_bundle_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"is no bundle: it has no configs/inference\.json"):
        restore_shipped_weights(tmp_path)


def test_command_says_what_it_did_and_where_the_trained_weights_are(bundle):
    done = CliRunner().invoke(main, [str(bundle)])
    assert done.exit_code == 0
    assert "models/model.pt is the shipped file. Kept: " in done.output


def test_command_ends_with_an_error_where_there_is_nothing_to_restore(tmp_path):
    done = CliRunner().invoke(main, [str(tmp_path / "nowhere")])
    assert done.exit_code == 1
    assert "is no bundle" in done.output
