"""Questions to servers that cannot answer them, asked all at once in the background.

Most of their time is spent waiting, so they are asked when the first test of URLs begins, and
`test_remote_errors.py` looks at what came.
"""

import base64
import concurrent.futures
import contextlib

import pytest

import servers
from proxy import Proxy

# Seconds within which the program gives up on a server that says nothing.
PATIENCE = 150
QUESTION = "SELECT count(*) AS n, sum(total_counts(X)) AS t FROM cells"
# What a proxy does, to which form, of which server.
BAD = [("hang", "h5ad", "s3"), ("hang", "zarr", "web"), ("stall", "h5ad", "web"), ("stall", "zarr", "s3")]
BAD += [
    (mischief, form, kind)
    for mischief in ("noise", "random", "login", "whole", "truncated", "shorter", "claims", "denied", "broken")
    for form, kind in (("h5ad", "s3"), ("h5ad", "web"), ("zarr", "s3"), ("zarr", "web"))
]
# What a proxy does to who writes to S3.
WRITING = ("denied", "broken", "hang")


class Case:
    """A question that cannot be answered: where and how it is asked, and words of the error."""

    def __init__(self, access, key, *says, written=None):
        """A query, or the writing of an object."""
        self.url, self.env, self.says = access.url(key), access.env, says
        query = ["query", self.url, QUESTION, "--format", "csv"]
        self.command = ["convert", written, self.url] if written else query


def cases(kinds):
    """Cases by name, of objects that are in every server as errors/demo.*."""
    found = {}
    for server in kinds.values():
        for form in ("h5ad", "zarr"):
            found[f"{server.name}: no such key, {form}"] = Case(server.access(), f"errors/none.{form}")
            found[f"{server.name}: closed port, {form}"] = Case(
                server.access(servers.free_port()), f"errors/demo.{form}"
            )
            if server.name != "HTTP":
                there = servers.Access(
                    server.access().base.replace(servers.BUCKET, "nosuchbucket"), server.access().env
                )
                found[f"{server.name}: no such bucket, {form}"] = Case(there, f"demo.{form}")
    if "azure" in kinds:
        found |= of_azure(kinds["azure"])
    if "web" in kinds:
        found |= of_web(kinds["web"])
    return found


def of_azure(azure):
    wrong = base64.b64encode(b"no key of this account").decode()
    wrong = azure.access(AZURE_STORAGE_ACCOUNT_NAME=servers.ACCOUNT, AZURE_STORAGE_ACCOUNT_KEY=wrong)
    altered = azure.access(AZURE_STORAGE_SAS_KEY=servers.sas()[:-6] + "AAAAAA")
    return {
        "Azure: wrong key": Case(wrong, "errors/demo.h5ad", "AZURE_STORAGE_ACCOUNT_KEY"),
        "Azure: wrong SAS": Case(altered, "errors/demo.h5ad"),
    }


def of_web(web):
    return {
        "HTTP: forbidden": Case(web.access(), "forbidden/demo.h5ad", "403"),
        "HTTP: not signed": Case(web.access(), f"signed/demo.h5ad?signature={servers.SECRET[:-1]}", "403"),
        "HTTP: wrong password": Case(with_password(web, servers.PASSWORD + "x"), "private/demo.h5ad", "401"),
        "HTTP: no password": Case(web.access(), "private/demo.h5ad", "401"),
    }


NAMES = [
    f"{server}: {what}, {form}"
    for server in ("S3", "Azure", "HTTP")
    for what in ("no such key", "closed port")
    for form in ("h5ad", "zarr")
]
NAMES += [f"{server}: no such bucket, {form}" for server in ("S3", "Azure") for form in ("h5ad", "zarr")]
NAMES += [
    "Azure: wrong key",
    "Azure: wrong SAS",
    "HTTP: forbidden",
    "HTTP: not signed",
    "HTTP: wrong password",
    "HTTP: no password",
]


def with_password(web, password):
    return servers.Access(f"http://{servers.USER}:{password}@127.0.0.1:{web.port}", web.access().env)


class Failures:
    """The cases by name, what became of them, and the answer that a good server gives."""

    def __init__(self, annfusion, kinds, demos):
        """Asks all; `kinds` are the servers that are here, by fixture."""
        for server in kinds.values():
            for form, path in demos.items():
                server.upload(path, f"errors/demo.{form}")
        for folder in ("signed", "private", "forbidden"):
            if "web" in kinds:
                kinds["web"].upload(demos["h5ad"], f"{folder}/demo.h5ad")
        self.cases, self.proxies = cases(kinds), contextlib.ExitStack()
        for mischief, form, kind in BAD:
            if kind not in kinds:
                continue
            proxy = self.proxies.enter_context(Proxy(kinds[kind].port, mischief=mischief))
            self.cases[f"{mischief} {form} {kind}"] = Case(kinds[kind].access(proxy.port), f"errors/demo.{form}")
        for mischief in WRITING if "s3" in kinds else ():
            proxy = self.proxies.enter_context(Proxy(kinds["s3"].port, mischief=mischief))
            access = kinds["s3"].access(proxy.port)
            self.cases[f"writing, {mischief}"] = Case(access, f"errors/{mischief}.zarr", written=demos["h5ad"])
        self.answer = annfusion("query", demos["h5ad"], QUESTION, "--format", "csv").stdout
        self.pool = concurrent.futures.ThreadPoolExecutor(8)

        def ask(case):
            return annfusion(
                "query", case.url, QUESTION, "--format", "csv", env=case.env, check=False, timeout=PATIENCE
            )

        # The slow ones first.
        names = sorted(
            self.cases, key=lambda name: not name.startswith(("hang", "stall")) and "closed port" not in name
        )
        self.running = {name: self.pool.submit(ask, self.cases[name]) for name in names}

    def result(self, name):
        if name not in self.running:
            pytest.skip("SKIPPED: its server is not here")
        return self.running[name].result()

    def close(self):
        self.proxies.close()
        self.pool.shutdown(cancel_futures=True)
