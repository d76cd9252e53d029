"""What arrives, file by file: held against what was asked; then a folder or a zip that is whole or not there."""

from __future__ import annotations

import tempfile
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from calvaria.errors import FormatError, InputError
from calvaria.files import atomic_folder, atomic_path, require_writable_file
from calvaria.io.archive.query import SeriesFound
from calvaria.io.dicom.headers import DEFLATED
from calvaria.io.dicom.places import DICM, MAX_FILE_BYTES, MAX_FILES, MAX_UNPACKED_BYTES

INCOMING = "incoming"
"""Name of the file that is arriving."""


@dataclass
class Staging:
    """Files of one study.

    Args:
        name: of the archive, for messages.
        study_uid: what all of them must belong to.
        announced: of each series that was asked for: the instances that the archive says it has; empty where it does
            not say which.
        incoming: folder for what is not yet complete.
        keep: takes a complete file away: its path, and the name it gets in the study.
        arrived: of each series: instances that came.
        size_bytes: of all that came.
        told: called after each.
    """

    name: str
    study_uid: str = field(repr=False)
    announced: Mapping[SeriesFound, frozenset[str]] = field(repr=False)
    incoming: Path
    keep: Callable[[Path, str], None] = field(repr=False)
    arrived: dict[str, set[str]] = field(default_factory=dict, repr=False)
    size_bytes: int = 0
    told: Callable[[], None] = lambda: None

    def __post_init__(self) -> None:
        count = sum(self.wanted(one) for one in self.announced)
        if count > MAX_FILES:
            raise InputError(f"{self.name}: announces {count} slices, at most {MAX_FILES} are taken; give --series")
        self.arrived = {one.uid: set() for one in self.announced}

    def wanted(self, series: SeriesFound) -> int:
        """How many instances of a series were announced; 0 where the archive does not say."""
        return max(series.slices or 0, len(self.announced[series]))

    @property
    def files(self) -> int:
        """How many came."""
        return sum(map(len, self.arrived.values()))

    def room(self) -> int:
        """Bytes that one more file may have."""
        return max(0, min(MAX_FILE_BYTES, MAX_UNPACKED_BYTES - self.size_bytes))

    def take_pieces(self, pieces: Iterable[bytes]) -> None:
        """One file, in pieces.

        Raises:
            FormatError: it is no DICOM file, or too large.
            InputError: it belongs to something else, or the disk refuses.
        """
        path, left = self.incoming / INCOMING, self.room()
        with path.open("wb") as file:
            for piece in pieces:
                left -= len(piece)
                if left < 0:
                    raise self.too_much()
                file.write(piece)
        self.take(path)

    def take(self, path: Path) -> None:
        """One file that lies in the folder for what arrives.

        Raises:
            FormatError: it is no DICOM file, or too large.
            InputError: it belongs to something else.
        """
        size = path.stat().st_size
        if size > self.room() or self.files >= MAX_FILES:
            raise self.too_much()
        study, series, instance = _uids(path, self.name)
        if study != self.study_uid or series not in self.arrived:
            raise InputError(
                f"{self.name}: sent a slice of another study or series than was asked for; nothing is kept"
            )
        if instance in self.arrived[series]:  # a second try sends all of a series again
            path.unlink()
            return
        place = list(self.arrived).index(series) + 1
        self.keep(path, f"series-{place:02d}/{len(self.arrived[series]) + 1:05d}.dcm")
        self.arrived[series].add(instance)
        self.size_bytes += size
        self.told()

    def too_much(self) -> FormatError:
        """More came than is taken."""
        return FormatError(
            f"{self.name}: sends more than {MAX_UNPACKED_BYTES >> 30} GB or {MAX_FILES} files "
            f"({MAX_FILE_BYTES >> 30} GB a file), which is no study of a head; nothing is kept"
        )

    def require_whole(self) -> None:
        """Raise where fewer came than were announced.

        Raises:
            InputError: with the counts.
        """
        short = []
        for series in self.announced:
            came, wanted = len(self.arrived[series.uid]), self.wanted(series)
            lacking = self.announced[series] - self.arrived[series.uid]
            if came < wanted or lacking or not came:
                short.append(f"{series.label}: {came - (len(lacking) if came >= wanted else 0)} of {max(wanted, 1)}")
        if short:
            raise InputError(
                f"{self.name}: sent fewer slices than it announced ({'; '.join(short)}); nothing is kept: "
                "try again, or ask who runs it"
            )


def _uids(path: Path, name: str) -> tuple[str, str, str]:
    """Study, series and instance of a file.

    Raises:
        FormatError: it is no DICOM file, or has none.
    """
    from pydicom import dcmread

    tags = ["StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"]
    with path.open("rb") as file:
        head = file.read(1024)
    if head[128:132] != DICM or DEFLATED in head:
        what = "a deflated file, which is not read" if DEFLATED in head else "what is no DICOM file"
        raise FormatError(f"{name}: sent {what}; nothing is kept")
    try:
        found = dcmread(path, stop_before_pixels=True, specific_tags=tags)
        return str(found.StudyInstanceUID), str(found.SeriesInstanceUID), str(found.SOPInstanceUID)
    except Exception:  # pydicom raises many kinds for damage, some with values of the header in them
        raise FormatError(f"{name}: sent a damaged DICOM file; nothing is kept") from None


def require_target(out: Path) -> None:
    """Make sure, before anything is asked, that a study can be written there.

    Raises:
        InputError: it is a folder with something in it, or cannot be written.
    """
    if is_zip_name(out):
        require_writable_file(out, parents=False)
        return
    if out.is_dir() and any(out.iterdir()):
        raise InputError(f"{out}: is there and not empty; give a new folder, or a name that ends in .zip, with -o")
    if out.exists() and not out.is_dir():
        raise InputError(f"{out}: is a file; give a folder, or a name that ends in .zip, with -o")
    require_writable_file(out / "study", parents=True)
    if not out.absolute().parent.is_dir():
        raise InputError(f"{out}: cannot be written: the folder {out.parent} does not exist")


def is_zip_name(out: Path) -> bool:
    """Whether a study is to be written as a zip.

    >>> is_zip_name(Path("a.ZIP")), is_zip_name(Path("a"))
    (True, False)
    """
    return out.suffix.lower() == ".zip"


@contextmanager
def staged(out: Path) -> Iterator[tuple[Path, Callable[[Path, str], None]]]:
    """A folder for what arrives, and a function that adds a complete file to ``out``, which appears at the end.

    Raises:
        InputError: the disk refuses.
    """
    parent = out.absolute().parent
    if not is_zip_name(out):
        with atomic_folder(out) as part, tempfile.TemporaryDirectory(prefix=".calvaria-", dir=parent) as incoming:

            def move(path: Path, name: str) -> None:
                (part / name).parent.mkdir(exist_ok=True)
                path.replace(part / name)

            yield Path(incoming), move
        return
    with (
        tempfile.TemporaryDirectory(prefix=".calvaria-", dir=parent) as incoming,
        atomic_path(out) as part,
        zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
    ):

        def add(path: Path, name: str) -> None:
            archive.write(path, name)
            path.unlink()

        yield Path(incoming), add


__all__ = ["Staging", "is_zip_name", "require_target", "staged"]
