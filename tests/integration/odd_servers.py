"""Servers that no client can work with: one that never says a word, and one of long ago."""

import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from socketserver import StreamRequestHandler, ThreadingTCPServer
from threading import Thread

REPORTED = {"server_version": "12.3", "client_encoding": "UTF8"}


@contextmanager
def silent() -> Iterator[str]:
    """Yield the URL of a server that takes connections and leaves it at that."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"postgresql://ann:pa55word@127.0.0.1:{listening.getsockname()[1]}/tasks"


@contextmanager
def old() -> Iterator[str]:
    """Yield the URL of a Postgres 12 that lets everybody in, and understands nothing."""
    with ThreadingTCPServer(("127.0.0.1", 0), _Old) as server:
        server.daemon_threads = True
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"postgresql://ann:pa55word@127.0.0.1:{server.server_address[1]}/tasks?sslmode=disable"
        server.shutdown()


class _Old(StreamRequestHandler):
    """Speaks as much of the protocol as is needed to be taken for a server."""

    def handle(self) -> None:
        (length,) = struct.unpack("!I", self.rfile.read(4))
        self.rfile.read(length - 4)  # who wants to connect to what
        self._send(b"R", struct.pack("!I", 0))
        for name, value in REPORTED.items():
            self._send(b"S", f"{name}\0{value}\0".encode())
        self._send(b"Z", b"I")
        while (kind := self.rfile.read(1)) not in (b"", b"X"):
            (length,) = struct.unpack("!I", self.rfile.read(4))
            self.rfile.read(length - 4)
            if kind in (b"Q", b"S"):  # a query, or the end of one in parts
                self._send(b"E", b"SERROR\0C42601\0Msyntax error\0\0")
                self._send(b"Z", b"I")

    def _send(self, kind: bytes, content: bytes) -> None:
        self.wfile.write(kind + struct.pack("!I", len(content) + 4) + content)
