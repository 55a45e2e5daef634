"""A reverse proxy that counts what goes through it and does what bad servers do.

    with Proxy(server_port, drop=0.05, refuse=0.05, seed=1) as proxy:
        ...  # ask 127.0.0.1:{proxy.port}
        proxy.n_bytes, proxy.requests

`mischief` names something that it does to every answer (see `Handler`). Standard library alone, so
that `benches/peers/remote.py` runs without the tests' packages.
"""

import dataclasses
import http.client
import http.server
import random
import socket
import struct
import threading
import time

PIECE = 64 << 10
# Headers that belong to one connection and not to the message.
HOP = {"connection", "keep-alive", "transfer-encoding", "te", "trailer", "upgrade", "proxy-connection"}
MISCHIEF = {
    "hang": "no answer comes",
    "stall": "half of the body comes, and the connection stays open",
    "noise": "bytes come that are no HTTP",
    "random": "the body has its length, and random bytes",
    "login": "every answer is a page of HTML with status 200",
    "whole": "ranges are ignored: status 200 and all of the object",
    "truncated": "half of the body comes, and the connection is closed",
    "shorter": "half of a range comes, and Content-Range says that it is all that was asked for",
    "claims": "Content-Range and the length of HEAD say that the object has 2^60 bytes",
    "denied": "status 403",
    "broken": "status 500",
}


@dataclasses.dataclass
class Request:
    """A request, and what was answered so far."""

    method: str
    path: str
    range: str
    # Status that the client was sent, 0 where the connection was dropped before.
    status: int = 0
    # Bytes of the body that the client was sent.
    n_bytes: int = 0


class Proxy:
    """Listens on a free port of loopback from `with` to its end."""

    def __init__(self, port, drop=0.0, refuse=0.0, seed=0, latency=0.0, mischief=None):
        """Shares of connections that are dropped and of requests that get a 503; seconds of latency."""
        assert mischief is None or mischief in MISCHIEF, mischief
        self.upstream, self.drop, self.refuse = port, drop, refuse
        self.latency, self.mischief = latency, mischief
        self.random = random.Random(seed)
        self.lock = threading.Lock()
        self.closed = threading.Event()
        self.requests = []
        # Requests that are being answered, and the most at a time.
        self.n_busy = self.most_busy = 0

    def __enter__(self):
        self.server = Listener(("127.0.0.1", 0), Handler)
        self.server.proxy = self
        self.port = self.server.server_address[1]
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.closed.set()
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()

    @property
    def n_bytes(self):
        """Bytes of bodies that clients were sent."""
        with self.lock:
            return sum(request.n_bytes for request in self.requests)

    def count(self, **wanted):
        """Requests with these values: `count(status=503)`."""
        with self.lock:
            return sum(all(getattr(r, k) == v for k, v in wanted.items()) for r in self.requests)

    def denies(self, request):
        """Whether a request is answered with status 403; to be overridden."""
        return False

    def fault(self):
        """What befalls the next request: "start", "middle", "refuse" or nothing."""
        with self.lock:
            drawn, place = self.random.random(), self.random.random()
        if drawn < self.drop:
            return "start" if place < 0.5 else "middle"
        return "refuse" if drawn < self.drop + self.refuse else None


class Listener(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request, client_address):
        """Clients that go away are none of our errors."""


