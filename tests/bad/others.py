"""What a user may not read, what changes while it is read, pictures, arrays."""

from __future__ import annotations

import shutil
import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

from bad.files import DAMAGED
from bad.row import CASE, array, content, cut, left_out, right, row
from bad.voxels import SIZE

FORBIDDEN = (left_out("unreadable", "Change its permissions"), "Check its permissions", "Change its permissions")
OF = {"case": "00002", "of": [f"0000{n}" for n in range(4)]}
ARRAY = left_out("unreadable", "Copy it again", **OF)
FLAT_ARRAY = left_out("not-3d", "not height x width x depth x 3 or 4 modalities", **OF)
ENDLESS = b"'<f4', 'fortran_order': False, 'shape': (1%s,)" % (b"0" * 30)
NO_PICTURE = (left_out("unreadable", "Copy it again or remove it"), "Copy it again or remove it")


def forbidden(path: Path) -> None:
    """For everybody but root, also where the tests are run by root: who asks is a user then."""
    path.chmod(0)


def png(width: int, height: int):
    """A header of so many pixels, and no pixels."""

    def chunk(name: bytes, content: bytes) -> bytes:
        checksum = zlib.crc32(name + content)
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", checksum)

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return content(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", b"") + chunk(b"IEND", b""))


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


def npy(description: bytes):
    """An .npy file of a header alone: Python source that describes the array."""
    return content(b"\x93NUMPY\x01\x00\x76\x00" + (b"{'descr': " + description + b"}").ljust(118))


def pickled(path: Path) -> None:
    np.save(path, np.array([{"a": 1}], object), allow_pickle=True)


def metaimage(path: Path) -> None:
    """An .mha file of 2^40 voxels per axis, and none of them, in a scan's place."""
    size = " ".join([str(2**40)] * 3)
    head = f"ObjectType = Image\nNDims = 3\nDimSize = {size}\nElementType = MET_SHORT\nElementDataFile = LOCAL\n"
    path.with_name(f"{CASE}-t2w.mha").write_text(head)
    path.unlink()


FEWER = array(lambda voxels: voxels[..., 2:])  # slices
DENIED = ["Permission denied"] * 2
USERS = [
    row("a scan that one may not read", "scan", forbidden, *FORBIDDEN, as_user=True),
    row("a folder that one may not read", "case", forbidden, *DENIED, as_user=True),
    row("a mask that one may not read", "mask", forbidden, *FORBIDDEN, as_user=True),
    row("a folder of pictures that one may not read", "picture", lambda p: forbidden(p.parent), *DENIED, as_user=True),
]
DELETED = (left_out("unreadable", "Put it back"), "is not there. Copy or download it again")
CHANGING = [
    row("a scan cut short during the run", "scan", cut(0.5), *DAMAGED[:2], late=True),
    row("a scan deleted during the run", "scan", Path.unlink, *DELETED, late=True),
    row("a scan replaced by a smaller one during the run", "scan", FEWER, *SIZE[:2], late=True),
    row("a mask replaced by a smaller one during the run", "mask", FEWER, SIZE[0], late=True),
]
PICTURES = [
    row("a picture, its second half lost", "picture", cut(0.5), *NO_PICTURE),
    row("a web page named .jpg", "picture", content("404 Not Found"), *NO_PICTURE),
    row("an empty picture file", "picture", content(""), *NO_PICTURE),
    row("a PNG of 2^31 x 2^31 pixels, by its header", "picture", png(2**31 - 1, 2**31 - 1), *NO_PICTURE),
    row("a PNG of 12,000 x 12,000 pixels, by its header", "picture", png(12_000, 12_000), *NO_PICTURE),
    row("a PNG of no pixels", "picture", png(0, 0), *NO_PICTURE),
    row("a picture named .jpg that is PNG", "picture", converted("L"), right(), right()),
    row("a picture of colours with transparency", "picture", converted("RGBA"), right(), right()),
    row("a picture of palette colours", "picture", converted("P"), right(), right()),
    row("a picture in printing colours", "picture", converted("CMYK"), right(), right()),
    row("a picture of floats", "picture", converted("F"), right(), right()),
]
MHA = (left_out("unreadable", "Copy it again"), "is no NIfTI file. Convert it")
ARRAYS = [
    row("an array of 2^40 voxels per axis (.npy)", "data", arrays(npy_header), ARRAY),
    row("an array of 10^30 voxels (.npy)", "data", arrays(npy(ENDLESS)), ARRAY),
    row("an array whose header does not end (.npy)", "data", arrays(npy(b"(")), ARRAY),
    row("an empty .npy file", "data", arrays(content("")), ARRAY),
    row("an .npy file of its first bytes", "data", arrays(content(b"\x93NUMPY")), ARRAY),
    row("an .npz archive named .npy", "data", arrays(content(b"PK\5\6".ljust(22, b"\0"))), ARRAY),
    row("an array of three axes (.npy)", "data", arrays(lambda path: np.save(path, np.ones((2, 2, 2)))), FLAT_ARRAY),
    row("a pickled object (.npy)", "data", arrays(pickled), ARRAY),
    row("an array cut short (.npy)", "data", arrays(cut(0.5)), ARRAY),
    row("a MetaImage of 2^40 voxels per axis (.mha)", "scan", metaimage, *MHA),
]
