"""Which files of a datastore a bundle can read: volumes for three dimensions, pictures for two."""

from __future__ import annotations

VOLUMES = (".nii.gz", ".nii")
PICTURES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")


def fits(path: str, dimension: int) -> bool:
    """Whether a bundle of that many dimensions reads this kind of file."""
    return path.lower().endswith(VOLUMES if dimension == 3 else PICTURES)


def kinds(dimension: int) -> str:
    """For messages: `NIfTI volumes (.nii.gz, .nii)`."""
    what, endings = ("NIfTI volumes", VOLUMES) if dimension == 3 else ("pictures", PICTURES)
    return f"{what} ({', '.join(endings)})"
