"""Cases as stacks of slices inside a page: grey pictures and outlines of masks, in the best quality that fits."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from autoconf.pages.html import escape, paragraph
from autoconf.pages.planes import PicturedScan, Stack, outline

TILTED = 5.0  # degrees between grid and body from which on the page says so

MOST_BYTES = 7_500_000  # of all pictures and outlines; the rest of the page stays below 2 MB
LARGEST = 384  # pixels of a picture's longer side
STEPS = ((1, 70), (1, 50), (2, 60), (2, 45), (3, 45), (4, 40), (6, 40), (10, 35), (20, 30), (10**6, 30))


@dataclass(frozen=True)
class Lines:
    """Truth and prediction of one region. truth, pred: SVG paths; truth_area, pred_area: cm2 or pixels. By slice."""

    truth: list[str]
    pred: list[str]
    truth_area: list[float]
    pred_area: list[float]


@dataclass(frozen=True)
class Plane:
    """A stack as it goes into the page. numbers: which slices of the scan, from 1. start: the one to show first.

    grey: base64 JPEG, by slice. lines: by region; those of the first are shown first.
    """

    stack: Stack
    numbers: list[int]
    start: int
    grey: list[str]
    lines: dict[str, Lines]

    @property
    def first(self) -> Lines:
        """The lines to show first."""
        return next(iter(self.lines.values()))


def pictures(drawn: list[tuple[PicturedCase, list[Plane]]], heading: Callable[[PicturedCase], str]) -> str:
    """All planes of all cases, and what page.js needs of them."""
    parts, number = [], 0
    for case, planes in drawn:
        parts.append(heading(case) + '<div class="planes">')
        for plane in planes:
            parts.append(_figure(case, plane, number))
            number += 1
        parts.append("</div>")
    data = json.dumps([_plain(plane) for _, planes in drawn for plane in planes], separators=(",", ":"))
    return "".join(parts) + '<script type="application/json" id="stacks">' + data.replace("<", "\\u003c") + "</script>"


def encode(
    cases: list[tuple[PicturedCase, list[Stack]]], most: int = MOST_BYTES
) -> tuple[list[tuple[PicturedCase, list[Plane]]], str]:
    """The best quality, and the most slices, that fit into `most` bytes; and a sentence that says which."""
    lined = [(case, [(stack, outlines(stack)) for stack in found]) for case, found in cases]
    for step, quality in STEPS:
        drawn = [(case, [encode_stack(*stack, step, quality) for stack in found]) for case, found in lined]
        size = sum(plane_bytes(plane) for _, planes in drawn for plane in planes)
        if size <= most:
            break
    if all(stack.total == 1 for _, found in cases for stack in found):
        return drawn, f"Pictures are JPEG of quality {quality} ({size / 1e6:.1f} MB)."
    which = "every slice that shows something" if step == 1 else f"one slice of {step}" if step < 10**6 else "one slice"
    return drawn, f"The page holds {which} of each plane, as JPEG of quality {quality} ({size / 1e6:.1f} MB)."


def outlines(stack: Stack) -> dict[str, Lines]:
    """The lines of all slices."""
    lines = {}
    for region, masks in stack.masks.items():
        truth, pred = ([outline(mask) for mask in mask_stack] for mask_stack in masks)
        areas = [np.count_nonzero(mask_stack, axis=(1, 2)) * stack.pixel_area for mask_stack in masks]
        lines[region] = Lines(truth, pred, areas[0].round(2).tolist(), areas[1].round(2).tolist())
    return lines


def encode_stack(stack: Stack, lines: dict[str, Lines], step: int, quality: int) -> Plane:
    """Every `step`-th slice, the one to show first among them. lines: of `outlines`."""
    places = list(range(stack.start % step, len(stack.grey), step)) if step < len(stack.grey) else [stack.start]
    here = {
        region: Lines(*([found[place] for place in places] for found in vars(every).values()))
        for region, every in lines.items()
    }
    return Plane(
        stack,
        [stack.first + place + 1 for place in places],
        places.index(stack.start),
        [base64.b64encode(_jpeg(stack.grey[place], quality)).decode() for place in places],
        here,
    )


def plane_bytes(plane: Plane) -> int:
    """Bytes of a plane in the page; the first slice is there twice, so that it shows without JavaScript."""
    paths = [path for lines in plane.lines.values() for path in (*lines.truth, *lines.pred)]
    numbers = 10 * len(plane.grey) * (1 + 2 * len(plane.lines))
    return sum(map(len, [*plane.grey, *paths])) + len(plane.grey[plane.start]) + numbers


def said(plane: Plane, place: int) -> str:
    """`slice 73 of 155, truth 12.1 cm2, prediction 10.3 cm2`; page.js says the same. Without a truth, `tumour`."""
    truth, pred = plane.first.truth_area[place], plane.first.pred_area[place]
    sizes = f"truth {truth:.1f} cm\u00b2, prediction {pred:.1f} cm\u00b2"
    sizes = sizes if plane.stack.judged else f"tumour {pred:.1f} cm\u00b2"
    if not plane.stack.sides:
        return f"truth {truth:.0f} pixels, prediction {pred:.0f} pixels"
    return f"slice {plane.numbers[place]} of {plane.stack.total}, {sizes}"


def _jpeg(grey: np.ndarray, quality: int) -> bytes:
    picture = Image.fromarray(np.ascontiguousarray(grey))
    picture.thumbnail((LARGEST, LARGEST))
    data = io.BytesIO()
    picture.save(data, "JPEG", quality=quality, optimize=True)
    return data.getvalue()


def how_to_read(flat: bool, regions: dict[str, str], boxes: str) -> str:
    """Which way the slices lie, what is outlined and may be hidden, and the choice of a region if there are several."""
    where = (
        "Radiological view: the patient's right is at the left of the picture; of sagittal slices, the front. "
        "Slices count from below, from the back and from the left."
    )
    first, *others = regions
    choice = "".join(
        f'<label><input type="radio" name="region" value="{escape(region)}"{" checked" if region == first else ""}> '
        f"{escape(name)}</label>"
        for region, name in regions.items()
    )
    shown = paragraph(f"Outlines: {regions[first].lower()}.")
    parts = ["" if flat else paragraph(where), f"<noscript>{shown}</noscript>" if others else shown, boxes]
    if others:
        parts.append(f'<fieldset class="toggles" id="regions" hidden><legend>Region</legend>{choice}</fieldset>')
    return "".join(parts)


def shown_on(case: PicturedCase) -> str:
    """What the outlines lie on, and how."""
    words = f"Shown on {case.contrast}." if case.contrast else "No image is known, so the outlines lie on black."
    if case.tilt > TILTED:
        words += f" The grid is turned by {case.tilt:.0f} degrees against the body; the planes follow the grid."
    return words


def _figure(case: PicturedCase, plane: Plane, number: int) -> str:
    """One plane: the first slice, its outlines, the letters of the sides, and a slider."""
    stack, first = plane.stack, plane.start
    rows, columns = stack.grey.shape[1:]
    width, height = columns * stack.pixel[0], rows * stack.pixel[1]
    scale = f"scale({stack.pixel[0] / 2:.6g} {stack.pixel[1] / 2:.6g})"
    title = f"{case.case}, {stack.name}" + ("" if case.scan.flat else " slice")
    lines_are = "Outlines: truth solid, prediction dashed." if stack.judged else "Outline: what was marked."
    lines = "".join(
        f'<path class="{kind}" transform="{scale}" d="{path}"/>'
        for kind, path in (("halo truth", plane.first.truth[first]), ("truth", plane.first.truth[first]))
        + (("halo pred", plane.first.pred[first]), ("pred", plane.first.pred[first]))
    )
    letters = "".join(
        f'<span class="side {edge}" aria-hidden="true">{letter}</span>'
        for edge, letter in zip(("left", "right", "top", "bottom"), stack.sides, strict=False)
    )
    return (
        f'<figure class="plane" data-stack="{number}"><div class="view">'
        f'<svg viewBox="0 0 {width:.6g} {height:.6g}" role="img" aria-labelledby="p{number}-title p{number}-desc">'
        f'<title id="p{number}-title">{escape(title)}</title>'
        f'<desc id="p{number}-desc">{escape(_sides(stack))}{lines_are}</desc>'
        f'<image width="{width:.6g}" height="{height:.6g}" preserveAspectRatio="none" '
        f'href="data:image/jpeg;base64,{plane.grey[first]}"/>{lines}</svg>{letters}</div>'
        f"<figcaption>{_slider(case, plane)}<strong>{stack.name}</strong> "
        f'<output id="p{number}-said" aria-live="polite">{escape(said(plane, first))}</output></figcaption></figure>'
    )


def _sides(stack: Stack) -> str:
    if not stack.sides:
        return ""
    names = {"R": "right", "L": "left", "A": "front", "P": "back", "S": "top", "I": "bottom"}
    left, right, top, bottom = (names[letter] for letter in stack.sides)
    return f"Of the patient: {left} at the left, {right} at the right, {top} above, {bottom} below. "


def _slider(case: PicturedCase, plane: Plane) -> str:
    if len(plane.numbers) < 2:
        return ""
    return (
        f'<input type="range" hidden min="0" max="{len(plane.numbers) - 1}" value="{plane.start}" step="1" '
        f'aria-label="{escape(f"{plane.stack.name} slice of {case.case}")}">'
    )


def _plain(plane: Plane) -> dict[str, Any]:
    """What page.js needs of a plane."""
    return {
        "numbers": plane.numbers,
        "total": plane.stack.total,
        "flat": not plane.stack.sides,
        "judged": plane.stack.judged,
        "grey": plane.grey,
        "lines": {region: vars(lines) for region, lines in plane.lines.items()},
    }


@dataclass(frozen=True)
class PicturedCase:
    """One case to show. place: "worst", "median", "best". contrast: what the picture is; tilt: degrees, see TILTED."""

    case: str
    place: str
    dice: float
    scan: PicturedScan
    contrast: str
    tilt: float = 0.0


def tilt(affine: np.ndarray) -> float:
    """The largest angle in degrees between an array axis and the body axis nearest to it. affine: (4, 4)."""
    directions = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    return float(np.degrees(np.arccos(np.clip(np.abs(directions).max(axis=0), 0, 1)).max()))
