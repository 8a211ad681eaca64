"""Another server that speaks OpenAI's images API. The standard library alone, until it is asked."""

import asyncio
import base64
import json
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import unquote, urlsplit

from models.errors import DataError, RequestError, StudioError

if TYPE_CHECKING:
    from aiohttp import ClientResponse

KEY_VARIABLE = "LATENT_STUDIO_BACKEND_KEY"
GENERATIONS, MODELS = "/v1/images/generations", "/v1/models"
EVERYTHING = "latent_studio"  # whose value, in a body or an answer, is for another Latent Studio
PICTURES_AT_ONCE = 10  # what OpenAI's form takes in one order
CONNECT_SECONDS, SILENCE_SECONDS = 10.0, 600.0  # a picture may take long on a server that shows no steps
MAX_ANSWER_BYTES = 256 * 2**20  # of one event, or of an answer as a whole


@dataclass(frozen=True, slots=True)
class RemoteServer:
    """A server by its address, `name` for people; `headers` say who asks."""

    url: str
    name: str
    headers: Mapping[str, str] = field(repr=False)

    @classmethod
    def from_url(cls, url: str) -> Self:
        """Read an address such as http://ann:PASSWORD@studio:7860; RequestError where it is none.

        Without a name in it, LATENT_STUDIO_BACKEND_KEY of the environment is sent as a Bearer key.
        """
        try:
            parts = urlsplit(url.strip())
            port = parts.port
        except ValueError:
            parts, port = urlsplit(""), None
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
            raise RequestError("--backend needs the address of a server, such as http://studio.example:7860.")
        host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
        name = host if port is None else f"{host}:{port}"
        headers = {"Accept-Encoding": "identity"}
        if parts.username is not None:
            who = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            headers["Authorization"] = f"Basic {base64.b64encode(who.encode()).decode()}"
        elif key := os.environ.get(KEY_VARIABLE):
            headers["Authorization"] = f"Bearer {key}"
        # Both `http://host` and `http://host/v1` are what people copy.
        path = parts.path.rstrip("/").removesuffix("/v1")
        return cls(f"{parts.scheme}://{name}{path}", name, headers)

    def models(self) -> list[dict[str, Any]]:
        """What it draws with, each an object with `id`, and `latent_studio` where it is one of ours.

        Raises StudioError where nobody answers, or nothing that can be understood.
        """

        async def ask() -> bytes:
            async with self.opened("GET", MODELS) as response:
                return await read_answer(response)

        with asyncio.Runner() as runner:
            answer = runner.run(ask())
        with self.understanding():
            listed = json.loads(answer)["data"]
            return [one for one in listed if isinstance(one["id"], str) and one["id"]]

    def understanding(self) -> "_Understanding":
        """Turns what a strange answer leads to into one sentence."""
        return _Understanding(self.name)

    @asynccontextmanager
    async def opened(
        self, method: str, path: str, body: Mapping[str, Any] | None = None
    ) -> "AsyncIterator[ClientResponse]":
        """A request and its good answer; leaving it closes the connection. StudioError says what is wrong."""
        import aiohttp

        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS, sock_read=SILENCE_SECONDS)
        try:
            async with (
                aiohttp.ClientSession(timeout=timeout, headers=self.headers) as session,
                session.request(method, self.url + path, json=body, allow_redirects=False) as response,
            ):
                if response.status != 200:
                    answer = await read_answer(response)
                    raise self._refused(response.status, answer.decode(errors="replace"))
                yield response
        except aiohttp.ClientConnectorError as error:
            raise StudioError(f"{self.name} cannot be reached ({error.strerror}); is it running?") from None
        except TimeoutError:
            raise StudioError(f"{self.name} does not answer; try again, or see how it does.") from None
        except aiohttp.ClientError:
            raise StudioError(
                f"The connection to {self.name} was cut off before the picture was there; try again."
            ) from None

    def _refused(self, status: int, answer: str) -> StudioError:
        try:
            said = json.loads(answer)["error"]["message"]
        except (ValueError, KeyError, TypeError, RecursionError):
            said = answer
        said = " ".join(str(said).split())[:300]
        if status == 401:
            return StudioError(
                f"{self.name} asks who you are: put NAME:PASSWORD@ before the name in --backend, or its key "
                f"into {KEY_VARIABLE}."
            )
        if status in (429, 503):
            return StudioError(f"{self.name} takes no more at the moment: {said}")
        if 400 <= status < 500:
            return RequestError(f"{self.name} refuses this ({status}): {said}")
        return StudioError(f"{self.name} failed ({status}): {said}")


@dataclass(frozen=True, slots=True)
class _Understanding:
    """A `with` that says of whom an answer came that cannot be read."""

    name: str

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        wrong = (KeyError, TypeError, ValueError, AttributeError, IndexError, RecursionError, DataError)
        if isinstance(error, wrong):
            raise StudioError(
                f"{self.name} answers in a way that is not understood; is it a server of OpenAI's images API?"
            ) from error


async def read_answer(response: "ClientResponse") -> bytes:
    """The whole body."""
    body = b""
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > MAX_ANSWER_BYTES:
            raise StudioError(f"The answer of {response.url.host} is larger than any picture.")
    return body
