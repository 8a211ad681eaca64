"""Many engines behind one address, on the GPUs and machines of a Ray cluster.

    serve run app.ray_app:app model=checkpoints/starter gpus=1 max_replicas=8
    python launch.py --backend http://127.0.0.1:8000 --backend-jobs 8

Each replica has one engine and the routes of the page's own API. How many there are, which one draws what,
who waits and who is refused, and what becomes of one that died, is Ray's to say: docs/scale.md.
"""

import os
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

from pydantic import BaseModel, ConfigDict
from ray import serve
from ray.serve.config import BackpressureConfig
from starlette.applications import Starlette

ROOT = Path(__file__).resolve().parents[1]


class Options(BaseModel):
    """What `serve run` takes as name=value; `cpus` and `gpus` are those of one replica, and may be shares.

    `device`, `engine`, `dtype` and `compile` are the options of the page by these names.
    """

    model_config = ConfigDict(extra="forbid")

    model: Path = ROOT / "checkpoints" / "starter"
    device: str = "auto"
    engine: Literal["auto", "torch", "openvino"] = "auto"
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    compile: bool = False
    cpus: float = 1.0
    gpus: float = 0.0
    min_replicas: int = 1
    max_replicas: int = 4
    max_queued_requests: int = 64


@serve.ingress()
class Studio:
    """One engine, and what a program says to it."""

    def __init__(self, options: Options) -> None:
        os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # read when torch is imported
        from app.commands.options import engine_options
        from app.context import open_context
        from app.settings import Settings
        from pipelines.inputs import InputStore
        from pipelines.local_engine import LocalEngine

        self.folder = TemporaryDirectory(prefix="latent-studio-")  # of what is sent along to be drawn from
        settings = Settings(outputs=Path(self.folder.name))
        engine = LocalEngine(
            options.model,
            options.device,
            files=Settings.from_environment().prompt_files,
            inputs=InputStore(settings.inputs),
            controlnets=Settings.from_environment().controlnets,
            **engine_options(options),
        )
        self.context = open_context([options.model], lambda _folder: engine, settings=settings)

    def __serve_build_asgi_app__(self) -> Starlette:
        from app.api import openai

        return Starlette(routes=[route for _, route in openai.endpoints(self.context)])


def app(options: Options) -> serve.Application:
    """The application for `serve run`; a replica is ready when its model is loaded."""
    deployment = serve.deployment(
        max_ongoing_requests=1,  # an engine draws one at a time; others wait for whichever is free first
        max_queued_requests=options.max_queued_requests,
        backpressure_config=BackpressureConfig(status_code=429, retry_after_s=2),
        ray_actor_options={"num_cpus": options.cpus, "num_gpus": options.gpus},
        autoscaling_config={
            "min_replicas": options.min_replicas,
            "max_replicas": options.max_replicas,
            "target_ongoing_requests": 1,
        },
    )
    there = options.model_copy(update={"model": options.model.expanduser().resolve()})
    application: serve.Application = deployment(Studio).bind(there)
    return application
