"""The arrows between the folders, what each folder may lean on, and that the requirements list all of it."""

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
MAY_IMPORT = {
    "models": {"models"},
    "pipelines": {"models", "pipelines"},
    "training": {"models", "pipelines", "training"},
    "evaluation": {"models", "pipelines", "training", "evaluation"},
    "app": {"models", "pipelines", "training", "evaluation", "app"},
    "launch.py": {"models", "app"},
}
RAY = ROOT / "app" / "ray_app.py"  # the one file that needs requirements-ray.txt
OURS = {"models", "pipelines", "training", "evaluation", "app", "launch", "tests"}
# What a distribution is called where it is imported, when that is another name.
IMPORT_NAMES = {"pillow": "PIL"}
# Installed by a pinned package of ours, which could not do without it.
COMES_WITH = {
    "huggingface_hub": "diffusers",
    "anyio": "gradio",
    "psutil": "accelerate",
    "pydantic": "gradio",
    "starlette": "gradio",
    "fastapi": "gradio",
    "uvicorn": "gradio",
}


def source_files(part: str) -> list[Path]:
    path = ROOT / part
    return [path] if path.is_file() else sorted(path.rglob("*.py"))


def imported_modules(path: Path) -> Iterator[str]:
    """The full names of everything a file imports, inside functions too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno} imports relatively"
            assert node.module is not None
            yield node.module


def tops(path: Path) -> set[str]:
    return {name.partition(".")[0] for name in imported_modules(path)}


@pytest.mark.parametrize("part", sorted(MAY_IMPORT))
def test_imports_point_only_downwards(part: str) -> None:
    files = source_files(part)
    wrong = {str(f.relative_to(ROOT)): tops(f) & OURS - MAY_IMPORT[part] for f in files}
    assert {file: names for file, names in wrong.items() if names} == {}


@pytest.mark.parametrize("part", ["models", "pipelines"])
def test_the_networks_know_no_page_and_no_command_line(part: str) -> None:
    for path in source_files(part):
        assert tops(path).isdisjoint({"gradio", "argparse", "fastapi", "starlette"}), path
        calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
        printing = [
            c.lineno for c in calls if isinstance(c.func, ast.Name) and c.func.id in ("print", "input")
        ]
        assert not printing, f"{path} prints in line {printing}"


def test_no_folder_of_ours_hides_a_package() -> None:
    # The root comes first on sys.path.
    folders = {path.name for path in ROOT.iterdir() if path.is_dir()}
    assert folders.isdisjoint({"datasets", "diffusers", "tokenizers", "accelerate", "torch", "transformers"})


def pinned(file: str) -> dict[str, str]:
    lines = [line.partition("#") for line in (ROOT / file).read_text(encoding="utf-8").splitlines()]
    pins = {}
    for requirement, _, reason in lines:
        if requirement.strip() and not requirement.startswith("-r "):
            match = re.fullmatch(
                r"([A-Za-z0-9_.-]+)(?:\[[a-z]+\])?==([0-9][0-9A-Za-z.]*)", requirement.strip()
            )
            assert match, f"{requirement} is not an exact pin"
            assert reason.strip(), f"{requirement} has no reason"
            pins[match[1]] = match[2]
    assert list(pins) == sorted(pins), f"{file} is not in alphabetical order"
    return pins


def test_requirements_name_everything_that_is_imported() -> None:
    listed = {IMPORT_NAMES.get(name, name.replace("-", "_")) for name in pinned("requirements.txt")}
    used = {
        name: path
        for part in MAY_IMPORT
        for path in source_files(part)
        for name in tops(path) - (set(pinned("requirements-ray.txt")) if path == RAY else set())
    }
    # Named where they are needed in a command for the tests alone.
    for_tests = {"pytest"}
    theirs = set(used) - OURS - set(sys.stdlib_module_names) - for_tests
    unlisted = {name: used[name] for name in theirs if COMES_WITH.get(name, name) not in listed}
    assert unlisted == {}


def test_requirements_for_the_tests_add_to_the_others() -> None:
    for file in ("requirements-dev.txt", "requirements-ray.txt"):
        assert "-r requirements.txt" in (ROOT / file).read_text(encoding="utf-8").splitlines()
        assert set(pinned(file)).isdisjoint(pinned("requirements.txt"))
