from app.picture import engine_of


def test_what_a_file_says_of_its_engine_is_not_trusted() -> None:
    assert engine_of({"engine": 7, "note": ["x"]}) == {}
    assert len(engine_of({"engine": "x" * 10_000})["engine"]) <= 200
