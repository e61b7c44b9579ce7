"""What a test promises: `@pytest.mark.promise(topic, text)` and `record_property("figure", ...)`, for the XML report.

`python -m benchmarks.promises` makes the table of docs/evidence/robustness.md of such reports.
"""

from __future__ import annotations

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        marker = item.get_closest_marker("promise")
        if marker is not None:
            topic, text = marker.args
            item.user_properties += [("topic", topic), ("promise", text)]
