"""The process that belongs to one bundle: `python -m autoconf.doctor.probe REQUEST.json`.

Every bundle calls its package `scripts`, so two of them cannot share a process, and the command line's own process
imports none. The request holds the Subject and the names of the checks; each answer is one line of JSON on stdout.
What libraries print goes to stderr.
"""

from __future__ import annotations

import json
import os
import random
import sys
import warnings
from dataclasses import asdict

import numpy as np

from autoconf.doctor.catalogue import CHECKS
from autoconf.doctor.checks import Subject, ask


def main(path: str) -> None:
    """Answer the checks of a request, one line each."""
    with open(path, encoding="utf-8") as stream:
        request = json.load(stream)
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    warnings.simplefilter("ignore")
    subject = Subject(**request["subject"])
    for check in CHECKS:
        if check.name in request["checks"]:
            _fix_randomness()
            print(json.dumps(asdict(ask(check, subject))), file=answers, flush=True)


def _fix_randomness() -> None:
    """Each check draws the same numbers, whichever others ran before it."""
    import torch
    from monai.utils import set_determinism

    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)
    set_determinism(seed=0)


if __name__ == "__main__":
    main(sys.argv[1])
