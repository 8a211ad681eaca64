"""A machine on which Latent Studio was never started, as small as it can be."""

import os
import shutil
import subprocess
import sys
import textwrap
import zipfile
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "latent_studio_test_package"


def run(
    words: Sequence[str | Path],
    *,
    root: Path = ROOT,
    stdin: str = "",
    environment: dict[str, str] | None = None,
    python: Sequence[str | Path] = (sys.executable,),
) -> subprocess.CompletedProcess[str]:
    """Start launch.py as a person does."""
    env = {name: value for name, value in os.environ.items() if name not in ("RANK", "LOCAL_RANK")}
    return subprocess.run(
        [*python, root / "launch.py", *words],
        input=stdin,
        capture_output=True,
        text=True,
        env=env | (environment or {}),
        check=False,
    )


def build_wheel(folder: Path, version: str) -> None:
    """Write the smallest wheel that pip installs."""
    info = f"{PACKAGE}-{version}.dist-info"
    with zipfile.ZipFile(folder / f"{PACKAGE}-{version}-py3-none-any.whl", "w") as wheel:
        wheel.writestr(f"{PACKAGE}.py", f"VERSION = {version!r}\n")
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {PACKAGE}\nVersion: {version}\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")


class Studio:
    """A copy of the files that a start needs, whose one requirement is a package from a folder beside it."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "studio"
        self.wheels = folder / "wheels"

    @classmethod
    def build(cls, folder: Path) -> "Studio":
        studio = cls(folder)
        studio.wheels.mkdir()
        for part in ("app", "models", "pipelines"):
            shutil.copytree(ROOT / part, studio.root / part, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "launch.py", studio.root)
        build_wheel(studio.wheels, "1.0")
        studio.require("1.0")
        return studio

    @property
    def venv(self) -> Path:
        return self.root / ".venv"

    @property
    def stamp(self) -> Path:
        return self.venv / "installed-requirements.txt"

    def require(self, version: str) -> None:
        (self.root / "requirements.txt").write_text(f"{PACKAGE}=={version}  # for the test\n")

    def installed(self) -> list[str]:
        found = self.venv.glob(f"lib/python*/site-packages/{PACKAGE}-*.dist-info")
        return [path.name.split("-")[1].removesuffix(".dist") for path in found]

    @property
    def environment(self) -> dict[str, str]:
        return {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(self.wheels), "PIP_CONFIG_FILE": os.devnull}

    def start(self, *words: str, **more: str) -> subprocess.CompletedProcess[str]:
        """Run a command that needs nothing installed, after whatever set-up goes before it."""
        words = words or ("auth", "add", "ada", "--auth-file", str(self.root / "people.txt"))
        password = "correct horse\ncorrect horse\n"
        return run(words, root=self.root, stdin=password, environment=self.environment | more)

    @property
    def has_run(self) -> bool:
        return (self.root / "people.txt").exists()


def run_code(code: str, root: Path) -> subprocess.CompletedProcess[str]:
    code = f"import sys, launch\n{textwrap.dedent(code)}"
    return subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=False)
