"""Passes TCP on with a wait before what the client sends: latency for what crates/proxy does not speak (gRPC, which is HTTP/2)."""

from __future__ import annotations

import asyncio
import contextlib
import threading

READ = 64 * 1024


class Delay:
    """A port before `upstream` (HOST:PORT). Each piece that a client sends waits `seconds`, side by side with those before it."""

    def __init__(self, upstream: str, seconds: float):
        self.host, _, port = upstream.rpartition(":")
        self.upstream_port, self.seconds = int(port), seconds
        self._loop = asyncio.new_event_loop()
        self._server = self._loop.run_until_complete(asyncio.start_server(self._serve, "127.0.0.1", 0))
        self.port = self._server.sockets[0].getsockname()[1]
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter):
        with contextlib.suppress(OSError):
            up_reader, up_writer = await asyncio.open_connection(self.host, self.upstream_port)
            await asyncio.gather(self._copy(reader, up_writer, self.seconds), self._copy(up_reader, writer, 0))

    async def _copy(self, source: asyncio.StreamReader, target: asyncio.StreamWriter, seconds: float):
        try:
            while data := await source.read(READ):
                # Timers that fall due in the order in which they were set keep the bytes in order.
                self._loop.call_later(seconds, target.write, data)
        except OSError:
            pass
        self._loop.call_later(seconds, target.close)

    def end(self):
        async def close():
            self._server.close()
            for task in asyncio.all_tasks():
                if task is not asyncio.current_task():
                    task.cancel()

        asyncio.run_coroutine_threadsafe(close(), self._loop).result(5)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
