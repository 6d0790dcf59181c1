"""A name node that is too busy at chosen requests: passes Hadoop's RPC on, and answers those itself as a name node with too much to do does."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

from .between import Between

# What a client's connection begins with, before its first frame.
GREETING = 7
EXCEPTION = b"org.apache.hadoop.ipc.RetriableException"
# A call's id, in the request's header (RpcHeader.proto).
CALL_ID = 3
VARINT, BYTES = 0, 2


def varint(number: int) -> bytes:
    out = bytearray()
    while number >= 0x80:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


def take_varint(data: bytes, at: int) -> tuple[int, int]:
    number = shift = 0
    while True:
        number |= (data[at] & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if data[at - 1] < 0x80:
            return number, at


def call_id(frame: bytes) -> int:
    """The id of the call in a request's frame."""
    length, at = take_varint(frame, 0)
    end = at + length
    while at < end:
        tag, at = take_varint(frame, at)
        value, at = take_varint(frame, at)
        if tag >> 3 == CALL_ID:
            # Zigzag, as a signed number is written.
            return (value >> 1) ^ -(value & 1)
        if tag & 7 == BYTES:
            at += value
    raise ValueError(f"a request without a call id: {frame!r}")


def refusal(call: int) -> bytes:
    """The frame of the answer to a call that is to be sent again."""

    def text(field: int, value: bytes) -> bytes:
        return varint(field << 3 | BYTES) + varint(len(value)) + value

    status_error = varint(2 << 3 | VARINT) + varint(1)
    header = varint(1 << 3 | VARINT) + varint(call) + status_error + text(4, EXCEPTION) + text(5, b"Server is too busy.")
    frame = varint(len(header)) + header
    return len(frame).to_bytes(4, "big") + frame


class Busy(Between):
    """A port before the name node at `upstream` (HOST:PORT), which refuses calls of `method` for the times in `refused` (0 is the
    first). `before` is done before each refusal."""

    def __init__(self, upstream: str, method: bytes, refused: range, before: Callable[[], None] = lambda: None):
        self.method, self.refused, self.before = method, refused, before
        self.asked = 0
        super().__init__(upstream)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter):
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            up_reader, up_writer = await self.connect()
            up_writer.write(await reader.readexactly(GREETING))
            back = asyncio.create_task(self._pass_back(up_reader, writer))
            try:
                await self._pass_on(reader, up_writer, writer)
            finally:
                up_writer.close()
                back.cancel()
        writer.close()

    async def _pass_on(self, reader: asyncio.StreamReader, upstream: asyncio.StreamWriter, client: asyncio.StreamWriter):
        while True:
            frame = await self._frame(reader)
            if self.method in frame:
                self.asked += 1
                if self.asked - 1 in self.refused:
                    self.before()
                    client.write(refusal(call_id(frame[4:])))
                    continue
            upstream.write(frame)

    async def _pass_back(self, reader: asyncio.StreamReader, client: asyncio.StreamWriter):
        # By whole frames, so that a refusal stands between two.
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while True:
                client.write(await self._frame(reader))

    @staticmethod
    async def _frame(reader: asyncio.StreamReader) -> bytes:
        length = await reader.readexactly(4)
        return length + await reader.readexactly(int.from_bytes(length, "big"))
