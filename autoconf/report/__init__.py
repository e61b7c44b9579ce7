"""`autoconf report`: one HTML page about a run.

read.py      what there is, checked: files.py      page.py      the sections in their order, page.css, page.js
verdict.py   the score, its interval, warnings    curves.py    loss, learning rate, validation
cases.py     every case as a dot                  overlays.py  slices and outlines: planes.py, scans.py
details.py   plan, data, machine, commands        figures.py   the pictures as PNG
"""

from __future__ import annotations

import os

from autoconf.errors import AutoconfError
from autoconf.output import check_out, write_files
from autoconf.report.figures import figures
from autoconf.report.page import page
from autoconf.report.read import find

HTML = (".html", ".htm")


def report(run: str, out: str, scores: str = "", doctor: str = "") -> None:
    """Make one HTML page about a run: scores, curves, overlays, plan, data audit.

    It opens without a network and holds everything that it shows. A run that is not finished can be reported; what is
    missing is said in the page, with the command that makes it.

    run: the --output_dir of a training, with run.json and progress.csv.
    out: the page, REPORT.html; its pictures are also written as PNG into the folder REPORT_files beside it.
    scores: the folder that score wrote; without it RUN/scores, or a folder scores beside RUN.
    doctor: the doctor.json to show; without it the one in RUN, beside it, or in a folder doctor beside it.
    """
    folder, name = os.path.split(out)
    stem, end = os.path.splitext(name)
    if end.lower() not in HTML or not stem or os.path.isdir(out):
        raise AutoconfError(f"--out {out}: is no HTML file. Give it a name that ends in .html.")
    beside = os.path.join(folder, f"{stem}_files")
    check_out(folder or ".")
    check_out(beside)

    found = find(run, scores, doctor)
    text = page(found)
    pictures = figures(found)
    os.makedirs(beside, exist_ok=True)
    write_files(
        folder or ".", {name: text} | {os.path.join(f"{stem}_files", file): png for file, png in pictures.items()}
    )
    print(f"wrote  {out} ({len(text.encode()) / 1e6:.1f} MB)")
    for file in pictures:
        print(f"       {os.path.join(beside, file)}")
