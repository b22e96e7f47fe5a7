"""What ties a job to its coordinator, on real sockets: who is heard, who is not, and what either notices of an end."""

from __future__ import annotations

import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from queue import Empty
from typing import Any

import cloudpickle
import pytest

from mmtune.pool.slurm import tie as own
from mmtune.pool.slurm.tie import Listener, Tie, call, names

HERE = ("nowhere.invalid", "localhost")


@pytest.fixture
def listener() -> Iterator[Listener]:
    with Listener() as made:
        yield made


class Marker:
    """Its pickle makes a file where it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def eventually(holds: Callable[[], bool], seconds: float = 10.0) -> bool:
    end = time.monotonic() + seconds
    while not holds() and time.monotonic() < end:
        time.sleep(0.05)
    return holds()


def heard(listener: Listener, seconds: float = 10.0) -> tuple[Tie, Any]:
    return listener.heard.get(timeout=seconds)


def test_what_is_said_arrives_in_order_both_ways(listener: Listener) -> None:
    there = call(HERE, listener.port, listener.secret)
    for number in range(100):
        there.send({"number": number})
    found = [heard(listener) for _ in range(100)]
    assert [message["number"] for _, message in found] == list(range(100))
    (here,) = {one for one, _ in found}
    here.send("a job")
    here.send(True)
    assert [there.recv(), there.recv()] == ["a job", True]


def test_an_end_is_noticed_by_both(listener: Listener) -> None:
    there = call(HERE, listener.port, listener.secret)
    there.send("hello")
    here, _ = heard(listener)
    here.close()
    with pytest.raises((EOFError, OSError)):
        there.recv()
    assert heard(listener) == (here, None)
    again = call(HERE, listener.port, listener.secret)
    again.send("hello")
    here, _ = heard(listener)
    again.release()
    assert heard(listener) == (here, None)


def test_threads_may_speak_at_once(listener: Listener) -> None:
    there = call(HERE, listener.port, listener.secret)
    speakers = [threading.Thread(target=lambda: [there.send("x" * 10_000) for _ in range(50)]) for _ in range(4)]
    for speaker in speakers:
        speaker.start()
    assert [message for _, message in (heard(listener) for _ in range(200))] == ["x" * 10_000] * 200


def test_nothing_is_loaded_that_another_secret_has_signed(listener: Listener, tmp_path: Path) -> None:
    there = call(HERE, listener.port, secrets.token_bytes(32))
    there.send(Marker(tmp_path / "loaded"))
    _, message = heard(listener)
    assert message is None
    assert not (tmp_path / "loaded").exists()
    with pytest.raises((EOFError, OSError)):
        there.recv()


def test_nor_by_a_job_what_whoever_took_the_port_says(tmp_path: Path) -> None:
    with socket.create_server(("localhost", 0)) as server:

        def answer() -> None:
            taken, _ = server.accept()
            Tie(taken, secrets.token_bytes(32), calls=False).send(Marker(tmp_path / "loaded"))

        other = threading.Thread(target=answer)
        other.start()
        job = call(HERE, server.getsockname()[1], secrets.token_bytes(32))
        with pytest.raises(ConnectionError, match="must be signed with this command's secret"):
            job.recv()
        other.join()
    assert not (tmp_path / "loaded").exists()


@pytest.mark.parametrize("trick", ["again", "changed", "returned"])
def test_a_recorded_message_says_nothing(listener: Listener, trick: str) -> None:
    there = call(HERE, listener.port, listener.secret)
    content = cloudpickle.dumps("hello")
    signed = there._tag(b"l" if trick == "returned" else b"c", 0, content) + content
    there.pipe.send_bytes(signed if trick != "changed" else signed[:-1] + b"!")
    if trick == "again":
        assert heard(listener)[1] == "hello"
        there.pipe.send_bytes(signed)
    assert heard(listener)[1] is None


def test_who_calls_and_is_silent_is_not_waited_for(listener: Listener, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own, "GREETING_SECONDS", 8.0)
    before = threading.active_count()
    silent = [socket.create_connection(("localhost", listener.port)) for _ in range(3)]
    # After its greeting too.
    mute = call(HERE, listener.port, listener.secret)
    began = time.monotonic()
    there = call(HERE, listener.port, listener.secret)
    there.send("hello")
    assert heard(listener)[1] == "hello"
    assert time.monotonic() - began < 6.0
    assert heard(listener)[1] is None
    for one in silent:
        one.settimeout(60)
        assert one.recv(1000)[36:] == b""
        one.close()
    mute.release()
    # One is left that hears `there`.
    assert eventually(lambda: threading.active_count() <= before + 1)


def more(stranger: Connection) -> None:
    """Say more than a system keeps for a program that does not read."""
    stranger.send_bytes(b"x" * 2**24)
    stranger.recv_bytes()


def test_a_stranger_may_not_say_much(listener: Listener) -> None:
    stranger = Connection(socket.create_connection(("localhost", listener.port)).detach())
    stranger.send_bytes(secrets.token_bytes(32))
    stranger.recv_bytes(32)
    with pytest.raises((EOFError, OSError)):
        more(stranger)
    assert heard(listener)[1] is None


def test_a_coordinator_that_is_gone_refuses() -> None:
    with Listener() as made:
        port, secret = made.port, made.secret
    with pytest.raises(ConnectionError, match=f"port {port} of the coordinator cannot be reached"):
        call(HERE, port, secret)


def test_a_closed_listener_hears_nobody(listener: Listener) -> None:
    listener.close()
    with pytest.raises(Empty):
        listener.heard.get(timeout=0.1)


def test_no_name_of_this_machine_is_every_machines_own() -> None:
    assert names()
    assert not [name for name in names() if name.startswith("127.") or name in ("localhost", "::1")]
