"""A real HTTP server: nginx over a directory."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from .process import Child, free_port, is_listening, program, wait_until


class Nginx:
    """nginx on a free port, serving `root`; by TLS if `certificate` gives it and its key. With `before` everything but
    `/files` is passed on to that server."""

    def __init__(self, certificate: tuple[Path, Path] | None = None, before: str | None = None):
        self.directory = Path(tempfile.mkdtemp(prefix="fb-nginx-"))
        self.directory.chmod(0o755)
        self.root = self.directory / "www"
        self.root.mkdir()
        self.port = free_port()
        scratch = "".join(
            f"{kind}_temp_path {self.directory}/{kind};" for kind in ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        )
        tls = f"ssl_certificate {certificate[0]}; ssl_certificate_key {certificate[1]};" if certificate else ""
        passed = f"location / {{ proxy_pass {before}; proxy_set_header Host $http_host; }} location /files {{ }}" if before else ""
        config = self.directory / "nginx.conf"
        config.write_text(
            f"""
            daemon off; worker_processes 1; pid {self.directory}/pid; error_log {self.directory}/error.log;
            events {{ worker_connections 512; }}
            http {{
                access_log off; sendfile on; {scratch}
                server {{ listen 127.0.0.1:{self.port}{" ssl" if tls else ""}; root {self.root}; {tls} {passed} }}
            }}
            """
        )
        self.child = Child([program("nginx"), "-c", str(config)], self.directory / "nginx.log")
        self.address = f"127.0.0.1:{self.port}"
        self.url = f"{'https' if tls else 'http'}://{self.address}"
        wait_until(lambda: is_listening(self.port), 10, f"nginx to listen on {self.address}: {self.child.tail()}")

    def end(self):
        self.child.end(grace=3)
        shutil.rmtree(self.directory, ignore_errors=True)
