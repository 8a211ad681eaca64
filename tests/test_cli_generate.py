"""`launch.py generate`: wrong requests are told so at once and leave nothing, right ones leave pictures."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PIL import Image

import launch
from app.commands.generate import _portions, _slug

ROOT = Path(__file__).resolve().parents[1]
PICTURE = ROOT / "docs" / "images" / "samples.png"
Generate = Callable[..., list[str]]

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


@pytest.fixture
def generate(
    tiny_model_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Generate]:
    """Run the command in this process, where torch is there already; gives the lines it prints."""
    before = signal.getsignal(signal.SIGTERM)
    for name, value in launch.ENVIRONMENT.items():
        monkeypatch.setenv(name, value)

    def run(*words: str | Path, expect: int = 0) -> list[str]:
        argv = ["generate", "--no-setup", "--model", tiny_model_folder, "--device", "cpu", *words]
        capsys.readouterr()
        exit_code = launch.main([str(word) for word in argv])
        said = capsys.readouterr()
        assert exit_code == expect, said.err
        return said.out.splitlines() if expect == 0 else said.err.splitlines()

    yield run
    signal.signal(signal.SIGTERM, before)


def run_command(*words: str | Path, python: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *python, ROOT / "launch.py", "generate", *words],
        capture_output=True,
        text=True,
        check=False,
    )


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


@pytest.mark.slow
def test_the_right_request_from_a_shell(tiny_model_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "new" / "out"
    answer = run_command("a red apple", "--seed", "7", "--model", tiny_model_folder, "--output-dir", out)
    assert answer.returncode == 0, answer.stderr
    assert answer.stderr == ""
    (path,) = map(Path, answer.stdout.splitlines())
    assert path == out / "a-red-apple-7.png"
    with Image.open(path) as picture:
        assert picture.size == (32, 32)


def pixels(path: str | Path) -> bytes:
    with Image.open(path) as picture:
        return picture.convert("RGB").tobytes()


def test_a_seed_draws_the_same_picture_again_under_a_new_name(generate: Generate, tmp_path: Path) -> None:
    first, again, other = (
        generate("a red apple", "--seed", seed, "--output-dir", tmp_path)[0] for seed in ("7", "7", "8")
    )
    assert len({first, again, other}) == 3
    assert Path(again).name == "a-red-apple-7-2.png"
    assert pixels(first) == pixels(again) != pixels(other)


def test_a_picture_is_painted_where_the_mask_is_white(generate: Generate, tmp_path: Path) -> None:
    picture, mask = Image.linear_gradient("L").resize((48, 40)).convert("RGB"), Image.new("L", (48, 40))
    mask.paste(255, (24, 0, 48, 40))
    picture.save(tmp_path / "picture.png")
    mask.save(tmp_path / "mask.png")
    words = ["a red apple", "--image", tmp_path / "picture.png", "--mask", tmp_path / "mask.png"]
    words += ["--strength", "0.5", "--json", "--output-dir", tmp_path / "out"]
    facts = json.loads(generate(*words)[0])
    stored = [facts["request"]["image"][name] for name in ("picture", "mask")]
    assert sorted(file.stem for file in (tmp_path / "out" / "inputs").iterdir()) == sorted(stored)
    with Image.open(facts["path"]) as drawn:
        assert drawn.size == (48, 40)
        left, right = (0, 0, 24, 40), (28, 0, 48, 40)
        assert drawn.crop(left).tobytes() == picture.crop(left).tobytes()
        assert drawn.crop(right).tobytes() != picture.crop(right).tobytes()


def test_a_picture_grows_and_a_second_pass_enlarges(generate: Generate, tmp_path: Path) -> None:
    Image.new("RGB", (32, 32), (9, 99, 199)).save(tmp_path / "picture.png")
    extend = ["--image", tmp_path / "picture.png", "--extend", "16,0,0,8", "--output-dir", tmp_path / "out"]
    with Image.open(generate("a red apple", *extend)[0]) as drawn:
        assert drawn.size == (48, 40)
        assert drawn.crop((16, 0, 48, 32)).getcolors() == [(32 * 32, (9, 99, 199))]
    second = ["--second-pass", "1.5", "--upscaler", "Latent", "--tiling", "--output-dir", tmp_path / "out"]
    with Image.open(generate("a red apple", *second)[0]) as drawn:
        assert drawn.size == (48, 48)


def test_variations_of_one_seed_have_names_of_their_own(generate: Generate, tmp_path: Path) -> None:
    words = ["--variation-seed", "5", "--variation-strength", "0.3", "--count", "2", "--seed", "7", "--json"]
    facts = [json.loads(line) for line in generate("a red apple", *words, "--output-dir", tmp_path)]
    assert [fact["seed"] for fact in facts] == [7, 7]
    assert [fact["request"]["variation_seed"] for fact in facts] == [5, 6]
    assert len({fact["path"] for fact in facts}) == 2


def test_seed_zero_and_guidance_zero_are_values(generate: Generate, tmp_path: Path) -> None:
    words = ["a red apple", "--json", "--output-dir", tmp_path]
    facts = json.loads(generate(*words, "--seed", "0", "--guidance-scale", "0")[0])
    assert (facts["request"]["seed"], facts["request"]["guidance_scale"]) == (0, 0.0)


def test_seed_minus_one_and_no_seed_are_random(generate: Generate, tmp_path: Path) -> None:
    words = ["a red apple", "--json", "--output-dir", tmp_path]
    facts = [json.loads(generate(*words, *more)[0]) for more in (["--seed", "-1"], ["--seed", "-1"], [])]
    assert len({fact["seed"] for fact in facts}) == 3


def test_each_picture_draws_its_own_words_and_its_file_keeps_what_was_typed(
    generate: Generate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LATENT_STUDIO_OUTPUTS", str(tmp_path))
    (tmp_path / "styles.csv").write_text("name,prompt,negative_prompt\nleft,{prompt} on the left,a dog\n")
    words = ["a {red|blue|green} (apple:1.2)", "--style", "left", "--seed", "1", "--json"]
    facts = [json.loads(line) for line in generate(*words, "--count", "9")]
    prompts = [fact["request"]["prompt"] for fact in facts]
    assert set(prompts) == {f"a {colour} (apple:1.2) on the left" for colour in ("red", "blue", "green")}
    for fact in facts:
        with Image.open(fact["path"]) as picture:
            typed, ours = picture.info["parameters"], json.loads(picture.info["latent_studio"])["request"]
        assert typed.startswith(fact["request"]["prompt"] + "\nNegative prompt: a dog\n")
        assert (ours["template"], ours["styles"]) == ("a {red|blue|green} (apple:1.2)", ["left"])
        assert ours == fact["request"]
    (alone,) = (json.loads(line) for line in generate(*words, "--seed", "5"))
    assert alone["request"] == facts[4]["request"]


def test_a_lora_is_refused_and_a_wildcard_without_a_file_is_told(
    generate: Generate, tiny_model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert 'LoRA "ink"' in generate("a cat <lora:ink:0.8>", "--output-dir", out, expect=2)[0]
    assert not out.exists()
    words = ["generate", "--no-setup", "a __thing__", "--output-dir", str(out)]
    assert launch.main([*words, "--model", str(tiny_model_folder), "--device", "cpu"]) == 0
    assert "thing.txt, so __thing__ is read as words" in capsys.readouterr().err


def test_json_gives_one_object_per_picture(generate: Generate, tmp_path: Path) -> None:
    lines = generate(
        "a red apple", "--count", "3", "--seed", "5", "--steps", "2", "--json", "--output-dir", tmp_path
    )
    facts = [json.loads(line) for line in lines]
    assert [fact["seed"] for fact in facts] == [5, 6, 7]
    for fact in facts:
        assert Path(fact["path"]).is_file()
        assert fact["request"]["steps"] == 2
        assert (fact["request"]["seed"], fact["request"]["count"]) == (fact["seed"], 1)
        assert fact["model"] == "tiny"
        assert len(fact["model_id"]) == 10
        assert fact["seconds"] >= 0
        assert fact["engine"].startswith("torch")


def test_a_text_file_draws_a_picture_a_line_and_skips_those_there(generate: Generate, tmp_path: Path) -> None:
    prompts, out = tmp_path / "prompts.txt", tmp_path / "out"
    prompts.write_text("\ufeffa red apple\n\n  a dog / a cat  \r\nÄpfel\n", encoding="utf-8")
    paths = generate("--prompts-file", prompts, "--output-dir", out)
    names = ["0001-a-red-apple.png", "0003-a-dog-a-cat.png", "0004-äpfel.png"]
    assert [Path(path).name for path in paths] == names
    (out / names[1]).unlink()
    kept = (out / names[0]).read_bytes()
    again = generate("--prompts-file", prompts, "--output-dir", out)
    assert [Path(path).name for path in again] == [names[1]]
    assert (out / names[0]).read_bytes() == kept
    assert generate("--prompts-file", prompts, "--output-dir", out) == []


def test_a_jsonl_file_draws_its_own_settings_over_those_typed(generate: Generate, tmp_path: Path) -> None:
    prompts = tmp_path / "prompts.jsonl"
    lines = [{"prompt": "a cat", "seed": 3}, {"prompt": "a dog", "steps": 2, "count": 2, "sampler": "ddim"}]
    prompts.write_text("\n".join(map(json.dumps, lines)))
    words = ["--prompts-file", prompts, "--steps", "3", "--seed", "9", "--json", "--output-dir", tmp_path]
    facts = [json.loads(line) for line in generate(*words)]
    shown = [
        (f["request"]["prompt"], f["seed"], f["request"]["steps"], f["request"]["sampler"]) for f in facts
    ]
    assert shown == [("a cat", 3, 3, "Euler"), ("a dog", 9, 2, "DDIM"), ("a dog", 10, 2, "DDIM")]
    assert [Path(f["path"]).name for f in facts] == ["0001-a-cat.png", "0002-a-dog-1.png", "0002-a-dog-2.png"]


def test_only_the_missing_pictures_of_a_line_are_drawn_and_come_out_the_same(
    generate: Generate, tmp_path: Path
) -> None:
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("a red apple")
    words = ["--prompts-file", prompts, "--seed", "1", "--count", "3", "--output-dir", tmp_path]
    paths = generate(*words)
    before = pixels(paths[1])
    Path(paths[1]).unlink()
    assert generate(*words) == [paths[1]]
    # Alone instead of in a batch of three: the last bit of a float may differ.
    assert max(abs(a - b) for a, b in zip(before, pixels(paths[1]), strict=True)) <= 2


def test_pictures_go_to_the_outputs_folder_by_default(
    generate: Generate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LATENT_STUDIO_OUTPUTS", str(tmp_path / "mine"))
    assert Path(generate("a red apple")[0]).parent == tmp_path / "mine"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sent", "exit_code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["Ctrl+C", "TERM"]
)
def test_an_interruption_keeps_the_finished_pictures(
    tiny_model_folder: Path, tmp_path: Path, sent: signal.Signals, exit_code: int
) -> None:
    prompts, out = tmp_path / "prompts.txt", tmp_path / "out"
    prompts.write_text("a cat\n" * 5000)
    process = subprocess.Popen(
        [
            *(sys.executable, ROOT / "launch.py", "generate", "--prompts-file", prompts),
            *("--model", tiny_model_folder, "--output-dir", out),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        # Where the tests run in the background of a script, Ctrl+C is ignored, and so it would be here.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert process.stdout is not None
    first = process.stdout.readline().strip()
    process.send_signal(sent)
    rest, said = process.communicate(timeout=120)
    assert process.returncode == exit_code, said
    assert "Traceback" not in said
    printed = {Path(first), *map(Path, rest.split("\n")[:-1])}
    left = set(out.iterdir())
    assert printed <= left
    assert len(left) < 5000
    assert all(len(pixels(path)) == 32 * 32 * 3 for path in left)  # every file is whole


def test_pictures_between_two_savings_are_neighbours() -> None:
    assert list(_portions([0, 1, 2, 3, 4], 2)) == [[0, 1], [2, 3], [4]]
    assert list(_portions([0, 2, 3, 7], 8)) == [[0], [2, 3], [7]]
    assert list(_portions([0, 1], 0)) == [[0], [1]]
    assert list(_portions([], 4)) == []


@pytest.mark.parametrize(
    ("prompt", "name"),
    [
        ("a red apple", "a-red-apple"),
        ("../../etc/passwd", "etc-passwd"),
        ("", "picture"),
        ("🍎", "picture"),
        ("りんご、赤い", "りんご-赤い"),
        ("x" * 500, "x" * 48),
    ],
)
def test_names_of_files_hold_words_and_nothing_else(prompt: str, name: str) -> None:
    assert _slug(prompt) == name
