"""Fetching the public list files of a large dataset, verified by size and sha256.

The lists are published under BSD licences and may be fetched by anyone; the images may not be handed on
and are never fetched. A list that is there already is not fetched again, so that a call which was cut
off is simply repeated.
"""

from __future__ import annotations

import hashlib
import http.client
import urllib.error
import urllib.request
from pathlib import Path

from lt_bench.data.public_lists import PUBLIC_LISTS, difference, public_name
from lt_bench.data.public_set import PublicSet
from lt_bench.errors import LTBenchError
from lt_bench.files import write_atomically

_SCHEMES = ("https://", "http://", "file://")
_TIMEOUT = 30.0  # seconds without a byte


def fetch_lists(public: PublicSet, folder: Path, base: str | None = None) -> dict[Path, str]:
    """Bring the set's list files into ``folder``.

    Args:
        public: the set.
        folder: where the lists go; made if it is missing.
        base: the address that they lie below; by default where the set says.

    Returns:
        Each file and what became of it: ``"was there"`` or ``"fetched"``.

    Raises:
        LTBenchError: no connection, no such file, other content than the public one, or a file of that
            name with other content that is there already; whole lists stay, no half one is left.
    """
    done: dict[Path, str] = {}
    for name in public.lists.values():
        target = folder / name
        if target.exists():
            _refuse_another(target, name)
            done[target] = "was there"
            continue
        write_atomically(target, _fetched(f"{(base or public.lists_at).rstrip('/')}/{name}", name))
        done[target] = "fetched"
    return done


def _refuse_another(target: Path, name: str) -> None:
    try:
        content = target.read_bytes()
    except OSError as error:
        raise LTBenchError(f"cannot read {target}: {error.strerror or error}; move it away") from error
    if public_name(content) != name:
        raise LTBenchError(
            f"{target} is there and is not the public list ({difference(name, content)}); move it away, or "
            "choose another folder with --lists"
        )


def _fetched(url: str, name: str) -> bytes:
    if not url.startswith(_SCHEMES):
        raise LTBenchError(f"an address begins with {', '.join(_SCHEMES)}; got {url!r}")
    size, digest = PUBLIC_LISTS[name]
    try:
        with urllib.request.urlopen(url, timeout=_TIMEOUT) as answer:
            # One byte more than there should be shows that there are more.
            content: bytes = answer.read(size + 1)
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise LTBenchError(
            f"cannot fetch {url} ({_reason(error)}); check the connection and the address, give --url, or "
            "put the list there by hand"
        ) from error
    if len(content) > size:
        raise LTBenchError(
            f"{url} is not the public {name}: it has more than the {size} bytes of that; check --url"
        )
    if hashlib.sha256(content).hexdigest() != digest:
        cut = "; the transfer was cut off, or it is another file" if len(content) < size else ""
        raise LTBenchError(
            f"{url} is not the public {name}: {difference(name, content)}{cut}; fetch again or check --url"
        )
    return content


def _reason(error: Exception) -> str:
    if isinstance(error, urllib.error.HTTPError):
        return f"HTTP {error.code} {error.reason}"
    if isinstance(error, urllib.error.URLError):
        return " ".join(str(error.reason).split())[:160]
    return " ".join(str(error).split())[:160] or type(error).__name__
