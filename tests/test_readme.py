"""The two READMEs say the same: commands, links and numbers, and the measured ones."""

import json
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ENGLISH, CHINESE = ((ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "README.zh-TW.md"))


def commands(words: str) -> list[str]:
    """Indented lines without their remarks, and what stands between backticks."""
    blocks = [line.split(" # ")[0].strip() for line in re.findall(r"^    (\S.*)$", words, re.MULTILINE)]
    return blocks + sorted(re.findall(r"`([^`]+)`", words))


def test_both_readmes_have_the_same_commands_in_the_same_order() -> None:
    assert len(commands(ENGLISH)) > 20
    assert commands(CHINESE) == commands(ENGLISH)


def test_both_readmes_have_the_same_links_and_numbers_and_point_at_each_other() -> None:
    assert "(README.zh-TW.md)" in ENGLISH
    assert "(README.md)" in CHINESE
    links = [
        sorted(re.findall(r"\]\(([^)]+)\)", words.replace("README.zh-TW.md", "README.md")))
        for words in (ENGLISH, CHINESE)
    ]
    assert links[0] == links[1]
    for name in {link for link in links[0] if not link.startswith("http")}:
        assert (ROOT / name).exists(), name
    for number in ("128", "64"):
        assert number in ENGLISH, number
        assert number in CHINESE, number


def test_both_readmes_say_of_the_starter_what_was_measured() -> None:
    measured = json.loads((ROOT / "checkpoints/starter/metrics.json").read_text())
    found = measured["diffusion"]["retrieval"]["train"]
    for words in (ENGLISH, CHINESE):
        for key in ("top5", "ceiling_top5"):
            assert f"{found[key]:.0%}" in words, key
        assert str(found["n"]) in words
