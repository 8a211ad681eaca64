"""The one way in: quick help, what sets up and what does not, and a set-up that survives accidents."""

import os
import resource
import shutil
import signal
import subprocess
import sys
import textwrap
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest

import launch
from app.commands.parser import parse

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "latent_studio_test_package"
COMMANDS = [
    "",
    "ui",
    "auth",
    "auth add",
    "generate",
    "data",
    "data starter",
    "train",
    "train diffusion",
    "doctor",
]


def run(
    words: Sequence[str | Path],
    *,
    root: Path = ROOT,
    stdin: str = "",
    environment: dict[str, str] | None = None,
    python: Sequence[str | Path] = (sys.executable,),
) -> subprocess.CompletedProcess[str]:
    """Start launch.py as a person does."""
    env = {name: value for name, value in os.environ.items() if name not in ("RANK", "LOCAL_RANK")}
    return subprocess.run(
        [*python, root / "launch.py", *words],
        input=stdin,
        capture_output=True,
        text=True,
        env=env | (environment or {}),
        check=False,
    )


def build_wheel(folder: Path, version: str) -> None:
    """Write the smallest wheel that pip installs."""
    info = f"{PACKAGE}-{version}.dist-info"
    with zipfile.ZipFile(folder / f"{PACKAGE}-{version}-py3-none-any.whl", "w") as wheel:
        wheel.writestr(f"{PACKAGE}.py", f"VERSION = {version!r}\n")
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {PACKAGE}\nVersion: {version}\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")


