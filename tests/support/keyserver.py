"""An S3 server in memory that holds any key, also those that file-based servers refuse, and answers with any error.

It speaks only what a reader needs: ListObjectsV2 (delimiter, prefix, start-after, continuation), HEAD, GET with Range and
If-Match. Signatures are not checked.
"""

from __future__ import annotations

import bisect
import email.utils
import hashlib
import threading
import time
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, quote, unquote, urlsplit
from xml.sax.saxutils import escape

PAGE = 1000


class KeyServer:
    """Objects of one bucket, by exact key."""

    def __init__(self, bucket: str = "keys"):
        self.bucket = bucket
        self.objects: dict[str, bytes] = {}
        self.sorted: list[str] = []
        # As S3's directory buckets list: in no order, from no key. Of keys in one level only.
        self.in_order = True
        self.errors: dict[str, tuple[int, str]] = {}
        self.requests: list[tuple[str, str]] = []
        self.headers: list[dict[str, str]] = []
        self.born = time.time() - 3600
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def log_message(self, *arguments):
                pass

            def do_HEAD(self):
                server.answer(self)

            def do_GET(self):
                server.answer(self)

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.address = f"127.0.0.1:{self.http.server_port}"
        self.endpoint = f"http://{self.address}"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    def end(self):
        self.http.shutdown()
        self.http.server_close()

    def put(self, key: str, body: bytes):
        self.objects[key] = body
        self.sorted = []

    def answer(self, handler: BaseHTTPRequestHandler):
        target = urlsplit(handler.path)
        # urlsplit takes what follows the first slashes of "//x" for a host: keys come from the raw target.
        raw = handler.path.partition("?")[0]
        self.requests.append((handler.command, handler.path))
        self.headers.append(dict(handler.headers.items()))
        parts = raw.lstrip("/") if not raw.startswith("//") else raw[1:]
        bucket, _, key = parts.partition("/")
        key = unquote(key)
        query = dict(parse_qsl(target.query, keep_blank_values=True))
        if unquote(bucket) != self.bucket:
            return self.fail(handler, 404, "NoSuchBucket")
        if key == "" and handler.command == "GET":
            return self.list(handler, query)
        if key in self.errors:
            return self.fail(handler, *self.errors[key])
        if key not in self.objects:
            return self.fail(handler, 404, "NoSuchKey")
        body = self.objects[key]
        etag = self.etag(body)
        expected = handler.headers.get("If-Match")
        if expected is not None and expected.strip('"') != etag.strip('"'):
            return self.fail(handler, 412, "PreconditionFailed")
        status, first, last = 200, 0, len(body) - 1
        wanted = handler.headers.get("Range")
        extra = {}
        if wanted and wanted.startswith("bytes="):
            start, _, end = wanted[len("bytes=") :].partition("-")
            if start == "":
                first = max(0, len(body) - int(end))
            else:
                first = int(start)
                last = min(int(end), last) if end else last
            if first > last:
                return self.fail(handler, 416, "InvalidRange")
            status = 206
            extra["Content-Range"] = f"bytes {first}-{last}/{len(body)}"
        part = body[first : last + 1]
        self.send(handler, status, part, {"ETag": etag, "Accept-Ranges": "bytes", **extra}, "binary/octet-stream")

    def list(self, handler, query: dict):
        prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
        after = query.get("continuation-token") or query.get("start-after") or ""
        limit = min(int(query.get("max-keys", PAGE)), PAGE)
        if not self.in_order:
            keys = sorted((key for key in self.objects if key.startswith(prefix)), key=lambda key: self.etag(key.encode()))
            begin = int(query.get("continuation-token") or 0)
            page, rest = keys[begin : begin + limit], keys[begin + limit :]
            entries = {key: self.objects[key] for key in page}
            return self.tell(handler, query, page, entries, str(begin + limit) if rest else None)
        if len(self.sorted) != len(self.objects):
            self.sorted = sorted(self.objects, key=str.encode)
        page: list[str] = []
        entries: dict[str, bytes | None] = {}
        truncated = False
        at = bisect.bisect_left(self.sorted, max(prefix.encode(), after.encode()), key=str.encode)
        while at < len(self.sorted) and self.sorted[at].startswith(prefix):
            key = self.sorted[at]
            name, value = key, self.objects[key]
            at += 1
            if delimiter and delimiter in key[len(prefix) :]:
                name, value = prefix + key[len(prefix) :].split(delimiter)[0] + delimiter, None
            # A page ends before `after`, and a folded prefix stands for all its keys.
            if (after and name.encode() <= after.encode()) or name in entries:
                continue
            if len(page) == limit:
                truncated = True
                break
            entries[name] = value
            page.append(name)
        self.tell(handler, query, page, entries, page[-1] if truncated else None)

    def tell(self, handler, query: dict, page: list[str], entries: dict[str, bytes | None], token: str | None):
        # What XML would change on its way is written as references, as S3 does.
        references = {"\r": "&#xD;", "\n": "&#xA;", "\t": "&#x9;"}
        encode = quote if query.get("encoding-type") == "url" else partial(escape, entities=references)
        prefix = encode(query.get("prefix", ""))
        xml = ['<?xml version="1.0" encoding="UTF-8"?><ListBucketResult>', f"<Name>{self.bucket}</Name>"]
        xml.append(f"<Prefix>{prefix}</Prefix><KeyCount>{len(page)}</KeyCount><MaxKeys>{query.get('max-keys', PAGE)}</MaxKeys>")
        xml.append(f"<IsTruncated>{'false' if token is None else 'true'}</IsTruncated>")
        if encode is quote:
            xml.append("<EncodingType>url</EncodingType>")
        if token is not None:
            xml.append(f"<NextContinuationToken>{escape(token)}</NextContinuationToken>")
        for name in page:
            body = entries[name]
            if body is None:
                xml.append(f"<CommonPrefixes><Prefix>{encode(name)}</Prefix></CommonPrefixes>")
            else:
                date = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(self.born))
                tag = escape(self.etag(body), {'"': "&quot;"})
                xml.append(f"<Contents><Key>{encode(name)}</Key><LastModified>{date}</LastModified>")
                xml.append(f"<ETag>{tag}</ETag><Size>{len(body)}</Size><StorageClass>STANDARD</StorageClass></Contents>")
        xml.append("</ListBucketResult>")
        self.send(handler, 200, "".join(xml).encode(), {}, "application/xml")

    def fail(self, handler, status: int, code: str):
        body = f'<?xml version="1.0" encoding="UTF-8"?><Error><Code>{code}</Code><Message>{code}</Message></Error>'
        self.send(handler, status, body.encode(), {}, "application/xml")

    def send(self, handler, status: int, body: bytes, headers: dict, kind: str):
        handler.send_response(status)
        handler.send_header("Content-Type", kind)
        handler.send_header("Content-Length", str(len(body)))
        handler.send_header("Last-Modified", email.utils.formatdate(self.born, usegmt=True))
        for name, value in headers.items():
            handler.send_header(name, value)
        handler.end_headers()
        if handler.command != "HEAD":
            handler.wfile.write(body)

    @staticmethod
    def etag(body: bytes) -> str:
        return f'"{hashlib.md5(body).hexdigest()}"'
