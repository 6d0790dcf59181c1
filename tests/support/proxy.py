"""The tests' own proxy before an origin (crates/proxy): faults in, counters out."""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path

from .process import Child, built


class Proxy:
    """A running `forebay-proxy` before `upstream` (HOST:PORT)."""

    def __init__(self, upstream: str, log: Path):
        command = [built("forebay-proxy", "FOREBAY_PROXY_BIN"), "--upstream", upstream]
        self.child = Child(command, log)
        ready = json.loads(self.child.line(10) or "{}")
        self.address = ready["listen"]
        self.endpoint = f"http://{self.address}"
        self.control = ready["control"]

    def _ask(self, method: str, path: str, body=None):
        data = json.dumps(body).encode() if body is not None else None
        request = urllib.request.Request(f"http://{self.control}{path}", data=data, method=method)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request, timeout=10) as answer:
            return json.load(answer)

    def faults(self, *rules: dict):
        """Replaces all faults; none: a clean line."""
        self._ask("PUT", "/faults", {"rules": list(rules)})

    def stats(self) -> dict:
        return self._ask("GET", "/stats")

    def reset(self):
        """Sets the counters to zero."""
        self._ask("POST", "/stats/reset", {})

    def requests(self) -> list[dict]:
        """The last requests (method, target, range), oldest first."""
        return self._ask("GET", "/requests")

    def end(self):
        self.child.end(grace=2)
