"""What runs long begins first, so that no worker is left alone with it at the end."""

from pathlib import Path

import pytest

_LONG = ("test_faults.py", "test_e2e.py", "test_compose.py", "test_lying.py", "test_demo.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    def place(item: pytest.Item) -> int:
        name = Path(item.path).name
        return _LONG.index(name) if name in _LONG else len(_LONG)

    items.sort(key=place)
