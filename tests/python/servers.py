"""Servers of objects on loopback: S3 by moto, Azure by Azurite, the web by nginx.

`.ci/test-servers` installs them. Each is a process that tests start once and that ends with them,
whatever happens. Objects are put there by plain requests, so nothing here depends on the client
that is tested.
"""

import atexit
import base64
import contextlib
import dataclasses
import datetime
import hashlib
import hmac
import http.client
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import time
import urllib.parse
import xml.etree.ElementTree

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
VENVS = pathlib.Path(os.environ.get("ANNFUSION_VENVS", REPOSITORY / ".venv"))
BUCKET = "tests"
SECRET = "s3cr3tT0ken"
USER, PASSWORD = "reader", "p4ssW0rd"
# Azurite's own, known to everybody.
ACCOUNT = "devstoreaccount1"
ACCOUNT_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="


class Unavailable(Exception):
    """A server that cannot be had here, and why."""


@dataclasses.dataclass(frozen=True)
class Access:
    """How the program gets at a server, or at a proxy before it: how its URLs begin, and the environment."""

    base: str
    env: dict

    def url(self, key):
        return f"{self.base}/{key}"


class Server:
    """A process that listens on a port of loopback."""

    # Of every request.
    headers = {}

    def __init__(self, folder):
        """Starts it, with `folder` for what it keeps."""
        self.folder = pathlib.Path(folder)
        self.port = free_port()
        self.process = start(self.command(), self.folder)
        try:
            self.await_answer()
            self.prepare()
        except BaseException:
            self.stop()
            raise

    def prepare(self):
        """What has to be there before the first object."""

    def stop(self):
        end(self.process)

    def await_answer(self):
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                break
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return
            time.sleep(0.05)
        log = (self.folder / "log").read_text(errors="replace")[-2000:]
        raise Unavailable(f"{self.command()[0]} does not listen on port {self.port}: {log}")

    def request(self, method, path, body=b"", headers=None, ok=(200, 201, 202)):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            headers = {"Content-Length": str(len(body)), **self.headers, **(headers or {})}
            connection.request(method, path, body or None, headers)
            answer = connection.getresponse()
            data = answer.read()
        finally:
            connection.close()
        if answer.status not in ok:
            raise OSError(f"{method} {path}: {answer.status} {data[:500]!r}")
        return data

    def get(self, key):
        return self.request("GET", self.path(key))

    def upload(self, source, key):
        """Puts a file under a key, or the files of a folder below it."""
        source = pathlib.Path(source)
        if source.is_file():
            self.put(key, source.read_bytes())
        for path in sorted(source.rglob("*")):
            if path.is_file():
                self.put(f"{key}/{path.relative_to(source).as_posix()}", path.read_bytes())

    def download(self, key, target):
        """The opposite of `upload` of a folder."""
        for found in self.keys(key + "/"):
            path = pathlib.Path(target) / found.removeprefix(key + "/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(self.get(found))


class S3(Server):
    """moto, which checks no signatures."""

    name = "S3"
    # Who asks with no signature at all is shown public objects alone.
    headers = {
        "Authorization": "AWS4-HMAC-SHA256 Credential=AKIDTESTS/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0"
    }
    # Keys of an answer to a listing.
    page = 1000

    def command(self):
        moto = VENVS / "servers" / "bin" / "moto_server"
        if not moto.exists():
            raise Unavailable("moto is not installed")
        return [moto, "-H", "127.0.0.1", "-p", str(self.port)]

    def prepare(self):
        self.request("PUT", f"/{BUCKET}")

    def path(self, key):
        return f"/{BUCKET}/{urllib.parse.quote(key)}"

    def put(self, key, data):
        self.request("PUT", self.path(key), data)

    def keys(self, prefix=""):
        found, more = [], {}
        while True:
            query = urllib.parse.urlencode({"list-type": 2, "prefix": prefix, "max-keys": self.page, **more})
            tree = xml.etree.ElementTree.fromstring(self.request("GET", f"/{BUCKET}?{query}"))
            space = tree.tag.partition("}")[0] + "}"
            found += [node.text for node in tree.iter(f"{space}Key")]
            token = tree.findtext(f"{space}NextContinuationToken")
            if not token:
                return found
            more = {"continuation-token": token}

    def delete(self, key):
        self.request("DELETE", self.path(key), ok=(204,))

    def access(self, port=None):
        return Access(
            f"s3://{BUCKET}",
            environment(
                AWS_ENDPOINT_URL=f"http://127.0.0.1:{port or self.port}",
                AWS_ALLOW_HTTP="true",
                AWS_REGION="us-east-1",
                AWS_ACCESS_KEY_ID="AKIDTESTS",
                AWS_SECRET_ACCESS_KEY=SECRET,
            ),
        )


class Azure(Server):
    """Azurite, which checks signatures."""

    name = "Azure"

    def command(self):
        azurite = VENVS / "azurite" / "node_modules" / ".bin" / "azurite-blob"
        if not azurite.exists():
            raise Unavailable("Azurite is not installed")
        port = str(self.port)
        quiet = ["--silent", "--disableTelemetry", "--skipApiVersionCheck", "--inMemoryPersistence"]
        return [azurite, "--blobHost", "127.0.0.1", "--blobPort", port, *quiet]

    def prepare(self):
        self.request("PUT", f"/{ACCOUNT}/{BUCKET}?restype=container&{sas()}")

    def path(self, key):
        return f"/{ACCOUNT}/{BUCKET}/{urllib.parse.quote(key)}?{sas()}"

    def put(self, key, data):
        self.request("PUT", self.path(key), data, {"x-ms-blob-type": "BlockBlob"})

    def keys(self, prefix=""):
        found, more = [], ""
        while True:
            query = urllib.parse.urlencode({"restype": "container", "comp": "list", "prefix": prefix, "marker": more})
            tree = xml.etree.ElementTree.fromstring(self.request("GET", f"/{ACCOUNT}/{BUCKET}?{query}&{sas()}"))
            found += [node.text for node in tree.findall("Blobs/Blob/Name")]
            more = tree.findtext("NextMarker")
            if not more:
                return found

    def access(self, port=None, **credentials):
        """With the account's key unless `credentials` say another way."""
        return Access(
            f"az://{BUCKET}",
            environment(
                AZURE_STORAGE_USE_EMULATOR="true",
                AZURITE_BLOB_STORAGE_URL=f"http://127.0.0.1:{port or self.port}",
                **(credentials or {"AZURE_STORAGE_ACCOUNT_KEY": ACCOUNT_KEY, "AZURE_STORAGE_ACCOUNT_NAME": ACCOUNT}),
            ),
        )


class Web(Server):
    """nginx over a folder, by http and https.

    Below `signed/` a query has to say `signature=SECRET`, below `private/` a user and a password are
    asked for, below `forbidden/` nothing is given.
    """

    name = "HTTP"

    def command(self):
        nginx = shutil.which("nginx") or "/usr/sbin/nginx"
        if not os.path.exists(nginx):
            raise Unavailable("nginx is not installed")
        if not shutil.which("openssl"):
            raise Unavailable("openssl is not installed")
        self.root = self.folder / "www"
        self.root.mkdir(exist_ok=True)
        self.tls_port = free_port()
        self.certificate = self.folder / "certificate.pem"
        certificate(self.certificate, self.folder / "key.pem")
        (self.folder / "users").write_text(f"{USER}:{{PLAIN}}{PASSWORD}\n")
        (self.folder / "nginx.conf").write_text(self.configuration())
        return [nginx, "-p", self.folder, "-e", self.folder / "errors", "-c", self.folder / "nginx.conf"]

    def configuration(self):
        temporary = "".join(
            f"{kind}_temp_path {self.folder}/{kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        return f"""
daemon off;
master_process off;
pid {self.folder}/nginx.pid;
events {{ worker_connections 512; }}
http {{
    access_log off;
    default_type application/octet-stream;
    keepalive_requests 1000000;
    {temporary}
    server {{
        listen 127.0.0.1:{self.port};
        listen 127.0.0.1:{self.tls_port} ssl;
        ssl_certificate {self.certificate};
        ssl_certificate_key {self.folder}/key.pem;
        root {self.root};
        location /signed/ {{ if ($arg_signature != "{SECRET}") {{ return 403; }} }}
        location /private/ {{ auth_basic tests; auth_basic_user_file {self.folder}/users; }}
        location /forbidden/ {{ return 403; }}
    }}
}}
"""

    def path(self, key):
        return f"/{urllib.parse.quote(key)}"

    def put(self, key, data):
        path = self.root / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)

    def access(self, port=None, secure=False):
        if secure:
            return Access(f"https://127.0.0.1:{self.tls_port}", environment(SSL_CERT_FILE=str(self.certificate)))
        return Access(f"http://127.0.0.1:{port or self.port}", environment())


KINDS = (S3, Azure, Web)


def environment(**more):
    """The environment without what points to other stores, and with `more`."""
    foreign = ("AWS_", "AZURE", "GOOGLE_", "SSL_CERT")
    kept = {k: v for k, v in os.environ.items() if not k.startswith(foreign) and not k.lower().endswith("_proxy")}
    return kept | more


def sas(permissions="rwdlac", days=1):
    """A shared access signature for Azurite's account, as a query."""
    expiry = (datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=days)).strftime("%Y-%m-%dT00:00:00Z")
    version = "2021-06-08"
    signed = [ACCOUNT, permissions, "b", "sco", "", expiry, "", "", version, "", ""]
    digest = hmac.digest(base64.b64decode(ACCOUNT_KEY), "\n".join(signed).encode(), hashlib.sha256)
    fields = {"sv": version, "ss": "b", "srt": "sco", "sp": permissions, "se": expiry}
    return urllib.parse.urlencode(fields | {"sig": base64.b64encode(digest).decode()})


def certificate(path, key):
    """A certificate for 127.0.0.1 that signs itself."""
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    command += ["-keyout", key, "-out", path, "-days", "2", "-subj", "/CN=tests"]
    command += ["-addext", "subjectAltName=IP:127.0.0.1", "-addext", "basicConstraints=critical,CA:FALSE"]
    subprocess.run(command, check=True, capture_output=True, stdin=subprocess.DEVNULL)


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


# Exit handlers do not run where the tests are killed. PR_SET_PDEATHSIG is 1; other systems lack it. A
# process of its own asks for it: between fork and exec nothing of Python may run beside other threads.
DIE_WITH_PARENT = """
import ctypes, os, signal, sys
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)
os.execvp(sys.argv[1], sys.argv[1:])
"""


def start(command, folder):
    """A process whose output goes to `folder/log`, and that ends when this one does."""
    with open(folder / "log", "wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", DIE_WITH_PARENT, *map(str, command)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=folder,
            env=environment(),
        )
    atexit.register(end, process)
    return process


def end(process):
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
