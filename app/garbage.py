"""Python's search for garbage, kept out of the way while a program starts or a model loads."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def no_search(stays: bool) -> Iterator[None]:
    """Look for no garbage meanwhile, and never again among what is there at the end if all of it `stays`.

    Imports and weights are a million objects: searching them, again and again, takes a third of the time
    until the page is up and nearly half of that until the first step. What may be let go must not stay.
    """
    gc.disable()
    try:
        yield
    finally:
        if stays:
            gc.freeze()
        gc.enable()
