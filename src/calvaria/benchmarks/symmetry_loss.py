"""How the symmetry loss behaves about the mid-sagittal plane: its basin, its curvature, and what a hole does to it.

::

    python -m calvaria.benchmarks.symmetry_loss --data ROOT --split validation -o FOLDER

Every person's skull is compared with its mirror image about planes that are rotated and shifted away from the
reference: the plane of the least loss of the complete skull. The same planes are evaluated with and without the
official hole, at three blurs within the calvaria, and at the finest blur for the whole head. These windows are boxes
of the plane's frame and move with it. What lies beyond the end of a scan counts as air, as in the published loss.

The table has, for each blur, from how far off the loss still falls towards the reference, its curvature along the
network's three parameters, the condition number of its minimum in these parameters and in others, and how far a hole
moves the minimum. The figure ``symmetry_loss.png`` shows the losses themselves.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from calvaria.benchmarks.cases import OFFICIAL, Task, build, tasks_of
from calvaria.benchmarks.reconstruction import tell
from calvaria.benchmarks.script import run_while_read
from calvaria.errors import InputError, MissingExtraError
from calvaria.files import atomic_path
from calvaria.jobs import Countdown, in_order
from calvaria.report.figures import DOTS_PER_INCH, FAINT, INK, KIND_COLOURS, PANEL_INCHES
from calvaria.skull.canonical import REGION_MM, locate
from calvaria.symmetry.frame import ARMS_MM, coarse_bone, head_frame, numbers_of, plane_of
from calvaria.symmetry.optimise import Comparison, Optimum, optimise, turned
from calvaria.symmetry.plane import Plane
from calvaria.types import F64
from calvaria.volume.sampler import Region
from calvaria.volume.volume import Volume

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


PICTURE = "symmetry_loss.png"
"""Name of the figure in the output folder."""

WHOLE_MM = ((-120.0, 120.0), (-120.0, 120.0), (-150.0, 110.0))
"""A box that holds a head down to the jaw, however its plane is turned."""

MIDDLE_MM = (0.0, 0.0, 20.0)
"""Middle of the vault in the canonical frame: where the distance of two planes is taken."""

STEP_MM = 0.5
"""Second derivatives are taken over planes that move bone by this: well within the finest blur."""

NUDGE = 1e-4
"""Step, in its own unit, by which a parameter is changed to see how its plane rotates: a formula, without noise."""

SKULLS = ("complete", "defective")


class Way(NamedTuple):
    """One direction in which a plane can be off.

    Args:
        name: of the direction.
        unit: of its offsets.
        step: what one unit is to `calvaria.symmetry.optimise.turned`: radians about y and z, mm along x.
        reach: offsets go from minus to plus this, in steps of one unit.
    """

    name: str
    unit: str
    step: tuple[float, float, float]
    reach: int

    @property
    def offsets(self) -> F64:
        """(2 reach + 1,) the offsets, 0 in the middle."""
        return np.arange(-self.reach, self.reach + 1, dtype=np.float64)


WAYS = (
    Way("yaw", "degrees", (0.0, float(np.radians(1.0)), 0.0), 90),
    Way("roll", "degrees", (float(np.radians(1.0)), 0.0, 0.0), 20),
    Way("shift", "mm", (0.0, 0.0, 1.0), 20),
)
"""The plane's three freedoms."""


class View(NamedTuple):
    """Blur and window in which the loss is computed.

    Args:
        window: its name.
        blur_mm: standard deviation of the bone's blur.
        spacing_mm: of the compared points.
        region: box of the plane's frame, symmetric in x.
    """

    window: str
    blur_mm: float
    spacing_mm: float
    region: Region

    @property
    def name(self) -> str:
        """As the table and the figure call it."""
        return f"{self.blur_mm:g} mm, {self.window}"


VIEWS = (
    View("calvaria", 3.0, 4.0, REGION_MM),
    View("calvaria", 8.0, 6.0, REGION_MM),
    View("calvaria", 20.0, 9.0, REGION_MM),
    View("whole head", 3.0, 6.0, WHOLE_MM),
)
"""Blurs and windows that are compared, the finest first."""

