"""A real MONAI Label on 127.0.0.1, for tests: its own environment, its own port, always stopped."""

from __future__ import annotations

import functools
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import nibabel
import numpy as np
import requests
import SimpleITK
from PIL import Image

from tests.bundle_runs import ROOT
from tools.build_bundle import build, bundle_name
from tools.label_environment import LabelEnvironmentError, make

NAME = bundle_name("skin_lesion")
BANET = Path(sys.executable).with_name("banet")
ENVIRONMENT = Path(os.environ.get("BANET_LABEL_ENVIRONMENT", ROOT / ".venv-label-tests"))
READY_WITHIN = 600.0  # seconds; about 15 s on an idle machine
TASK_WITHIN = 600.0  # seconds for a training or a scoring
STOPPED_WITHIN = 20.0


@functools.cache
def label_environment() -> Path:
    """The environment of MONAI Label, made once and kept for later runs; torchvision is patched in it alone.

    Making it takes three to five minutes; where it fails, the first line of what pip said tells why.
    """
    started = time.monotonic()
    try:
        if make(ENVIRONMENT, with_patch=True):
            sys.stderr.write(f"\nMONAI Label installed into {ENVIRONMENT} in {time.monotonic() - started:.0f} s\n")
    except LabelEnvironmentError as error:
        raise AssertionError(f"the environment of MONAI Label cannot be made: {error}") from error
    return ENVIRONMENT


def built_archive(folder: Path) -> Path:
    """The archive of the skin task, as ``make bundle`` builds it."""
    return build("skin_lesion", folder)


@dataclass(frozen=True)
class Answer:
    """What ``/infer`` gives: a file in ``content`` with the suffix that its name has, or the words of a refusal."""

    status: int
    content: bytes = b""
    suffix: str = ""
    detail: str = ""

    def array(self, folder: Path) -> tuple[np.ndarray, np.ndarray | None]:
        """Voxels, x first, and the affine to RAS where the format has one."""
        assert self.status == 200, self.detail
        path = folder / f"answer{self.suffix}"
        path.write_bytes(self.content)
        return read_mask(path)


def read_mask(path: Path) -> tuple[np.ndarray, np.ndarray | None]:
    """Voxels of a mask, x first, and its affine to RAS, None for a picture. Not by the package's own readers."""
    if path.name.endswith((".nii", ".nii.gz")):
        image = nibabel.load(path)
        return np.asarray(image.dataobj), image.affine
    if path.suffix == ".nrrd":
        volume = SimpleITK.ReadImage(str(path))
        step = np.reshape(volume.GetDirection(), (3, 3)) * volume.GetSpacing()
        affine = np.vstack([np.column_stack([step, volume.GetOrigin()]), [0, 0, 0, 1]])
        return SimpleITK.GetArrayFromImage(volume).transpose(), np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine
    with Image.open(path) as picture:
        return np.asarray(picture).transpose(), None


@dataclass
class LabelServer:
    """Started on entering, stopped on leaving."""

    line: Sequence[str]
    port: int
    folder: Path
    variables: dict[str, str] = field(default_factory=dict)
    model: str = NAME

    @property
    def log(self) -> Path:
        return self.folder / "server.log"

    def __enter__(self) -> LabelServer:
        self.http = requests.Session()
        self.http.trust_env = False
        variables = {**os.environ, "OMP_NUM_THREADS": "1", "MONAI_LABEL_SESSION_PATH": str(self.folder / "sessions")}
        variables |= self.variables
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                self.line, cwd=self.folder, env=variables, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        try:
            self._wait()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        self.http.close()
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(STOPPED_WITHIN)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def _wait(self) -> None:
        end = time.monotonic() + READY_WITHIN
        while time.monotonic() < end and self.process.poll() is None:
            try:
                if self.http.get(f"{self.root}/info/", timeout=30).status_code == 200:
                    return
            except requests.ConnectionError:
                time.sleep(0.2)
        raise AssertionError(f"MONAI Label did not start:\n{self.log.read_text(errors='replace')[-5000:]}")

    @property
    def root(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def info(self) -> dict:
        return self.http.get(f"{self.root}/info/", timeout=60).json()

    def infer(
        self, image: str | Path = "", *, file: Path | None = None, session: str = "", model: str = "", **params: object
    ) -> Answer:
        """Ask for an outline of an image among the studies (or a path), an uploaded file, or a session."""
        query = {"image": str(image), "session_id": session, "output": "image"}
        files: dict = {"params": (None, json.dumps(params))}
        if file is not None:
            files["file"] = (file.name, file.read_bytes())
        got = self.http.post(
            f"{self.root}/infer/{model or self.model}",
            params={name: value for name, value in query.items() if value},
            files=files,
            timeout=300,
        )
        if got.status_code != 200:
            return Answer(got.status_code, detail=_detail(got))
        named = re.search(r'filename="?([^";]+)', got.headers.get("content-disposition", ""))
        return Answer(200, got.content, "".join(Path(named[1]).suffixes) if named else "")

    def submit(self, image: str, mask: Path, **params: object) -> dict:
        """Save a finished label."""
        files = {"label": (mask.name, mask.read_bytes()), "params": (None, json.dumps(params))}
        query = {"image": image, "tag": "final"}
        got = self.http.put(f"{self.root}/datastore/label", params=query, files=files, timeout=300)
        assert got.status_code == 200, got.text
        return got.json()

    def next_image(self, strategy: str) -> dict:
        """The image that a strategy wants to have labelled."""
        got = self.http.post(f"{self.root}/activelearning/{strategy}", json={}, timeout=60)
        assert got.status_code == 200, got.text
        return got.json()

    def run(self, kind: str, **params: object) -> str:
        """Run a ``"train"`` or ``"scoring"`` to its end; what it printed last."""
        got = self.http.post(f"{self.root}/{kind}/{self.model}", json=params, timeout=60)
        assert got.status_code == 200, got.text
        return self.wait_for(kind)

    def wait_for(self, kind: str) -> str:
        """Wait until the running ``"train"`` or ``"scoring"`` has ended well."""
        end = time.monotonic() + TASK_WITHIN
        while time.monotonic() < end:
            task = self.http.get(f"{self.root}/{kind}/", timeout=60).json()
            if task.get("status") not in ("SUBMITTED", "RUNNING", None):
                said = "\n".join(task.get("details", []))
                assert task["status"] == "DONE", said
                return said
            time.sleep(0.3)
        raise AssertionError(f"{kind} took longer than {TASK_WITHIN:.0f} s")


def banet_label(folder: Path, port: int, *words: str | Path, **variables: str) -> LabelServer:
    """A server started by ``banet label``."""
    line = [str(BANET), "label", *map(str, words), "--port", str(port)]
    line += ["--app", str(folder / "app"), "--environment", str(label_environment())]
    return LabelServer(line, port, folder, variables)


def _detail(got: requests.Response) -> str:
    try:
        return str(got.json()["detail"])
    except (ValueError, KeyError, TypeError):
        return got.text
