import hashlib
import importlib.util
import io
import tarfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "fetch_data.py"
FILES = {"a.gz": b"images " * 1000, "b.gz": b"labels"}


@pytest.fixture(scope="module")
def fetch():
    spec = importlib.util.spec_from_file_location("fetch_data", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def server():
    """A server on this machine: `server.files` by name, `server.declared` lengths that lie, `server.asked` names."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            name = self.path.lstrip("/")
            http.asked.append(name)
            content = http.files.get(name)
            if content is None:
                self.send_error(404)
                return
            self.send_response(200)
            self.send_header("Content-Length", str(http.declared.get(name, len(content))))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *arguments):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        http.files, http.declared, http.asked = dict(FILES), {}, []
        http.url = f"http://127.0.0.1:{http.server_port}/"
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield http
        http.shutdown()
        thread.join()


def md5(content):
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


CHECKSUMS = {name: md5(content) for name, content in FILES.items()}


def archive(members, kind=tarfile.REGTYPE):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.type, member.size, member.linkname = kind, len(content), "/etc/passwd"
            tar.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def batches(fetch, prefix="cifar-10-batches-bin/"):
    return {prefix + name: name.ljust(20).encode() for name in fetch.CIFAR10_MEMBERS}


def names(folder):
    return sorted(file.name for file in folder.iterdir()) if folder.is_dir() else []


def test_every_file_is_fetched_and_not_fetched_again(fetch, server, tmp_path):
    for _ in range(2):
        fetch.fetch_mnist(tmp_path / "new" / "mnist", server.url, CHECKSUMS)
    assert {file.name: file.read_bytes() for file in (tmp_path / "new" / "mnist").iterdir()} == FILES
    assert server.asked == ["a.gz", "b.gz"]


def test_a_damaged_file_is_fetched_again(fetch, server, tmp_path):
    (tmp_path / "a.gz").write_bytes(b"half")
    fetch.fetch_mnist(tmp_path, server.url, CHECKSUMS)
    assert (tmp_path / "a.gz").read_bytes() == FILES["a.gz"]


def test_a_wrong_checksum_leaves_what_was_there(fetch, server, tmp_path):
    (tmp_path / "a.gz").write_bytes(b"older")
    server.files["a.gz"] += b"!"
    with pytest.raises(fetch.FetchError, match=f"a.gz: its MD5 checksum is .* instead of {CHECKSUMS['a.gz']}"):
        fetch.fetch_mnist(tmp_path, server.url, CHECKSUMS)
    assert names(tmp_path) == ["a.gz"] and (tmp_path / "a.gz").read_bytes() == b"older"


def test_a_download_that_breaks_off_leaves_nothing(fetch, server, tmp_path):
    server.declared["a.gz"] = len(FILES["a.gz"]) + 5
    with pytest.raises(fetch.FetchError, match=r"a.gz: broke off after 7000 of 7005 bytes; run the command again"):
        fetch.fetch_mnist(tmp_path, server.url, CHECKSUMS)
    assert names(tmp_path) == []


def test_a_missing_file_keeps_what_was_fetched_before(fetch, server, tmp_path):
    del server.files["b.gz"]
    with pytest.raises(fetch.FetchError, match=r"b.gz: cannot be fetched \(HTTP Error 404.*try another --base-url"):
        fetch.fetch_mnist(tmp_path, server.url, CHECKSUMS)
    assert names(tmp_path) == ["a.gz"]


def test_the_batches_of_cifar10_are_unpacked_and_nothing_else(fetch, server, tmp_path):
    members = batches(fetch) | {"../evil.txt": b"x" * 20, "/tmp/evil.txt": b"x" * 20, "readme.html": b"hello"}
    server.files[fetch.CIFAR10_ARCHIVE] = content = archive(members)
    fetch.fetch_cifar10(tmp_path / "cifar10", server.url, md5(content), member_size=20)
    assert names(tmp_path) == ["cifar10"]
    assert names(tmp_path / "cifar10") == sorted([fetch.CIFAR10_ARCHIVE, *fetch.CIFAR10_MEMBERS])
    assert (tmp_path / "cifar10" / "test_batch.bin").read_bytes() == b"test_batch.bin      "


def test_members_are_written_beside_the_archive_wherever_they_want_to_go(fetch, server, tmp_path):
    server.files[fetch.CIFAR10_ARCHIVE] = content = archive(batches(fetch, "../../"))
    fetch.fetch_cifar10(tmp_path / "deep" / "cifar10", server.url, md5(content), member_size=20)
    assert names(tmp_path) == ["deep"] and names(tmp_path / "deep") == ["cifar10"]


ARCHIVES = {
    "symbolic links": (
        lambda fetch: archive(dict.fromkeys(batches(fetch), b""), tarfile.SYMTYPE),
        "is not a file of 20",
    ),
    "another size": (lambda fetch: archive(dict.fromkeys(batches(fetch), b"x" * 99)), "is not a file of 20 bytes"),
    "a batch too few": (lambda fetch: archive(dict(list(batches(fetch).items())[:-1])), "test_batch.bin missing"),
    "a truncated archive": (lambda fetch: archive(batches(fetch))[:-40], "truncated or corrupt"),
    "no archive": (lambda fetch: b"<html>moved</html>", "truncated or corrupt"),
}


@pytest.mark.parametrize(("content", "message"), ARCHIVES.values(), ids=ARCHIVES.keys())
def test_a_hostile_archive_is_refused(fetch, server, tmp_path, content, message):
    server.files[fetch.CIFAR10_ARCHIVE] = packed = content(fetch)
    with pytest.raises(fetch.FetchError, match=message):
        fetch.fetch_cifar10(tmp_path, server.url, md5(packed), member_size=20)
    assert not any((tmp_path / name).is_symlink() or name.startswith(".") for name in names(tmp_path))


@pytest.mark.parametrize("name", ["mnist", "cifar10"])
def test_the_command_ends_with_one_line_and_code_4_when_it_fails(fetch, server, tmp_path, capsys, name):
    assert fetch.main([name, "--base-url", server.url, "--out", str(tmp_path)]) == 4
    out, err = capsys.readouterr()
    assert out == "" and err.splitlines()[-1].startswith("fetch_data: http://127.0.0.1") and "404" in err


def test_a_server_that_is_not_there_is_said_so(fetch, tmp_path, capsys):
    assert fetch.main(["mnist", "--base-url", "http://127.0.0.1:1/", "--out", str(tmp_path)]) == 4
    assert "cannot be fetched" in capsys.readouterr().err


def test_an_address_that_is_none_is_said_so(fetch, tmp_path, capsys):
    assert fetch.main(["mnist", "--base-url", "nonsense", "--out", str(tmp_path)]) == 4
    assert "cannot be fetched (unknown url type" in capsys.readouterr().err
