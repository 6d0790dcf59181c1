"""Passes TCP on with a wait before what the client sends: latency for what crates/proxy does not speak (gRPC, which is HTTP/2)."""

from __future__ import annotations

import asyncio
import contextlib

from .between import Between

READ = 64 * 1024


class Delay(Between):
    """A port before `upstream` (HOST:PORT). Each piece that a client sends waits `seconds`, side by side with those before it."""

    def __init__(self, upstream: str, seconds: float):
        self.seconds = seconds
        super().__init__(upstream)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter):
        with contextlib.suppress(OSError):
            up_reader, up_writer = await self.connect()
            await asyncio.gather(self._copy(reader, up_writer, self.seconds), self._copy(up_reader, writer, 0))

    async def _copy(self, source: asyncio.StreamReader, target: asyncio.StreamWriter, seconds: float):
        try:
            while data := await source.read(READ):
                # Timers that fall due in the order in which they were set keep the bytes in order.
                self._loop.call_later(seconds, target.write, data)
        except OSError:
            pass
        self._loop.call_later(seconds, target.close)
