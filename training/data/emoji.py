"""The openly licensed emoji of the starter dataset: which packages, which concepts, which SVG."""

import base64
import hashlib
import json
import re
import shutil
import subprocess
import tarfile
import tempfile
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.errors import DataError, StudioError


@dataclass(frozen=True, slots=True)
class Package:
    """One pinned npm package: `integrity` is the registry's sha512 of its tarball."""

    name: str
    version: str
    integrity: str
    style: str
    author: str
    licence: str


STYLES = (
    Package(
        "@iconify-json/fluent-emoji",
        "1.2.7",
        "sha512-D8G6bKAyIsyxP1rzZtIWr/gg/fO4Rg1+DyCWlfqKK4h8W+4Em/Y0P6QYgJUQTlUcagzJvSyg+9OBv4hz4Hc/QA==",
        "fluent 3d",
        "Microsoft Corporation, https://github.com/microsoft/fluentui-emoji",
        "MIT",
    ),
    Package(
        "@iconify-json/fluent-emoji-flat",
        "1.2.6",
        "sha512-RY47RgPb47fYUiyrA64sIOL0+UU02s29sXpNBbIQRBUlPlfNFTKUmZDERGuxDs/7yNGWqQYvuaSYM1M4fRXlUw==",
        "fluent flat",
        "Microsoft Corporation, https://github.com/microsoft/fluentui-emoji",
        "MIT",
    ),
    Package(
        "@iconify-json/noto",
        "1.2.9",
        "sha512-DQiuXENbun41ch+XPSV55H9FaWKpHTyz46YIKtSaKYD4fIDDzL1tR6H4np/T38jfrTAeI3rcKF0mqHYeZVAuaw==",
        "noto",
        "Google Inc, https://github.com/googlefonts/noto-emoji",
        "Apache-2.0",
    ),
    Package(
        "@iconify-json/twemoji",
        "1.2.5",
        "sha512-uKpuIEV0v6K5BW3Mjdyl+XKFVAbbcPxAgifKvEMtZoUZB5+YiY5zaMm2uNNCxyXzAWU9yNLlj41WU6/mvgALsw==",
        "twemoji",
        "Twitter and contributors, https://github.com/jdecked/twemoji",
        "CC-BY-4.0",
    ),
    Package(
        "@iconify-json/fxemoji",
        "1.2.2",
        "sha512-UAasRaxzFUKfIGSmLwnoarsssA4LX0VLLuEmplIqM6ZNQqIQRtav8tZ4H1neTlBreXuMQyAifr5jP4kn78DpiQ==",
        "firefox",
        "Mozilla, https://github.com/mozilla/fxemoji",
        "Apache-2.0",
    ),
    Package(
        "@iconify-json/emojione",
        "1.2.3",
        "sha512-T9+T3HIbJNLKKsmxYKlaYhvnHYkz/HNYTV7SHCXVZPfeUi4FqskY70YeN8yYAZT8cCv7w5vJxS4Q1m8zb9CMMg==",
        "emojione",
        "EmojiOne and EmojiTwo, https://github.com/EmojiTwo/emojitwo",
        "CC-BY-4.0",
    ),
)
NAMES = Package(
    "emojibase-data",
    "17.0.0",
    "sha512-Yvgb5AWoHViHV/gq1qr5ZAarcBip+B27/ZLRsUJkbgAEaLlZ/fof9g882LTpmEpyhBNEC0m2SEmItljHsTygjA==",
    "",
    "Miles Johnson, https://github.com/milesj/emojibase",
    "MIT",
)

# emojibase's groups of pictures of things: faces, people, animals, food, places, activities, objects.
# Left out: skin tones (2), symbols and buttons (8), flags (9).
GROUPS = frozenset({0, 1, 3, 4, 5, 6, 7})
# Variants that look the same at 128 px teach a small model nothing: gendered copies of a neutral
# picture, hair colours, families, mirrored people, clock faces.
VARIANT = re.compile(
    r"^(man|woman|men|women|deaf (man|woman)|family:|kiss:|couple with heart:|people with|people wrestling)"
    r"( |:)|: |facing right|o.clock|-thirty|^(women|men|woman and man) holding"
)


@dataclass(frozen=True, slots=True)
class Concept:
    """One thing to draw: its name ("red apple"), keywords, and emojibase group number."""

    name: str
    keywords: tuple[str, ...]
    group: int

    @property
    def slug(self) -> str:
        """The name as a file name and as the icon sets write it ("red-apple")."""
        plain = unicodedata.normalize("NFKD", self.name).encode("ascii", "ignore").decode()
        return re.sub(r"[^a-z0-9]+", "-", plain.lower()).strip("-")


class IconSet:
    """One style's icons: SVG text by concept."""

    def __init__(self, package: Package, icons: dict[str, Any]) -> None:
        self.package = package
        self.size = (icons.get("width", 16), icons.get("height", 16))
        self.icons: dict[str, dict[str, Any]] = dict(icons["icons"])
        for alias, target in icons.get("aliases", {}).items():
            if target["parent"] in self.icons and target.keys() == {"parent"}:
                self.icons[alias] = self.icons[target["parent"]]

    def svg(self, concept: Concept) -> str | None:
        """The SVG document of a concept, or None where the set does not draw it."""
        icon = self.icons.get(concept.slug) or self.icons.get(concept.slug.replace("-", ""))
        if icon is None or icon.get("hidden"):
            return None
        left, top = icon.get("left", 0), icon.get("top", 0)
        width, height = icon.get("width", self.size[0]), icon.get("height", self.size[1])
        return (
            '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
            f'viewBox="{left} {top} {width} {height}">{icon["body"]}</svg>'
        )


def fetch(package: Package, member: str) -> Any:
    """Read one JSON file out of a pinned npm package; see `fetch_files`."""
    return json.loads(fetch_files(package, [member])[member])


def fetch_files(package: Package, members: Sequence[str]) -> dict[str, bytes]:
    """Read files out of a pinned npm package, by name.

    Raises: DataError without npm or with a changed package; StudioError when npm cannot fetch it.
    """
    npm = shutil.which("npm")
    if npm is None:
        raise DataError("building the starter dataset needs npm, which is not installed; install Node.js")
    spec = f"{package.name}@{package.version}"
    with tempfile.TemporaryDirectory(prefix="latent-studio-") as folder:
        command = [npm, "pack", spec, "--silent", "--ignore-scripts", "--pack-destination", folder]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)  # noqa: S603
        tarballs = list(Path(folder).glob("*.tgz"))
        if done.returncode != 0 or len(tarballs) != 1:
            raise StudioError(f"npm could not fetch {spec}: {done.stderr.strip()[-300:] or 'no file came'}")
        digest = hashlib.sha512(tarballs[0].read_bytes()).digest()
        if f"sha512-{base64.b64encode(digest).decode()}" != package.integrity:
            raise DataError(f"{spec} is not the file this version was built with (its sha512 differs)")
        found = {}
        with tarfile.open(tarballs[0]) as archive:
            for member in members:
                file = archive.extractfile(f"package/{member}")
                if file is None:
                    raise DataError(f"{spec} holds no {member}")
                found[member] = file.read()
        return found


def concepts(entries: list[dict[str, Any]]) -> list[Concept]:
    """The concepts worth a small model's attention, from emojibase's entries."""
    return [
        Concept(entry["label"], tuple(entry.get("tags", ())), entry["group"])
        for entry in entries
        if entry.get("group") in GROUPS and not VARIANT.search(entry["label"])
    ]
