import sqlite3

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.search import condition, folded

ROW = {
    "words": folded("A red Äpfel, 蘋果 \uff21"),
    "negative": folded("Blue"),
    "model": "Starter",
    "sampler": "DPM++ 2M",
    "schedule": "Karras",
    "seed": 7,
    "steps": 20,
    "guidance": 5.5,
    "width": 128,
    "height": 64,
    "favourite": 0,
    "created": 1_700_000_000.0,
}


@pytest.fixture(scope="module")
def rows() -> sqlite3.Connection:
    connection = sqlite3.connect(":memory:")
    connection.execute(f"CREATE TABLE pictures ({', '.join(ROW)})")
    connection.execute(f"INSERT INTO pictures VALUES ({', '.join('?' * len(ROW))})", tuple(ROW.values()))
    return connection


def finds(rows: sqlite3.Connection, words: str, favourites: bool = False) -> bool:
    where, values = condition(words, favourites)
    ((count,),) = rows.execute(f"SELECT count(*) FROM pictures WHERE {where}", values).fetchall()
    return bool(count)


@pytest.mark.parametrize(
    "words",
    [
        "",
        "  ",
        "red",
        "RED äpfel",
        "äPF",
        "蘋果",
        "a \uff41",
        '"red ä"',
        "seed:7",
        "steps:20-30",
        "guidance:5.5",
        "size:128x64",
        "size:128\N{MULTIPLICATION SIGN}64",
        "width:128 height:64",
        "sampler:dpm++",
        'sampler:"dpm++ 2m"',
        "schedule:KARRAS model:starter",
        "negative:blue",
        "date:2023-11",
        "red seed:7 steps:1-99",
        "seed:",
        'sampler:"',
        'sampler:"dpm',
    ],
)
def test_what_is_asked_for_is_found(rows: sqlite3.Connection, words: str) -> None:
    assert finds(rows, words)


@pytest.mark.parametrize(
    "words",
    [
        "green",
        "red green",
        "blue",
        "seed:8",
        "seed:x",
        "steps:21-30",
        "size:64x128",
        "size:big",
        "sampler:heun",
        "negative:red",
        "date:2023-12",
        "http://x",
        "%",
        "seed:7 seed:8",
        "red' OR '1'='1",
    ],
)
def test_what_is_not_there_is_not_found(rows: sqlite3.Connection, words: str) -> None:
    assert not finds(rows, words)


def test_only_favourites_where_only_they_are_asked_for(rows: sqlite3.Connection) -> None:
    assert not finds(rows, "red", favourites=True)


TYPED = st.lists(st.sampled_from(["seed:", "size:", "date:", '"', "7", "1-2", ":", "9" * 30]) | st.text())


@given(TYPED.map("".join), st.booleans())
def test_nothing_that_is_typed_fails(rows: sqlite3.Connection, words: str, favourites: bool) -> None:
    finds(rows, words, favourites)