ARM_MM = 65.0
"""How far the vault's bone lies from the middle of the head within the plane, root of the mean square."""

CHARTS = ("network", "one arm", "world", "world, mm", "network, evened", "world, evened")
"""Parameters of a plane: the network's three; the same with `ARM_MM` for both of its lever arms; two angles
(radians) of the unit normal with its offset (mm) from the origin of the file's world; these with the angles times
`ARM_MM`, so that all are mm. Evened: each parameter has the unit that makes its own curvature 1; what is left is how
the parameters interact."""


@dataclass(frozen=True, eq=False)
class Behaviour:
    """The loss of one skull in one view.

    Args:
        curves: for each of `WAYS`, the loss at its offsets from the reference.
        least: the loss's own minimum next to the reference.
        curvature: (3,) second derivatives there along the network's parameters: yaw, roll and shift.
        conditions: (6,) condition number of the Hessian there in each of `CHARTS`; infinite where it is no minimum.
    """

    curves: tuple[F64, ...]
    least: Optimum
    curvature: F64
    conditions: F64


@dataclass(frozen=True, eq=False)
class Person:
    """One person's skull with and without its hole.

    Args:
        far_mm: distance of the head's centre from the origin of the file's world.
        skulls: for each of `SKULLS`, the behaviour in each of `VIEWS`.
        moved: (V, 2) for each view, how the hole moves the minimum: degrees, and mm in the middle of the vault.
    """

    far_mm: float
    skulls: tuple[tuple[Behaviour, ...], ...]
    moved: F64


def behaviour(bone: Volume, view: View, to_world: F64, centre_mm: F64) -> Behaviour:
    """How the loss changes when the plane leaves a frame's plane x = 0.

    Args:
        bone: bone fractions of about 2 mm, complete or with holes.
        view: blur and window.
        to_world: (4, 4) frame -> world, rigid: the reference.
        centre_mm: (3,) centre of the head, which the network's parameters refer to.
    """
    level = Comparison.build(bone, view.region, view.blur_mm, view.spacing_mm)
    curves = tuple(
        np.array([level.loss(turned(to_world, offset * np.array(way.step))) for offset in way.offsets]) for way in WAYS
    )
    least = optimise(bone, view.region, [to_world], robust=None, levels=((view.blur_mm, view.spacing_mm),))
    local = hessian(lambda step: level.loss(turned(least.to_world, step)))
    network, one_arm, world, scaled = (j.T @ local @ j for j in jacobians(least.to_world, centre_mm))
    forms = (network, one_arm, world, scaled, evened(network), evened(world))
    return Behaviour(curves, least, np.diag(network).copy(), np.array([condition(form) for form in forms]))


def basin(offsets: F64, losses: F64) -> float:
    """Half-width of the valley about offset 0: from no farther off, on either side, the loss falls all the way.

    Args:
        offsets: (N,) ascending, symmetric about 0.
        losses: (N,) there.

    Returns:
        The largest offset, the narrower side's, from which every step towards 0 goes down, until the valley's floor is
        reached; the end of ``offsets`` if that holds for all.

    >>> basin(np.arange(-4.0, 5.0), np.array([3.0, 4, 2, 1, 0, 1, 2, 3, 2]))
    3.0
    """
    floor = len(offsets) // 2
    while 0 < floor < len(offsets) - 1 and min(losses[floor - 1], losses[floor + 1]) < losses[floor]:
        floor += 1 if losses[floor + 1] < losses[floor - 1] else -1
    left = right = floor
    while left > 0 and losses[left - 1] > losses[left]:
        left -= 1
    while right < len(offsets) - 1 and losses[right + 1] > losses[right]:
        right += 1
    return float(max(0.0, min(-offsets[left], offsets[right])))


