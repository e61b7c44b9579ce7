"""The sections of a run's page, in their order."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from autoconf.pages.document import document
from autoconf.pages.html import Section
from autoconf.report.cases import cases
from autoconf.report.curves import curves
from autoconf.report.details import audit, doctor, environment, plan
from autoconf.report.overlays import overlays
from autoconf.report.probabilities import probabilities
from autoconf.report.read import RunFiles
from autoconf.report.verdict import verdict

# In the order of the page. One more section is one more function from what was found to a Section.
SECTIONS: tuple[Callable[[RunFiles], Section], ...] = (
    verdict,
    curves,
    cases,
    overlays,
    probabilities,
    plan,
    audit,
    doctor,
    environment,
)


def page(found: RunFiles, sections: tuple[Callable[[RunFiles], Section], ...] = SECTIONS) -> str:
    """The whole HTML file."""
    name = "/".join(Path(os.path.abspath(found.run)).parts[-2:]).lstrip("/")  # `run` alone says little
    return document("Run", name, [section(found) for section in sections])
