"""A head as it is seen before its holes are known: its bone, and its pose."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal, cast

from calvaria.reconstruction.protocol import Engine, Stage
from calvaria.reconstruction.surface import BoneSurface
from calvaria.reconstruction.word import UserWord, held_to, without_ignored
from calvaria.skull.bone import bone_of
from calvaria.skull.canonical import CanonicalFrame, locate
from calvaria.skull.checks import require_adult, require_head_sized
from calvaria.skull.partial import Scan
from calvaria.volume.grid import Box
from calvaria.volume.volume import Volume, bounding_box


@dataclass(frozen=True, eq=False)
class Seen:
    """A skull and its pose.

    Args:
        defective: its bone, on the input's grid.
        skull: the part of that which holds any.
        frame: its canonical frame, found with the holes.
        surface: of the skull; of a CT between its voxels.
        notes: what is doubtful, or was done as the user said; one line each.
        scan: the CT that the bone was segmented out of, where that was the input.
    """

    defective: Volume
    skull: Volume
    frame: CanonicalFrame
    surface: BoneSurface
    notes: tuple[str, ...]
    scan: Scan | None = None


def see(
    volume: Volume,
    completer: Engine,
    stage: Stage,
    *,
    kind: Literal["auto", "mask", "ct"],
    threshold_hu: float | None,
    name: str,
    word: UserWord | None = None,
) -> Seen:
    """The stages bone and pose, while the engine makes itself ready.

    Args:
        volume: a bone mask (two values) or a CT in HU.
        completer: the engine.
        stage: entered with each stage's name.
        kind: what the volume is.
        threshold_hu: bone of a CT ends at it; None: it is found.
        name: of the file or case, for messages.
        word: what the user knows; None: nothing.

    Raises:
        InputError: as :func:`calvaria.pipeline.reconstruct` on the volume.
    """
    word = word or UserWord()
    with ThreadPoolExecutor(1) as beside:
        ready = beside.submit(completer.prepare)
        with stage("bone"):
            segmented = bone_of(volume, kind, threshold_hu, name=name)
            defective, notes = segmented.bone, segmented.notes
            if word.ignore is not None:
                defective, line = without_ignored(defective, word.ignore)
                notes = (*notes, line)
            skull = defective.crop(cast(Box, bounding_box(defective.mask)))  # there is bone
            require_head_sized(skull)
        with stage("pose"):
            frame = locate(skull, completer.template)
            require_adult(frame, defective.grid)
            if word.plane is not None:
                frame, lines = held_to(frame, word.plane)
                notes += lines
            # While the engine is not ready yet; of a CT between its voxels.
            scan = segmented.scan
            fractions = skull
            if scan is not None:
                fractions = scan.fraction(defective, cast(Box, bounding_box(defective.mask, (1, 1, 1))))
            surface = BoneSurface.of(fractions)
            ready.result()
    return Seen(defective, skull, frame, surface, notes, segmented.scan)


__all__ = ["Seen", "see"]