class Studio:
    """A copy of the files that a start needs, whose one requirement is a package from a folder beside it."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "studio"
        self.wheels = folder / "wheels"

    @classmethod
    def build(cls, folder: Path) -> "Studio":
        studio = cls(folder)
        studio.wheels.mkdir()
        for part in ("app", "models", "pipelines"):
            shutil.copytree(ROOT / part, studio.root / part, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "launch.py", studio.root)
        build_wheel(studio.wheels, "1.0")
        studio.require("1.0")
        return studio

    @property
    def venv(self) -> Path:
        return self.root / ".venv"

    @property
    def stamp(self) -> Path:
        return self.venv / "installed-requirements.txt"

    def require(self, version: str) -> None:
        (self.root / "requirements.txt").write_text(f"{PACKAGE}=={version}  # for the test\n")

    def installed(self) -> list[str]:
        found = self.venv.glob(f"lib/python*/site-packages/{PACKAGE}-*.dist-info")
        return [path.name.split("-")[1].removesuffix(".dist") for path in found]

    @property
    def environment(self) -> dict[str, str]:
        return {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(self.wheels), "PIP_CONFIG_FILE": os.devnull}

    def start(self, *words: str, **more: str) -> subprocess.CompletedProcess[str]:
        """Run a command that needs nothing installed, after whatever set-up goes before it."""
        words = words or ("auth", "add", "ada", "--auth-file", str(self.root / "people.txt"))
        password = "correct horse\ncorrect horse\n"
        return run(words, root=self.root, stdin=password, environment=self.environment | more)

    @property
    def has_run(self) -> bool:
        return (self.root / "people.txt").exists()


@pytest.fixture
def new_studio(tmp_path: Path) -> Studio:
    return Studio.build(tmp_path)


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


@pytest.mark.parametrize("command", COMMANDS)
def test_help_answers_within_half_a_cpu_second(command: str) -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    answer = run([*command.split(), "--help"])
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert answer.returncode == 0
    assert "usage: launch.py" in answer.stdout
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 0.5


@pytest.mark.parametrize("words", [["--help"], ["generate", "--help"], ["test", "--help"]])
def test_help_needs_no_package_and_sets_nothing_up(new_studio: Studio, words: list[str]) -> None:
    answer = run(words, root=new_studio.root, python=(sys.executable, "-S"))
    assert answer.returncode == 0
    assert "usage: launch.py" in answer.stdout
    assert not new_studio.venv.exists()


@pytest.mark.parametrize(
    "words",
    [
        ["nonsense"],
        ["ui", "--nonsense"],
        ["ui", "--port", "http"],
        ["ui", "--port", "70000"],
        ["ui", "--device", "gpu"],
        ["--shar"],  # no abbreviations
        ["generate"],
        ["generate", "a cat", "--steps", "many"],
        ["generate", "a cat", "--guidance", "3"],
        ["generate", "a cat", "--prompts-file", "cats.txt"],
        ["generate", "a cat", "and a dog"],
        ["auth", "add", "ada"],
        ["data"],
        ["train", "diffusion"],
        ["evaluate", "diffusion"],
        ["evaluate", "diffusion", "--data", "here", "--count", "0"],
        ["train", "everything", "--config", "tiny-diffusion"],
    ],
)
def test_wrong_words_get_one_sentence_and_no_set_up(new_studio: Studio, words: list[str]) -> None:
    answer = new_studio.start(*words)
    assert answer.returncode == 2
    assert answer.stdout == ""
    assert len(answer.stderr.strip().splitlines()) == 1, answer.stderr
    assert "--help" in answer.stderr
    assert not new_studio.venv.exists()


@pytest.mark.parametrize(
    "words", [["--share"], ["ui", "--host", "0.0.0.0"], ["ui", "--allow-host", "a b"]], ids=str
)
def test_a_page_open_to_strangers_is_refused_before_any_set_up(new_studio: Studio, words: list[str]) -> None:
    answer = new_studio.start(*words)
    assert answer.returncode == 2
    assert len(answer.stderr.strip().splitlines()) == 1, answer.stderr
    assert not new_studio.venv.exists()


def test_no_command_means_the_page() -> None:
    assert parse([]).command == "ui"
    shared = parse(["--share", "--no-setup"])
    assert (shared.command, shared.share, shared.no_setup) == ("ui", True, True)
    assert parse(["--no-setup"]).command == "ui"
    assert parse(["--no-setup", "doctor"]).no_setup
    assert parse(["doctor", "--no-setup"]).no_setup
    assert not parse(["doctor"]).no_setup


def test_the_page_is_for_this_machine_alone_unless_asked() -> None:
    args = parse([])
    assert (args.host, args.port, args.share, args.allow_host) == ("127.0.0.1", 7860, False, [])
    assert parse(["ui", "--allow-host", "a.lan", "--allow-host", "b.lan"]).allow_host == ["a.lan", "b.lan"]


def test_the_tests_command_hands_pytest_its_own_words_in_order() -> None:
    args = parse(["test", "tests/a.py", "--exhaustive", "-k", "cat", "-m", "slow", "-x", "--no-setup"])
    assert args.pytest == ["tests/a.py", "-k", "cat", "-m", "slow", "-x"]
    assert args.exhaustive
    assert args.no_setup
    assert args.requirements == "requirements-dev.txt"
    assert parse(["--no-setup", "test", "--co"]).pytest == ["--co"]


def test_settings_of_one_training_run_keep_their_order() -> None:
    args = parse(["train", "diffusion", "--config", "tiny-diffusion", "--set", "a.b=1", "--set", "a.b=2"])
    assert (args.config, args.set, args.run, args.dry_run) == (
        "tiny-diffusion",
        ["a.b=1", "a.b=2"],
        None,
        False,
    )


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


def run_code(code: str, root: Path) -> subprocess.CompletedProcess[str]:
    code = f"import sys, launch\n{textwrap.dedent(code)}"
    return subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=False)


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


@pytest.mark.parametrize("replace", [True, False], ids=["posix", "windows"])
def test_hand_over_ends_as_the_other_program_ends(new_studio: Studio, replace: bool) -> None:
    answer = run_code(
        f"""
        import os
        code = "import os, sys; print(os.environ['WORD']); sys.exit(7)"
        launch.hand_over([sys.executable, "-c", code], os.environ | {{"WORD": "hello"}}, replace={replace})
        """,
        new_studio.root,
    )
    assert (answer.returncode, answer.stdout) == (7, "hello\n")


@pytest.mark.parametrize("replace", [True, False], ids=["posix", "windows"])
def test_hand_over_passes_ctrl_c_on(new_studio: Studio, replace: bool) -> None:
    child = """
        import sys, time
        try:
            print("ready", flush=True)
            time.sleep(60)
        except KeyboardInterrupt:
            time.sleep(0.2)
            sys.exit(130)
    """
    command = f"[sys.executable, '-c', {textwrap.dedent(child)!r}]"
    code = f"import os, sys, launch; launch.hand_over({command}, dict(os.environ), replace={replace})"
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=new_studio.root,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # Where the tests run in the background of a script, Ctrl+C is ignored, and so it would be here.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to everyone in front
    assert process.wait(timeout=30) == 130


def test_adding_a_person_stores_no_password(new_studio: Studio) -> None:
    people = new_studio.root / "people.txt"
    answer = new_studio.start("auth", "add", "ada", "--auth-file", str(people), "--no-setup")
    assert answer.returncode == 0, answer.stderr
    assert "ada:scrypt$" in people.read_text()
    assert "correct horse" not in people.read_text() + answer.stdout + answer.stderr


def test_a_start_sets_its_own_surroundings_unless_they_are_set(new_studio: Studio) -> None:
    code = """
        import os
        os.environ.pop("OMP_WAIT_POLICY", None)
        os.environ["HF_HUB_OFFLINE"] = "0"
        launch.main(["auth", "add", "", "--auth-file", "people.txt", "--no-setup"])
        for name in ("OMP_WAIT_POLICY", "HF_HUB_OFFLINE", "GRADIO_ANALYTICS_ENABLED"):
            print(os.environ[name])
    """
    assert run_code(code, new_studio.root).stdout.split() == ["passive", "0", "False"]


@pytest.mark.slow
def test_a_program_that_stops_reading_gets_no_traceback() -> None:
    process = subprocess.Popen(
        [sys.executable, ROOT / "launch.py", "doctor", "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    assert "Traceback" not in process.stderr.read()
    assert process.wait() == 1
