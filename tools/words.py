"""Words that the field has better ones for: `python -m tools.words` fails where a file says more of them than before.

`words.json` holds how often each may still be said. `--update` lowers it to what is there; nothing raises it.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CEILINGS = Path(__file__).with_suffix(".json")
SAY = {  # pattern -> what to say instead
    r"contrast[_ ]dropout|DropContrast": "modality dropout",
    r"MR contrasts?|four contrasts?|contrasts(?![`\"])": "MR modalities (contrast: of an image, or the agent)",
    r"by heart": "overfit one case",
    r"shuffled masks": "label permutation",
    r"hidden patches": "masked patches",
    r"label functions?": "labeling functions",
    r"who votes": "weighted vote",
    r"the referee": "the evaluation",
    r"flatters?": "is optimistically biased",
    r"smallest_object": "min_component_mm3",
    r"prepared cases?|cases? (?:is|are) prepared": "preprocessed cases",
    r"what was marked|is marked|are marked": "segmented; the predicted mask",
    r"verbs?": "subcommand",
    r"knobs?": "setting",
    r"[Ww]hole or not at all": "atomically",
    r"in silence": "silently",
    r"left out": "excluded",
    r"the way of one scan": "data flow",
    r"what may know what": "dependency rules",
    r"what the weights bear": "robustness",
    r"a training(?! (?:case|set|list|image|step|run|iteration|mask|crop|loss|fold|label|curve|process|epoch|Dice))": (
        "a training run"
    ),
    r"begins? with (?:it|them|these|those|what)": "initialise from, fine-tune",
    r"is no (?:number|folder|file|bundle|text|datalist|mask|NIfTI|YAML|value|probability)": "is not a ...",
    r"\b(?:his|her) (?:labels|scans?|cases?|patients?)": "its, their",
}
KINDS = (".py", ".md", ".yaml")
APART = (  # records of what was said and measured, and this list
    *("docs/evidence/results", "docs/decisions", "tests/golden", "CHANGELOG.md", "LICENSE"),
    *("benchmarks/results.py", "tests/test_benchmarks.py", "tools/words.py", "tests/test_words.py"),
)


def files(root: Path) -> list[Path]:
    """The texts of the repository that people write."""
    listed = subprocess.run(["git", "ls-files"], cwd=root, capture_output=True, text=True, check=True).stdout
    return [root / name for name in listed.splitlines() if name.endswith(KINDS) and not name.startswith(APART)]


def said(texts: dict[str, str]) -> dict[str, list[str]]:
    """pattern -> the places where it is said, `file:line`."""
    found: dict[str, list[str]] = {pattern: [] for pattern in SAY}
    for name, text in texts.items():
        for number, line in enumerate(text.splitlines(), 1):
            for pattern in SAY:
                found[pattern] += [f"{name}:{number}"] * len(re.findall(rf"\b(?:{pattern})\b", line))
    return found


def complaints(found: dict[str, list[str]], ceilings: dict[str, int], changed: set[str]) -> list[str]:
    """A line for each word that is said more often than it may be; places in changed files come first."""
    lines = []
    for pattern, places in found.items():
        more = len(places) - ceilings.get(pattern, 0)
        if more > 0:
            places = sorted(places, key=lambda place: place.rpartition(":")[0] not in changed)
            lines.append(f"{pattern!r} is said {more} times more than before, e.g. {places[0]}: say {SAY[pattern]}.")
    return lines


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser("python -m tools.words", description=__doc__)
    parser.add_argument("--update", action="store_true", help="lower the numbers of words.json to what is there")
    update = parser.parse_args().update
    texts = {str(path.relative_to(ROOT)): path.read_text(encoding="utf-8") for path in files(ROOT) if path.exists()}
    found = said(texts)
    ceilings: dict[str, int] = json.loads(CEILINGS.read_text(encoding="utf-8")) if CEILINGS.exists() else {}
    if update:
        counts = {pattern: len(places) for pattern, places in found.items()}
        lower = {pattern: min(count, ceilings.get(pattern, count)) for pattern, count in counts.items()}
        CEILINGS.write_text(json.dumps(lower, indent=1) + "\n", encoding="utf-8")
        return 0
    changed = subprocess.run(["git", "diff", "--name-only", "HEAD"], cwd=ROOT, capture_output=True, text=True).stdout
    lines = complaints(found, ceilings, set(changed.split()))
    for line in lines:
        print(f"words: {line}", file=sys.stderr)
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main())
