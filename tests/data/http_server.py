"""A local HTTP server that serves files as well or as badly as a test wants.

    with serve({"a.zip": content}, Behaviour(drop_after=1000)) as server:
        get(server.url("a.zip"))
        server.behaviour.drop_after = None     # may be changed between requests
        server.files["a.zip"] = other          # so may the files: a new ETag goes with it
        assert server.ranges("a.zip") == [None, "bytes=1000-"]

``serve`` takes {path: content} and one Behaviour for all of them, or {path: Behaviour} (others behave well).
It listens on 127.0.0.1, on a free port, in threads of this process; NO_PROXY is set meanwhile, also for
programs that the test starts.
"""

import gzip
import hashlib
import os
import re
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

STUB = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 553432081\n"
PAGE = b"<!DOCTYPE html>\n<html><head><title>Moved</title></head><body>The file is elsewhere.</body></html>\n"
assert len(STUB) == 134


@dataclass
class Behaviour:
    """How a file is served; as it stands, well."""

    drop_after: int | None = None  # close the connection after so many bytes of the body
    drops: int = 10**9  # ... of so many responses
    hang: float = 0.0  # ... after so many seconds without a byte
    ranges: bool = True  # False: ignore Range, answer 200 with all
    if_range: bool = True  # False: ignore If-Range, continue whatever file is there now
    validators: bool = True  # False: send neither ETag nor Last-Modified
    weak: bool = False  # send a weak ETag only
    status: int = 200  # else answer with this and a page
    times: int = 10**9  # ... so often, and then with the file
    body: bytes | None = None  # serve this instead, such as STUB or PAGE
    length: str = (
        "known"  # "chunked"; "none": neither Content-Length nor chunks, the end of the connection is the end
    )
    encoding: str = ""  # "gzip": pack the body on the way; "label": only say so
    rate: int | None = None  # bytes a second; None, also in the middle: at once
    change: bytes | None = None  # the content from the second request on
    location: str = ""  # redirect there
    pause: float = 0.0  # seconds before it answers

    def __post_init__(self):
        self.seen = 0


@dataclass
class Server:
    """What ``serve`` yields. ``log``: for each request (path, headers, status)."""

    address: str
    files: dict
    behaviour: Behaviour | dict
    log: list = field(default_factory=list)

    def url(self, path):
        return f"{self.address}/{path}"

    def of(self, path):
        """The Behaviour of a path."""
        behaviour = self.behaviour
        return behaviour.get(path, Behaviour()) if isinstance(behaviour, dict) else behaviour

    def ranges(self, path):
        """The Range header of every request for ``path``, None where it had none."""
        return [headers.get("Range") for asked, headers, _ in self.log if asked == path]

    def statuses(self, path):
        """The status of every answer about ``path``."""
        return [status for asked, _, status in self.log if asked == path]


@contextmanager
def serve(files, behaviour=None):
    """Serve ``files`` while the block runs; see the module's docstring."""
    httpd = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    httpd.daemon_threads, httpd.block_on_close = True, False
    behaviour = Behaviour() if behaviour is None else behaviour
    httpd.about = Server(f"http://127.0.0.1:{httpd.server_address[1]}", dict(files), behaviour)
    thread = threading.Thread(target=httpd.serve_forever, args=(0.05,), daemon=True)
    before = {name: os.environ.get(name) for name in ("NO_PROXY", "no_proxy")}
    os.environ.update(dict.fromkeys(before, "127.0.0.1"))
    thread.start()
    try:
        yield httpd.about
    finally:
        httpd.shutdown()
        httpd.server_close()
        thread.join()
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def handle(self):
        try:
            super().handle()
        except (ConnectionError, TimeoutError):
            pass  # the client was killed

    def do_GET(self):
        about = self.server.about
        path = self.path.lstrip("/")
        way = about.of(path)
        self.close_connection = True
        way.seen += 1
        time.sleep(way.pause)
        content = way.body if way.body is not None else about.files.get(path)
        if way.change is not None and way.seen > 1:
            content = way.change
        if way.location:
            return self._answer(path, 302, b"", {"Location": way.location})
        if content is None or (way.status != 200 and way.times > 0):
            way.times -= 1
            return self._answer(
                path, 404 if content is None else way.status, PAGE, {"Content-Type": "text/html"}
            )
        headers = {"Content-Type": "text/html" if content == PAGE else "application/octet-stream"}
        etag = '"' + hashlib.sha1(content).hexdigest() + '"'
        if way.weak:
            headers["ETag"] = f"W/{etag}"
        elif way.validators:
            headers["ETag"] = etag
            headers["Last-Modified"] = "Mon, 05 Jan 2015 10:00:00 GMT"
        start = 0
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if asked and way.ranges and (not way.if_range or self.headers.get("If-Range", etag) == etag):
            start = int(asked[1])
            if start >= len(content):
                return self._answer(path, 416, b"", {"Content-Range": f"bytes */{len(content)}"})
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        body = content[start:]
        if way.encoding:
            headers["Content-Encoding"] = "gzip"
        if way.encoding == "gzip":
            body = gzip.compress(body)
        self._answer(path, 206 if "Content-Range" in headers else 200, body, headers, way)

    def _answer(self, path, status, body, headers, way=None):
        way = way or Behaviour()
        self.server.about.log.append((path, dict(self.headers), status))
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if way.length == "known":
            self.send_header("Content-Length", str(len(body)))
        elif way.length == "chunked":
            self.send_header("Transfer-Encoding", "chunked")
        self.send_header("Connection", "close")
        self.end_headers()
        dropped = way.drop_after is not None and way.drops > 0
        if dropped:
            way.drops -= 1
            body = body[: way.drop_after]
        step = max(1, way.rate // 50) if way.rate else 1 << 16
        for at in range(0, len(body), step):
            piece = body[at : at + step]
            self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece) if way.length == "chunked" else piece)
            if rate := way.rate:
                self.wfile.flush()
                time.sleep(len(piece) / rate)
        if dropped:
            self.wfile.flush()
            time.sleep(way.hang)
        elif way.length == "chunked":
            self.wfile.write(b"0\r\n\r\n")
