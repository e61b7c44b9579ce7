"""What the layout of the code is worth, in numbers: `python -m tools.structure [CHECKOUT]`, before and after a change.

Everything is read from the syntax tree; nothing is imported or run.
"""

from __future__ import annotations

import ast
import statistics
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

COMMANDS = {  # folders or files of autoconf that are commands; all else are rooms, which commands share
    *("phantom", "inspect", "plan", "explain", "tune", "crossval", "efficiency", "score", "doctor", "report", "view"),
    *("bump", "pack", "fetch", "layout", "segment", "env"),
}
LATE = ("torch", "monai", "optuna", "fire", "distributed", "dask_jobqueue")
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
METRICS = ("metrics", "compare", "summary", "references")  # of score, which other commands may use
Import = tuple[str, str, str]  # module, imported module, name


def modules(root: Path) -> dict[str, Path]:
    """Dotted name -> file, of autoconf."""
    found = {}
    for path in sorted((root / "autoconf").rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def command_of(module: str) -> str:
    """The command that a module belongs to; empty for a room's."""
    parts = module.split(".")[1:]
    parts = parts[1:] if parts[:1] == ["experiments"] else parts
    return parts[0] if parts and parts[0] in COMMANDS else ""


def imports(root: Path) -> list[Import]:
    """Every name that a module of autoconf imports from another one, inside functions too."""
    known = modules(root)
    return [
        (module, f"{node.module}.{alias.name}" if f"{node.module}.{alias.name}" in known else node.module, alias.name)
        for module, path in known.items()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and not node.level and (node.module or "").split(".")[0] == "autoconf"
        for alias in node.names
        if node.module
    ]


def between_commands(root: Path) -> list[Import]:
    """Names that one command takes from another one's modules."""
    found = []
    for module, target, name in imports(root):
        here, there = command_of(module), command_of(target)
        if here and there and here != there:
            found.append((module, target, name))
    return found


def forbidden(root: Path) -> list[Import]:
    """Those of them that are no metrics of score, and what a room takes from a command."""
    crossing = [one for one in imports(root) if command_of(one[1]) not in ("", command_of(one[0]))]
    allowed = {f"autoconf.score.{name}" for name in METRICS}
    return [one for one in crossing if one[0] != "autoconf.__main__" and one[1] not in allowed]


def late_imports(root: Path) -> list[str]:
    """`file:line` of imports inside a function, but for what is slow to load or may be missing (LATE)."""
    found = []
    for path in sorted((root / "autoconf").rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        optional = {id(node) for part in ast.walk(tree) if isinstance(part, ast.Try) for node in ast.walk(part)}
        inside = {id(node): node for part in ast.walk(tree) if isinstance(part, FUNCTIONS) for node in ast.walk(part)}
        for node in inside.values():
            if isinstance(node, (ast.Import, ast.ImportFrom)) and id(node) not in optional:
                name = node.module or "" if isinstance(node, ast.ImportFrom) else node.names[0].name
                if name.partition(".")[0] not in LATE:
                    found.append(f"{path.relative_to(root)}:{node.lineno}")
    return found


def cycles(root: Path) -> list[list[str]]:
    """Groups of modules that import each other when they are loaded: strongly connected parts of the graph."""
    known, edges = modules(root), defaultdict(set)
    for module, path in known.items():
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ImportFrom) and node.module in known:
                names = {f"{node.module}.{alias.name}" for alias in node.names}
                edges[module] |= (names & set(known)) or {node.module}
    reach = {module: _reached(module, edges) for module in known}
    groups = {tuple(sorted(b for b in reach[a] if a in reach[b])) for a in known}
    return [list(group) for group in sorted(groups) if len(group) > 1]


def _reached(start: str, edges: dict[str, set[str]]) -> set[str]:
    seen, queue = set(), [start]
    while queue:
        for module in edges[queue.pop()] - seen:
            seen.add(module)
            queue.append(module)
    return seen


def class_names(root: Path) -> dict[str, list[str]]:
    """Class name -> the modules that define it, of those that several define."""
    found = defaultdict(list)
    for module, path in modules(root).items():
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef):
                found[node.name].append(module)
    return {name: where for name, where in found.items() if len(where) > 1}


def product(root: Path) -> list[Path]:
    """The files whose lines count: autoconf and the bundles."""
    return sorted([*(root / "autoconf").rglob("*.py"), *(root / "bundles").rglob("*.py")])


def lines(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())


def functions(root: Path) -> Iterator[int]:
    """Lines of each function."""
    for path in product(root):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                yield (node.end_lineno or node.lineno) - node.lineno + 1


def copies(root: Path) -> int:
    """Lines of files that two bundles hold byte for byte, but for the few that make a folder a package."""
    held = Counter(path.read_bytes() for path in (root / "bundles").rglob("scripts/*.py") if path.stem != "__init__")
    return sum(len(content.splitlines()) * (count - 1) for content, count in held.items())


def datalist_parsers(root: Path) -> list[str]:
    """Files that open JSON and look for a datalist's sections in it."""
    found = []
    for path in product(root):
        text = path.read_text(encoding="utf-8")
        if "json.load" in text and '"training"' in text and "layouts" not in path.parts:
            found.append(str(path.relative_to(root)))
    return found


def main(root: Path) -> None:
    """Print the numbers."""
    crossing = between_commands(root)
    pairs = Counter((command_of(a), command_of(b)) for a, b, _ in crossing)
    sizes = {str(path.relative_to(root)): lines(path) for path in product(root)}
    longest = max(sizes, key=lambda name: sizes[name])
    lengths = sorted(functions(root))
    print(f"names imported between commands  {len(crossing)} over {len(pairs)} pairs")
    for (here, there), count in pairs.most_common():
        print(f"    {count:3} {here} <- {there}")
    print(f"product lines                    {sum(sizes.values())}")
    print(f"lines that two bundles copy      {copies(root)}")
    print(f"modules above 300 lines          {sum(size > 300 for size in sizes.values())}; {longest} {sizes[longest]}")
    print(f"lines of a function              p90 {statistics.quantiles(lengths, n=10)[-1]:.0f}, longest {lengths[-1]}")
    print(f"import cycles                    {len(cycles(root))}")
    print(f"imports inside a function        {len(late_imports(root))}")
    print(f"class names used twice           {len(class_names(root))}")
    print(f"files that parse a datalist      {len(datalist_parsers(root))}: {', '.join(datalist_parsers(root))}")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "."))
