"""Servers that fail for good end in one error that names the URL, soon, and without a secret."""

import base64
import urllib.parse

import pytest

import servers
from failures import BAD, NAMES, QUESTION, WRITING, with_password


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


@pytest.mark.parametrize("name", NAMES)
def test_an_error_names_the_url(failures, name):
    check_error(failures.cases[name], failures.result(name))


def test_every_case_is_looked_at(failures):
    writing = {f"writing, {mischief}" for mischief in WRITING}
    assert set(failures.cases) <= {*NAMES, *writing, *(" ".join(bad) for bad in BAD)}


@pytest.mark.parametrize("mischief, form, kind", BAD)
def test_bad_servers(failures, mischief, form, kind):
    name = f"{mischief} {form} {kind}"
    done = failures.result(name)
    # Of a server that ignores ranges all may be had, and so what is in it; what it claims of bytes that
    # nobody needs is no harm.
    if mischief in ("whole", "shorter", "claims") and done.returncode == 0:
        assert done.stdout == failures.answer
        return
    check_error(failures.cases[name], done)


def test_no_command_shows_a_query(annfusion, web, synth, tmp_path):
    """Whatever a URL is used as, and wrongly."""
    env = web.access().env
    urls = [web.access().url(f"none/{name}?sig={servers.SECRET}") for name in ("x.zarr", "x.h5ad", "x", "*.h5ad")]
    for url in urls:
        local = tmp_path / "out.h5ad"
        for command in (
            ["convert", url, local],
            ["convert", synth, url],
            ["convert", synth, url, "--overwrite"],
            ["convert", "--virtual", url, tmp_path / "x.json"],
            ["convert", "--virtual", synth, url],
            ["slice", url, local, "--size", 10],
            ["slice", synth, url, "--size", 1000, "--zarr"],
            ["slice", synth, url, "--size", 1000, "--zarr", "--dry-run"],
            ["filter", url, local, "--where", "true"],
            ["filter", synth, url, "--where", "true"],
            ["filter", synth, local, "--csv-file", url],
            ["filter", synth, local, "--genes", url],
            ["shuffle", url, "-o", local],
            ["shuffle", synth, "-o", url],
            ["merge", url],
            ["merge", url, synth, synth],
            ["merge", "-o", url],
            ["merge", local, url],
            ["synth", url, "--n-obs", 10, "--n-vars", 10],
            ["inspect", url],
            ["verify", url],
            ["verify", synth, url],
            ["query", url],
            ["query", url, "SELECT 1"],
            ["query", synth, url],
            ["query", synth, "SELECT 1", "-o", url],
            ["query", synth, "-f", url],
            ["query", url, "-f", url],
            ["query", f"SELECT * FROM read_anndata('{url}')"],
            ["query", synth, f"COPY (SELECT * FROM cells) TO '{url}' STORED AS ZARR"],
            ["query", synth, f"COPY (SELECT * FROM cells) TO '{url}' STORED AS H5AD"],
        ):
            done = annfusion(*command, env=env, check=False)
            assert servers.SECRET not in done.stdout + done.stderr, (command, done.stdout, done.stderr)


def test_secrets_are_used_and_never_shown(annfusion, azure, web, failures, tmp_path):
    token = servers.sas()
    signature = urllib.parse.parse_qs(token)["sig"][0]
    shared = azure.access(AZURE_STORAGE_SAS_KEY=token)
    ways = {
        shared.url("errors/demo.h5ad"): shared.env,
        shared.url("errors/demo.zarr"): shared.env,
        azure.access().url("errors/demo.h5ad"): azure.access().env,
        web.access().url(f"signed/demo.h5ad?signature={servers.SECRET}"): web.access().env,
        with_password(web, servers.PASSWORD).url("private/demo.h5ad"): web.access().env,
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
