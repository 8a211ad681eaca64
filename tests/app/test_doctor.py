"""The doctor: the engine it names, and a report that a script and a person can read."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from app.doctor import choose_engine
from tests.app.test_hardware import write_nvidia_smi

ROOT = Path(__file__).resolve().parents[2]
MEASURED = {
    "engine": "openvino cpu f32 1",
    "openvino_seconds": 0.8,
    "torch_seconds": 1.3,
    "faster": "openvino",
}


def test_the_engine_is_the_one_that_was_measured_to_be_faster() -> None:
    engine = choose_engine("cpu", "no GPU", MEASURED, Path("models/mine"))
    assert engine["name"] == "openvino"
    assert "0.80 s" in engine["why"]
    assert "1.30 s on torch" in engine["why"]
    assert choose_engine("cpu", "no GPU", MEASURED | {"faster": "torch"}, Path("mine"))["name"] == "torch"


def test_an_engine_that_was_not_measured_is_not_taken_and_the_line_to_type_is_told() -> None:
    engine = choose_engine("cpu", "no GPU", None, Path("models/mine"))
    assert engine["name"] == "torch"
    assert "doctor --prepare --model models/mine" in engine["why"]
    assert choose_engine("cuda:0", "a GPU", MEASURED, Path("mine")) == {
        "name": "torch",
        "device": "cuda:0",
        "why": "a GPU",
    }


def test_sdxl_is_torchs_and_nobody_is_told_to_prepare_it(tmp_path: Path) -> None:
    (tmp_path / "text_encoder_2").mkdir()
    for measured in (None, MEASURED):
        engine = choose_engine("cpu", "no GPU", measured, tmp_path)
        assert engine["name"] == "torch"
        assert engine["why"] == "no GPU; OpenVINO does not draw SDXL"


def run_doctor(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, ROOT / "launch.py", "doctor", *words],
        capture_output=True,
        text=True,
        env=os.environ | environment,
        check=False,
    )


@pytest.mark.slow
def test_the_report_is_one_json_object_with_what_scripts_ask_for(tmp_path: Path) -> None:
    model = tmp_path / "runs" / "2026-11-22-apples" / "model"
    model.mkdir(parents=True)
    (model / "model_index.json").write_text("{}")
    (tmp_path / "runs/cache/texts-1").mkdir(parents=True)
    (tmp_path / "runs/cache/texts-1/tokens.bin").touch()
    answer = run_doctor(
        "--json",
        LATENT_STUDIO_OUTPUTS=str(tmp_path / "not" / "there"),
        LATENT_STUDIO_RUNS=str(tmp_path / "runs"),
    )
    assert answer.returncode == 0, answer.stderr
    report = json.loads(answer.stdout)
    assert report["healthy"]
    assert report["python"]["executable"] == sys.executable
    assert report["torch"]["version"].startswith("2.")
    assert "cpu" in report["devices"]
    assert report["engine"]["device"] in ("cpu", "mps", "cuda:0")
    assert report["engine"]["why"]
    assert {"torch", "transformers", "gradio"} <= report["import_seconds"].keys()
    assert all(0 < took < 120 for took in report["import_seconds"].values())
    assert report["import_errors"] == {}
    assert [found for found in report["models"] if "runs" in Path(found).parts] == [str(model)]
    assert report["outputs"]["free_bytes"] > 0
    assert report["threads"]["count"] >= 1
    assert report["threads"]["why"]
    assert report["memory"]["free_bytes"] > 0
    assert str(model) in report["memory"]["plans"]
    assert not (tmp_path / "not").exists()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the stand-in for the driver's program is a shell script")
def test_the_report_for_a_person_ends_with_the_advice(tmp_path: Path) -> None:
    write_nvidia_smi(tmp_path, "echo 'GPU 0: NVIDIA GeForce RTX 4090 (UUID: GPU-1)'")
    answer = run_doctor(PATH=f"{tmp_path}{os.pathsep}{os.environ['PATH']}", CUDA_VISIBLE_DEVICES="")
    assert answer.returncode == 0, answer.stderr
    assert "Import time:" in answer.stdout
    assert "Engine:" in answer.stdout
    assert "NVIDIA GeForce RTX 4090" in answer.stdout.splitlines()[-1] or "No model" in answer.stdout
    assert "type" in answer.stdout


@pytest.mark.slow
def test_the_doctor_prepares_a_model_and_says_what_it_measured(
    tiny_model_folder: Path, tmp_path: Path
) -> None:
    graphs = {"LATENT_STUDIO_GRAPHS": str(tmp_path / "graphs"), "CUDA_VISIBLE_DEVICES": ""}
    answer = run_doctor("--json", "--prepare", "--model", str(tiny_model_folder), **graphs)
    assert answer.returncode == 0, answer.stderr
    engine = json.loads(answer.stdout)["engine"]
    assert engine["measured"]["engine"].startswith("openvino cpu ")
    assert engine["name"] == engine["measured"]["faster"]


@pytest.mark.slow
def test_a_model_that_cannot_be_prepared_is_told_and_the_report_stands(tmp_path: Path) -> None:
    answer = run_doctor("--json", "--prepare", "--model", str(tmp_path), LATENT_STUDIO_GRAPHS=str(tmp_path))
    assert "could not be prepared" in answer.stderr
    assert json.loads(answer.stdout)["engine"]["name"] == "torch"


@pytest.mark.slow
def test_sdxl_is_not_prepared_and_the_doctor_says_why(tmp_path: Path) -> None:
    model, graphs = tmp_path / "xl", tmp_path / "graphs"
    (model / "text_encoder_2").mkdir(parents=True)
    answer = run_doctor("--json", "--prepare", "--model", str(model), LATENT_STUDIO_GRAPHS=str(graphs))
    assert answer.stderr == f"{model} is SDXL, which torch draws: there is nothing to prepare.\n"
    assert json.loads(answer.stdout)["engine"]["name"] == "torch"
    assert not graphs.exists()


@pytest.mark.slow
def test_a_torch_that_cannot_be_imported_is_reported_not_raised(tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("raise OSError('libc10.so: wrong ELF class')\n")
    answer = run_doctor("--json", PYTHONPATH=str(tmp_path))
    report = json.loads(answer.stdout)
    assert answer.returncode == 1
    assert not report["healthy"]
    assert "wrong ELF class" in report["import_errors"]["torch"]
    assert report["torch"] is None