def hessian(loss: Callable[[F64], float]) -> F64:
    """(3, 3) second derivatives of a loss by radians about y and z and mm along x, at zero."""
    step = STEP_MM * np.diag([1 / ARM_MM, 1 / ARM_MM, 1.0])
    middle = loss(np.zeros(3))
    out = np.zeros((3, 3))
    for i, one in enumerate(step):
        out[i, i] = (loss(one) - 2 * middle + loss(-one)) / (one @ one)
        for j, other in enumerate(step[:i]):
            cross = loss(one + other) - loss(one - other) - loss(other - one) + loss(-one - other)
            out[i, j] = out[j, i] = cross / (4 * one[i] * other[j])
    return out


def jacobians(to_world: F64, centre_mm: F64) -> list[F64]:
    """(3, 3) radians about y and z and mm along x of a frame by each parameter, for the first four of `CHARTS`.

    Args:
        to_world: (4, 4) frame -> world, rigid, whose plane x = 0 the parameters describe.
        centre_mm: (3,) centre of the head.
    """
    normal = to_world[:3, 0]
    plane = Plane(normal, float(normal @ to_world[:3, 3]))

    def world(numbers: F64) -> Plane:
        return Plane(turned(to_world, [*numbers[:2], 0.0])[:3, 0], float(numbers[2]))

    def scaled(numbers: F64) -> Plane:
        return world(numbers / [ARM_MM, ARM_MM, 1.0])

    offset = np.array([0.0, 0.0, plane.offset_mm])
    network = _jacobian(lambda numbers: plane_of(numbers, centre_mm), numbers_of(plane, centre_mm), to_world)
    one_arm = network @ np.diag([ARMS_MM[0] / ARM_MM, ARMS_MM[1] / ARM_MM, 1.0])
    return [network, one_arm, _jacobian(world, offset, to_world), _jacobian(scaled, offset, to_world)]


def _jacobian(plane_at: Callable[[F64], Plane], here: F64, to_world: F64) -> F64:
    ends = [(here + step, here - step) for step in NUDGE * np.eye(3)]
    columns = [(_step_to(plane_at(a), to_world) - _step_to(plane_at(b), to_world)) / (2 * NUDGE) for a, b in ends]
    return np.stack(columns, axis=1)


def _step_to(plane: Plane, to_world: F64) -> F64:
    """What `turned` needs to bring a frame's plane x = 0 to a plane nearby, to first order."""
    x, y, z = plane.normal @ to_world[:3, :3]
    return np.array([-z / x, y / x, -plane.distance_mm(to_world[:3, 3]) / x])


def evened(form: F64) -> F64:
    """A symmetric matrix with rows and columns scaled until its diagonal is 1; as it is where that is not positive."""
    own = np.diag(form)
    return form / np.sqrt(np.outer(own, own)) if (own > 0).all() else form


def condition(form: F64) -> float:
    """Largest over smallest eigenvalue of a symmetric matrix; infinite if it is not positive."""
    values = np.linalg.eigvalsh(form)
    return float(values[-1] / values[0]) if values[0] > 0 else float("inf")


def person_of(task: Task) -> Person:
    """The loss of one person's skull, with and without the hole of a task.

    Raises:
        InputError: a file is missing or cannot be read, or holds no skull.
    """
    defective, patch = build(task)
    complete = defective.with_data(defective.mask | patch.mask)
    return compared(coarse_bone(complete), coarse_bone(defective), locate(complete).to_world)


def compared(complete: Volume, defective: Volume, to_world: F64) -> Person:
    """The same of bone fractions whose frame is roughly known.

    Args:
        complete: bone fractions of about 2 mm.
        defective: the same with a hole; the grids may differ.
        to_world: (4, 4) canonical frame -> world.
    """
    reference = optimise(complete, REGION_MM, [to_world], robust=None).to_world
    centre = head_frame(complete, np.eye(3))[:3, 3]
    skulls = tuple(tuple(behaviour(bone, view, reference, centre) for view in VIEWS) for bone in (complete, defective))
    middle = reference[:3] @ [*MIDDLE_MM, 1.0]
    pairs = [(one.least.plane, other.least.plane) for one, other in zip(*skulls, strict=True)]
    moved = np.array([(one.angle_deg(other), one.apart_mm(other, middle)) for one, other in pairs])
    return Person(float(np.linalg.norm(centre)), skulls, moved)


