"""Which cluster is meant by `--cluster`, and whether it is there."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from sepbench.errors import UserError, in_a_line

REACH_S, ASK_S, JOIN_S = 5.0, 10.0, 60.0
MODE = "RAY_AUTH_MODE"
LOOK_S, LOST_AFTER = 5.0, 3  # looks in vain
FAILED = 2
START = "Start one with `ray start --head`, and on other machines `ray start --address=HOST:6379`."
KEEPALIVE_MS = {"RAY_grpc_client_keepalive_time_ms": 20_000, "RAY_grpc_client_keepalive_timeout_ms": 20_000}
TOKEN = "If it asks for a token: the one in ~/.ray/auth_token of its first machine is wanted here, too."


def check_address(address: str) -> None:
    """UserError where `address` can be no cluster's, or ray is not installed. Nobody is asked whether it is there."""
    host, _, port = address.rpartition(":")
    is_one = host and "/" not in host and port.isdigit() and int(port) < 1 << 16
    if address not in ("auto", "local") and not is_one:
        raise UserError(f"--cluster {address}: wanted auto, local or HOST:PORT, such as 192.168.0.1:6379.")
    if find_spec("ray") is None:
        raise UserError('--cluster: ray is not installed. pip install "sepbench[ray]"')


def prepare(address: str, env: MutableMapping[str, str] = os.environ) -> None:
    """What Ray reads as it is imported, where the user has not said otherwise. UserError where nobody is at `address`.

    How soon a machine counts as gone that was unplugged: Ray itself would wait for the runs there for longer than most of them
    take. And that a token is to be shown, where one is here and the cluster at `address` asks for it: `ray start` does as soon
    as one lies in the home folder, which a cluster started from Python puts there.
    """
    if named := _named(address, env):
        _check_reachable(address, *named)
    for name, milliseconds in KEEPALIVE_MS.items():
        env.setdefault(name, str(milliseconds))
    token_file = Path(env.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token")
    has_token = env.get("RAY_AUTH_TOKEN") or token_file.is_file()
    if address != "local" and has_token and MODE not in env and not _lets_anybody_in(address, env):
        env[MODE] = "token"


def _lets_anybody_in(address: str, env: Mapping[str, str]) -> bool:
    """Asked by a process of its own: Ray reads once whether it is to show a token."""
    ask = "from ray.scripts.scripts import main; main()"
    where = [] if address == "auto" else ["--address", address]
    call = [sys.executable, "-c", ask, "health-check", *where]
    try:
        return subprocess.run(call, env={**env, MODE: "disabled"}, capture_output=True, timeout=ASK_S).returncode == 0
    except subprocess.TimeoutExpired:  # nobody is there, as will be told
        return True


def connect(ray: Any, address: str, threads: int, jobs: int | None) -> None:
    """UserError where there is no such cluster."""
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "error", "configure_logging": False}
    if address == "local":
        if ray.is_initialized():
            return
        ray.init(address="local", include_dashboard=False, num_cpus=threads * jobs if jobs else None, **quiet)
        return
    try:
        if not _named(address, os.environ):
            _check_reachable(address, *_last())
        with _not_for_ever(address):
            ray.init(address=address, ignore_reinit_error=True, **quiet)
    except (ConnectionError, RuntimeError, ValueError) as error:
        why = "no cluster was found" if address == "auto" else in_a_line(error)[:200]
        raise UserError(f"--cluster {address}: {why}. {START} {TOKEN}") from None


def _named(address: str, env: Mapping[str, str]) -> tuple[str, str] | None:
    """Where the user says that the cluster is, and in which words; None where Ray is to look for it."""
    if address not in ("auto", "local"):
        return address, "there"
    named = env.get("RAY_ADDRESS") if address == "auto" else None
    return (named, f"at {named}, as RAY_ADDRESS has it") if named else None


def _last() -> tuple[str, str]:
    """Where Ray will look for the cluster by itself, and in which words. ConnectionError where it finds none."""
    from ray._private.services import canonicalize_bootstrap_address

    last = canonicalize_bootstrap_address("auto")
    return last, f"at {last}, where the last cluster of this machine was"


@contextmanager
def _not_for_ever(address: str) -> Iterator[None]:
    """Where what answers is no cluster, ray waits and cannot be called back: this process then ends with a line that says so."""

    def end() -> None:
        said = f"--cluster {address}: something answers there, but no cluster in {JOIN_S:.0f} s. {START} {TOKEN}"
        os.write(2, f"sepbench: {said}\n".encode())
        os._exit(FAILED)

    watch = threading.Timer(JOIN_S, end)
    watch.daemon = True
    watch.start()
    try:
        yield
    finally:
        watch.cancel()


def watch(asked: str, address: str) -> threading.Event:
    """End this process with a line where the cluster's head at `address` has gone; until the event is set.

    Ray would end it, too, after a minute and with a page of its own.
    """
    over = threading.Event()
    host, _, port = address.rpartition(":")

    def look() -> None:
        n_failed = 0
        while not over.wait(LOOK_S):
            try:
                socket.create_connection((host.strip("[]"), int(port)), LOOK_S).close()
                n_failed = 0
            except OSError:
                n_failed += 1
            if n_failed == LOST_AFTER and not over.is_set():
                said = "its head no longer answers. What has come back is kept, and the same command goes on with the rest."
                os.write(2, f"sepbench: --cluster {asked}: {said}\n".encode())
                os._exit(FAILED)

    threading.Thread(target=look, daemon=True).start()
    return over


def _check_reachable(asked: str, address: str, where: str) -> None:
    """UserError where nobody answers: ray itself waits long for a cluster that has died."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), REACH_S).close()
    except (OSError, ValueError, OverflowError) as error:
        why = getattr(error, "strerror", None) or error
        raise UserError(f"--cluster {asked}: nobody answers {where} ({why}). {START}") from None
