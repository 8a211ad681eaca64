"""The one way in: quick help, wrong words, and handing over."""

import os
import signal
import subprocess
import sys
import textwrap

import pytest

from app.commands.parser import parse
from tests.newcomer import ROOT, Studio, run, run_code

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


@pytest.mark.parametrize("command", COMMANDS)
def test_help_answers_within_half_a_cpu_second(command: str) -> None:
    for _ in range(3):  # a core that does other things, too, is not as fast at all times
        words = [sys.executable, str(ROOT / "launch.py"), *command.split(), "--help"]
        with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            assert "usage: launch.py" in process.stdout.read()
            _, status, used = os.wait4(process.pid, 0)  # of this process, whatever others end meanwhile
            process.returncode = os.waitstatus_to_exitcode(status)
        assert process.returncode == 0
        if used.ru_utime + used.ru_stime < 0.5:
            break
    else:
        pytest.fail(f"it took {used.ru_utime + used.ru_stime:.2f} CPU seconds")


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
        ["evaluate", "frontier", "--data", "here", "--budgets", "300,0"],
        ["evaluate", "frontier", "--data", "here", "--samplers", ","],
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


def test_a_page_has_four_jobs_under_way_on_another_server_or_as_many_as_it_is_told(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert parse(["--backend", "http://there"]).backend_jobs == 4
    assert parse(["--backend", "http://there", "--backend-jobs", "8"]).backend_jobs == 8
    for wrong, words in (("0", "0 is not above 0"), ("many", "'many' is not a whole number")):
        with pytest.raises(SystemExit) as ended:
            parse(["--backend-jobs", wrong])
        assert ended.value.code == 2
        said = capsys.readouterr().err
        assert f"argument --backend-jobs: {words}" in said
        assert len(said.splitlines()) == 1


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
    assert process.wait(timeout=50) == 130  # before it ends by itself


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
    read, write = os.pipe()
    os.close(read)  # before a word of it
    command = [sys.executable, ROOT / "launch.py", "doctor", "--json"]
    answer = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True, check=False)
    os.close(write)
    assert "Traceback" not in answer.stderr
    assert answer.returncode == 1
