"""The doctor: what it advises for which hardware, and a report that a script and a person can read."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from app.doctor import Hardware, TorchBuild, better_torch, choose_device, choose_engine, nvidia_gpus

ROOT = Path(__file__).resolve().parents[2]
NO_GPU = Hardware(nvidia=(), amd=(), apple_silicon=False)
NVIDIA = Hardware(nvidia=("NVIDIA GeForce RTX 4090",), amd=(), apple_silicon=False)
AMD = Hardware(nvidia=(), amd=("AMD GPU at 0000:03:00.0",), apple_silicon=False)
APPLE = Hardware(nvidia=(), amd=(), apple_silicon=True)
FOR_CPU = TorchBuild(version="2.13.0+cpu", cuda=None, hip=None, devices=("cpu",))
FOR_CUDA_UNUSED = TorchBuild(version="2.13.0+cu130", cuda="13.0", hip=None, devices=("cpu",))
FOR_CUDA = TorchBuild(
    version="2.13.0+cu130", cuda="13.0", hip=None, devices=("cuda:0 NVIDIA GeForce RTX 4090", "cpu")
)
FOR_APPLE = TorchBuild(version="2.13.0", cuda=None, hip=None, devices=("mps", "cpu"))


def test_a_cpu_build_beside_an_nvidia_gpu_gets_the_line_to_type() -> None:
    advice = better_torch(NVIDIA, FOR_CPU)
    assert advice is not None
    assert "RTX 4090" in advice
    assert f"{sys.executable} -m pip install --force-reinstall torch==2.13.0 --index-url " in advice
    assert advice.endswith("/cu130")


def test_a_cuda_build_that_finds_no_gpu_points_to_the_driver() -> None:
    advice = better_torch(NVIDIA, FOR_CUDA_UNUSED)
    assert advice is not None
    assert "nvidia-smi" in advice
    assert "pip" not in advice


@pytest.mark.parametrize(
    ("hardware", "build"),
    [(NO_GPU, FOR_CPU), (NO_GPU, FOR_CUDA_UNUSED), (NVIDIA, FOR_CUDA), (APPLE, FOR_APPLE)],
    ids=["no GPU, CPU build", "no GPU, CUDA build", "GPU in use", "Apple's GPU in use"],
)
def test_what_fits_gets_no_advice(hardware: Hardware, build: TorchBuild) -> None:
    assert better_torch(hardware, build) is None


@pytest.mark.skipif(sys.platform != "linux", reason="ROCm wheels are Linux's")
def test_an_amd_gpu_gets_the_rocm_line() -> None:
    advice = better_torch(AMD, FOR_CPU)
    assert advice is not None
    assert "rocm" in advice


@pytest.mark.parametrize(
    ("build", "device"), [(FOR_CUDA, "cuda:0"), (FOR_APPLE, "mps"), (FOR_CPU, "cpu"), (None, "none")]
)
def test_the_first_gpu_is_taken_before_the_cpu(build: TorchBuild | None, device: str) -> None:
    assert choose_device(build)[0] == device


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


def write_nvidia_smi(folder: Path, script: str) -> Path:
    program = folder / "nvidia-smi"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    return folder


def test_gpus_are_named_as_the_driver_names_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    two = "GPU 0: NVIDIA H100 80GB HBM3 (UUID: GPU-1)\\nGPU 1: Tesla T4 (UUID: GPU-2)\\n"
    write_nvidia_smi(tmp_path, f"printf '{two}'")
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert nvidia_gpus() == ("NVIDIA H100 80GB HBM3", "Tesla T4")


@pytest.mark.skipif(bool(nvidia_gpus()), reason="there is an NVIDIA GPU in this machine")
def test_a_driver_that_fails_is_no_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_nvidia_smi(tmp_path, "echo NVIDIA-SMI has failed; exit 9")
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert nvidia_gpus() == ()


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
    assert str(model) in report["models"]
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
def test_a_torch_that_cannot_be_imported_is_reported_not_raised(tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("raise OSError('libc10.so: wrong ELF class')\n")
    answer = run_doctor("--json", PYTHONPATH=str(tmp_path))
    report = json.loads(answer.stdout)
    assert answer.returncode == 1
    assert not report["healthy"]
    assert "wrong ELF class" in report["import_errors"]["torch"]
    assert report["torch"] is None
