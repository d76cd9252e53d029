"""A hospital's archive (PACS): a study fetched from it, results stored in it. Needs the extra ``dicom``."""

from calvaria.io.archive.access import Access, Credentials, credentials_from
from calvaria.io.archive.address import ArchiveAddress, parse_address
from calvaria.io.archive.client import Outcome
from calvaria.io.archive.query import ManyStudiesError, SeriesFound, StudyFound, StudyQuery
from calvaria.io.archive.transfer import Fetched, Sent, echo, fetch, send

__all__ = [
    "Access",
    "ArchiveAddress",
    "Credentials",
    "Fetched",
    "ManyStudiesError",
    "Outcome",
    "Sent",
    "SeriesFound",
    "StudyFound",
    "StudyQuery",
    "credentials_from",
    "echo",
    "fetch",
    "parse_address",
    "send",
]
