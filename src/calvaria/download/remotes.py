"""The public sets that this field uses: where they are, under which licence, and what is known to be wrong with that.

Addresses, numbers and licences are those of the sets' papers and of reports named here; none could be tried against the
live services while this was written. No size or hash is stated here: figshare states them when it is asked, and for
other addresses they are recorded at the first download.
"""

from __future__ import annotations

from dataclasses import dataclass

from calvaria.download.transfer import RemoteFile
from calvaria.errors import InputError

NC_SA = "CC BY-NC-SA 4.0"

KODYM_2021 = "Kodym et al. 2021, Data in Brief 35:106902, doi:10.1016/j.dib.2021.106902"


@dataclass(frozen=True)
class RemoteSet:
    """A public set.

    Args:
        name: what ``calvaria data fetch`` takes.
        title: what it is, in a line.
        licence: as its paper states it; None where that is not known.
        citation: what to cite.
        page: where a person finds it.
        deposit: such as "figshare:14161307", or None.
        files: addresses that are known besides; most sets have none.
        note: what is uncertain, or what to do by hand; empty where nothing is.
    """

    name: str
    title: str
    licence: str | None
    citation: str
    page: str
    deposit: str | None = None
    files: tuple[RemoteFile, ...] = ()
    note: str = ""

    @property
    def by_hand(self) -> bool:
        """Whether no address is known: a person must download it."""
        return self.deposit is None and not self.files


REMOTE_SETS: dict[str, RemoteSet] = {
    one.name: one
    for one in (
        RemoteSet(
            "autoimplant2020",
            "AutoImplant 2020 = SkullFix: 100 training triplets, 110 defective test skulls",
            NC_SA,
            KODYM_2021,
            "https://figshare.com/articles/dataset/SkullFix_-_MICCAI_AutoImplant_2020_Challenge_Dataset/14161307",
            "figshare:14161307",
        ),
        RemoteSet(
            "skullbreak",
            "SkullBreak: 114 training and 20 test skulls, five defects each",
            NC_SA,
            KODYM_2021,
            "https://doi.org/10.1016/j.dib.2021.106902",
            files=(RemoteFile("skullbreak_training.zip", "https://www.fit.vutbr.cz/~ikodym/skullbreak_training.zip"),),
            note="The paper's address has been reported unreachable since August 2024. Where it fails, ask the authors "
            "for the archives.",
        ),
        RemoteSet(
            "mug500",
            "MUG500+: 500 healthy skulls, 29 craniotomy skulls with implants",
            None,
            "Li et al. 2021, Data in Brief, doi:10.1016/j.dib.2021.107524",
            "https://figshare.com/articles/dataset/MUG500_Repository/9616319",
            "figshare:9616319",
            note="Large: 195.6 GB were counted in version 20. Choose with --only, such as --only 'craniotomy*'.",
        ),
        RemoteSet(
            "scidata2021",
            "Graz: 24 patients, 240 pairs of synthetic defect and implant",
            None,
            "Li et al. 2021, Scientific Data 8:36, doi:10.1038/s41597-021-00806-0",
            "https://doi.org/10.1038/s41597-021-00806-0",
            "figshare:12423872",
            note="Whether the number is an item or a collection of figshare is not certain; both are tried.",
        ),
        RemoteSet(
            "autoimplant2021",
            "AutoImplant 2021: task 1 is SkullBreak, task 2 are 11 clinical defective skulls, task 3 is SkullFix",
            None,
            "AutoImplant 2021, autoimplant2021.grand-challenge.org",
            "https://autoimplant2021.grand-challenge.org",
            note="Licences differ by task; task 2's is not known. The page asks for an account.",
        ),
        RemoteSet(
            "cq500",
            "CQ500: 491 head CTs (DICOM), the source of SkullFix and SkullBreak",
            NC_SA,
            "Chilamkurthy et al. 2018, Lancet 392:2388",
            "http://headctstudy.qure.ai/dataset",
            note="The page asks for agreement to its terms.",
        ),
    )
}
"""Every set by name; the names are those of the catalogue, where it has the set."""

ALIASES = {"skullfix": "autoimplant2020"}
"""Other names of the same set."""


def remote_set(name: str) -> RemoteSet:
    """A set by its name or another name of it, in any case.

    Raises:
        InputError: there is no such set; the message has all names.

    >>> remote_set("SkullFix").name
    'autoimplant2020'
    """
    key = name.casefold()
    found = REMOTE_SETS.get(ALIASES.get(key, key))
    if found is None:
        raise InputError(f"{name}: no set of that name; there are {', '.join(REMOTE_SETS)}, or give an address")
    return found


__all__ = ["ALIASES", "REMOTE_SETS", "RemoteSet", "remote_set"]
