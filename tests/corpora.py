"""Picture files of other projects, whole and broken ones: `python tests/corpora.py` fetches them, once.

Debian's gdk-pixbuf-tests through apt, and the images of the Pillow source tests from PyPI.
"""

import hashlib
import io
import shutil
import subprocess
import sys
import tarfile
import tempfile
import urllib.request
from pathlib import Path

CACHE = Path.home() / ".cache" / "latent-studio" / "corpora"
PILLOW = (
    "https://files.pythonhosted.org/packages/1c/3d/"
    "bb7fca845737cf9d7dbde16ed1843984665ff2e0a518f5db43e77ec540b9/pillow-12.3.0.tar.gz"
)
PILLOW_SHA256 = "3b8182a766685eaa002637e28b4ec8d6b18819a0c71f579bf0dbaa5830297cce"


def fetch_gdk_pixbuf(folder: Path) -> None:
    """Unpack the files of Debian's package into `folder`."""
    with tempfile.TemporaryDirectory() as work:
        subprocess.run(["apt-get", "-q", "download", "gdk-pixbuf-tests"], cwd=work, check=True)
        (package,) = Path(work).glob("*.deb")
        subprocess.run(["dpkg-deb", "-x", str(package), str(folder)], check=True)


def fetch_pillow(folder: Path) -> None:
    """Unpack `Tests/images` of Pillow's source distribution into `folder`."""
    with urllib.request.urlopen(PILLOW, timeout=300) as answer:
        data = answer.read()
    if hashlib.sha256(data).hexdigest() != PILLOW_SHA256:
        raise SystemExit(f"{PILLOW} is not the file that the tests were written for")
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        images = [member for member in tar if "/Tests/images/" in member.name]
        tar.extractall(folder, images, filter="data")


FETCH = {"gdk-pixbuf": fetch_gdk_pixbuf, "pillow-12.3.0": fetch_pillow}


def corpus_files() -> list[Path]:
    """Every file of both; RuntimeError where they have not been fetched."""
    missing = [name for name in FETCH if not (CACHE / name).is_dir()]
    if missing:
        raise RuntimeError(
            f"{CACHE} lacks {', '.join(missing)}: run `python tests/corpora.py` (needs a network)"
        )
    return sorted(path for name in FETCH for path in (CACHE / name).rglob("*") if path.is_file())


def main() -> None:
    """Fetch what is not there yet."""
    CACHE.mkdir(parents=True, exist_ok=True)
    for name, fetch in FETCH.items():
        if not (CACHE / name).is_dir():
            partial = CACHE / f"{name}.partial"
            shutil.rmtree(partial, ignore_errors=True)
            fetch(partial)
            partial.rename(CACHE / name)
    print(f"{len(corpus_files())} files in {CACHE}", file=sys.stderr)


if __name__ == "__main__":
    main()
