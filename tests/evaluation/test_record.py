import json
from pathlib import Path

from evaluation.record import record

CARD = (
    "<!-- measured diffusion -->\n<!-- /measured diffusion -->\n"
    "<!-- measured diffusion clip-x -->\n<!-- /measured diffusion clip-x -->\n"
)


def test_results_by_other_networks_stand_beside_the_shipped_ones_and_none_overwrites_another(
    tmp_path: Path,
) -> None:
    (tmp_path / "README.md").write_text(CARD)
    record(tmp_path, "diffusion", {"kernel_distance": 3}, ["early"], "clip-x")
    record(tmp_path, "diffusion", {"kernel_distance": 1}, ["shipped"])
    record(tmp_path, "diffusion", {"kernel_distance": 4}, ["inception"], "inception-v3")
    record(tmp_path, "diffusion", {"kernel_distance": 2}, ["clip"], "clip-x")
    record(tmp_path, "autoencoder", {"kernel_distance": 5}, [])
    assert json.loads((tmp_path / "metrics.json").read_text()) == {
        "diffusion": {
            "kernel_distance": 1,
            "other_features": {"clip-x": {"kernel_distance": 2}, "inception-v3": {"kernel_distance": 4}},
        },
        "autoencoder": {"kernel_distance": 5},
    }
    assert (tmp_path / "README.md").read_text() == (
        "<!-- measured diffusion -->\nshipped\n<!-- /measured diffusion -->\n"
        "<!-- measured diffusion clip-x -->\nclip\n<!-- /measured diffusion clip-x -->\n"
    )
