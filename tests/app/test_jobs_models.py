import threading
from pathlib import Path

import pytest

from app.job import JobState
from models.errors import ModelError
from tests.app.engines import PacedEngine, a_request, step_by_step
from tests.app.queues import MODEL, opened, the_end, until


def test_a_model_that_cannot_be_loaded_fails_its_job_only(tmp_path: Path) -> None:
    def open_engine(folder: Path) -> PacedEngine:
        if folder != MODEL:
            raise ModelError(f"there is no model folder {folder}")
        return PacedEngine(folder)

    with opened(tmp_path, open_engine) as jobs:
        assert the_end(jobs, jobs.submit(a_request(), "ann", MODEL)).state is JobState.DONE
        missing = the_end(jobs, jobs.submit(a_request(), "ann", Path("nowhere")))
        assert the_end(jobs, jobs.submit(a_request(), "ann", MODEL)).state is JobState.DONE
    assert (missing.state, missing.error) == (JobState.FAILED, "there is no model folder nowhere")


def test_few_models_stay_in_memory(tmp_path: Path) -> None:
    opened_folders = []

    def open_engine(folder: Path) -> PacedEngine:
        opened_folders.append(folder.name)
        return PacedEngine(folder)

    with opened(tmp_path, open_engine, models_in_memory=2) as jobs:
        for name in "abacab":
            the_end(jobs, jobs.submit(a_request(), "ann", Path(name)))
    assert "".join(opened_folders) == "abcb"  # a stays while it is used, b makes room for c


def test_a_model_that_a_training_replaced_is_loaded_anew(tmp_path: Path) -> None:
    folder, opened_folders = tmp_path / "run" / "model", []
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    weights.parent.mkdir(parents=True)
    weights.write_bytes(b"old")

    def open_engine(model: Path) -> PacedEngine:
        opened_folders.append(model)
        return PacedEngine(model)

    with opened(tmp_path, open_engine) as jobs:
        for change in (None, "same", "README", "new"):
            if change == "README":
                (folder / "README.md").write_text("words")
            if change == "new":
                newer = weights.with_name("writing")
                newer.write_bytes(b"new")
                newer.replace(weights)
            the_end(jobs, jobs.submit(a_request(), "ann", folder))
            assert len(opened_folders) == (2 if change == "new" else 1)
        assert len(jobs._workers[0].engines._engines) == 1


def test_only_the_worker_thread_touches_an_engine(tmp_path: Path) -> None:
    openers, engines = set(), []

    def open_engine(folder: Path) -> PacedEngine:
        openers.add(threading.current_thread().name)
        engines.append(PacedEngine(folder))
        return engines[-1]

    with opened(tmp_path, open_engine) as jobs:
        running = [jobs.submit(a_request(seed=seed), "ann", MODEL) for seed in range(5)]
        assert all(the_end(jobs, job).state is JobState.DONE for job in running)
    assert openers == {"engine"} == engines[0].threads
    assert len(engines) == 1


@pytest.mark.slow
def test_a_real_engine_draws_previews_and_pictures(
    tmp_path: Path, tiny_model_folder: Path, gate: threading.Semaphore
) -> None:
    from app.stage import previews

    with opened(tmp_path, step_by_step(gate)) as jobs:
        job = jobs.submit(a_request(steps=4, guidance_scale=2.0), "ann", tiny_model_folder)
        gate.release()
        seen = until(jobs, job, lambda view: view.event is not None)
        shown = previews(seen)
        gate.release(4)  # the other steps and the result
        view = the_end(jobs, job)
    assert view.state is JobState.DONE, view.error
    assert shown[0].startswith("data:image/jpeg;base64,")
