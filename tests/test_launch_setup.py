"""What sets up and what does not, and a set-up that survives accidents."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import launch
from tests.newcomer import PACKAGE, ROOT, Studio, build_wheel, run_code


@pytest.fixture(scope="module")
def first_start(tmp_path_factory: pytest.TempPathFactory) -> tuple[Studio, subprocess.CompletedProcess[str]]:
    studio = Studio.build(tmp_path_factory.mktemp("first"))
    return studio, studio.start()


@pytest.fixture
def old_studio(first_start: tuple[Studio, object], tmp_path: Path) -> Studio:
    """One that has been set up before; each test has its own."""
    folder = first_start[0].root.parent
    shutil.copytree(folder, tmp_path / "copy", symlinks=True)
    studio = Studio(tmp_path / "copy")
    (studio.root / "people.txt").unlink(missing_ok=True)
    return studio


def test_missing_packages_are_those_absent_or_of_another_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, version in [("one_thing", "1.0+local"), ("other-thing", "2.0"), ("torch", "2.9.1")]:
        info = tmp_path / f"{name}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "base.txt").write_text("one_thing==1.0  # there\n\n# a remark\n")
    requirements = tmp_path / "requirements.txt"
    requirements.write_text(
        "-r base.txt\nother-thing==2.1\nnever-made==1\ntorch==2.13.0 # any newer will do\n"
    )
    assert launch.missing_packages(requirements) == ["other-thing==2.1", "never-made==1", "torch==2.13.0"]


@pytest.mark.parametrize("version", ["2.10.0", "2.13.0+cpu", "2.14.1+cu130", "3.0.0a0+git1"])
def test_any_torch_from_2_10_on_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    info = tmp_path / f"torch-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: torch\nVersion: {version}\n")
    monkeypatch.syspath_prepend(tmp_path)
    requirements = tmp_path / "requirements.txt"
    requirements.write_text("torch==2.13.0\n")
    assert launch.missing_packages(requirements) == []


def test_this_python_has_everything_that_the_tests_need() -> None:
    assert launch.missing_packages(ROOT / "requirements-dev.txt") == []


@pytest.mark.slow
def test_first_start_makes_an_environment_and_goes_on_in_it(
    first_start: tuple[Studio, subprocess.CompletedProcess[str]],
) -> None:
    studio, answer = first_start
    assert answer.returncode == 0, answer.stderr
    assert studio.installed() == ["1.0"]
    assert studio.has_run
    assert "Setting up" in answer.stderr
    assert "Successfully installed" in answer.stderr
    assert "Setting up" not in answer.stdout
    assert studio.stamp.exists()


@pytest.mark.slow
def test_second_start_installs_nothing(old_studio: Studio) -> None:
    answer = old_studio.start()
    assert answer.returncode == 0, answer.stderr
    assert old_studio.has_run
    assert "Setting up" not in answer.stderr
    assert "pip" not in answer.stderr.lower()


@pytest.mark.slow
def test_new_requirements_are_installed_and_a_failure_leaves_no_stamp(old_studio: Studio) -> None:
    old_studio.require("2.0")
    failed = old_studio.start()
    assert failed.returncode == 1
    assert "could not install the packages" in failed.stderr
    assert "Traceback" not in failed.stderr
    assert "pip install -r" in failed.stderr
    assert not old_studio.stamp.exists()
    assert not old_studio.has_run
    build_wheel(old_studio.wheels, "2.0")
    mended = old_studio.start()
    assert mended.returncode == 0, mended.stderr
    assert old_studio.installed() == ["2.0"]


@pytest.mark.slow
def test_an_environment_whose_python_has_gone_is_made_anew(old_studio: Studio) -> None:
    for python in (old_studio.venv / "bin").glob("python*"):
        python.unlink()
    answer = old_studio.start()
    assert answer.returncode == 0, answer.stderr
    assert old_studio.has_run


@pytest.mark.slow
def test_a_set_up_that_was_cut_off_is_taken_up_again(old_studio: Studio) -> None:
    old_studio.stamp.unlink()
    shutil.rmtree(next(old_studio.venv.glob("lib/python*/site-packages/pip")))
    (old_studio.venv / "made-by-launch.txt").write_text("begun")
    answer = old_studio.start()
    assert answer.returncode == 0, answer.stderr
    assert old_studio.stamp.exists()


@pytest.mark.slow
def test_a_second_start_waits_for_the_first_one_to_set_up(old_studio: Studio) -> None:
    import fcntl

    finished = old_studio.stamp.read_text()
    old_studio.stamp.unlink()
    with (old_studio.root / ".venv.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        process = subprocess.Popen(
            [
                sys.executable,
                old_studio.root / "launch.py",
                "auth",
                "add",
                "ada",
                "--auth-file",
                "/dev/null/x",
            ],
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | old_studio.environment,
        )
        assert process.stderr is not None
        assert "waiting" in process.stderr.readline()
        assert process.poll() is None
        old_studio.stamp.write_text(finished)  # the first one is done
    said = process.communicate(timeout=60)[1]
    assert "Setting up" not in said
    assert "Successfully installed" not in said


@pytest.mark.slow
def test_the_tests_file_has_a_stamp_of_its_own(old_studio: Studio) -> None:
    (old_studio.root / "requirements-dev.txt").write_text("-r requirements.txt\n")
    code = "import launch; launch.fill_venv(launch.ROOT / 'requirements-dev.txt')"
    before = old_studio.stamp.read_text()
    environment = os.environ | old_studio.environment
    subprocess.run([sys.executable, "-c", code], cwd=old_studio.root, env=environment, check=True)
    assert (old_studio.venv / "installed-requirements-dev.txt").exists()
    assert old_studio.stamp.read_text() == before


@pytest.mark.slow
def test_an_environment_made_by_hand_is_used_but_never_installed_into(new_studio: Studio) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", new_studio.venv], check=True)
    answer = new_studio.start()
    assert answer.returncode == 1
    assert f"lacks {PACKAGE}==1.0" in answer.stderr
    assert "pip install -r" in answer.stderr
    assert new_studio.installed() == []
    assert not new_studio.stamp.exists()
    site_packages = next(new_studio.venv.glob("lib/python*/site-packages"))
    with zipfile.ZipFile(next(new_studio.wheels.glob("*.whl"))) as wheel:  # as the person's own pip would
        wheel.extractall(site_packages)
    assert new_studio.start().returncode == 0
    assert new_studio.has_run


def test_a_folder_that_happens_to_be_called_venv_is_left_alone(new_studio: Studio) -> None:
    new_studio.venv.mkdir()
    (new_studio.venv / "diary.txt").write_text("mine")
    answer = new_studio.start()
    assert answer.returncode == 1
    assert "no virtual environment" in answer.stderr
    assert [path.name for path in new_studio.venv.iterdir()] == ["diary.txt"]


@pytest.mark.parametrize(
    "variables", [{"RANK": "0"}, {"LOCAL_RANK": "1"}, {"LATENT_STUDIO_HANDED_OVER": "1"}], ids=str
)
def test_training_processes_and_second_hand_overs_never_set_up(
    new_studio: Studio, variables: dict[str, str]
) -> None:
    answer = new_studio.start(**variables)
    assert answer.returncode == 1
    assert f"lacks {PACKAGE}==1.0" in answer.stderr
    assert str(new_studio.venv / "bin" / "python") in answer.stderr
    assert "Traceback" not in answer.stderr
    assert not new_studio.venv.exists()


def test_set_up_can_be_switched_off(new_studio: Studio) -> None:
    people = str(new_studio.root / "people.txt")
    answer = new_studio.start("auth", "add", "ada", "--auth-file", people, "--no-setup")
    assert answer.returncode == 0, answer.stderr
    assert not new_studio.venv.exists()


def test_a_folder_that_cannot_be_written_to_gets_one_sentence(new_studio: Studio) -> None:
    (new_studio.root / ".venv.lock").mkdir()  # root may write anywhere, but not to a folder
    answer = new_studio.start()
    assert answer.returncode == 1
    assert "cannot be written to" in answer.stderr
    assert "Traceback" not in answer.stderr


def test_an_old_python_is_told_which_one_to_use(new_studio: Studio) -> None:
    answer = run_code("launch.OLDEST_PYTHON = (99, 1); sys.exit(launch.main(['doctor']))", new_studio.root)
    assert answer.returncode == 1
    assert "needs Python 99.1" in answer.stderr
    assert len(answer.stderr.splitlines()) == 1


def test_a_python_without_venv_is_told_what_to_install(new_studio: Studio) -> None:
    answer = run_code("sys.modules['ensurepip'] = None; sys.exit(launch.main(['doctor']))", new_studio.root)
    assert answer.returncode == 1
    assert f"python{sys.version_info[0]}.{sys.version_info[1]}-venv" in answer.stderr
    assert "Traceback" not in answer.stderr
    assert not new_studio.venv.exists()
