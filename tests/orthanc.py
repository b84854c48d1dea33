"""A real Orthanc with its DICOMweb plugin on 127.0.0.1, for tests: its own port, its own storage, always stopped."""

import json
import os
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

BINARY = shutil.which("Orthanc") or shutil.which("orthanc") or shutil.which("Orthanc", path="/usr/sbin:/usr/local/sbin")
PLUGIN = Path(os.environ.get("ORTHANC_DICOMWEB", "/usr/share/orthanc/plugins/libOrthancDicomWeb.so"))
READY_WITHIN = 60.0  # seconds; it takes 0.2 s on an idle machine
STOPPED_WITHIN = 20.0


def why_missing():
    """What keeps Orthanc from running here, "" when nothing does."""
    if BINARY is None:
        return "there is no Orthanc: apt-get install --no-install-recommends orthanc orthanc-dicomweb"
    if not PLUGIN.exists():
        return f"there is no DICOMweb plugin at {PLUGIN}: apt-get install --no-install-recommends orthanc-dicomweb"
    return ""


class Orthanc:
    """Started on entering, stopped on leaving; may be killed and started again on the same storage and port."""

    def __init__(self, folder):
        self.folder = Path(folder)
        self.log = self.folder / "orthanc.log"
        self.port = None
        self.process = None

    @property
    def root(self):
        return f"http://127.0.0.1:{self.port}"

    @property
    def url(self):
        return f"{self.root}/dicom-web"

    def __enter__(self):
        for attempt in range(3):
            self.port = free_port()
            try:
                self.start()
            except RuntimeError:
                self.stop()
                if attempt == 2:  # another process may take the port between asking and starting
                    raise
            else:
                return self
        raise AssertionError("unreachable")

    def __exit__(self, *error):
        self.stop()

    def start(self):
        """Start it and wait until it answers."""
        storage = self.folder / "storage"
        storage.mkdir(parents=True, exist_ok=True)
        configuration = {
            "Name": "test",
            "StorageDirectory": str(storage),
            "IndexDirectory": str(storage),
            "Plugins": [str(PLUGIN)],
            "HttpPort": self.port,
            "RemoteAccessAllowed": False,
            "AuthenticationEnabled": False,
            "DicomServerEnabled": False,
            "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
        }
        path = self.folder / "orthanc.json"
        path.write_text(json.dumps(configuration))
        with self.log.open("ab") as log:
            self.process = subprocess.Popen([BINARY, str(path)], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self._wait()

    def _wait(self):
        end = time.monotonic() + READY_WITHIN
        while time.monotonic() < end:
            if self.process.poll() is not None:
                break
            try:
                self.ask("/system")
            except (urllib.error.URLError, OSError):
                time.sleep(0.05)
            else:
                return
        self.stop()
        raise RuntimeError(f"Orthanc did not start:\n{self.log.read_text(errors='replace')[-3000:]}")

    def ask(self, path):
        """An answer of its own interface, which knows nothing of DICOMweb."""
        return json.loads(self.fetch(path))

    def fetch(self, path):
        """The bytes of an answer."""
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(self.root + path, timeout=10) as answer:
            return answer.read()

    def kill(self):
        """End it as a power cut would."""
        self.process.kill()
        self.process.wait(STOPPED_WITHIN)

    def stop(self):
        if self.process is None or self.process.poll() is not None:
            return
        self.process.terminate()
        try:
            self.process.wait(STOPPED_WITHIN)
        except subprocess.TimeoutExpired:
            self.kill()


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
