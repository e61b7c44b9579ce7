"""Bad input: what a user may not read, what changes while it is read, pictures, arrays."""

from __future__ import annotations

import shutil
import struct
import zlib
from pathlib import Path

import numpy as np
from bad_files import cut
from bad_headers import array
from helpers_bad_inputs import CASE, Kind, left_out, refused, right
from PIL import Image

ARRAY = left_out("unreadable", "Copy it again", case="00002", of=[f"0000{n}" for n in range(4)])
PICTURE = left_out("unreadable", "Copy it again or remove it")
NO_PICTURE = refused("Copy it again or remove it")


def forbidden(path: Path) -> None:
    """For everybody but root, also where the tests are run by root: who asks is a user then."""
    path.chmod(0)


def other_scan(path: Path) -> None:
    """Of fewer slices."""
    array(lambda voxels: voxels[..., 2:])(path)


def png(path: Path, width: int, height: int) -> None:
    """A header of so many pixels, and no pixels."""

    def chunk(name: bytes, content: bytes) -> bytes:
        checksum = zlib.crc32(name + content)
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", checksum)

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", b"") + chunk(b"IEND", b""))


def converted(mode: str):
    """The same picture in another mode, saved as PNG whatever its name."""

    def make(path: Path) -> None:
        with Image.open(path) as image:
            made = image.convert(mode)
        made.save(path, format="TIFF" if mode in ("F", "CMYK") else "PNG")

    return make


def arrays(change):
    """The data as image_00000.npy and mask_00000.npy of the 128-voxel recipe, one of which is changed."""

    def make(data: Path) -> None:
        for folder in list(data.iterdir()):
            shutil.rmtree(folder) if folder.is_dir() else folder.unlink()
        for number in range(4):
            rng = np.random.default_rng(number)
            image = rng.normal(size=(8, 8, 8, 4)).astype(np.float32)
            mask = np.zeros((8, 8, 8), np.uint8)
            mask[2:5, 2:5, 2 : 4 + number] = 1
            for name, values in (("image", image), ("mask", mask)):
                (data / f"{name}s").mkdir(exist_ok=True)
                np.save(data / f"{name}s" / f"{name}_0000{number}.npy", values)
        change(data / "images" / "image_00002.npy")

    return make


def npy_header(path: Path) -> None:
    """An array of 2^40 voxels per axis, by its header."""
    with open(path, "wb") as stream:
        head = {"descr": "<f4", "fortran_order": False, "shape": (2**40, 2**40, 2**40, 4)}
        np.lib.format.write_array_header_1_0(stream, head)


def pickled(path: Path) -> None:
    np.save(path, np.array([{"a": 1}], object), allow_pickle=True)


def metaimage(path: Path) -> None:
    """An .mha file of 2^40 voxels per axis, and none of them, in a scan's place."""
    size = " ".join([str(2**40)] * 3)
    head = f"ObjectType = Image\nNDims = 3\nDimSize = {size}\nElementType = MET_SHORT\nElementDataFile = LOCAL\n"
    path.with_name(f"{CASE}-t2w.mha").write_text(head)
    path.unlink()


def rubbish_json(data: Path) -> None:
    (data / "dataset.json").write_text("[" * 100_000)


USERS = [
    Kind(
        *("a scan that one may not read", "scan", forbidden, left_out("unreadable", "Change its permissions")),
        *(refused("Check its permissions"), refused("Change its permissions")),
        as_user=True,
    ),
    Kind(
        *("a folder that one may not read", "case", forbidden),
        *(refused("Permission denied"), refused("Permission denied")),
        as_user=True,
    ),
    Kind(
        *("a mask that one may not read", "mask", forbidden, left_out("unreadable", "Change its permissions")),
        *(refused("Check its permissions"), refused("Change its permissions")),
        as_user=True,
    ),
]
USERS.append(
    Kind(
        *("a folder of pictures that one may not read", "picture", lambda path: forbidden(path.parent)),
        *(refused("Permission denied"), refused("Permission denied")),
        as_user=True,
    )
)
CHANGING = [
    Kind(
        "a scan cut short during the run", "scan", cut(0.5), left_out("unreadable", "Copy"), refused("Copy"), late=True
    ),
    Kind(
        "a scan deleted during the run",
        "scan",
        Path.unlink,
        left_out("unreadable", "Put it back"),
        refused("is not there"),
        late=True,
    ),
    Kind(
        "a scan replaced by a smaller one during the run",
        "scan",
        other_scan,
        left_out("grid", "voxels but"),
        refused("Bring both onto one grid"),
        late=True,
    ),
    Kind(
        "a mask replaced by a smaller one during the run",
        "mask",
        other_scan,
        left_out("grid", "voxels but"),
        None,
        late=True,
    ),
]
PICTURES = [
    Kind("a picture, its second half lost", "picture", cut(0.5), PICTURE, NO_PICTURE),
    Kind("a web page named .jpg", "picture", lambda path: path.write_text("404 Not Found"), PICTURE, NO_PICTURE),
    Kind("an empty picture file", "picture", lambda path: path.write_bytes(b""), PICTURE, NO_PICTURE),
    Kind(
        "a PNG of 2^31 x 2^31 pixels, by its header",
        "picture",
        lambda path: png(path, 2**31 - 1, 2**31 - 1),
        PICTURE,
        NO_PICTURE,
    ),
    Kind(
        "a PNG of 12,000 x 12,000 pixels, by its header",
        "picture",
        lambda path: png(path, 12_000, 12_000),
        PICTURE,
        NO_PICTURE,
    ),
    Kind("a PNG of no pixels", "picture", lambda path: png(path, 0, 0), PICTURE, NO_PICTURE),
    Kind("a picture named .jpg that is PNG", "picture", converted("L"), right(), right()),
    Kind("a picture of colours with transparency", "picture", converted("RGBA"), right(), right()),
    Kind("a picture of palette colours", "picture", converted("P"), right(), right()),
    Kind("a picture in printing colours", "picture", converted("CMYK"), right(), right()),
    Kind("a picture of floats", "picture", converted("F"), right(), right()),
]
ARRAYS = [
    Kind("an array of 2^40 voxels per axis (.npy)", "data", arrays(npy_header), ARRAY),
    Kind("a pickled object (.npy)", "data", arrays(pickled), ARRAY),
    Kind("an array cut short (.npy)", "data", arrays(cut(0.5)), ARRAY),
    Kind(
        "a MetaImage of 2^40 voxels per axis (.mha)",
        "scan",
        metaimage,
        left_out("unreadable", "Copy"),
        refused("Convert it"),
    ),
    Kind("a dataset.json nested 100,000 deep", "data", rubbish_json, refused("dataset.json"), None),
]
KINDS = USERS + CHANGING + PICTURES + ARRAYS
