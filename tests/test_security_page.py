"""docs/security.md: each of its promises names a test that is there."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ROWS = [
    line.rsplit("|", 2)[-2]
    for line in (ROOT / "docs" / "security.md").read_text(encoding="utf-8").splitlines()
    if line.startswith("| ") and "::test_" in line
]
NAMED = sorted({name for row in ROWS for name in re.findall(r"`([\w/.]+::test_\w+)`", row)})


def test_there_are_promises() -> None:
    assert len(ROWS) >= 25


@pytest.mark.parametrize("name", NAMED)
def test_a_promise_names_a_test_that_is_there(name: str) -> None:
    file, _, function = name.partition("::")
    tree = ast.parse((ROOT / "tests" / file).read_text(encoding="utf-8"))
    assert function in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
