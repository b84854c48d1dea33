"""Small archives with the names and the layout of the official ones."""

import gzip
import io
import json
import tarfile
import zipfile

import nibabel as nib
import numpy as np
from PIL import Image

RED, GREEN, BLUE = (220, 30, 30), (30, 200, 30), (30, 30, 220)
KVASIR_NAMES = ("cju0qkwl35piu0993l0dewei2", "cju0qoxqj9q6s0835b43399p4")


def encoded(array, form="PNG"):
    """An array (rows, columns[, 3]) as the bytes of a picture."""
    content = io.BytesIO()
    Image.fromarray(np.asarray(array, np.uint8)).save(content, form, **({"quality": 95} if form == "JPEG" else {}))
    return content.getvalue()


def banner():
    """A picture of 64 x 32: 16 columns red, 16 green, 16 blue, 16 red."""
    picture = np.empty((32, 64, 3), np.uint8)
    for column, colour in enumerate((RED, GREEN, BLUE, RED)):
        picture[:, 16 * column : 16 * column + 16] = colour
    return picture


def bar(shape=(32, 64), columns=slice(24, 40)):
    """A mask of 0 and 255 that is inside in some columns."""
    mask = np.zeros(shape, np.uint8)
    mask[:, columns] = 255
    return mask


def make_zip(path, members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def make_tar(path, members):
    with tarfile.open(path, "w") as archive:
        for name, content in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return path


def isic_archives(folder, training=("ISIC_0000000", "ISIC_0000001"), validation=("ISIC_0001769",)):
    """The four archives of ISIC 2017 that are used."""
    paths = []
    for part, names in (("Training", training), ("Validation", validation)):
        data = f"ISIC-2017_{part}_Data"
        members = {f"{data}/{name}.jpg": encoded(banner(), "JPEG") for name in names}
        members |= {f"{data}/{name}_superpixels.png": encoded(banner()) for name in names}
        members[f"{data}/{data}_metadata.csv"] = b"image_id,age_approximate,sex\n"
        paths.append(make_zip(folder / f"{data}.zip", members))
        masks = f"ISIC-2017_{part}_Part1_GroundTruth"
        contents = {f"{masks}/{name}_segmentation.png": encoded(bar()) for name in names}
        paths.append(make_zip(folder / f"{masks}.zip", contents))
    return paths


def kvasir_archive(folder, masks=None):
    """kvasir-seg.zip, with masks as JPEG whose edges lie between two blocks, unless others are given."""
    masks = masks or {name: encoded(np.stack([bar(columns=slice(16, 40))] * 3, -1), "JPEG") for name in KVASIR_NAMES}
    members = {f"Kvasir-SEG/images/{name}.jpg": encoded(banner(), "JPEG") for name in KVASIR_NAMES}
    members |= {f"Kvasir-SEG/masks/{name}.jpg": content for name, content in masks.items()}
    members["Kvasir-SEG/kavsir_bboxes.json"] = b"{}"
    members |= {f"__MACOSX/Kvasir-SEG/images/._{name}.jpg": b"x" for name in KVASIR_NAMES}
    return make_zip(folder / "kvasir-seg.zip", members)


def shenzhen_archives(folder):
    """ChinaSet_AllFiles.zip with three pictures and mask.zip with two masks."""
    grey = np.full((40, 64), 90, np.uint8)
    names = ("CHNCXR_0001_0", "CHNCXR_0002_0", "CHNCXR_0327_1")
    members = {f"ChinaSet_AllFiles/CXR_png/{name}.png": encoded(grey) for name in names}
    members |= {f"ChinaSet_AllFiles/ClinicalReadings/{name}.txt": b"male 45yrs\nnormal" for name in names}
    members["ChinaSet_AllFiles/CXR_png/Thumbs.db"] = b"x"
    masks = {f"mask/{name}_mask.png": encoded(bar((40, 64), slice(0, 32))) for name in names[::2]}
    return [make_zip(folder / "ChinaSet_AllFiles.zip", members), make_zip(folder / "mask.zip", masks)]


def volume(shape=(4, 5, 3), value=1):
    """The bytes of a .nii.gz file, the same ones each time."""
    image = nib.Nifti1Image(np.full(shape, value, np.uint8), np.diag([1.0, 1, 1, 1]))
    content = image.to_bytes()
    packed = io.BytesIO()
    with gzip.GzipFile(fileobj=packed, mode="wb", mtime=0) as stream:
        stream.write(content)
    return packed.getvalue()


def hippocampus_members(names=("hippocampus_001", "hippocampus_003")):
    """What Task04_Hippocampus.tar holds."""
    root = "Task04_Hippocampus"
    members = {}
    for name in names:
        members[f"{root}/imagesTr/._{name}.nii.gz"] = b"x"
        members[f"{root}/imagesTr/{name}.nii.gz"] = volume(value=100)
        members[f"{root}/labelsTr/{name}.nii.gz"] = volume()
    members[f"{root}/imagesTs/hippocampus_002.nii.gz"] = volume()
    description = {
        "name": "Hippocampus",
        "labels": {"0": "background", "1": "Anterior", "2": "Posterior"},
        "numTraining": len(names),
        "numTest": 1,
        "training": [{"image": f"./imagesTr/{n}.nii.gz", "label": f"./labelsTr/{n}.nii.gz"} for n in names],
        "test": ["./imagesTs/hippocampus_002.nii.gz"],
    }
    members[f"{root}/dataset.json"] = json.dumps(description).encode()
    members["._Task04_Hippocampus"] = b"x"
    return members


def hippocampus_archive(folder):
    return make_tar(folder / "Task04_Hippocampus.tar", hippocampus_members())
