"""BIDS: sub-<patient>[/ses-<session>]/anat/sub-..._T1w.nii.gz, and masks or processed images below derivatives/.

Names and entities: bids-specification.readthedocs.io. A T1 with contrast agent has the entity ce-<agent>.
"""

from __future__ import annotations

import os
import re

from autoconf.data.brats import MODALITIES, walk_files
from autoconf.data.scans import LayoutScans, Scan

_FILE = re.compile(r"(?P<entities>sub-[A-Za-z0-9]+(_[a-z]+-[A-Za-z0-9+]+)*)_(?P<suffix>[A-Za-z0-9]+)\.nii(\.gz)?")
_SUFFIX = {"T1w": "t1", "T2w": "t2", "FLAIR": "flair"}
_MASKS = ("dseg", "mask", "probseg")
_TUMOUR = re.compile("tum|lesion|glioma|wt", re.IGNORECASE)


def find(root: str) -> LayoutScans | None:
    """One scan per subject and session, from the tree (raw, or one of derivatives/) that has most of its modalities.

    Processed images are preferred to raw ones, which rarely lie on one grid. Masks come from the same tree, else
    from any other.
    """
    trees: dict[str, dict[tuple[str, str], dict[str, str]]] = {}
    for folder, name in walk_files(root):
        match = _FILE.fullmatch(name)
        if match:
            entities = dict(part.split("-", 1) for part in match["entities"].split("_"))
            role = _role(entities, match["suffix"])
            if role:
                session = (entities["sub"], entities.get("ses", ""))
                trees.setdefault(_tree(root, folder), {}).setdefault(session, {}).setdefault(
                    role, os.path.join(folder, name)
                )
    sessions = sorted({session for tree in trees.values() for session in tree})
    scans = [_scan(session, trees) for session in sessions]
    scans = [scan for scan in scans if any(scan.image)]
    files = (path for tree in trees.values() for found in tree.values() for path in found.values())
    return LayoutScans("bids", scans, others=frozenset(files)) if scans else None


def _role(entities: dict[str, str], suffix: str) -> str | None:
    """A contrast, `label` for a tumour mask, or None."""
    if suffix in _MASKS:
        what = entities.get("label") or entities.get("desc", "")
        wanted = suffix == "dseg" if not what else bool(_TUMOUR.search(what))
        return "label" if wanted and suffix != "probseg" else None
    contrast = _SUFFIX.get(suffix)
    return "t1c" if contrast == "t1" and "ce" in entities else contrast


def _tree(root: str, folder: str) -> str:
    """`derivatives/<pipeline>`, or "" for the raw data."""
    parts = os.path.relpath(folder, root).split(os.sep)
    return "/".join(parts[:2]) if parts[0] == "derivatives" else ""


def _scan(session: tuple[str, str], trees: dict[str, dict[tuple[str, str], dict[str, str]]]) -> Scan:
    of_tree = {name: tree[session] for name, tree in sorted(trees.items()) if session in tree}
    name = max(of_tree, key=lambda name: (sum(contrast in of_tree[name] for contrast in MODALITIES), bool(name)))
    labels = [found["label"] for found in (of_tree[name], *of_tree.values()) if "label" in found]
    image = tuple(of_tree[name].get(contrast) for contrast in MODALITIES)
    patient = f"sub-{session[0]}"
    case = f"{patient}_ses-{session[1]}" if session[1] else patient
    return Scan(case, patient, image, labels[0] if labels else None)
