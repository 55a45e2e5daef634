"""Servers that fail now and then change no answer; those that fail for good end in an error that helps."""

import base64
import concurrent.futures
import time
import urllib.parse

import pytest

import servers
import slt
from proxy import Proxy
from test_remote import check_manual

# Seconds within which the program gives up on a server that says nothing.
PATIENCE = 150
QUESTION = "SELECT count(*) AS n, sum(total_counts(X)) AS t FROM cells"


@pytest.mark.parametrize("form", ["h5ad", "zarr"])
def test_the_manual_through_a_bad_connection(annfusion, store, demos, form, tmp_path):
    store.upload(demos[form], f"faults/demo.{form}")
    with Proxy(store.port, drop=0.05, refuse=0.05, seed=len(form)) as proxy:
        access = store.access(proxy.port)
        for file in slt.files("guide"):
            folder = tmp_path / file.name.replace("/", "_")
            folder.mkdir()
            check_manual(annfusion, file, access.url(f"faults/demo.{form}"), access.env, folder)
        print(f"{store.name} {form}: {proxy.count(status=503)} of {len(proxy.requests)} refused, {proxy.count(status=0)} dropped")
        assert proxy.count(status=503) and proxy.count(status=0)


@pytest.mark.parametrize("form", ["h5ad", "zarr"])
def test_everything_through_a_bad_connection(annfusion, store, made, form):
    path = made("unsorted", form)
    store.upload(path, f"faults/large/{path.name}")
    with Proxy(store.port, drop=0.05, refuse=0.05, seed=5) as proxy:
        access = store.access(proxy.port)
        done = annfusion("verify", path, access.url(f"faults/large/{path.name}"), env=access.env)
        assert done.returncode == 0, done.stdout
        faults = proxy.count(status=503) + proxy.count(status=0)
        print(f"{store.name} {form}: {faults} faults before a body in {len(proxy.requests)} requests")
        assert faults


def test_latency_does_not_add_up(annfusion, s3, made):
    """Requests go side by side: the time is not that of one after another."""
    for form in ("h5ad", "zarr"):
        path = made("unsorted", form)
        s3.upload(path, f"latency/{path.name}")
        with Proxy(s3.port, latency=0.1) as proxy:
            access = s3.access(proxy.port)
            began = time.monotonic()
            annfusion("query", access.url(f"latency/{path.name}"), QUESTION, env=access.env)
            took = time.monotonic() - began
            print(f"{form}: {len(proxy.requests)} requests in {took:.1f} s")
            assert took < 3 + 0.1 * len(proxy.requests) * 0.6


class Case:
    """A question that cannot be answered: where and how it is asked, and what the error says."""

    def __init__(self, access, key, *says, **env):
        self.url, self.env, self.says = access.url(key), access.env | env, says


@pytest.fixture(scope="session")
def failing(s3, azure, web, demos):
    """Cases by name, and the proxies that some need."""
    for server in (s3, azure, web):
        for form, path in demos.items():
            server.upload(path, f"errors/demo.{form}")
    for folder in ("signed", "private", "forbidden"):
        web.upload(demos["h5ad"], f"{folder}/demo.h5ad")
    closed = servers.free_port()
    cases = {}
    for form in ("h5ad", "zarr"):
        for server in (s3, azure, web):
            cases[f"{server.name}: no such key, {form}"] = Case(server.access(), f"errors/none.{form}")
            cases[f"{server.name}: closed port, {form}"] = Case(server.access(closed), f"errors/demo.{form}")
    for server, scheme in ((s3, "s3"), (azure, "az")):
        access = server.access()
        cases[f"{server.name}: no such bucket"] = Case(servers.Access(f"{scheme}://nosuchbucket", access.env), "demo.h5ad")
        cases[f"{server.name}: no such bucket, zarr"] = Case(servers.Access(f"{scheme}://nosuchbucket", access.env), "demo.zarr")
    wrong = base64.b64encode(b"no key of this account").decode()
    cases["Azure: wrong key"] = Case(azure.access(AZURE_STORAGE_ACCOUNT_NAME=servers.ACCOUNT, AZURE_STORAGE_ACCOUNT_KEY=wrong), "errors/demo.h5ad", "AZURE_STORAGE_ACCOUNT_KEY")
    cases["Azure: wrong SAS"] = Case(azure.access(AZURE_STORAGE_SAS_KEY=servers.sas()[:-6] + "AAAAAA"), "errors/demo.h5ad")
    cases["HTTP: forbidden"] = Case(web.access(), "forbidden/demo.h5ad", "403")
    cases["HTTP: not signed"] = Case(web.access(), f"signed/demo.h5ad?signature={servers.SECRET[:-1]}", "403")
    cases["HTTP: wrong password"] = Case(web_with_password(web, servers.PASSWORD + "x"), "private/demo.h5ad", "401")
    cases["HTTP: no password"] = Case(web.access(), "private/demo.h5ad", "401")
    return cases


def web_with_password(web, password):
    return servers.Access(f"http://{servers.USER}:{password}@127.0.0.1:{web.port}", web.access().env)


BAD = [
    ("hang", "h5ad", "s3"),
    ("hang", "zarr", "web"),
    ("stall", "h5ad", "web"),
    ("stall", "zarr", "s3"),
    *((mischief, form, kind) for mischief in ("noise", "random", "login", "whole", "truncated", "shorter", "claims", "denied", "broken")
      for form, kind in (("h5ad", "s3"), ("h5ad", "web"), ("zarr", "s3"), ("zarr", "web"))),
]