def table(persons: Sequence[Person]) -> list[str]:
    """The lines of the table.

    Raises:
        InputError: there is no person.
    """
    if not persons:
        raise InputError("there is no person for the table")
    far = np.array([person.far_mm for person in persons])
    names = f"{'blur, window':<18} {'skull':<10}"
    lines = [
        f"persons: {len(persons)}; from the world's origin to the head's centre: {far.mean():.0f} mm, "
        f"at most {far.max():.0f} mm",
    ]
    ends = ", ".join(f"{way.name} to {way.reach} {way.unit}" for way in WAYS)
    lines += ["", f"half-width of the basin: mean, least (looked at: {ends})"]
    lines += [f"{names} {'SL':>8} " + " ".join(f"{way.name:>14}" for way in WAYS)]
    lines += _rows(persons, _basins)
    lines += ["", "curvature along the network's parameters, mean"]
    lines += [f"{names} " + " ".join(f"{way.name:>8}" for way in WAYS)]
    lines += _rows(persons, _curvatures)
    lines += ["", "condition number of the Hessian at the minimum: median, worst"]
    lines += [f"{names} " + " ".join(f"{name:>15}" for name in CHARTS)]
    lines += _rows(persons, _conditions)
    lines += ["", "the minimum with the hole against that without: mean, sd, worst"]
    lines += [f"{'blur, window':<18} {'degrees':>18} {'mm':>18}"]
    for number, view in enumerate(VIEWS):
        moved = np.array([person.moved[number] for person in persons])
        columns = [f"{part.mean():.2f}  {_sd(part):.2f}  {part.max():.2f}" for part in moved.T]
        lines.append(f"{view.name:<18} " + " ".join(f"{column:>18}" for column in columns))
    return lines


def _rows(persons: Sequence[Person], cells: Callable[[Sequence[Behaviour]], str]) -> list[str]:
    """A line for each skull and view."""
    return [
        f"{view.name:<18} {skull:<10} {cells([person.skulls[row][number] for person in persons])}"
        for row, skull in enumerate(SKULLS)
        for number, view in enumerate(VIEWS)
    ]


def _basins(seen: Sequence[Behaviour]) -> str:
    widths = [[basin(way.offsets, one.curves[n]) for one in seen] for n, way in enumerate(WAYS)]
    cells = " ".join(f"{f'{np.mean(width):.1f} {min(width):5.0f}':>14}" for width in widths)
    return f"{np.mean([one.least.loss for one in seen]):8.4f} {cells}"


def _curvatures(seen: Sequence[Behaviour]) -> str:
    return " ".join(f"{value:8.3f}" for value in np.mean([one.curvature for one in seen], axis=0))


def _conditions(seen: Sequence[Behaviour]) -> str:
    values = np.array([one.conditions for one in seen])
    return " ".join(f"{f'{np.median(part):.3g}  {part.max():.3g}':>15}" for part in values.T)


def _sd(values: F64) -> float:
    return float(values.std(ddof=1)) if len(values) > 1 else 0.0


def draw(persons: Sequence[Person]) -> Figure:
    """The losses: a row for each of `WAYS`, a column for each of `SKULLS`; mean over persons, and the sd as a band.

    Raises:
        InputError: there is no person.
        MissingExtraError: matplotlib is not installed.
    """
    if not persons:
        raise InputError("there is no person to draw")
    figure = _new_figure((2 * PANEL_INCHES[0] * len(SKULLS) * 0.75, PANEL_INCHES[1] * len(WAYS)))
    panels = figure.subplots(len(WAYS), len(SKULLS), sharex="row", sharey="row", squeeze=False)
    for n, way in enumerate(WAYS):
        for row, skull in enumerate(SKULLS):
            curves = [[person.skulls[row][view].curves[n] for person in persons] for view in range(len(VIEWS))]
            _panel(panels[n, row], way, curves)
            if n == 0:
                panels[n, row].set_title(f"{skull} skull", fontsize=8, color=INK)
        panels[n, 0].set_ylabel("symmetry loss", fontsize=7, color=INK)
        panels[n, 0].set_ylim(bottom=0)
    lines = panels[0, 0].get_lines()
    figure.legend(handles=lines, loc="outside lower center", ncols=len(lines), fontsize=7, frameon=False)
    return figure


