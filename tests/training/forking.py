"""Trainings forked from one process that has imported everything: each starts at once, and dies alone.

    with training_server() as command: subprocess.run([*command, "train", "autoencoder", ...])

is `python launch.py train autoencoder ...` without the ten seconds of its imports: the same environment,
folder and output, the same exit code, and it ends when who asked for it ends.
"""

import atexit
import contextlib
import functools
import gc
import importlib
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MESSAGE_BYTES = 1 << 17


@contextlib.contextmanager
def training_server():
    """The words that stand for `python launch.py` while this lasts."""
    with tempfile.TemporaryDirectory() as folder:  # a short path: that of a socket has 107 bytes at most
        path = f"{folder}/socket"
        server = subprocess.Popen([sys.executable, "-m", "tests.training.forking", path], cwd=ROOT, stdout=-1)
        try:
            assert server.stdout.readline() == b"ready\n"
            # Isolated: who asks must be quick, and is not the process that a PYTHONPATH is meant for.
            yield [sys.executable, "-I", str(Path(__file__)), path]
        finally:
            server.kill()
            server.communicate()


@functools.cache
def shared_server():
    """The command of a server that lasts as long as this process."""
    server = training_server()
    atexit.register(server.__exit__, None, None, None)
    return server.__enter__()


def ask(path, words):
    """Have the server run `launch.py WORDS` as this process would; its exit code."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as server:
        server.connect(path)
        message = json.dumps({"words": words, "environment": dict(os.environ), "folder": os.getcwd()})
        socket.send_fds(server, [message.encode()], [0, 1, 2])
        for number in (signal.SIGINT, signal.SIGTERM):  # told to this one, meant for that one
            signal.signal(number, lambda number, _: server.send(str(number).encode()))
        return int(server.recv(MESSAGE_BYTES))


def serve(path):
    """Fork for each that asks, for ever; returns in the forked processes, with the words they were asked."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(path)
    listener.listen()
    selector = selectors.DefaultSelector()
    selector.register(listener, selectors.EVENT_READ)
    gc.freeze()  # what is imported stays shared
    print("ready", flush=True)
    while True:
        for key, _ in selector.select():
            if selector.get_map().get(key.fd) is not key:  # gone with another of this round
                continue
            if key.fileobj is listener:
                client, _ = listener.accept()
                message, descriptors, _, _ = socket.recv_fds(client, MESSAGE_BYTES, 3)
                if (pid := os.fork()) == 0:
                    for one in selector.get_map().values():
                        os.close(one.fd)
                    os.close(client.fileno())
                    return become(json.loads(message), descriptors)
                for descriptor in descriptors:
                    os.close(descriptor)
                selector.register(client, selectors.EVENT_READ, (pid, None))
                selector.register(os.pidfd_open(pid), selectors.EVENT_READ, (pid, client))
                continue
            pid, client = key.data
            if client is None:
                number = key.fileobj.recv(MESSAGE_BYTES)
                if not number:  # who asked is gone
                    selector.unregister(key.fileobj)
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, int(number or signal.SIGKILL))
                continue
            selector.unregister(key.fileobj)
            os.close(key.fd)
            code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            with contextlib.suppress(OSError):
                client.send(str(code if code >= 0 else 128 - code).encode())
            with contextlib.suppress(KeyError):
                selector.unregister(client)
            client.close()


def become(asked, descriptors):
    """Take over who asked: output, folder, environment, and what Python does with these at its start."""
    for number, descriptor in enumerate(descriptors):
        os.dup2(descriptor, number)
        os.close(descriptor)
    os.chdir(asked["folder"])
    os.environ.clear()
    os.environ.update(asked["environment"])
    sys.path[1:1] = [entry for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry]
    sys.modules.pop("sitecustomize", None)
    with contextlib.suppress(ImportError):
        import sitecustomize  # noqa: F401
    sys.argv = [str(ROOT / "launch.py"), *asked["words"]]
    return asked["words"]


if __name__ == "__main__":
    if sys.argv[2:]:
        sys.exit(ask(sys.argv[1], sys.argv[2:]))
    import launch

    os.environ.update({name: os.environ.get(name, value) for name, value in launch.ENVIRONMENT.items()})
    for module in ("app.commands.parser", "training.autoencoder", "training.diffusion"):
        importlib.import_module(module)

    sys.exit(launch.main(serve(sys.argv[1])))
