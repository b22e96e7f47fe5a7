"""What ties a job to its coordinator: a TCP connection on which every message proves that it knows a secret.

The alternative, messages as files in the store, needs no port and no secret. But a network file system may show a new
file only after half a minute (it caches what a folder holds), in which a worker waits for each verdict and each job; it
would be asked by every worker again and again; and nothing tells a worker that its coordinator is gone. A connection
carries a verdict in a millisecond and ends with either side's process, however that ends. Where a firewall keeps nodes
from the machine on which one types, the command can itself run in a job.

Messages are pickles, so none is read before its HMAC is checked: under a key that follows from a secret which lies in a
file for this user alone, and from a word that each side draws for this connection. Each is counted, so none can be
told twice or left out. They are not encrypted: there are configurations, paths and metrics in them, no data.
"""

from __future__ import annotations

import hmac
import secrets
import socket
import struct
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from queue import SimpleQueue
from typing import Any, Self

import cloudpickle

NONCE, TAG = 32, 32
# The first message says who calls; a later one is a job at most, whose recipe may hold classes of a notebook's.
SHORT, LONGEST = 2**16, 64 * 2**20
GREETING_SECONDS = 10.0
CROWD, CROWDED_SECONDS = 512, 0.1
# After a minute without an answer the other machine is gone; what is shorter costs nobody a place in the queue.
ALIVE = {"TCP_KEEPIDLE": 20, "TCP_KEEPINTVL": 10, "TCP_KEEPCNT": 4}
UNSENT_MILLISECONDS = 60_000


class Tie:
    """One end of a connection. `recv` raises EOFError or OSError where the other side is gone, or knows no secret."""

    def __init__(self, own: socket.socket, secret: bytes, *, calls: bool) -> None:
        watch(own)
        self.pipe = Connection(own.detach())
        nonce = secrets.token_bytes(NONCE)
        self.pipe.send_bytes(nonce)
        heard = self.pipe.recv_bytes(NONCE)
        words = nonce + heard if calls else heard + nonce
        self.key = hmac.digest(secret, words, "sha256")
        self.ours, self.theirs = (b"c", b"l") if calls else (b"l", b"c")
        self.sent = self.received = 0
        self.first = LONGEST if calls else SHORT
        self.lock = threading.Lock()

    def send(self, message: Any) -> None:
        """Say something; any thread may."""
        content = cloudpickle.dumps(message)
        with self.lock:
            self.pipe.send_bytes(self._tag(self.ours, self.sent, content) + content)
            self.sent += 1

    def recv(self) -> Any:
        """What is said next."""
        whole = self.pipe.recv_bytes(LONGEST if self.received else self.first)
        tag, content = whole[:TAG], whole[TAG:]
        if not hmac.compare_digest(tag, self._tag(self.theirs, self.received, content)):
            raise ConnectionError("a message must be signed with this command's secret, this one is not")
        self.received += 1
        return cloudpickle.loads(content)

    def _tag(self, side: bytes, number: int, content: bytes) -> bytes:
        return hmac.digest(self.key, side + number.to_bytes(8, "big") + content, "sha256")

    def close(self) -> None:
        """End it for both sides, also for a thread of ours that waits to hear something."""
        with self.lock, suppress(OSError), self._socket() as own:
            own.shutdown(socket.SHUT_RDWR)

    def wait_at_most(self, seconds: float) -> None:
        """How long `recv` waits for the next bytes; 0 for ever."""
        with self._socket() as own:
            wait_at_most(own, seconds)

    def release(self) -> None:
        """Give the connection back to the system; by the one thread that hears."""
        with self.lock:
            self.pipe.close()

    @contextmanager
    def _socket(self) -> Iterator[socket.socket]:
        own = socket.socket(fileno=self.pipe.fileno())
        try:
            yield own
        finally:
            own.detach()


class Listener:
    """Waits for jobs on every network of this machine: only the cluster knows which one its nodes reach it by.

    heard: whatever jobs say, in order, as (tie, message); None for the message once a tie is gone. The first message of
    a tie says who it is.
    """

    def __init__(self) -> None:
        self.secret = secrets.token_bytes(NONCE)
        self.heard: SimpleQueue[tuple[Tie, Any]] = SimpleQueue()
        self.server, self.closed = open_server(), False
        self.port = int(self.server.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Hear nobody any more."""
        self.closed = True
        with suppress(OSError):
            # Else the thread that waits in it would keep it open.
            self.server.shutdown(socket.SHUT_RDWR)
        self.server.close()

    def _accept(self) -> None:
        while True:
            try:
                own, _ = self.server.accept()
                threading.Thread(target=self._listen, args=(own,), daemon=True).start()
            except (OSError, RuntimeError):
                # Closed; or there are no more files or threads for a moment, and callers wait in the queue.
                if self.closed:
                    return
                time.sleep(CROWDED_SECONDS)

    def _listen(self, own: socket.socket) -> None:
        with suppress(EOFError, OSError):
            # Whoever does not know the secret is not waited for.
            wait_at_most(own, GREETING_SECONDS)
            try:
                tie = Tie(own, self.secret, calls=False)
            except BaseException:
                own.close()
                raise
            try:
                message = tie.recv()
                tie.wait_at_most(0)
                while True:
                    self.heard.put((tie, message))
                    message = tie.recv()
            finally:
                self.heard.put((tie, None))
                tie.release()


def open_server() -> socket.socket:
    """A socket that listens on every network of this machine, on a port that is free."""
    # A system may know IPv6 and yet have it turned off.
    with suppress(OSError, ValueError):
        return socket.create_server(("", 0), family=socket.AF_INET6, backlog=CROWD, dualstack_ipv6=True)
    return socket.create_server(("", 0), backlog=CROWD)


def call(hosts: Iterable[str], port: int, secret: bytes) -> Tie:
    """A tie to the coordinator at the first of its names that leads there; ConnectionError where none does."""
    reasons = []
    for host in hosts:
        try:
            own = socket.create_connection((host, port), timeout=GREETING_SECONDS)
        except OSError as error:
            reasons.append(f"{host}: {error}")
            continue
        own.settimeout(None)
        return Tie(own, secret, calls=True)
    raise ConnectionError(f"port {port} of the coordinator cannot be reached ({'; '.join(reasons)})")


def names() -> tuple[str, ...]:
    """What other machines may know this one by."""
    host = socket.gethostname()
    known = [host, socket.getfqdn()]
    with suppress(OSError):
        known += [str(info[4][0]) for info in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)]
    here = ("localhost", "::1")
    return tuple(name for name in dict.fromkeys(known) if name not in here and not name.startswith("127."))


def wait_at_most(own: socket.socket, seconds: float) -> None:
    """How long reading waits for the next bytes; 0 for ever. A connection of multiprocessing's knows no timeout."""
    own.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", int(seconds), 0))


def watch(own: socket.socket) -> None:
    """Have the system notice that the other machine is gone without a word."""
    own.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    own.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for name, value in {**ALIVE, "TCP_USER_TIMEOUT": UNSENT_MILLISECONDS}.items():
        number = getattr(socket, name, None)
        if number is not None:
            own.setsockopt(socket.IPPROTO_TCP, number, value)
