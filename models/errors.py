"""The errors a person may see: each message says what is wrong, with which value, and what to do."""


class StudioError(Exception):
    """Something failed although the request was right; ends a command with exit code 1."""

    exit_code = 1


class RequestError(StudioError):
    """A generation request, or a word on the command line, cannot be carried out as it was asked."""

    exit_code = 2


class ModelError(StudioError):
    """A model folder is missing, incomplete, damaged or not allowed."""

    exit_code = 2


class DataError(StudioError):
    """A folder of training pictures, or a file in it, cannot be used."""

    exit_code = 2


class ConfigError(StudioError):
    """A training configuration has an unknown key or a value that cannot work."""

    exit_code = 2
