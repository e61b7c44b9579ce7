"""The verb `explain`: a plan's table, from the file alone."""

from __future__ import annotations

from autoconf.errors import AutoconfError
from autoconf.plan.file import as_table, parse


def explain(plan: str) -> None:
    """Show each key of a plan with its value, its reason and what was rejected.

    PLAN is an override file as the verb `plan` writes it; nothing else is read.
    """
    try:
        with open(plan, encoding="utf-8") as stream:
            text = stream.read()
    except FileNotFoundError:
        raise AutoconfError(
            f"{plan} is not there. Make it with: autoconf plan WORK --bundle BUNDLE --out {plan}"
        ) from None
    except UnicodeDecodeError:
        raise AutoconfError(f"{plan}: is no text. Give a file that plan wrote.") from None
    heading, choices = parse(text, plan)
    print("\n".join([*heading, "", as_table(choices)]) if heading else as_table(choices))
