"""How the files of each set lie, and the cases that they make.

The names of the top folders differ between copies of a set, so a reader looks for what it can recognise and takes what
is present; files that belong to no case are named by `calvaria.datasets.check`. What the readers know::

    AutoImplant 2020, SkullFix   training_set/{complete_skull,implant,defective_skull}/NNN.nrrd   -> "train-NNN"
                                 test_set_for_participants/NNN.nrrd                               -> "test-NNN"
                                 additional_test_set_for_participants/NNN.nrrd                    -> "additional-NNN"
    SkullBreak                   [SIDE/]complete_skull/[KIND/]NNN.nrrd
                                 [SIDE/]{defective_skull,implant}/KIND/NNN.nrrd                   -> "train-NNN/KIND"
    AutoImplant 2021             Task1 (SkullBreak), Task2/*.nrrd, Task3 (SkullFix)               -> "task1/...", ...
    MUG500+                      **/A0001/A0001.nrrd, **/B0001/{B0001.nrrd,B0001_implant.stl}     -> "A0001", "B0001"
    folders                      {complete,defective,patch,implant}/NAME.*                        -> "NAME"
                                 or NAME/{complete,defective,patch,implant}.*
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from calvaria.errors import InputError

SAME_PERSON_AUTOIMPLANT2020: tuple[tuple[str, ...], ...] = (
    ("train-000", "train-052"),
    ("train-011", "train-042", "test-040", "test-065", "test-092"),
    ("train-018", "test-003"),
)
"""Cases of AutoImplant 2020 that show one person, found by rigid overlap of all pairs: Dice at least 0.958 within
these groups, at most 0.869 between any two other cases."""

SAME_PERSON_ADDITIONAL: tuple[tuple[str, ...], ...] = (
    ("test-090", "additional-100"),
    ("train-011", "additional-104"),
    ("test-093", "additional-106"),
    ("test-094", "additional-108"),
)
"""Cases of the additional test folder that show a person of the other folders; found in the same way."""

TRAINING_FOLDERS = ("training_set", "training", "train")
TEST_FOLDERS = ("test_set_for_participants", "test_set_give_participants", "test_set", "testing", "test")
"""Spellings of the two folders that copies of the set carry, the official ones first; any case of the letters."""
ADDITIONAL_FOLDERS = ("additional_test_set_for_participants", "additional_test_set_give_participants")

SKULLBREAK_KINDS = ("bilateral", "frontoorbital", "parietotemporal", "random_1", "random_2")
SKULLBREAK_TEST_FOLDERS = ("test", "testing", "test_set", "testset2021", "skullbreak_test", "skullbreak_testing")
"""A folder so called (or one below it) holds the test side; every other folder the training side."""

DEEPEST = 3
"""Folders below the root that are searched: archives are often unpacked into a folder of their own."""

IMAGES = (".nii.gz", ".nii", ".nrrd", ".nhdr", ".mha", ".mhd")
MESHES = (".stl", ".ply", ".obj")


@dataclass(frozen=True)
class SkullCase:
    """One case of a set: who it is and which files there are.

    Args:
        id: name within the set, such as "train-000" or "train-000/bilateral".
        person: the id of the person's first skull; equal for all cases of one person.
        complete: mask of the complete skull, None where the truth is not public.
        patch: mask of the missing bone (the sets' "implant"), or None.
        defective: mask of the defective skull, or None; where it is missing, it is complete minus patch.
        kind: the kind of defect; "official" where a set has only one, "clinical" where a surgeon made it, "none" for
            a healthy skull.
        implant: mask or mesh of what was made to be put in (clinical sets), or None.
    """

    id: str
    person: str
    complete: Path | None = None
    patch: Path | None = None
    defective: Path | None = None
    kind: str = "official"
    implant: Path | None = None

    @property
    def files(self) -> dict[str, Path]:
        """What there is: "complete", "patch", "defective", "implant" -> file."""
        named = {"complete": self.complete, "patch": self.patch, "defective": self.defective, "implant": self.implant}
        return {role: path for role, path in named.items() if path is not None}


def skull_name(case: SkullCase) -> str:
    """The id without the kind of defect: equal for the defects that were cut from one skull.

    >>> skull_name(SkullCase("train-007/random_1", "train-007", kind="random_1"))
    'train-007'
    """
    return case.id.removesuffix(f"/{case.kind}")


def person_of(case_id: str, groups: tuple[tuple[str, ...], ...] = SAME_PERSON_AUTOIMPLANT2020) -> str:
    """The person a case shows: the first id of its group, or its own id when it is in none.

    >>> person_of("test-065"), person_of("train-001")
    ('train-011', 'train-001')
    """
    return next((group[0] for group in groups if case_id in group), case_id)


def autoimplant2020(root: str | Path) -> list[SkullCase]:
    """Every case of the AutoImplant 2020 set (SkullFix) in a folder.

    Args:
        root: the folder that holds ``training_set``, its parent, or a folder that holds ``complete_skull``.

    Returns:
        Training cases, then test cases, then those of the additional test folder, each by number. A training case
        without its complete skull is left out.

    Raises:
        InputError: the folder is missing, or no skull lies where one is expected.
    """
    for folder in _tree(Path(root), 1):
        cases = [*_autoimplant_training(folder), *_autoimplant_tests(folder)]
        if cases:
            return cases
    raise InputError(
        f"{root}: no AutoImplant 2020 skull found; give the folder that holds training_set/complete_skull/NNN.nrrd"
    )


def skullbreak(root: str | Path) -> list[SkullCase]:
    """Every case of SkullBreak in a folder: one a skull and kind of defect.

    Args:
        root: the folder that holds ``defective_skull``, or one above it that holds several such (a training and a test
            side); see `SKULLBREAK_TEST_FOLDERS`.

    Returns:
        By side, number and kind. Complete skulls may lie in one folder or in one a kind. A kind is any folder of
        ``defective_skull`` or ``implant``.

    Raises:
        InputError: the folder is missing, or there is no kind of defect with a skull.
    """
    cases = [case for folder in _tree(Path(root), DEEPEST - 1) for case in _skullbreak_side(folder, Path(root))]
    if not cases:
        raise InputError(
            f"{root}: no SkullBreak skull found; give the folder that holds defective_skull/KIND/NNN.nrrd "
            f"with kinds such as {', '.join(SKULLBREAK_KINDS)}"
        )
    return sorted(cases, key=lambda case: (not case.id.startswith("train"), case.id))


def autoimplant2021(root: str | Path) -> list[SkullCase]:
    """Every case of the three tasks of AutoImplant 2021 that are in a folder.

    Args:
        root: the folder that holds ``Task1`` (SkullBreak), ``Task2`` (clinical defective skulls) or ``Task3``
            (SkullFix); any of them may be missing.

    Returns:
        The cases of each task, their ids and persons with "task1/", "task2/" or "task3/" before them.

    Raises:
        InputError: the folder is missing, or there is no task with a skull.
    """
    readers = {1: skullbreak, 2: _task2, 3: autoimplant2020}
    cases: list[SkullCase] = []
    for task, reader in readers.items():
        for folder in _folders(Path(root)):
            if re.fullmatch(rf"task[ _-]?{task}\b.*", folder.name.lower()):
                prefix = f"task{task}/"
                cases += [replace(c, id=prefix + c.id, person=prefix + c.person) for c in reader(folder)]
    if not cases:
        raise InputError(f"{root}: no AutoImplant 2021 skull found; give the folder that holds Task1, Task2 or Task3")
    return cases


def mug500(root: str | Path) -> list[SkullCase]:
    """Every case of MUG500+ in a folder: healthy skulls (A0001 ...) and craniotomies with their implants (B0001 ...).

    Args:
        root: any folder above the cases' folders, or one that holds all images in one place.

    Returns:
        By id; a case whose image is missing has no file. An id that lies in two places comes twice.

    Raises:
        InputError: the folder is missing, or nothing in it is called like a case.
    """
    found: dict[tuple[str, Path], SkullCase] = {}
    for folder in _tree(Path(root), DEEPEST):
        images = _images(folder)
        names = [name for name in images if re.fullmatch(r"[AB]\d{4}", name)]
        if re.fullmatch(r"[AB]\d{4}", folder.name) and not names:
            names = [folder.name]
        for name in names:
            if name.startswith("A"):
                found[name, folder] = SkullCase(name, name, complete=images.get(name), kind="none")
            else:
                implant = _meshes(folder).get(f"{name}_implant")
                found[name, folder] = SkullCase(name, name, None, None, images.get(name), "clinical", implant)
    if not found:
        raise InputError(f"{root}: no MUG500+ skull found; give a folder above those called A0001 or B0001")
    return [found[key] for key in sorted(found)]


ROLES = {
    "complete": ("complete", "complete_skull", "complete_skulls"),
    "defective": ("defective", "defective_skull", "defective_skulls"),
    "patch": ("patch", "patches"),
    "implant": ("implant", "implants"),
}
"""What a file or folder of a plain folder of cases may be called."""


def folders(root: str | Path) -> list[SkullCase]:
    """Cases of one's own: a folder a kind of file, or a folder a case.

    Args:
        root: holds ``complete``, ``defective``, ``patch`` and ``implant`` (any of them), each with a file ``NAME.*`` a
            case; or a folder ``NAME`` a case, with files of those names. ``complete_skull`` and ``defective_skull`` are
            understood too. As in the public sets, ``implant`` beside complete skulls and without ``patch`` means the
            missing bone, so it is read as the patch.

    Returns:
        By name; of kind "clinical". The person is the case, unless its folder has a ``case.json`` with "person".

    Raises:
        InputError: the folder is missing, or there is no such file.
    """
    root = Path(root)
    by_role = {role: _images(path) | _meshes(path) for role, path in _role_folders(root).items()}
    names = sorted({name for files in by_role.values() for name in files})
    cases = [_clinical(name, name, {r: files[name] for r, files in by_role.items() if name in files}) for name in names]
    if not cases:
        cases = [case for folder in _folders(root) if (case := _case_folder(folder)) is not None]
    if not cases:
        raise InputError(
            f"{root}: no case found; wanted folders complete, defective, patch or implant with a file a case, "
            "or a folder a case with files of these names"
        )
    return cases


def _autoimplant_training(root: Path) -> list[SkullCase]:
    named = _child(root, TRAINING_FOLDERS)
    training = named or root
    complete, implant, defective = (_images(training / n) for n in ("complete_skull", "implant", "defective_skull"))
    if named is None:  # anybody's folder may hold a complete_skull; the set's names are numbers
        complete = {n: path for n, path in complete.items() if re.fullmatch(r"\d{3}", n)}
    return [
        SkullCase(f"train-{n}", person_of(f"train-{n}"), path, implant.get(n), defective.get(n))
        for n, path in complete.items()
    ]


def _autoimplant_tests(root: Path) -> list[SkullCase]:
    groups = SAME_PERSON_AUTOIMPLANT2020 + SAME_PERSON_ADDITIONAL
    cases: list[SkullCase] = []
    for side, names in (("test", TEST_FOLDERS), ("additional", ADDITIONAL_FOLDERS)):
        folder = _child(root, names)
        if folder is not None:
            found = _images(folder) or _images(folder / "defective_skull")
            ids = {f"{side}-{n}": path for n, path in found.items()}
            cases += [SkullCase(name, person_of(name, groups), None, None, path) for name, path in ids.items()]
    return cases


def _skullbreak_side(folder: Path, root: Path) -> Iterator[SkullCase]:
    """The cases of one folder that holds ``defective_skull`` or ``implant`` with a folder a kind."""
    defective, implant = folder / "defective_skull", folder / "implant"
    kinds = sorted({path.name for parent in (defective, implant) for path in _folders(parent) if _images(path)})
    above = [part.lower() for part in (root.absolute().name, *folder.relative_to(root).parts)]
    side = "test" if any(name in SKULLBREAK_TEST_FOLDERS for name in above) else "train"
    whole = _images(folder / "complete_skull")
    for kind in kinds:
        complete = whole | _images(folder / "complete_skull" / kind)
        holed, missing = _images(defective / kind), _images(implant / kind)
        for n in sorted(holed.keys() | missing.keys()):
            person = f"{side}-{n}"
            yield SkullCase(f"{person}/{kind}", person, complete.get(n), missing.get(n), holed.get(n), kind)


def _task2(root: Path) -> list[SkullCase]:
    folder = root if _images(root) else _child(root, TEST_FOLDERS) or root
    return [SkullCase(n, n, None, None, path, "clinical") for n, path in _images(folder).items()]


def _role_folders(root: Path) -> dict[str, Path]:
    found = {role: path for role, names in ROLES.items() if (path := _child(root, names)) is not None}
    if "complete" in found and "implant" in found and "patch" not in found:
        found["patch"] = found.pop("implant")
    return found


def _case_folder(folder: Path) -> SkullCase | None:
    """The case of a folder of its own; None if there is no file of a known name in it."""
    there = _meshes(folder) | _images(folder)
    files = {role: there[name] for role, names in ROLES.items() for name in names if name in there}
    if not files:
        return None
    if "complete" in files and "implant" in files and "patch" not in files:
        files["patch"] = files.pop("implant")
    return _clinical(folder.name, _person(folder), files)


def _clinical(name: str, person: str, files: dict[str, Path]) -> SkullCase:
    return SkullCase(name, person, kind="clinical", **files)


def _person(folder: Path) -> str:
    record = folder / "case.json"
    if not record.is_file():
        return folder.name
    try:
        person = json.loads(record.read_text(encoding="utf-8")).get("person")
    except (ValueError, AttributeError) as error:
        raise InputError(f"{folder.name}/case.json: not a JSON object: {error}; mend it or take it away") from None
    return str(person) if person else folder.name


def _folders(root: Path) -> list[Path]:
    """Subfolders by name, hidden ones left out; none where there is no such folder."""
    return sorted(p for p in root.iterdir() if p.is_dir() and not p.name.startswith(".")) if root.is_dir() else []


def _tree(root: Path, depth: int) -> Iterator[Path]:
    """A folder and those below it, down to ``depth``."""
    if root.is_dir():
        yield root
        if depth > 0:
            for folder in _folders(root):
                yield from _tree(folder, depth - 1)


def _child(root: Path, names: tuple[str, ...]) -> Path | None:
    """The first of the named subfolders that is there, whatever the case of its letters."""
    there = {folder.name.lower(): folder for folder in _folders(root)}
    return next((there[name] for name in names if name in there), None)


def _images(folder: Path) -> dict[str, Path]:
    """Images of a folder by their names without the suffix; of two with one name the first by suffix."""
    return _files(folder, IMAGES)


def _meshes(folder: Path) -> dict[str, Path]:
    return _files(folder, MESHES)


def _files(folder: Path, suffixes: tuple[str, ...]) -> dict[str, Path]:
    found: dict[str, Path] = {}
    if folder.is_dir():
        for path in sorted(folder.iterdir()):
            suffix = next((s for s in suffixes if path.name.lower().endswith(s)), None)
            if suffix and not path.name.startswith("."):
                found.setdefault(path.name[: -len(suffix)], path)
    return found


__all__ = [
    "SAME_PERSON_ADDITIONAL",
    "SAME_PERSON_AUTOIMPLANT2020",
    "SKULLBREAK_KINDS",
    "TEST_FOLDERS",
    "SkullCase",
    "autoimplant2020",
    "autoimplant2021",
    "folders",
    "mug500",
    "person_of",
    "skull_name",
    "skullbreak",
]
