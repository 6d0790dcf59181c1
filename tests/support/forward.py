"""A forward proxy: CONNECT tunnels and requests in absolute form, with or without credentials. It remembers what it was asked."""

from __future__ import annotations

import base64
import contextlib
import socket
import threading
from urllib.parse import urlsplit

from .process import free_port

TIMEOUT = 20


class Forward:
    """A forward proxy on a free port. `user` is "name:password", or None for everybody."""

    def __init__(self, user: str | None = None):
        self.user = user
        self.asked: list[str] = []
        self.port = free_port()
        self.address = f"127.0.0.1:{self.port}"
        self._listener = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                connection.settimeout(TIMEOUT)
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket):
        with contextlib.suppress(OSError, ValueError), connection:
            head = b""
            while b"\r\n\r\n" not in head:
                more = connection.recv(65536)
                if not more:
                    return
                head += more
            head, _, body = head.partition(b"\r\n\r\n")
            first, *fields = head.decode("latin-1").split("\r\n")
            method, target, version = first.split(" ")
            self.asked.append(f"{method} {target}")
            headers = [field for field in fields if not field.lower().startswith("proxy-")]
            given = [field.split(" ", 2)[-1] for field in fields if field.lower().startswith("proxy-authorization:")]
            if self.user is not None and given != [base64.b64encode(self.user.encode()).decode()]:
                connection.sendall(
                    b"HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic\r\n"
                    b"Content-Length: 0\r\nConnection: close\r\n\r\n"
                )
                return
            url = urlsplit(f"//{target}" if method == "CONNECT" else target)
            with socket.create_connection((url.hostname, url.port or 80), TIMEOUT) as upstream:
                upstream.settimeout(TIMEOUT)
                if method == "CONNECT":
                    connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
                else:
                    # One request a connection: the next may be for another host.
                    path = (url.path or "/") + (f"?{url.query}" if url.query else "")
                    headers = [field for field in headers if not field.lower().startswith("connection:")]
                    lines = [f"{method} {path} {version}", *headers, "Connection: close", "", ""]
                    upstream.sendall("\r\n".join(lines).encode("latin-1"))
                if body:
                    upstream.sendall(body)
                back = threading.Thread(target=self._copy, args=(upstream, connection), daemon=True)
                back.start()
                self._copy(connection, upstream)
                back.join(TIMEOUT)

    @staticmethod
    def _copy(source: socket.socket, target: socket.socket):
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)

    def end(self):
        self._listener.close()
