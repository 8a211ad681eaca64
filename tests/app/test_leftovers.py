import os
import time
from pathlib import Path

import pytest
from PIL import Image

from app.database import Database
from app.leftovers import MIN_AGE_SECONDS, sweep_inputs
from app.library import Library
from app.settings import Settings
from pipelines.inputs import InputStore, read_picture
from pipelines.request_parts import ImageInput
from pipelines.result import GenerationResult
from tests.app.engines import a_request


def an_input(inputs: InputStore, shade: int, age_seconds: float = MIN_AGE_SECONDS + 60) -> str:
    name = inputs.add(read_picture(Image.new("RGB", (32, 32), (shade, 0, 0))))
    then = time.time() - age_seconds
    os.utime(inputs.path(name), (then, then))
    return name


def test_what_a_picture_or_an_unfinished_job_starts_from_stays_and_the_rest_goes(tmp_path: Path) -> None:
    settings = Settings(outputs=tmp_path)
    inputs = InputStore(settings.inputs)
    drawn, mask, asked, done, young, _ = (an_input(inputs, shade) for shade in range(6))
    os.utime(inputs.path(young))
    database = Database(settings.database)
    library = Library(tmp_path, database)
    request = a_request(image=ImageInput(picture=drawn, mask=mask))
    result = GenerationResult(
        images=[Image.new("RGB", (32, 32))],
        request=request,
        model_name="m",
        model_id="1",
        engine="e",
        seconds=1,
    )
    (path,) = library.save(result, "ann", "job")
    for state, name in (("interrupted", asked), ("done", done)):
        database.write(
            "INSERT INTO jobs VALUES (?, 'tag', 'm', ?, ?, NULL, 0, NULL, NULL, NULL)",
            (state, a_request(image=ImageInput(picture=name)).to_json(), state),
        )
    assert sweep_inputs(database, inputs) == 2
    kept = {file.stem for file in settings.inputs.iterdir()}
    assert kept == {drawn, mask, asked, young}
    picture = library.find(path.stem, "ann")
    assert picture is not None
    library.delete(picture)
    assert sweep_inputs(database, inputs) == 2
    database.close()


def test_there_may_be_no_inputs_at_all(tmp_path: Path) -> None:
    database = Database(tmp_path / "studio.sqlite3")
    assert sweep_inputs(database, InputStore(tmp_path / "inputs")) == 0
    database.close()


def test_using_an_input_again_keeps_it_young(tmp_path: Path) -> None:
    inputs = InputStore(tmp_path)
    name = an_input(inputs, 7)
    inputs.add(inputs.path(name).read_bytes())
    assert time.time() - inputs.path(name).stat().st_mtime < 60


@pytest.mark.parametrize("age_seconds", [0.0, MIN_AGE_SECONDS - 60])
def test_young_inputs_stay(tmp_path: Path, age_seconds: float) -> None:
    inputs = InputStore(tmp_path / "inputs")
    an_input(inputs, 1, age_seconds)
    database = Database(tmp_path / "studio.sqlite3")
    assert sweep_inputs(database, inputs) == 0
    database.close()
