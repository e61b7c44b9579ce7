"""Start MONAI Label for one or more bundles and a folder of scans. `start.sh` calls this in its own environment.

    start.sh [--port 8000] BUNDLE... STUDIES

BUNDLE: a folder with configs/ and models/model.pt; STUDIES: a folder that `autoconf layout` made, or of pictures. Each
bundle is copied to STUDIES/server/model: what is trained there never touches the bundle. Listens on 127.0.0.1 only.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import socket
import sys
from pathlib import Path
from typing import NoReturn

from app.lib import files  # what the server itself asks, from the folder of this program

HERE = Path(__file__).resolve().parent
HOST = "127.0.0.1"
SEEN = tuple(f"*{end}" for end in (*files.VOLUMES, *files.PICTURES))  # what the server lists of STUDIES itself
WORK = "server"  # in STUDIES: the app with its bundles, the weights trained, logs
NOT_COPIED = shutil.ignore_patterns("__pycache__", "eval", "models")


def main(words: list[str]) -> None:
    """Check everything, make STUDIES/server ready, then become the server."""
    parser = argparse.ArgumentParser(prog="start.sh", description="Serve bundles to 3D Slicer, on this machine alone.")
    parser.add_argument("bundles", nargs="+", metavar="BUNDLE", help="folder of a bundle with its weights")
    parser.add_argument("studies", metavar="STUDIES", help="folder that `autoconf layout` made, or of pictures")
    parser.add_argument("--port", type=int, default=8000)
    asked = parser.parse_args(words)
    bundles, studies = [Path(os.path.abspath(path)) for path in asked.bundles], Path(os.path.abspath(asked.studies))
    for bundle in bundles:
        check_bundle(bundle)
    if len({bundle.name for bundle in bundles}) < len(bundles):
        refuse("two bundles have the same name, by which a viewer tells them apart. Rename one's folder.")
    check_studies(studies)
    check_port(asked.port)
    app = make_app(studies, bundles)
    names = ", ".join(bundle.name for bundle in bundles)
    print(f"start: {names} for {studies} at http://{HOST}:{asked.port} (stop with Ctrl-C)", flush=True)
    os.chdir(app)
    os.environ.update(environment(app))
    command = [sys.executable, "-W", "ignore", "-m", "monailabel.main", "start_server", "--app", str(app)]
    command += ["--studies", str(studies), "--host", HOST, "--port", str(asked.port), "--uvicorn_app", "served:app"]
    command += ["--conf", "models", ",".join(bundle.name for bundle in bundles)]
    os.execv(sys.executable, command)


def refuse(message: str) -> NoReturn:
    """One line, and exit status 1."""
    raise SystemExit(f"start: {message}")


def check_bundle(bundle: Path) -> None:
    """Refuse a folder that is no bundle, or has no weights."""
    for name in ("inference.yaml", "train.yaml", "metadata.json"):
        if not (bundle / "configs" / name).is_file():
            refuse(f"{bundle} is no bundle: it has no configs/{name}. Give the folder of one, then STUDIES.")
    if not (bundle / "models" / "model.pt").is_file():
        refuse(f"{bundle} has no weights: models/model.pt is not there. Copy the model.pt of a training there.")
    if "," in bundle.name:
        refuse(f"{bundle}: MONAI Label cannot serve a bundle with a comma in its name. Rename the folder.")


def check_studies(studies: Path) -> None:
    """Refuse a folder whose images lie where MONAI Label does not look."""
    if not studies.is_dir():
        refuse(f"{studies}: no such folder. Make it with `python -m autoconf layout DATA --out {studies}`.")
    if not any(path for kind in SEEN for path in studies.glob(kind)):
        refuse(
            f"{studies} has no images of its own (in its folders they are not seen). Make a folder for the server with "
            "`python -m autoconf layout DATA --out STUDIES`."
        )
    if os.pathsep in str(studies):
        refuse(f"{studies}: MONAI Label cannot work in a path with '{os.pathsep}'. Rename that folder.")
    if not os.access(studies, os.W_OK):
        refuse(f"{studies} cannot be written to, but labels are kept there. Change its permissions or copy it.")


def check_port(port: int) -> None:
    """Refuse a port that another program has."""
    try:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # one that was just left is free
            probe.bind((HOST, port))
    except (OSError, OverflowError) as error:
        refuse(f"cannot listen on port {port} ({getattr(error, 'strerror', None) or error}). Choose another: --port N.")


def make_app(studies: Path, bundles: list[Path]) -> Path:
    """STUDIES/server: the app as it is here, the bundles as they are there; weights that were trained stay."""
    app = studies / WORK
    for name in ("main.py", "served.py", "lib"):
        _replace(HERE / "app" / name, app / name)
    for bundle in bundles:
        copy = app / "model" / bundle.name
        for path in bundle.iterdir():
            if path.name not in ("models", "eval", "__pycache__"):
                _replace(path, copy / path.name)
        take_shared(bundle, copy)
        take_weights(bundle / "models" / "model.pt", copy / "models")
    return app


def take_shared(bundle: Path, copy: Path) -> None:
    """Copy what a bundle of a checkout shares with others; one that was packed holds it already."""
    if (copy / "scripts" / "errors.py").exists():
        return
    for path in (bundle.resolve().parent / "shared" / "scripts").glob("*.py"):
        shutil.copyfile(path, copy / "scripts" / path.name)


def take_weights(source: Path, models: Path) -> None:
    """Copy the bundle's weights if there are none yet, or if the bundle has others than those once copied."""
    models.mkdir(parents=True, exist_ok=True)
    once = models / "model_shipped.pt" if (models / "model_shipped.pt").exists() else models / "model.pt"
    if once.exists():
        if once.read_bytes() != source.read_bytes():
            refuse(
                f"{models} holds weights that began with others than {source}. Move that folder away to begin with the "
                "bundle's, or put the older bundle back."
            )
        return
    shutil.copyfile(source, models / "model.pt.partial")
    os.replace(models / "model.pt.partial", models / "model.pt")


def _replace(source: Path, target: Path) -> None:
    """A file or folder as it is now, not mixed with what an older version left."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_file():
        shutil.copyfile(source, target)
        return
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source, target, ignore=NOT_COPIED)


def environment(app: Path) -> dict[str, str]:
    """Settings of MONAI Label that are no flags of its command line: nothing leaves this machine."""
    return {
        "MONAI_LABEL_DATASTORE_FILE_EXT": json.dumps(SEEN),
        "MONAI_LABEL_SESSION_PATH": str(app / "sessions"),
        "MONAI_LABEL_TRACKING_ENABLED": "false",
        "HF_HUB_OFFLINE": "1",
        "NO_PROXY": f"{HOST},localhost",
        "PYTHONPATH": str(app),
    }


if __name__ == "__main__":
    main(sys.argv[1:])
