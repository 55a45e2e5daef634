"""The servers and the proxy of the tests are what the tests take them for."""

import collections
import http.client
import ssl
import urllib.error
import urllib.request

import pytest

import servers
from proxy import MISCHIEF, Proxy

DATA = bytes(range(256)) * 4096


def ask(port, path, method="GET", body=None, timeout=10, **headers):
    """Status, body and headers of an answer by a connection of its own."""
    headers = servers.S3.headers | headers if path.startswith(f"/{servers.BUCKET}/") else headers
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    try:
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        return answer.status, answer.read(), answer.headers
    finally:
        connection.close()


def test_objects_and_their_ranges(store):
    store.put("plain/a b", DATA)
    assert store.get("plain/a b") == DATA
    status, body, headers = ask(store.port, store.path("plain/a b"), Range="bytes=1000-1999")
    assert (status, body) == (206, DATA[1000:2000])
    assert headers["Content-Range"] == f"bytes 1000-1999/{len(DATA)}"
    assert ask(store.port, store.path("plain/none"))[0] == 404


def test_folders_go_up_and_come_down(store, tmp_path, monkeypatch):
    if not hasattr(store, "keys"):
        pytest.skip("a web server does not list")
    for i in range(20):
        store.put(f"many/{i}", b"x")
    monkeypatch.setattr(servers.S3, "page", 7)
    (tmp_path / "a" / "c" / "0").mkdir(parents=True)
    (tmp_path / "a" / ".zgroup").write_bytes(b"{}")
    (tmp_path / "a" / "c" / "0" / "1").write_bytes(DATA)
    store.upload(tmp_path / "a", "folder/x.zarr")
    assert sorted(store.keys("folder/")) == ["folder/x.zarr/.zgroup", "folder/x.zarr/c/0/1"]
    assert len(store.keys("many/")) == 20
    store.download("folder/x.zarr", tmp_path / "b")
    assert (tmp_path / "b" / "c" / "0" / "1").read_bytes() == DATA


def test_azure_checks_signatures(azure):
    azure.put("signed", b"x")
    with pytest.raises(OSError, match="403"):
        azure.request("GET", f"/{servers.ACCOUNT}/{servers.BUCKET}/signed?{servers.sas()[:-6]}AAAAAA")


def test_the_web_server_keeps_its_secrets(web):
    for folder in ("signed", "private", "forbidden"):
        web.put(f"{folder}/x", b"x")
    assert ask(web.port, "/signed/x")[0] == 403
    assert ask(web.port, f"/signed/x?signature={servers.SECRET}")[:2] == (200, b"x")
    assert ask(web.port, "/private/x")[0] == 401
    assert ask(web.port, "/forbidden/x")[0] == 403


def test_the_certificate_is_for_who_trusts_it(web):
    web.put("tls/x", b"x")
    url = web.access(secure=True).url("tls/x")
    with pytest.raises(urllib.error.URLError, match="CERTIFICATE_VERIFY_FAILED"):
        urllib.request.urlopen(url)
    context = ssl.create_default_context(cafile=web.certificate)
    assert urllib.request.urlopen(url, context=context).read() == b"x"


def test_the_proxy_counts_bodies(store):
    store.put("counted", DATA)
    with Proxy(store.port) as proxy:
        assert ask(proxy.port, store.path("counted"))[1] == DATA
        assert ask(proxy.port, store.path("counted"), Range="bytes=5-104")[1] == DATA[5:105]
        status, body, headers = ask(proxy.port, store.path("counted"), "HEAD")
        assert (status, body, headers["Content-Length"]) == (200, b"", str(len(DATA)))
        assert proxy.n_bytes == len(DATA) + 100
        assert [r.n_bytes for r in proxy.requests] == [len(DATA), 100, 0]
        assert proxy.requests[1].range == "bytes=5-104"


def test_the_proxy_passes_writes_on(s3):
    with Proxy(s3.port) as proxy:
        assert ask(proxy.port, s3.path("put"), "PUT", DATA)[0] == 200
        assert s3.get("put") == DATA
        assert ask(proxy.port, s3.path("put"), "DELETE")[0] == 204
        assert s3.keys("put") == []


def test_faults_come_at_their_rates(web):
    web.put("rates", DATA[:10_000])

    def outcomes(seed):
        seen = collections.Counter()
        with Proxy(web.port, drop=0.2, refuse=0.1, seed=seed) as proxy:
            for _ in range(400):
                try:
                    seen[ask(proxy.port, "/rates")[0]] += 1
                except http.client.IncompleteRead:
                    seen["middle"] += 1
                except ConnectionError:
                    # A reset may overtake the first half of a body.
                    seen["dropped"] += 1
            assert len(proxy.requests) == 400
            halves = proxy.count(status=200, n_bytes=5000)
            assert proxy.count(status=0) + halves == seen["middle"] + seen["dropped"]
            assert min(proxy.count(status=0), halves) > 20
        return seen[200], seen[503], seen["middle"] + seen["dropped"]

    good, refused, dropped = outcomes(1)
    assert 20 < refused < 60 and 50 < dropped < 110 and good == 400 - refused - dropped
    assert outcomes(1) == (good, refused, dropped)
    assert outcomes(2) != (good, refused, dropped)


def test_a_lost_answer_was_a_done_write(s3):
    lost = 0
    with Proxy(s3.port, drop=1.0, seed=3) as proxy:
        for i in range(8):
            with pytest.raises((ConnectionError, http.client.HTTPException)):
                ask(proxy.port, s3.path(f"lost/{i}"), "PUT", b"x")
        lost = len(s3.keys("lost/"))
    assert 0 < lost < 8


@pytest.mark.parametrize("mischief", MISCHIEF)
def test_mischief(web, mischief):
    web.put("m", DATA)
    part = {"Range": "bytes=0-99999"}
    with Proxy(web.port, mischief=mischief) as proxy:
        if mischief in ("hang", "stall"):
            with pytest.raises(TimeoutError):
                ask(proxy.port, "/m", timeout=0.5, **part)
            assert [r.n_bytes for r in proxy.requests] == [0 if mischief == "hang" else 50_000]
            return
        if mischief == "truncated":
            with pytest.raises((http.client.IncompleteRead, ConnectionError)):
                ask(proxy.port, "/m", **part)
            return
        if mischief == "noise":
            with pytest.raises(http.client.HTTPException):
                ask(proxy.port, "/m", **part)
            return
        status, body, headers = ask(proxy.port, "/m", **part)
        expected = {"whole": 200, "login": 200, "denied": 403, "broken": 500}
        assert status == expected.get(mischief, 206)
        if mischief == "whole":
            assert body == DATA
        elif mischief == "shorter":
            assert body == DATA[:50_000] and headers["Content-Range"] == f"bytes 0-49999/{len(DATA)}"
        elif mischief == "claims":
            assert body == DATA[:100_000] and headers["Content-Range"].endswith(f"/{1 << 60}")
            assert ask(proxy.port, "/m", "HEAD")[2]["Content-Length"] == str(1 << 60)
        else:
            assert body != DATA[:100_000]


def test_servers_end_when_they_are_stopped(tmp_path):
    try:
        server = servers.Web(tmp_path)
    except servers.Unavailable as reason:
        pytest.skip(f"SKIPPED: {reason}")
    server.stop()
    assert server.process.returncode is not None
    with pytest.raises(OSError):
        server.request("GET", "/")
