"""The table of bad input: what is given, how it is broken, who reads it, and the right answer or the line expected.

`test_bad_inputs.py` runs it; `python -m bad` in tests/ writes golden/bad_inputs.md from the same run.
"""
