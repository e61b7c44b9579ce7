"""The verb `explain`: a plan's table, from the file alone."""

from __future__ import annotations

from autoconf.plan.file import as_table, read


def explain(plan: str) -> None:
    """Show each key of a plan with its value, its reason and what was rejected.

    PLAN is an override file as the verb `plan` writes it; nothing else is read.
    """
    heading, choices = read(plan)
    print("\n".join([*heading, "", as_table(choices)]) if heading else as_table(choices))