@pytest.fixture(scope="session")
def failed(annfusion, request, failing, demos):
    """All of them at once, since most of their time is spent waiting: results by name, in time."""
    proxies, cases = [], dict(failing)
    for mischief, form, kind in BAD:
        server = request.getfixturevalue(kind)
        proxies.append(Proxy(server.port, mischief=mischief).__enter__())
        cases[f"{mischief} {form} {kind}"] = Case(server.access(proxies[-1].port), f"errors/demo.{form}")
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        def run(case):
            return annfusion("query", case.url, QUESTION, "--format", "csv", env=case.env, check=False, timeout=PATIENCE)

        # The slow ones first.
        names = sorted(cases, key=lambda name: not name.startswith(("hang", "stall")))
        running = {name: pool.submit(run, cases[name]) for name in names}
        concurrent.futures.wait(running.values())
    for proxy in proxies:
        proxy.__exit__()
    answer = annfusion("query", demos["h5ad"], QUESTION, "--format", "csv").stdout
    return cases, running, answer


def check_error(case, done):
    """One error that names the URL and no secret."""
    assert done.returncode == 1, (done.returncode, done.stdout, done.stderr)
    assert done.stderr.count("error:") == 1 and "panicked" not in done.stderr, done.stderr
    assert bare(case.url) in done.stderr, (bare(case.url), done.stderr)
    for word in case.says:
        assert word in done.stderr, (word, done.stderr)
    no_secrets(done)
    assert len(done.stderr) < 1500, done.stderr


def bare(url):
    """A URL without user and query."""
    scheme, rest = url.partition("?")[0].split("://")
    return f"{scheme}://{rest.rpartition('@')[2]}"


def no_secrets(done, *more):
    shown = done.stdout + done.stderr
    basic = base64.b64encode(f"{servers.USER}:{servers.PASSWORD}".encode()).decode()
    for secret in (servers.SECRET[:-1], servers.PASSWORD, servers.ACCOUNT_KEY, basic, *more):
        assert secret not in shown, (secret, shown)


NAMES = [f"{server}: {what}, {form}" for form in ("h5ad", "zarr") for server in ("S3", "Azure", "HTTP") for what in ("no such key", "closed port")]
NAMES += ["S3: no such bucket", "S3: no such bucket, zarr", "Azure: no such bucket", "Azure: no such bucket, zarr", "Azure: wrong key"]
NAMES += ["Azure: wrong SAS", "HTTP: forbidden", "HTTP: not signed", "HTTP: wrong password", "HTTP: no password"]


@pytest.mark.parametrize("name", NAMES)
def test_an_error_names_the_url(failed, name):
    cases, running, _ = failed
    check_error(cases[name], running[name].result())


@pytest.mark.parametrize("mischief, form, kind", BAD)
def test_bad_servers(failed, mischief, form, kind):
    cases, running, answer = failed
    name = f"{mischief} {form} {kind}"
    done = running[name].result()
    # Of a server that ignores ranges all may be had, and so what is in it.
    if mischief in ("whole", "shorter") and done.returncode == 0:
        assert done.stdout == answer
        return
    check_error(cases[name], done)


def test_secrets_are_used_and_never_shown(annfusion, azure, web, failing, tmp_path):
    token = servers.sas()
    signature = urllib.parse.parse_qs(token)["sig"][0]
    shared = azure.access(AZURE_STORAGE_SAS_KEY=token)
    ways = {
        shared.url("errors/demo.h5ad"): shared.env,
        shared.url("errors/demo.zarr"): shared.env,
        azure.access().url("errors/demo.h5ad"): azure.access().env,
        web.access().url(f"signed/demo.h5ad?signature={servers.SECRET}"): web.access().env,
        web_with_password(web, servers.PASSWORD).url("private/demo.h5ad"): web.access().env,
    }
    for url, env in ways.items():
        for command in (
            ["query", f"demo={url}", QUESTION],
            ["query", url, QUESTION],
            ["query", url, f"EXPLAIN ANALYZE {QUESTION}"],
            ["query", url, "EXPLAIN VERBOSE SELECT * FROM cells WHERE cell_type = 'B'"],
            ["query", f"EXPLAIN SELECT * FROM read_anndata('{url}')"],
            ["query", url, "SELECT * FROM information_schema.tables"],
            ["inspect", url],
            ["inspect", url, "--json"],
            ["verify", url],
            ["--debug", "query", url, QUESTION],
            ["slice", url, tmp_path / "out", "--size", 200, "--explain"],
            ["slice", url, tmp_path / "out", "--size", 200, "--dry-run"],
        ):
            done = annfusion(*command, env=env)
            no_secrets(done, signature, urllib.parse.quote_plus(signature), "signature=")
        for command in (["query", url, "SELECT nothing FROM obs"], ["slice", url, url + "x", "--size", 10]):
            done = annfusion(*command, env=env, check=False)
            assert done.returncode != 0
            no_secrets(done, signature, urllib.parse.quote_plus(signature), "signature=")


def test_an_object_that_changes_is_noticed(annfusion, s3, demos, made, ordered):
    """Bytes of two versions are never mixed."""
    path = made("unsorted", "h5ad")
    other = ordered[0] / "sorted.h5ad"
    s3.upload(path, "changing/x.h5ad")

    class Changing(Proxy):
        def fault(self):
            if len(self.requests) == 12:
                s3.upload(other, "changing/x.h5ad")
            return None

    with Changing(s3.port) as proxy:
        access = s3.access(proxy.port)
        done = annfusion("verify", path, access.url("changing/x.h5ad"), env=access.env, check=False)
        assert done.returncode == 1 and len(proxy.requests) >= 12
        assert "changed" in done.stderr and access.url("changing/x.h5ad") in done.stderr, (done.stdout[-500:], done.stderr)
