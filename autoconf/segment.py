"""`autoconf segment`: masks of many scans, by several processes of the bundle at once."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import ceil
from pathlib import Path
from typing import Any

import yaml

from autoconf.bundle.rules import described, is_allowed
from autoconf.bundle.settings import Bundle, read_bundle
from autoconf.data.brats import MODALITIES, CaseError, nothing_found
from autoconf.data.datalist import SECTIONS, VOLUMES, Case, Datalist, check_kind, read_datalist
from autoconf.data.layouts import find_scans
from autoconf.data.split import TESTING
from autoconf.errors import AutoconfError
from autoconf.output import check_out, write_json
from autoconf.workers.engine import read_engine
from autoconf.workers.parts import Part, Worker, only_one
from autoconf.workers.work import do_parts

MOST_SCANS = 100  # of a part
PARTS_EACH = 2  # parts for each that runs at once, at least, so that one slow part does not hold up the end
WORKERS = 8  # supposed of a cluster, which may grow
PROVENANCE = "provenance.json"
GIVEN = ("datalist", "dataset_dir", "output_dir", "device")


def segment(
    scans: str,
    bundle: str,
    out: str,
    config: tuple[str, ...] = (),
    section: str = "testing",
    device: str = "",
    jobs: int = 1,
    cluster: str = "",
    slurm: str = "",
    set: tuple[str, ...] = (),  # noqa: A002 - the flag is called --set
) -> None:
    """Segment many scans: `run inferring` of a bundle in parts, several at once. The same command goes on.

    scans: a datalist.json, or a folder of scans, a file for each modality, in any layout that inspect reads.
    bundle: folder of a bundle for volumes.
    out: folder for <case>.nii.gz and provenance.json; logs are in its folder parts.
    config: a file on top of the bundle's inference.yaml, such as plan.yaml or folds.yaml, or the name of one of
      BUNDLE/configs, such as ensemble; may be given several times.
    section: of a datalist: testing, training or unlabelled.
    device: cpu, cuda or cuda:1; several, cuda:0,cuda:1, are dealt to the jobs; empty: what is there.
    jobs: parts at once on this machine, or jobs of Slurm; cluster, slurm: as for crossval.
    set: key=value of the bundle, such as checkpoint=model.pt or tta=True; may be given several times.
    """
    engine = read_engine(jobs, device, cluster, slurm)
    datalist = _read_scans(scans, section)
    to = read_bundle(bundle)
    check_kind(scans, datalist.kind, to.name, to.is_3d)
    check_out(out, outside=datalist.root)
    home = Path(os.path.abspath(out)) / "parts"
    work = Segmentation(home, _configs(bundle, config), _values(to, set), datalist)
    with only_one(home):
        parts = _parts(work, WORKERS if engine.cluster else jobs)
        for part in parts:
            if part.is_done:  # whoever stopped the work may have stopped this
                _collect(part)
        left = do_parts(parts, partial(_segment, work), engine, home, ended=partial(_ended, parts))
    if left.failed:
        said = "; ".join(f"{name}: {reason}" for name, reason in left.failed.items())
        raise AutoconfError(f"{len(left.failed)} of {len(parts)} parts failed. {said}. The same command tries again.")
    print(f"wrote  {len(datalist.cases)} masks and {PROVENANCE} in {out}")


@dataclass(frozen=True)
class Segmentation:
    """configs, values: of each run. datalist: all scans as testing cases, the only ones that `run inferring` takes."""

    home: Path
    configs: list[str]
    values: dict[str, str]
    datalist: Datalist

    def same(self) -> dict[str, Any]:
        """What makes two starts the same work."""
        return {"configs": self.configs, "values": self.values, "cases": sorted(c.name for c in self.datalist.cases)}


def _read_scans(scans: str, section: str) -> Datalist:
    if section not in SECTIONS:
        raise AutoconfError(f"--section is '{section}'. It must be one of {', '.join(SECTIONS)}.")
    if scans.endswith(".json"):
        listed = read_datalist(scans)
        if not listed.section(section):
            raise AutoconfError(f"{scans}: its '{section}' list is empty. Choose another with --section.")
        return listed.with_cases(replace(c.without_truth(), section=TESTING) for c in listed.section(section))
    try:
        layouts = find_scans(scans)
        if not layouts:
            raise CaseError(nothing_found(scans))
    except CaseError as error:
        raise AutoconfError(str(error)) from error
    if len(layouts) > 1 or any(scan.channels or scan.convert for scan in layouts[0].scans):
        raise AutoconfError(
            f"{scans}: not one file for each modality, or several layouts. Give inspect's datalist.json."
        )
    cases = [
        Case(name=scan.case, patient=scan.patient, images=tuple(p and os.path.abspath(p) for p in scan.image))
        for scan in layouts[0].scans
    ]
    root = os.path.abspath(scans)
    empty = Datalist(os.path.basename(root), VOLUMES, root, (), modalities=MODALITIES)
    return empty.with_cases(replace(case, section=TESTING) for case in cases)


def _configs(bundle: str, names: Sequence[str]) -> list[str]:
    """Paths of the config files of each run, inference.yaml first."""
    paths = [os.path.join(bundle, "configs", "inference.yaml")]
    for name in names:
        own = os.path.join(bundle, "configs", f"{name}.yaml")
        if not os.path.isfile(name) and not os.path.isfile(own):
            raise AutoconfError(f"--config {name}: no such file, and the bundle has no configs/{name}.yaml.")
        paths.append(name if os.path.isfile(name) else own)
    return [os.path.abspath(path) for path in paths]


def _values(to: Bundle, words: Sequence[str]) -> dict[str, str]:
    """For the command line of each run; relative paths of files made absolute."""
    pairs = [word.partition("=") for word in words]
    for key, equals, text in pairs:
        if not equals or key in GIVEN:
            raise AutoconfError(f"--set {key}: write it as KEY=VALUE; {', '.join(GIVEN)} are set by this command.")
        rule = to.rules.get(key)
        if rule and not is_allowed(rule, yaml.safe_load(text)):
            raise AutoconfError(f"'{key}' is {text}. It must be {described(rule)}.")
    return {key: os.path.abspath(value) if os.path.isfile(value) else value for key, _, value in pairs}


def _parts(work: Segmentation, at_once: int) -> list[Part[list[str]]]:
    """The parts as they were first cut, each a list of cases. Raises AutoconfError if the folder is of other work."""
    path = work.home / "parts.json"
    if path.exists():
        kept = json.loads(path.read_text(encoding="utf-8"))
        other = next((key for key, value in work.same().items() if kept.get(key) != value), "")
        if other:
            raise AutoconfError(f"{work.home.parent} holds masks of other {other}. Give another --out.")
    else:
        names = work.same()["cases"]
        size = min(MOST_SCANS, ceil(len(names) / (PARTS_EACH * at_once)))
        kept = work.same() | {"parts": [names[first : first + size] for first in range(0, len(names), size)]}
        write_json(path, kept)
    named = enumerate(kept["parts"])
    return [Part(f"part {number}", work.home / f"{number:04d}", cases) for number, cases in named]


def _segment(work: Segmentation, part: Part[list[str]], worker: Worker) -> dict[str, Any]:
    """Segment those scans of a part that have no mask yet. Raises PartFailed."""
    masks, listed = part.folder / "masks", part.folder / "datalist.json"
    begun = _provenance(masks)["masks"]
    wanted = [name for name in part.task if name not in begun or not (masks / f"{name}.nii.gz").exists()]
    if wanted:
        cases = [case for case in work.datalist.cases if case.name in wanted]
        write_json(listed, work.datalist.with_cases(cases).plain())
        values = work.values | worker.on_device | {"datalist": listed, "output_dir": masks}
        worker.run(part, "inferring", work.configs, values)
    return {"cases": len(part.task)}


def _ended(parts: Sequence[Part[Any]], part: Part[Any], reason: str) -> None:
    if not reason:
        _collect(part)
        done = sum(other.result()["cases"] for other in parts if other.is_done)
        print(f"{done} of {sum(len(other.task) for other in parts)} scans segmented", flush=True)
    elif not any(other.is_done for other in parts):  # a wrong setting fails everywhere
        raise AutoconfError(f"{part.name} failed: {reason} (log: {part.log})")


def _collect(part: Part[Any]) -> None:
    """Move a part's masks beside those of the others, what is known of them first."""
    masks, out = part.folder / "masks", part.folder.parents[1]
    if not masks.is_dir():
        return
    theirs, ours = _provenance(masks), _provenance(out)
    first = len(ours["runs"])
    moved = {case: entry | {"run": entry["run"] + first} for case, entry in theirs["masks"].items()}
    write_json(out / PROVENANCE, {"runs": ours["runs"] + theirs["runs"], "masks": ours["masks"] | moved})
    for path in sorted(masks.glob("*.nii.gz")):
        os.replace(path, out / path.name)
    shutil.rmtree(masks)


def _provenance(folder: Path) -> dict[str, Any]:
    path = folder / PROVENANCE
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"runs": [], "masks": {}}
