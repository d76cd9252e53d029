"""What lies in a folder of public skulls: cases, the files they have, and which of them show one person.

The AutoImplant 2020 set (later SkullFix) is laid out as::

    ROOT/training_set/complete_skull/NNN.nrrd        -> case "train-NNN"
    ROOT/training_set/implant/NNN.nrrd                  the removed bone; here: the patch
    ROOT/training_set/defective_skull/NNN.nrrd          complete minus implant; optional
    ROOT/test_set_for_participants/NNN.nrrd          -> case "test-NNN", defective only, truth not public
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from calvaria.errors import InputError

SAME_PERSON_AUTOIMPLANT2020: tuple[tuple[str, ...], ...] = (
    ("train-000", "train-052"),
    ("train-011", "train-042", "test-040", "test-065", "test-092"),
    ("train-018", "test-003"),
)
"""Cases of AutoImplant 2020 that show one person, found by rigid overlap of all pairs: Dice at least 0.958 within
these groups, at most 0.869 between any two other cases."""

TEST_FOLDERS = ("test_set_for_participants", "test_set_give_participants")
"""Both spellings of the test folder that copies of the set carry."""


@dataclass(frozen=True)
class SkullCase:
    """One case of a set: who it is and which files there are.

    Args:
        id: name within the set, such as "train-000" or "test-003".
        person: the id of the person's first case; equal for all cases of one person.
        complete: mask of the complete skull, None where the truth is not public.
        patch: mask of the missing bone (the sets' "implant"), or None.
        defective: mask of the defective skull, or None; where it is missing, it is complete minus patch.
        kind: the kind of defect; "official" where a set has only one.
        implant: mask or mesh of what was made to be put in (clinical sets), or None.
    """

    id: str
    person: str
    complete: Path | None = None
    patch: Path | None = None
    defective: Path | None = None
    kind: str = "official"
    implant: Path | None = None


def person_of(case_id: str, groups: tuple[tuple[str, ...], ...] = SAME_PERSON_AUTOIMPLANT2020) -> str:
    """The person a case shows: the first id of its group, or its own id when it is in none.

    >>> person_of("test-065"), person_of("train-001")
    ('train-011', 'train-001')
    """
    return next((group[0] for group in groups if case_id in group), case_id)


def autoimplant2020(root: str | Path) -> list[SkullCase]:
    """Every case of the AutoImplant 2020 set in a folder.

    Args:
        root: the folder that holds ``training_set``.

    Returns:
        Training cases, then test cases, each by number. A training case without its complete skull is left out.

    Raises:
        InputError: the folder is missing, or no skull lies where one is expected.
    """
    root = Path(root)
    training = root / "training_set"
    complete, implant, defective = (_files(training / n) for n in ("complete_skull", "implant", "defective_skull"))
    cases = [
        SkullCase(f"train-{n}", person_of(f"train-{n}"), path, implant.get(n), defective.get(n))
        for n, path in complete.items()
    ]
    found = next((root / name for name in TEST_FOLDERS if (root / name).is_dir()), root / TEST_FOLDERS[0])
    cases += [SkullCase(f"test-{n}", person_of(f"test-{n}"), None, None, path) for n, path in _files(found).items()]
    if not cases:
        raise InputError(
            f"{root}: no AutoImplant 2020 skull found; give the folder that holds training_set/complete_skull/NNN.nrrd"
        )
    return cases


def _files(folder: Path) -> dict[str, Path]:
    """NRRD files of a folder by the part of their name before the dot; empty when there is no such folder."""
    return {path.stem: path for path in sorted(folder.glob("*.nrrd"))} if folder.is_dir() else {}


__all__ = ["SAME_PERSON_AUTOIMPLANT2020", "TEST_FOLDERS", "SkullCase", "autoimplant2020", "person_of"]
