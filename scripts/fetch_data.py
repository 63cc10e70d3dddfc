"""Fetch MNIST, Fashion-MNIST or CIFAR-10, which are too large for the repository.

    python scripts/fetch_data.py mnist             # 11 MB into data/downloads/mnist, for the IDX reader
    python scripts/fetch_data.py fashion           # 31 MB into data/downloads/fashion, for the IDX reader
    python scripts/fetch_data.py cifar10           # 162 MB into data/downloads/cifar10, for the CIFAR10 reader
    python scripts/fetch_data.py mnist --base-url https://mirror.example/mnist/ --out elsewhere

Every file is checked against its published MD5 checksum before it gets its name; what is there already is not fetched
again. Sources: Y. LeCun, C. Cortes, C. J. C. Burges, The MNIST database of handwritten digits, from the mirror that
torchvision uses; H. Xiao, K. Rasul, R. Vollgraf, Fashion-MNIST, 2017, from its authors' page; A. Krizhevsky, Learning
Multiple Layers of Features from Tiny Images, 2009, from its author's page.
"""

import argparse
import hashlib
import os
import sys
import tarfile
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPException
from io import BufferedWriter
from pathlib import Path

MNIST_URL = "https://ossci-datasets.s3.amazonaws.com/mnist/"
MNIST_MD5 = {
    "train-images-idx3-ubyte.gz": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
    "train-labels-idx1-ubyte.gz": "d53e105ee54ea40749a09fcbcd1e9432",
    "t10k-images-idx3-ubyte.gz": "9fb629c4189551a2d022fa330f9573f3",
    "t10k-labels-idx1-ubyte.gz": "ec29112dd5afa0611ce80d1b7f02629c",
}
FASHION_URL = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"
FASHION_MD5 = {
    "train-images-idx3-ubyte.gz": "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
    "train-labels-idx1-ubyte.gz": "25c81989df183df01b3e8a0aad5dffbe",
    "t10k-images-idx3-ubyte.gz": "bef4ecab320f06d8554ea6380940ec79",
    "t10k-labels-idx1-ubyte.gz": "bb300cfdad3c16e7a12a480ee83cd310",
}
CIFAR10_URL = "https://www.cs.toronto.edu/~kriz/"
CIFAR10_ARCHIVE = "cifar-10-binary.tar.gz"
CIFAR10_MD5 = "c32a1d4ab5d03f1284b67883e8d87530"
CIFAR10_MEMBERS = (*(f"data_batch_{number}.bin" for number in range(1, 6)), "test_batch.bin")
CIFAR10_MEMBER_SIZE = 10_000 * (1 + 3 * 32 * 32)

CHUNK = 1 << 20
TIMEOUT_SECONDS = 60


class FetchError(Exception):
    """A file cannot be had as it was published; the message says what to do."""


def fetch_mnist(folder: Path, base_url: str = MNIST_URL, checksums: dict[str, str] = MNIST_MD5) -> None:
    """Fetch the four files of MNIST, or of a set in its format, into `folder`."""
    for name, md5 in checksums.items():
        download(base_url.rstrip("/") + "/" + name, folder / name, md5)


def fetch_cifar10(
    folder: Path, base_url: str = CIFAR10_URL, md5: str = CIFAR10_MD5, member_size: int = CIFAR10_MEMBER_SIZE
) -> None:
    """Fetch the archive of CIFAR-10's binary version into `folder`, and put its six files beside it."""
    archive = folder / CIFAR10_ARCHIVE
    download(base_url.rstrip("/") + "/" + CIFAR10_ARCHIVE, archive, md5)
    extract(archive, folder, CIFAR10_MEMBERS, member_size)


def download(url: str, target: Path, md5: str) -> None:
    """Fetch `url` as `target`, unless it is there already; `target` only ever holds what has the checksum `md5`."""
    if target.is_file() and md5_of(target) == md5:
        print(f"{target}: is there already", file=sys.stderr)
        return
    print(f"{target}: fetching {url}", file=sys.stderr)
    with replacing(target) as file:
        try:
            with urllib.request.urlopen(url, timeout=TIMEOUT_SECONDS) as response:
                declared = response.headers.get("Content-Length")
                while chunk := response.read(CHUNK):
                    file.write(chunk)
        except (OSError, HTTPException, ValueError) as error:
            raise FetchError(f"{url}: cannot be fetched ({error}); try another --base-url") from error
        file.flush()
        if declared is not None and file.tell() != int(declared):
            raise FetchError(f"{url}: broke off after {file.tell()} of {declared} bytes; run the command again")
        if (found := md5_of(Path(file.name))) != md5:
            raise FetchError(f"{url}: its MD5 checksum is {found} instead of {md5}; try another --base-url")


def extract(archive: Path, folder: Path, names: tuple[str, ...], size: int) -> None:
    """Write the files `names` of a tar archive into `folder`, and nothing else.

    Where the archive would put a member does not matter: only the last part of its name is looked at, it must be a
    regular file of `size` bytes, and it is written under that name.
    """
    missing = set(names)
    try:
        with tarfile.open(archive, "r:gz") as members:
            for member in members:
                name = member.name.rpartition("/")[2]
                if name not in missing:
                    continue
                content = members.extractfile(member) if member.isreg() and member.size == size else None
                if content is None:
                    raise FetchError(f"{archive}: {member.name} is not a file of {size} bytes; delete it, fetch again")
                with replacing(folder / name) as file:
                    while chunk := content.read(CHUNK):
                        file.write(chunk)
                missing.remove(name)
    except (tarfile.TarError, EOFError, OSError) as error:
        raise FetchError(f"{archive}: truncated or corrupt ({error}); delete it and fetch again") from error
    if missing:
        raise FetchError(f"{archive}: {', '.join(sorted(missing))} missing in the archive; delete it and fetch again")


@contextmanager
def replacing(target: Path) -> Iterator[BufferedWriter]:
    """Open a temporary file that becomes `target` when the block succeeds, and vanishes when it does not."""
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        with temporary.open("wb") as file:
            yield file
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def md5_of(path: Path) -> str:
    """Return the hexadecimal MD5 checksum of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns 0, 4 when a set cannot be had, 130 when interrupted."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("set", choices=["mnist", "fashion", "cifar10"])
    parser.add_argument("--base-url", help="where the files are, if not at their public address")
    parser.add_argument("--out", type=Path, help="the folder (default: data/downloads/SET)")
    options = parser.parse_args(arguments)
    folder = options.out or Path(__file__).resolve().parents[1] / "data" / "downloads" / options.set
    try:
        if options.set == "mnist":
            fetch_mnist(folder, options.base_url or MNIST_URL)
        elif options.set == "fashion":
            fetch_mnist(folder, options.base_url or FASHION_URL, FASHION_MD5)
        else:
            fetch_cifar10(folder, options.base_url or CIFAR10_URL)
    except (FetchError, OSError) as error:
        print(f"fetch_data: {error}", file=sys.stderr)
        return 4
    except KeyboardInterrupt:
        print("fetch_data: interrupted; nothing half-fetched was kept", file=sys.stderr)
        return 130
    print(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
