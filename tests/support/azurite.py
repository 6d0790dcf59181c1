"""Azure Blob Storage: Microsoft's emulator Azurite."""

from __future__ import annotations

import base64
import shutil
import tempfile
import uuid
from pathlib import Path

from .process import CACHE, Child, free_port, is_listening, program, wait_until

ACCOUNT = "forebaytests"
KEY = base64.b64encode(b"a key of the tests, of no worth").decode()
WRONG_KEY = base64.b64encode(b"another key, of no worth either").decode()


class Azurite:
    """Azurite's blob service on a free port, over a directory of its own, with one account."""

    def __init__(self):
        script = CACHE / "servers/azurite/node_modules/azurite/dist/src/blob/main.js"
        if not script.exists():
            raise RuntimeError("Azurite is missing: run scripts/setup.sh test")
        self.directory = Path(tempfile.mkdtemp(prefix="fb-azurite-"))
        port = free_port()
        command = [program("node"), str(script), "--blobHost", "127.0.0.1", "--blobPort", str(port)]
        # Clients may be newer than the emulator knows.
        command += ["--location", str(self.directory), "--silent", "--skipApiVersionCheck", "--disableTelemetry"]
        env = {"PATH": "/usr/local/bin:/usr/bin:/bin", "AZURITE_ACCOUNTS": f"{ACCOUNT}:{KEY}"}
        self.child = Child(command, self.directory / "azurite.log", env=env)
        self.address = f"127.0.0.1:{port}"
        self.endpoint = f"http://{self.address}/{ACCOUNT}"
        try:
            wait_until(lambda: is_listening(port), 30, f"Azurite to listen on {self.address}")
        except TimeoutError as error:
            tail = self.child.tail()
            self.end()
            raise RuntimeError(f"{error}; its log:\n{tail}") from None

    def container(self, public: bool = False):
        """A client for a new container."""
        from azure.storage.blob import BlobServiceClient

        service = BlobServiceClient(self.endpoint, credential={"account_name": ACCOUNT, "account_key": KEY})
        name = f"t-{uuid.uuid4().hex[:12]}"
        return service.create_container(name, public_access="container" if public else None)

    def end(self):
        self.child.end(grace=3)
        shutil.rmtree(self.directory, ignore_errors=True)
