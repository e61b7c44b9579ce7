"""What the configs of this bundle cannot say in one line. Nothing here imports autoconf.

What both bundles use lies once, in bundles/shared/scripts; a bundle that is handed out holds it itself.
"""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]  # the bundle, wherever a module of this package lies
SHARED = ROOT.parent / "shared" / "scripts"

if (SHARED / "errors.py").is_file() and not (ROOT / "scripts" / "errors.py").is_file():
    __path__.append(str(SHARED))


def __getattr__(name: str) -> None:
    """Asked for a module that is not there: one line, where MONAI would say that a target cannot be found."""
    if name.startswith("_") or [folder for folder in __path__ if Path(folder, "errors.py").is_file()]:
        raise AttributeError(name)
    raise SystemExit(
        f"{ROOT.name}: {ROOT} was copied without {SHARED}, and is not whole. Make a copy that is: "
        "python -m autoconf pack BUNDLE --out FOLDER"
    )
