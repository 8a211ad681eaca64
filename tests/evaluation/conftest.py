from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def own_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test finds what another drew or embedded, or leaves it in the repository."""
    monkeypatch.setenv("LATENT_STUDIO_RUNS", str(tmp_path / "runs"))
