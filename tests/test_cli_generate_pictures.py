"""`launch.py generate`: right requests leave the pictures that were asked for, under names of their own."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

import launch
from app.commands.generate import _portions, _slug
from pipelines.local_engine import TORCH_VERSION
from pipelines.png import read_png
from tests.commands import ROOT, Generate, run_command
from tests.controls import make_controlnet
from tests.stock import make_stock_model


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


@pytest.mark.slow
def test_the_engine_is_named_and_why_torch_drew(
    generate: Generate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LATENT_STUDIO_GRAPHS", str(tmp_path / "graphs"))
    words = ["a red apple", "--seed", "7", "--engine", "openvino", "--json", "--output-dir", tmp_path]
    drawn, seamless = (json.loads(generate(*words, *more)[0]) for more in ((), ("--tiling",)))
    assert drawn["engine"].startswith("openvino cpu ")
    assert drawn["note"] == ""
    assert seamless["engine"] == f"torch cpu float32 {TORCH_VERSION}"
    assert "seamless" in seamless["note"]
    for facts in (drawn, seamless):
        settings = read_png(Path(facts["path"]))
        assert settings is not None
        assert settings.extra["engine"] == facts["engine"]
        assert settings.extra.get("note", "") == facts["note"]


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


@pytest.mark.slow
def test_a_controlnet_guides_by_a_picture(
    generate: Generate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LATENT_STUDIO_CONTROLNETS", str(tmp_path / "nets"))
    make_controlnet(tmp_path / "nets" / "lines")
    Image.effect_noise((32, 32), 99).save(tmp_path / "guide.png")
    words = ["a cat", "--model", make_stock_model(tmp_path / "model"), "--width", "32", "--height", "32"]
    words += ["--steps", "2", "--seed", "1", "--json", "--output-dir", tmp_path / "out"]
    guide = ["--control", "lines", "--control-image", tmp_path / "guide.png", "--control-end", "0.5"]
    plain, guided = (json.loads(generate(*words, *more)[0]) for more in ((), guide))
    (control,) = guided["request"]["controls"]
    assert (control["controlnet"], control["scale"], control["end"]) == ("lines", 1.0, 0.5)
    assert [file.stem for file in (tmp_path / "out" / "inputs").iterdir()] == [control["picture"]]
    assert pixels(plain["path"]) != pixels(guided["path"])
    settings = read_png(Path(guided["path"]))
    assert settings is not None
    assert settings.request is not None
    assert settings.request.to_dict() == guided["request"]
    (refusal,) = generate("a cat", *guide, "--output-dir", tmp_path / "own", expect=2)
    assert "Latent Studio's own training" in refusal


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


def test_words_that_the_model_does_not_know_are_told(
    tiny_model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = shutil.copytree(tiny_model_folder, tmp_path / "model")
    words = ["generate", "--no-setup", "蘋果", "--output-dir", str(tmp_path), "--model", str(model)]
    assert launch.main([*words, "--device", "cpu"]) == 0
    said = capsys.readouterr().err
    assert "The model does not know these words: 蘋果" in said
    assert "It knows them as" not in said
    shutil.copy(Path("checkpoints/starter/chinese.json").absolute(), model)
    assert launch.main([*words, "--device", "cpu"]) == 0
    assert "It knows them as: a red apple" in capsys.readouterr().err


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
