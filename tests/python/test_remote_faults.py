"""Servers that fail now and then change no answer."""

import pytest

import slt
from failures import QUESTION
from proxy import Proxy
from test_remote import check_manual


@pytest.mark.parametrize("form", ["h5ad", "zarr"])
def test_the_manual_through_a_bad_connection(annfusion, store, demos, form, tmp_path):
    store.upload(demos[form], f"faults/demo.{form}")
    with Proxy(store.port, drop=0.05, refuse=0.05, seed=len(form)) as proxy:
        access = store.access(proxy.port)
        for file in slt.files("guide"):
            folder = tmp_path / file.name.replace("/", "_")
            folder.mkdir()
            check_manual(annfusion, file, access.url(f"faults/demo.{form}"), access.env, folder)
        print(
            f"{store.name} {form}: {proxy.count(status=503)} of {len(proxy.requests)} refused, {proxy.count(status=0)} dropped"
        )
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


def test_requests_go_side_by_side(annfusion, s3, made):
    """Far away, time is round trips one after another: chunks are asked for together."""
    for form in ("h5ad", "zarr"):
        path = made("unsorted", form)
        s3.upload(path, f"latency/{path.name}")
        with Proxy(s3.port, latency=0.2) as proxy:
            access = s3.access(proxy.port)
            annfusion("query", access.url(f"latency/{path.name}"), QUESTION, env=access.env)
            print(f"{form}: {len(proxy.requests)} requests, {proxy.most_busy} at a time")
            assert proxy.most_busy >= 3, (form, proxy.most_busy)


@pytest.mark.parametrize("form", ["h5ad", "zarr"])
def test_a_url_that_is_signed_for_get_alone_opens_twice(annfusion, web, demos, form):
    web.upload(demos[form], f"presigned/demo.{form}")

    class Presigned(Proxy):
        def denies(self, request):
            return request.method != "GET"

    with Presigned(web.port) as proxy:
        access = web.access(proxy.port)
        url = access.url(f"presigned/demo.{form}")
        annfusion("query", f"a={url}", f"b={url}", f"SELECT count(*) FROM read_anndata('{url}')", env=access.env)


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
        assert "changed" in done.stderr and access.url("changing/x.h5ad") in done.stderr, (
            done.stdout[-500:],
            done.stderr,
        )
