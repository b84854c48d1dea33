import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

OPTIONAL = [
    "highdicom",
    "gdcm",
    "pylibjpeg",
    "dicomweb_client",
    "onnx",
    "onnxruntime",
    "matplotlib",
    "torchvision",
]

IMPORT_EVERYTHING = """
import importlib, pkgutil, sys
for name in {optional!r}:
    sys.modules[name] = None  # importing it now raises ImportError
import banet_monai
for module in pkgutil.walk_packages(banet_monai.__path__, "banet_monai."):
    importlib.import_module(module.name)
assert "pydicom.sr" not in sys.modules  # all concepts of DICOM, which only writers of DICOM need, take a while to load
from monai.bundle import ConfigParser
parser = ConfigParser(ConfigParser.load_config_file("bundle/configs/inference.json"))
for part in ("network_def", "preprocessing", "inferer"):
    parser.get_parsed_content(part)
print("done")
"""


def test_package_and_inference_work_without_the_optional_packages():
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", IMPORT_EVERYTHING.format(optional=OPTIONAL)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.split() == ["done"]