class Handler(http.server.BaseHTTPRequestHandler):
    """One connection of a client, and one to the server behind."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    upstream = None

    def log_message(self, *_):
        pass

    def answer(self):
        proxy = self.server.proxy
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.request_seen = Request(self.command, self.path, self.headers.get("Range", ""))
        with proxy.lock:
            proxy.requests.append(self.request_seen)
            proxy.n_busy += 1
            proxy.most_busy = max(proxy.most_busy, proxy.n_busy)
        try:
            if proxy.latency:
                time.sleep(proxy.latency)
            self.act(proxy, proxy.fault(), body)
        finally:
            with proxy.lock:
                proxy.n_busy -= 1

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = do_OPTIONS = do_PROPFIND = answer

    def act(self, proxy, fault, body):
        mischief = proxy.mischief
        if fault == "start":
            return self.drop()
        if fault == "refuse":
            return self.say(
                503, b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"
            )
        if mischief == "hang":
            return self.wait(proxy)
        if mischief == "noise":
            self.close_connection = True
            self.wfile.write(random.Random(0).randbytes(4096))
            return None
        if mischief == "login":
            return self.say(200, b"<!DOCTYPE html><html><body>Please log in.</body></html>" * 40, "text/html")
        if proxy.denies(self.request_seen):
            return self.say(403, b"<Error><Code>ExpiredToken</Code><Message>It has expired.</Message></Error>")
        if mischief in ("denied", "broken"):
            return self.say(
                403 if mischief == "denied" else 500, b"<Error><Code>No</Code><Message>Not you.</Message></Error>"
            )
        answer = self.ask(proxy, body, without_range=mischief == "whole")
        if fault == "middle":
            # Of a request that changes something, the answer is lost after it was done.
            return self.relay(answer, "drop") if self.command == "GET" else self.drop()
        if mischief == "stall":
            self.relay(answer, "half")
            return self.wait(proxy)
        return self.relay(answer, {"truncated": "drop"}.get(mischief, mischief))

    def ask(self, proxy, body, without_range):
        """The server's answer: status, headers, length of the body, and its reader."""
        headers = {k: v for k, v in self.headers.items() if k.lower() not in HOP}
        if without_range:
            headers = {k: v for k, v in headers.items() if k.lower() != "range"}
        for attempt in range(2):
            if self.upstream is None:
                self.upstream = http.client.HTTPConnection("127.0.0.1", proxy.upstream, timeout=60)
            try:
                self.upstream.request(self.command, self.path, body or None, headers)
                return self.upstream.getresponse()
            except (http.client.HTTPException, OSError):
                # A connection that the server closed while it was idle.
                self.upstream.close()
                self.upstream = None
                if attempt:
                    raise
        return None

    def relay(self, answer, how=None):
        """Sends the server's answer on, whole or as `how` says."""
        length = answer.getheader("Content-Length")
        bodiless = self.command == "HEAD" or answer.status in (204, 304)
        content = None
        if length is None and not bodiless:
            content = answer.read()
        length = int(length if length is not None else len(content or b""))
        content_range = answer.getheader("Content-Range")
        send = length
        if how == "shorter" and content_range and length > 1:
            send = length = length // 2
            first = int(content_range.split()[1].split("-")[0])
            content_range = f"bytes {first}-{first + length - 1}/{content_range.split('/')[1]}"
        if how == "claims" and content_range:
            content_range = content_range.split("/")[0] + f"/{1 << 60}"
        if how in ("drop", "half"):
            send = length // 2
        self.request_seen.status = answer.status
        self.send_response_only(answer.status)
        for key, value in answer.getheaders():
            if key.lower() not in HOP | {"content-length", "content-range"}:
                self.send_header(key, value)
        if content_range:
            self.send_header("Content-Range", content_range)
        claimed = how == "claims" and self.command == "HEAD" and answer.status == 200
        self.send_header("Content-Length", str(1 << 60 if claimed else length))
        self.end_headers()
        if bodiless:
            answer.read()
            return
        rng = random.Random(0) if how == "random" else None
        sent = 0
        while sent < send:
            piece = min(PIECE, send - sent)
            data = content[sent : sent + piece] if content is not None else answer.read(piece)
            if not data:
                break
            self.write(rng.randbytes(len(data)) if rng else data)
            sent += len(data)
        if how in ("drop", "half", "shorter"):
            self.forget()
        if how == "drop":
            self.drop()
        elif content is None and how not in ("half", "shorter"):
            answer.read()

    def say(self, status, body, kind="application/xml"):
        """An answer of the proxy's own."""
        self.request_seen.status = status
        self.send_response_only(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.write(body)

    def write(self, data):
        """Counts before it sends, so that who has the last byte finds it counted."""
        self.request_seen.n_bytes += len(data)
        self.wfile.write(data)

    def drop(self):
        """Ends the client's connection at once, with a reset."""
        self.close_connection = True
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    def wait(self, proxy):
        self.close_connection = True
        proxy.closed.wait()

    def forget(self):
        """Ends the connection to the server, which has more to say than is wanted."""
        if self.upstream is not None:
            self.upstream.close()
            self.upstream = None

    def finish(self):
        self.forget()
        super().finish()
