"""Models of a hub, by their ids, `org/name`: fetched once and checked; from then on nothing needs a network.

Only what is data is fetched: weights as safetensors, configs and tokenizers of diffusers' layout. A process
of its own fetches, since this one is shut off from hubs (`launch.ENVIRONMENT`), and may lack their library.
"""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from models.defaults import DEFAULTS_FILE, INSTANT, PREVIEW_FILE
from models.errors import ModelError
from models.folder_check import PIPELINES, check_model_folder
from models.other_forms import PICKLE_SUFFIXES
from models.weights import WEIGHT_NAMES, read_json

ROOT = Path(__file__).resolve().parents[1]
MODELS_VARIABLE = "LATENT_STUDIO_MODELS"
INDEX = "model_index.json"
WEIGHED = ("vae", "unet", INSTANT, "text_encoder", "text_encoder_2", "class_encoder")
UNWEIGHED = ("tokenizer", "tokenizer_2", "scheduler")
TEXTS = (".json", ".txt", ".model")
BESIDE = (INDEX, "README.md", DEFAULTS_FILE, PREVIEW_FILE)
_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}", re.ASCII)
_NAME = re.compile(r"[\w.-]+", re.ASCII)
SPARE_BYTES = 2**30  # that are left free on the disk


def models_folder() -> Path:
    """Where fetched models lie: $LATENT_STUDIO_MODELS, else checkpoints/hub."""
    named = os.environ.get(MODELS_VARIABLE)
    return Path(named).expanduser() if named else ROOT / "checkpoints" / "hub"


def is_id(named: Path) -> bool:
    """Whether this is a hub's id; a path is none, be it with a slip in it: it is sent to nobody."""
    return _ID.fullmatch(named.as_posix()) is not None and not named.parent.exists()


def must_be_fetched(named: Path) -> bool:
    """Whether this is the id of a model that is not here yet."""
    return is_id(named) and not (models_folder() / named).is_dir()


def fetched(named: Path) -> Path:
    """The folder that a person named, or that of the hub's model whose id it is, fetched unless it is here.

    Raises ModelError, in one sentence, where there is no network, or the hub has no such model or none of a
    kind that is read.
    """
    folder = models_folder() / named
    if not must_be_fetched(named):
        return folder if is_id(named) else named
    python = _python()
    if python is None:
        raise ModelError(
            f"There is no folder {named}, and no model of that name can be fetched before the first "
            "`python launch.py` has installed what that needs."
        )
    environment = os.environ | {"HF_HUB_OFFLINE": "0", MODELS_VARIABLE: str(models_folder().absolute())}
    # Its progress goes to standard error, what it failed at to standard output.
    done = subprocess.run(  # noqa: S603 (our own module; the id is checked)
        [python, "-m", "app.hub", named.as_posix()],
        cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True, encoding="utf-8", check=False,
    )  # fmt: skip
    if done.returncode:
        reason = done.stdout.strip() or f"the process that fetches ended with {done.returncode}"
        raise ModelError(f"There is no folder {named}, and no model of that name could be fetched: {reason}")
    return folder


def wanted_files(files: Mapping[str, int]) -> dict[str, int]:
    """Of a repository's files, with their bytes, those of a model in diffusers' layout, each weight once.

    Raises ModelError for another layout, and for weights that are not safetensors.
    """
    if INDEX not in files:
        single = [name for name in files if name.endswith(".safetensors") and "/" not in name]
        hint = f"; download {single[0]} and name that file" if single else ""
        raise ModelError(f"it holds no {INDEX}, so it is no model in diffusers' layout{hint}.")
    wanted = [name for name in BESIDE if name in files]
    by_part: dict[str, list[str]] = {}
    for name in files:
        part, slash, file = name.partition("/")
        if slash and _NAME.fullmatch(file):
            by_part.setdefault(part, []).append(file)
    for part in (*WEIGHED, *UNWEIGHED):
        own = by_part.get(part, [])
        wanted += [
            f"{part}/{file}" for file in own if file.endswith(TEXTS) and not file.endswith(".index.json")
        ]
        if part not in WEIGHED or not own:
            continue
        weights = next((name for name in WEIGHT_NAMES if name in own), None)
        if weights is None:
            pickle = next((file for file in own if file.endswith(PICKLE_SUFFIXES)), None)
            raise ModelError(
                f"its {part} holds no {WEIGHT_NAMES[0] if part != 'text_encoder' else WEIGHT_NAMES[2]}"
                + (f" but {pickle}, a pickle, which can run code when it is read" if pickle else "")
                + "; ask its makers for safetensors."
            )
        wanted.append(f"{part}/{weights}")
    return {name: files[name] for name in wanted}


def _python() -> str | None:
    """A Python that has the hub's library: this one, or that of ./.venv."""
    if importlib.util.find_spec("huggingface_hub") is not None:
        return sys.executable
    own = ROOT / ".venv" / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    return str(own) if own.exists() else None


def _fetch(name: str) -> None:
    """Fetch a model into the folder of models; ModelError says why not, the name being said already."""
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError

    folder, hub = models_folder() / name, os.environ.get("HF_ENDPOINT", "https://huggingface.co")
    draft = models_folder() / ".fetching" / name  # kept, so that what was cut off goes on
    try:
        about = HfApi().model_info(name, files_metadata=True)
        listed = {file.rfilename: file.size or 0 for file in about.siblings or ()}
        wanted = wanted_files(listed)

        def get(names: Sequence[str]) -> None:
            snapshot_download(name, revision=about.sha, local_dir=draft, allow_patterns=list(names))

        get([INDEX])
        kind = read_json(draft / INDEX).get("_class_name")
        if kind not in PIPELINES:
            raise ModelError(f"it is of the kind {kind!r}; known are {', '.join(PIPELINES)}.")
        size = sum(wanted.values())
        free = shutil.disk_usage(draft).free - SPARE_BYTES
        if size > free:
            raise ModelError(
                f"it takes {_gigabytes(size)}, and {_gigabytes(max(free, 0))} are free on the disk."
            )
        print(f"Fetching {name}, {_gigabytes(size)}, from {hub} to {folder}", file=sys.stderr)
        get(list(wanted))
    except GatedRepoError as error:
        raise ModelError(
            f"{hub} gives it only to those who agreed to its terms: agree there, and set HF_TOKEN to yours."
        ) from error
    except RepositoryNotFoundError as error:
        raise ModelError(f"{hub} has none, or shows it to some people only (set HF_TOKEN).") from error
    except HfHubHTTPError as error:
        raise ModelError(f"{hub} answered with an error ({_first_line(error)}); try again later.") from error
    except ModelError:
        raise
    except Exception as error:  # whatever the network, the library or the disk came upon
        raise ModelError(
            f"{hub} cannot be reached ({_first_line(error)}); connect to a network, or name a folder on this "
            "machine."
        ) from error
    shutil.rmtree(draft / ".cache", ignore_errors=True)
    check_model_folder(draft)
    folder.parent.mkdir(parents=True, exist_ok=True)
    os.replace(draft, folder)


def _gigabytes(size_bytes: int) -> str:
    return f"{size_bytes / 1e9:.1f} GB"


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


if __name__ == "__main__":
    from filelock import FileLock

    try:
        lock = models_folder() / ".fetching" / f"{sys.argv[1].replace('/', '--')}.lock"
        lock.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(lock):  # of two that ask at once the second finds it there
            if not (models_folder() / sys.argv[1]).is_dir():
                _fetch(sys.argv[1])
    except ModelError as error:
        print(error)
        sys.exit(2)
