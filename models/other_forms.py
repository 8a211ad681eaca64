"""Files of weights that are no safetensors, told by their first bytes or their names and never read."""

from pathlib import Path

from models.errors import ModelError

PICKLE_SUFFIXES = (".bin", ".ckpt", ".pt", ".pth", ".pkl", ".pickle", ".pt2", ".joblib")
CONVERT = (
    "get its .safetensors, or, where you trust who made it, load it with torch.load(FILE, weights_only=True) "
    "and write its tensors with safetensors.torch.save_file"
)
_PICKLES = {  # pickles may also begin with letters (protocol 0), which nothing tells from text
    b"PK": "a zip archive, as PyTorch packs pickles",
    **{bytes((0x80, protocol)): "a pickle" for protocol in range(2, 6)},
}
_OTHERS = {
    b"GGUF": "GGUF",
    b"\x89HDF": "HDF5, as Keras writes it",
    b"\x93NUMPY": "an array of NumPy",
    b"\x1f\x8b": "packed by gzip",
    b"7z\xbc\xaf": "a 7z archive",
}
_TAR = (257, b"ustar")  # how early PyTorch packed pickles


def refuse_other_form(path: Path) -> None:
    """ModelError for a file that is a pickle or another known form of weights, whatever its name says."""
    with path.open("rb") as file:
        start = file.read(_TAR[0] + len(_TAR[1]))
    for magic, kind in _PICKLES.items():
        if start.startswith(magic):
            raise ModelError(f"{path} is {kind}, which can run code when read; {CONVERT}")
    if start[_TAR[0] :] == _TAR[1] or path.suffix.lower() in PICKLE_SUFFIXES:
        raise ModelError(f"{path} is or may be a pickle, which can run code when read; {CONVERT}")
    for magic, kind in _OTHERS.items():
        if start.startswith(magic):
            raise ModelError(f"{path} is {kind}; only safetensors is read, so get its .safetensors")
