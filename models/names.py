"""Names from outside that become files and folders: one whitelist, and no way out of where they belong."""

import re
import unicodedata
from pathlib import Path

from models.errors import RequestError

MAX_NAME_BYTES = 200  # with an ending and a number within the 255 of file systems
# Not on every system, or not on a command line as they stand.
_FORBIDDEN = frozenset('<>:"/\\|?*')
_DEVICES = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|com[0-9¹²³]|lpt[0-9¹²³])\s*(\..*)?", re.IGNORECASE)


def why_no_name(name: str) -> str | None:
    """Why nothing may be called so, None where it is one file or folder on every system.

    Letters, digits, marks, punctuation and symbols of any script and plain spaces make a name, but for what
    some system gives a meaning; control and format characters, which would hide what it is, do not.
    """
    if not name:
        return "it is empty"
    if len(name.encode("utf-8", "replace")) > MAX_NAME_BYTES:
        return f"it is longer than {MAX_NAME_BYTES} bytes"
    for character in name:
        plain = character == " " or unicodedata.category(character)[0] in "LMNPS"
        if not plain or character in _FORBIDDEN:
            return f"it has {character!a} in it"
    if name[0] in ". " or name[-1] in ". ":
        return "it begins or ends with a dot or a space"
    if _DEVICES.fullmatch(name):
        return "it is a device of Windows"
    return None


def file_in(folder: Path, name: str) -> Path:
    """The file of a name in a folder, `/` leading deeper, be it there or not.

    Raises RequestError for a part that is no name, and where a link leads out of the folder.
    """
    for part in name.split("/"):
        if reason := why_no_name(part):
            raise RequestError(f"{name[:60]!a} is no name for a file: {reason}.")
    file = folder / name
    if not file.resolve().is_relative_to(folder.resolve()):
        raise RequestError(f"{file} leads out of its folder; put a copy in its place.")
    return file


def one_spelling(name: str) -> str:
    """What is the same for names that some file system takes for one: case and composition aside."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFKC", name).casefold())