def _panel(panel: Axes, way: Way, curves: Sequence[Sequence[F64]]) -> None:
    """One way and skull: a line and a band for each view."""
    blurs = list(dict.fromkeys(view.blur_mm for view in VIEWS))
    for view, losses in zip(VIEWS, curves, strict=True):
        colour = KIND_COLOURS[blurs.index(view.blur_mm)]
        mean, sd = np.mean(losses, axis=0), np.array([_sd(column) for column in np.transpose(losses)])
        solid = view.region == REGION_MM
        panel.plot(way.offsets, mean, color=colour, linewidth=1.2, linestyle="-" if solid else "--", label=view.name)
        panel.fill_between(way.offsets, mean - sd, mean + sd, color=colour, alpha=0.18, linewidth=0)
    panel.set_xlabel(f"{way.name}, {way.unit}", fontsize=7, color=INK)
    panel.set_xlim(-way.reach, way.reach)
    panel.tick_params(labelsize=6, color=FAINT)
    panel.spines[["top", "right"]].set_visible(False)
    panel.spines[["left", "bottom"]].set_color(FAINT)
    panel.grid(color=FAINT, linewidth=0.4, alpha=0.6)
    panel.set_axisbelow(True)


def _new_figure(inches: tuple[float, float]) -> Figure:
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError("figures are drawn by matplotlib: pip install 'calvaria[figures]'") from error
    return Figure(inches, dpi=DOTS_PER_INCH, layout="constrained")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run, print the table and write the figure."""
    parser = argparse.ArgumentParser(
        prog="python -m calvaria.benchmarks.symmetry_loss", description="basin and curvature of the symmetry loss"
    )
    parser.add_argument("--data", type=Path, required=True, help="folder of the AutoImplant 2020 set")
    parser.add_argument("--split", default="validation", choices=("test", "validation", "train"))
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder for the figure; made if need be")
    parser.add_argument("--limit", type=int, help="only the first so many persons")
    parser.add_argument("--jobs", type=int, default=1, help="persons at the same time")
    options = parser.parse_args(arguments)
    for name in ("limit", "jobs"):
        value = getattr(options, name)
        if value is not None and value < 1:
            raise InputError(f"--{name} is 1 or more; got {value}")
    tasks = tasks_of(options.data, options.split, (OFFICIAL,), options.limit)
    _new_figure(PANEL_INCHES)  # says at once that matplotlib is missing, not after minutes
    if options.output.exists() and not options.output.is_dir():
        raise InputError(f"{options.output}: a file stands where the folder for the figure should; choose another -o")
    options.output.mkdir(parents=True, exist_ok=True)
    persons, clock = [], Countdown(len(tasks))
    for person in in_order(person_of, tasks, options.jobs):
        persons.append(person)
        tell(f"[{clock.step()}]")
    for line in table(persons):
        tell(line)
    with atomic_path(options.output / PICTURE) as part:
        draw(persons).savefig(part, format="png")
    tell(f"figure: {options.output / PICTURE}")


if __name__ == "__main__":
    sys.exit(run_while_read(main))


__all__ = [
    "ARM_MM",
    "CHARTS",
    "PICTURE",
    "SKULLS",
    "VIEWS",
    "WAYS",
    "Behaviour",
    "Person",
    "View",
    "Way",
    "basin",
    "behaviour",
    "compared",
    "condition",
    "draw",
    "evened",
    "hessian",
    "jacobians",
    "person_of",
    "table",
]
