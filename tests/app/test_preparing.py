"""Models that a page prepares for OpenVINO: in turn, each once, and a process that crashes is told of."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.preparing import Preparations

# In the place of a conversion: says that it began, waits until it may end, and ends with a code.
CODE = """
import sys, time
from pathlib import Path
model = Path(sys.argv[1])
with open(model.parent / "begun", "a") as file:
    file.write(model.name + "\\n")
while not (model / "may end").exists():
    time.sleep(0.01)
sys.exit(int((model / "may end").read_text()))
"""


@pytest.fixture
def preparations(monkeypatch: pytest.MonkeyPatch) -> Iterator[Preparations]:
    monkeypatch.setattr("app.preparing.CODE", CODE)
    one = Preparations()
    yield one
    one.close()


def models(folder: Path, *codes: int | None) -> list[Path]:
    """Folders of models whose preparation ends with a code; never, where it is None."""
    made = []
    for number, code in enumerate(codes):
        made.append(folder / f"model-{number}")
        made[-1].mkdir()
        if code is not None:
            (made[-1] / "may end").write_text(str(code))
    return made


def begun(folder: Path) -> list[str]:
    file = folder / "begun"
    return file.read_text().split() if file.exists() else []


def waited(folder: Path, *names: str) -> None:
    """Until these were begun with, in this order."""
    end = time.monotonic() + 60
    while begun(folder) != list(names):
        assert time.monotonic() < end, begun(folder)
        time.sleep(0.01)


def said_of_them(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What was logged of preparations, not of what another test may have left going on."""
    return [record.getMessage() for record in caplog.records if record.name == "app.preparing"]


def test_a_model_opened_while_another_is_prepared_has_its_turn_after_it(
    preparations: Preparations, tmp_path: Path
) -> None:
    first, second = models(tmp_path, None, 0)
    for model in (first, second, first, second):
        preparations.ask(model, model.name)
    waited(tmp_path, "model-0")
    (first / "may end").write_text("0")
    waited(tmp_path, "model-0", "model-1")
    preparations.ask(first, first.name)
    preparations.close()
    assert begun(tmp_path) == ["model-0", "model-1"]


def test_one_that_crashes_is_told_of_with_what_to_do_and_the_next_has_its_turn(
    preparations: Preparations, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    crashing, sound = models(tmp_path, 3, 0)
    for model in (crashing, sound):
        preparations.ask(model, model.name)
    waited(tmp_path, "model-0", "model-1")
    (said,) = said_of_them(caplog)
    assert said.startswith("model-0 could not be prepared for OpenVINO (exit code 3)")
    assert f"doctor --prepare --model {crashing}`" in said


def test_a_page_that_closes_ends_what_is_under_way_begins_with_no_other_and_says_nothing(
    preparations: Preparations, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    under_way, waiting = models(tmp_path, None, 0)
    for model in (under_way, waiting):
        preparations.ask(model, model.name)
    waited(tmp_path, "model-0")
    preparations.close()
    assert begun(tmp_path) == ["model-0"]
    assert not said_of_them(caplog)
