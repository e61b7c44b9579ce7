"""python -m bad, in tests/: read every bad input every way, and write golden/bad_inputs.md."""

from bad.table import PAGE, page

PAGE.write_text(page(), encoding="utf-8")
