"""One Gradio page for all languages: built once in each, served by the handlers of the English one."""

from collections.abc import Callable
from typing import Any

import gradio as gr
from gradio.context import Context

from app import language


class MultilingualBlocks(gr.Blocks):
    """Blocks that show each visitor the components as they were built in the visitor's language.

    `translated` holds those by language; all have the same ids, choices and events.
    """

    def __init__(self, **options: Any) -> None:
        self.translated: dict[str, list[dict[str, Any]]] = {}
        super().__init__(**options)

    @property
    def config(self) -> Any:
        """What Gradio sends of the page to a browser, in the language of the request."""
        tag = language.current()
        components = self.translated.get(tag)
        if components is None:
            return self._built
        says_so = f'<script>document.documentElement.lang = "{tag}"</script>'
        return {**self._built, "components": components, "head": (self.head or "") + says_so}

    @config.setter
    def config(self, built: Any) -> None:
        self._built = built

    async def call_function(
        self,
        block_fn: Any,
        processed_input: Any,
        iterator: Any = None,
        requests: Any = None,
        *rest: Any,
        **more: Any,
    ) -> Any:
        """Call a handler in the language of who asks; of a generator, each of its steps."""
        request = requests[0] if isinstance(requests, list) else requests
        tag = language.wanted(request.headers) if request is not None else language.current()
        with language.speaking(tag):
            return await super().call_function(block_fn, processed_input, iterator, requests, *rest, **more)


def build_in_all(build: Callable[[], MultilingualBlocks]) -> MultilingualBlocks:
    """The page that `build` builds, in English, with the components of those in all other languages."""
    components = {}
    first = Context.id
    for tag in language.LANGUAGES:
        if tag != language.ENGLISH:
            Context.id = first  # the same numbers in each, so that each fits the handlers of the English one
            with language.speaking(tag):
                components[tag] = build().config["components"]
    Context.id = first
    with language.speaking(language.ENGLISH):
        page = build()
    page.translated = components
    return page
