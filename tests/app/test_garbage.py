import gc

import pytest

from app.garbage import no_search


@pytest.mark.parametrize("stays", [True, False])
def test_no_garbage_is_looked_for_meanwhile_and_again_afterwards(stays: bool) -> None:
    before = gc.get_freeze_count()
    try:
        with no_search(stays):
            assert not gc.isenabled()
        assert gc.isenabled()
        assert (gc.get_freeze_count() > before) is stays
    finally:
        gc.unfreeze()


def test_what_fails_meanwhile_does_not_end_the_search_for_good() -> None:
    def fail() -> None:
        with no_search(stays=False):
            raise ValueError("no such model")

    with pytest.raises(ValueError, match="model"):
        fail()
    assert gc.isenabled()
