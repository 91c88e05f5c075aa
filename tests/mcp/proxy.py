"""A wire between the server and Postgres that a test can cut, at the moment that hurts."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from psycopg.conninfo import conninfo_to_dict, make_conninfo


class Proxy:
    """Forwards connections to a Postgres. ``cut`` ends them and refuses new ones until ``mend``.

    ``lose_next_answer``: let the next request through, but cut before its answer comes back.
    """

    def __init__(self, conninfo: str) -> None:
        given = conninfo_to_dict(conninfo)
        self._target = (str(given["host"]), int(given.get("port") or 5432))
        self._listening = socket.create_server(("127.0.0.1", 0))
        port = self._listening.getsockname()[1]
        self.conninfo = make_conninfo(
            conninfo, host="127.0.0.1", port=port, sslmode="disable", gssencmode="disable"
        )
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._is_cut = self._loses = False
        self.lost = threading.Event()
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """End every connection, and refuse new ones."""
        with self._lock:
            self._is_cut = True
            for one in self._open:
                _end(one)

    def mend(self) -> None:
        """Let connections through again."""
        with self._lock:
            self._is_cut = self._loses = False

    def lose_next_answer(self) -> None:
        """Cut everything as soon as Postgres answers something."""
        self.lost.clear()
        self._loses = True

    def close(self) -> None:
        """End everything for good."""
        self.cut()
        _end(self._listening)

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                self._forward(client)

    def _forward(self, client: socket.socket) -> None:
        with self._lock:
            if self._is_cut:
                _end(client)
                return
            server = _connected(*self._target)
            self._open |= {client, server}
        for source, sink, answers in ((client, server, False), (server, client, True)):
            threading.Thread(target=self._pump, args=(source, sink, answers), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, answers: bool) -> None:
        with suppress(OSError):
            while data := source.recv(65_536):
                if answers and self._loses:
                    self._loses = False
                    self.lost.set()
                    self.cut()
                    break
                sink.sendall(data)
        for one in (source, sink):
            _end(one)
        with self._lock:
            self._open -= {source, sink}


def _connected(host: str, port: int) -> socket.socket:
    if not host.startswith("/"):
        return socket.create_connection((host, port))
    found = socket.socket(socket.AF_UNIX)
    found.connect(str(Path(host) / f".s.PGSQL.{port}"))
    return found


def _end(one: socket.socket) -> None:
    with suppress(OSError):
        one.shutdown(socket.SHUT_RDWR)
    one.close()


@contextmanager
def between(conninfo: str) -> Iterator[Proxy]:
    """Yield a proxy in front of the server of ``conninfo``."""
    proxy = Proxy(conninfo)
    try:
        yield proxy
    finally:
        proxy.close()
