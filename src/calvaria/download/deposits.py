"""What a repository holds under one of its identifiers: files with sizes and hashes, the licence, what to cite.

Asked at run time, so that a new version of a set is noticed. The forms of the answers are those of figshare's API v2
and Zenodo's REST API as published; neither live service was reached while this was written, only servers that answer
in the same form. A figshare number may be an item ("article") or a collection of items: both are tried.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from calvaria.download.transfer import Patience, RemoteFile
from calvaria.download.web import BrokenError, NotThereError, host_of, read_json
from calvaria.errors import FormatError, InputError

FIGSHARE_API = "https://api.figshare.com/v2"
ZENODO_API = "https://zenodo.org/api"

PAGE_SIZE = 100
"""Files or items asked for at once; figshare gives 10 unless asked for more."""

QUICK = Patience(timeout_s=30.0, tries=3)
"""A listing is short, and somebody waits for it."""

PAGES = 200
"""A listing longer than this is not one of skulls."""


@dataclass(frozen=True)
class Deposit:
    """What lies under one number.

    Args:
        source: such as "figshare:14161307".
        title: as its authors named it.
        licence: as the repository states it, or None.
        citation: the repository's own line, or its DOI; empty where it gives neither.
        page: where a person finds it; empty where the repository does not say.
        files: what can be downloaded, in the repository's order.
        elsewhere: names of files that are only links to other places.
    """

    source: str
    title: str
    licence: str | None
    citation: str
    page: str
    files: tuple[RemoteFile, ...]
    elsewhere: tuple[str, ...] = ()


def is_deposit(word: str) -> bool:
    """Whether a word names a deposit.

    >>> is_deposit("figshare:14161307"), is_deposit("skullfix")
    (True, False)
    """
    return re.fullmatch(rf"({'|'.join(REPOSITORIES)}):\d+", word) is not None


def look_up(source: str, patience: Patience | None = None) -> Deposit:
    """Ask a repository what lies under a number.

    Args:
        source: "figshare:NUMBER" or "zenodo:NUMBER".
        patience: when to give up; None takes the defaults.

    Raises:
        InputError: ``source`` names none, nothing lies there, or the repository cannot be reached.
        FormatError: its answer is not of the form that is known.
    """
    if not is_deposit(source):
        raise InputError(f"{source}: wanted {' or '.join(f'{name}:NUMBER' for name in REPOSITORIES)}")
    repository, number = source.split(":")
    ask = _Asker(patience or QUICK)
    try:
        return REPOSITORIES[repository](int(number), ask)
    except NotThereError as error:
        raise InputError(f"{source}: there is no such number, or it is not public") from error
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise FormatError(
            f"{source}: {repository}'s answer lacks what is known of it ({type(error).__name__}: {error}); "
            "the service may have changed"
        ) from error


@dataclass(frozen=True)
class _Asker:
    """Asks for JSON, again where the connection breaks.

    Args:
        patience: when to give up.
    """

    patience: Patience

    def __call__(self, url: str) -> Any:
        failures = 0
        while True:
            try:
                return read_json(url, timeout_s=self.patience.timeout_s)
            except BrokenError as broken:
                failures += 1
                if failures >= self.patience.tries:
                    raise InputError(
                        f"{host_of(url)}: cannot be reached after {failures} tries ({broken}): check the network"
                    ) from broken
                time.sleep(self.patience.pause(failures, broken.wait_s))

    def pages(self, url: str) -> Iterator[Any]:
        """Every entry of a figshare listing, page after page, each once."""
        seen: set[int] = set()
        for page in range(1, PAGES + 1):
            entries = self(f"{url}?page={page}&page_size={PAGE_SIZE}")
            fresh = [entry for entry in entries if entry["id"] not in seen]
            yield from fresh
            seen |= {entry["id"] for entry in fresh}
            if len(entries) < PAGE_SIZE or not fresh:  # not fresh: the server takes no notice of the page
                return
        raise FormatError(f"{host_of(url)}: more than {PAGES * PAGE_SIZE} entries; give the files' URLs")


def _figshare(number: int, ask: _Asker) -> Deposit:
    """An item, or, where there is no item of that number, a collection of items."""
    try:
        about, items = ask(f"{FIGSHARE_API}/articles/{number}"), [number]
    except NotThereError:
        about = ask(f"{FIGSHARE_API}/collections/{number}")
        items = [item["id"] for item in ask.pages(f"{FIGSHARE_API}/collections/{number}/articles")]
    files: dict[str, RemoteFile] = {}
    elsewhere: list[str] = []
    for item in items:
        for entry in ask.pages(f"{FIGSHARE_API}/articles/{item}/files"):
            if entry.get("is_link_only"):
                elsewhere.append(entry["name"])
                continue
            name = f"{item}-{entry['name']}" if entry["name"] in files else entry["name"]
            files[name] = RemoteFile(
                name,
                # The documented address that scripts are let in at; behind the other stands a check for browsers.
                f"{FIGSHARE_API}/file/download/{entry['id']}",
                entry["size"],
                md5=entry.get("computed_md5") or entry.get("supplied_md5") or None,
                mirrors=(entry["download_url"],),
            )
    licence = (about.get("license") or {}).get("name")
    citation = about.get("citation") or about.get("doi") or ""
    page = about.get("figshare_url") or about.get("url_public_html") or ""
    return Deposit(
        f"figshare:{number}", about["title"], licence, citation, page, tuple(files.values()), tuple(elsewhere)
    )


def _zenodo(number: int, ask: _Asker) -> Deposit:
    """A record; its files are listed inside it."""
    record = ask(f"{ZENODO_API}/records/{number}")
    about = record["metadata"]
    files = []
    for entry in record["files"]:
        kind, _, digest = entry["checksum"].partition(":")
        address = f"{ZENODO_API}/records/{number}/files/{quote(entry['key'], safe='')}/content"
        files.append(RemoteFile(entry["key"], address, entry["size"], md5=digest if kind == "md5" else None))
    licence = (about.get("license") or {}).get("id")
    doi = record.get("doi") or about.get("doi") or ""
    page = (record.get("links") or {}).get("self_html") or ""
    return Deposit(f"zenodo:{number}", about["title"], licence, doi, page, tuple(files))


REPOSITORIES: dict[str, Callable[[int, _Asker], Deposit]] = {"figshare": _figshare, "zenodo": _zenodo}
"""How each repository is asked."""

__all__ = ["Deposit", "is_deposit", "look_up"]
