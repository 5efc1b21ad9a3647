"""Which cluster is meant by `--cluster`, and whether it is there."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from sepbench.errors import UserError, in_a_line

REACH_S, JOIN_S = 5.0, 60.0
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


def prepare(env: MutableMapping[str, str] = os.environ) -> None:
    """What Ray reads as it is imported, where the user has not said otherwise.

    Its token, where there is one here: `ray start` asks for it as soon as one lies in the home folder, which a cluster started
    from Python puts there; a cluster that asks for none does not mind. And how soon a machine counts as gone that was
    unplugged: Ray itself would wait for the runs there for longer than most of them take.
    """
    for name, milliseconds in KEEPALIVE_MS.items():
        env.setdefault(name, str(milliseconds))
    token_file = Path(env.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token")
    if env.get("RAY_AUTH_TOKEN") or token_file.is_file():
        env.setdefault("RAY_AUTH_MODE", "token")


def connect(ray: Any, address: str, threads: int, jobs: int | None) -> None:
    """UserError where there is no such cluster."""
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "error", "configure_logging": False}
    if address == "local":
        if ray.is_initialized():
            return
        ray.init(address="local", include_dashboard=False, num_cpus=threads * jobs if jobs else None, **quiet)
        return
    try:
        _check_reachable(address, *_found(address))
        with _not_for_ever(address):
            ray.init(address=address, ignore_reinit_error=True, **quiet)
    except (ConnectionError, RuntimeError, ValueError) as error:
        why = "no cluster was found" if address == "auto" else in_a_line(error)[:200]
        raise UserError(f"--cluster {address}: {why}. {START} {TOKEN}") from None


def _found(address: str) -> tuple[str, str]:
    """Where ray will look for the cluster, and whence that is known. ConnectionError where it finds none."""
    if address != "auto":
        return address, "there"
    if named := os.environ.get("RAY_ADDRESS"):
        return named, f"at {named}, as RAY_ADDRESS has it"
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


def _check_reachable(asked: str, address: str, where: str) -> None:
    """UserError where nobody answers: ray itself waits long for a cluster that has died."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), REACH_S).close()
    except (OSError, ValueError, OverflowError) as error:
        why = getattr(error, "strerror", None) or error
        raise UserError(f"--cluster {asked}: nobody answers {where} ({why}). {START}") from None
