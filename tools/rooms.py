"""Draw docs/rooms.png: the rooms and commands of autoconf, their lines, and who imports from whom.

python -m tools.rooms            # again after a change; read from the syntax tree
"""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

from tools.structure import command_of, imports, lines, modules

ROOT = Path(__file__).resolve().parents[1]
PICTURE = ROOT / "docs" / "rooms.png"
COMMAND, ROOM, BASE = "#56B4E9", "#F0E442", "#DDDDDD"  # two of Okabe and Ito's colours, and grey
SMALL = ("errors", "output", "pool", "reading", "arguments", "commands")  # drawn as one


def place_of(module: str) -> str:
    """The command or room that a module belongs to; empty for the command line itself."""
    first = (module.split(".") + [""])[1]
    if first in ("", "__main__"):
        return ""
    return command_of(module) or ("base" if first in SMALL else first)


def main() -> int:
    """Draw and write the picture."""
    sizes: Counter[str] = Counter()
    for module, path in modules(ROOT).items():
        sizes[place_of(module)] += lines(path)
    arrows = Counter((place_of(a), place_of(b)) for a, b, _ in imports(ROOT))
    commands = sorted({place_of(module) for module in modules(ROOT) if command_of(module)}, key=lambda c: -sizes[c])
    rooms = sorted(set(sizes) - set(commands) - {"", "base"}, key=lambda room: -sizes[room])
    rows = [commands[::2], commands[1::2], rooms, ["base"]]
    at = {
        name: ((place + 0.5) * 14 / len(row), 6.6 - (1.9 * level if level < 3 else 4.9))
        for level, row in enumerate(rows)
        for place, name in enumerate(row)
    }
    figure = Figure(figsize=(14, 6.6), dpi=100, layout="constrained")
    axes = figure.subplots()
    for (here, there), count in arrows.items():
        if here in at and there in at and here != there and there != "base":
            colour = "#D55E00" if there in commands else "#555555"
            style = {"arrowstyle": "-|>", "mutation_scale": 9, "color": colour, "alpha": 0.55}
            (x, y), (u, v) = at[here], at[there]
            axes.add_patch(FancyArrowPatch((x, y - 0.3), (u, v + 0.3), linewidth=0.4 + count / 12, **style))
    for name, (x, y) in at.items():
        colour = COMMAND if name in commands else BASE if name == "base" else ROOM
        box = {"boxstyle": "round,pad=0.04", "fc": colour, "ec": "black"}
        axes.add_patch(FancyBboxPatch((x - 0.62, y - 0.28), 1.24, 0.56, **box))
        label = ", ".join(SMALL) if name == "base" else name
        axes.text(x, y + 0.08, name if name != "base" else "small ones", ha="center", va="center", fontsize=10)
        axes.text(x, y - 0.15, f"{sizes[name]:,} lines", ha="center", va="center", fontsize=8)
        if name == "base":
            axes.text(x + 0.8, y, label, ha="left", va="center", fontsize=8)
    axes.set_xlim(0, 14)
    axes.set_ylim(1.3, 7.2)
    axes.set_axis_off()
    axes.set_title(
        "autoconf: commands (blue) import rooms (yellow), never each other; orange: the metrics of score", fontsize=11
    )
    figure.savefig(PICTURE)
    return 0


if __name__ == "__main__":
    sys.exit(main())
