"""`launch.py generate`: wrong requests are told so at once and leave nothing."""

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.commands import ROOT, Generate, run_command

PICTURE = ROOT / "docs" / "images" / "samples.png"

# What is typed after the right request, and a word that the answer must hold.
WRONG = {
    "zero steps": (["--steps", "0"], "steps"),
    "negative steps": (["--steps", "-3"], "steps"),
    "too many steps": (["--steps", "100000"], "steps"),
    "steps in words": (["--steps", "ten"], "'ten'"),
    "half a step": (["--steps", "2.5"], "'2.5'"),
    "odd width": (["--width", "33"], "width"),
    "odd height": (["--height", "100"], "height"),
    "zero width": (["--width", "0"], "width"),
    "huge height": (["--height", "1000000"], "height"),
    "NaN guidance": (["--guidance-scale", "nan"], "guidance"),
    "infinite guidance": (["--guidance-scale", "inf"], "guidance"),
    "negative guidance": (["--guidance-scale", "-1"], "guidance"),
    "guidance that ends before it starts": (["--guidance-start", "0.6", "--guidance-end", "0.4"], "below"),
    "no noise of that name": (["--noise", "white"], "noise"),
    "guidance in words": (["--guidance-scale", "much"], "'much'"),
    "unknown sampler": (["--sampler", "Eulr"], "Eulr"),
    "unknown schedule": (["--schedule", "Karas"], "Karas"),
    "schedule the sampler does not take": (["--sampler", "DDIM", "--schedule", "Karras"], "Karras"),
    "no pictures": (["--count", "0"], "count"),
    "too many pictures": (["--count", "1000000"], "count"),
    "seed below -1": (["--seed", "-2"], "seed"),
    "seed too large": (["--seed", str(2**64)], "seed"),
    "seed in words": (["--seed", "lucky"], "'lucky'"),
    "strength without a picture": (["--strength", "0.5"], "--strength needs --image"),
    "mask without a picture": (["--mask", "mask.png"], "--mask needs --image"),
    "missing picture": (["--image", "gone.png"], "gone.png"),
    "picture that is none": (["--image", str(ROOT / "launch.py")], "not a readable picture"),
    "weight without a net": (["--control-scale", "0.5"], "--control-scale needs --control"),
    "net without a picture": (["--control", "lines"], "--control needs --control-image"),
    "no such net": (["--control", "lines", "--control-image", str(PICTURE)], 'no ControlNet "lines"'),
    "net too strong": (
        ["--control", "lines", "--control-image", str(PICTURE), "--control-scale", "3"],
        "controls.scale must be",
    ),
    "unknown fill": (["--image", str(PICTURE), "--fill", "red"], '"latent noise"'),
    "three sides": (["--image", str(PICTURE), "--extend", "8,8,8"], "four numbers"),
    "strength above 1": (["--image", str(PICTURE), "--strength", "2"], "strength"),
    "upscaler without a second pass": (["--upscaler", "Latent"], "--upscaler needs --second-pass"),
    "second pass too large": (["--second-pass", "4.5"], "second_pass.scale"),
    "no student": (["--instant"], "student"),
    "no such style": (["--style", "ink"], "ink"),
    "missing model": (["--model", "no/such/model"], "no/such/model"),
    "folder without a model": (["--model", str(ROOT / "docs")], "docs"),
    "unknown device": (["--device", "tpu"], "tpu"),
    "unknown engine": (["--engine", "warp"], "warp"),
    "unknown option": (["--stepps", "3"], "--stepps"),
    "two prompts": (["and a dog"], "and a dog"),
    "prompt and file": (["--prompts-file", "prompts.txt"], "--prompts-file"),
    "endless prompt": (["--negative-prompt", "very " * 5000], "negative_prompt"),
    "file in the way": (["--output-dir", str(ROOT / "launch.py")], "launch.py"),
}
# The text of a prompts file by its name, and a word that the answer must hold.
WRONG_FILES = {
    "missing": ("gone.txt", None, "gone.txt"),
    "of another kind": ("prompts.csv", "a cat", ".jsonl"),
    "empty": ("prompts.txt", "\n \n", "no prompts"),
    "not text": ("prompts.txt", b"\xff\xfe\x00\xd8", "UTF-8"),
    "broken JSON": ("prompts.jsonl", '{"prompt": "a cat"}\n{"prompt": ', "line 2"),
    "a list": ("prompts.jsonl", '["a cat"]', "line 1"),
    "no prompt": ("prompts.jsonl", '{"steps": 2}', "prompt"),
    "unknown field": ("prompts.jsonl", '{"prompt": "a cat", "stepps": 2}', "stepps"),
    "a wrong value in a late line": (
        "prompts.jsonl",
        '{"prompt": "a cat"}\n\n{"prompt": "b", "steps": 0}',
        "line 3",
    ),
}


def assert_refused(answer: subprocess.CompletedProcess[str], word: str, out: Path) -> None:
    assert answer.returncode == 2, answer.stderr
    assert answer.stdout == ""
    assert len(answer.stderr.strip().splitlines()) == 1, answer.stderr
    assert len(answer.stderr) < 600
    assert word in answer.stderr
    assert not out.exists()


@pytest.mark.parametrize("kind", WRONG)
def test_wrong_request_gets_one_sentence_and_leaves_nothing(
    kind: str, tiny_model_folder: Path, tmp_path: Path
) -> None:
    words, word = WRONG[kind]
    out = tmp_path / "out"
    # Without site-packages: it is answered before torch could be imported, and before any set-up; but a file
    # that is no picture, only after it.
    python = () if kind == "picture that is none" else ("-S",)
    answer = run_command(
        "a red apple", "--no-setup", "--model", tiny_model_folder, "--output-dir", out, *words, python=python
    )
    assert_refused(answer, word, out)


@pytest.mark.parametrize("kind", WRONG_FILES)
def test_wrong_prompts_file_gets_one_sentence_and_leaves_nothing(
    kind: str, tiny_model_folder: Path, tmp_path: Path
) -> None:
    name, text, word = WRONG_FILES[kind]
    if text is not None:
        (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    out = tmp_path / "out"
    answer = run_command(
        "--prompts-file", tmp_path / name, "--model", tiny_model_folder, "--output-dir", out, "--no-setup"
    )
    assert_refused(answer, word, out)


def test_the_words_missing_altogether(tmp_path: Path) -> None:
    answer = run_command("--output-dir", tmp_path / "out")
    assert_refused(answer, "PROMPT", tmp_path / "out")


def test_what_only_the_loaded_model_can_refuse_leaves_nothing_either(
    generate: Generate, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    said = generate("a red apple", "--sampler", "LCM", "--output-dir", out, expect=2)
    assert len(said) == 1
    assert "LCM" in said[0]
    assert "cuda:99" in generate("a red apple", "--device", "cuda:99", "--output-dir", out, expect=2)[0]
    assert not out.exists()


def test_a_damaged_model_leaves_nothing(generate: Generate, tiny_model_folder: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(tiny_model_folder, broken)
    weights = next((broken / "unet").glob("*.safetensors"))
    weights.write_bytes(weights.read_bytes()[:1000])
    said = generate("a red apple", "--model", broken, "--output-dir", tmp_path / "out", expect=2)
    assert len(said) == 1
    assert weights.name in said[0]
    assert not (tmp_path / "out").exists()
