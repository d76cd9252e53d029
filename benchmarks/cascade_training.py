"""The whole training of the cascade within a budget, in pieces: cases, the paper's four models, and their tables.

::

    python benchmarks/cascade_training.py --data autoimplant2020 --folder cascade --budget 360 --minutes 60
    python benchmarks/cascade_training.py --data autoimplant2020 --folder cascade --commands

The first makes an hour's piece of a training of six hours; the same call again goes on, until all is done. How many
steps a model takes is settled when its turn comes, by a dry run, so that it fills its share of the budget; that stands
in FOLDER/plan.json, and a later call keeps to it. The second prints the commands and runs none. What this project adds
is trained and measured by ``--models behind-prior`` and ``--models bare with-plane with-soft with-prior with-doubt``.

On a GPU that is lent for minutes, all that needs none is done before: ``--until cases`` here, then there, with FOLDER
carried over, ``--device cuda --budget 9 --minutes 9 --models multi-branch --precision bf16-mixed``. Cases at 0.8 mm
take about 0.2 MB each; --count says how many there are of each branch.
"""

from __future__ import annotations

import argparse
import json
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from calvaria.benchmarks.script import run_while_read

SHARES = {"multi-branch": 0.4, "patch": 0.2, "rescaled": 0.2, "implant": 0.2}
"""Of the budget, by the names that `calvaria benchmark cascade` has beside the paper's rows."""

BARE = ("--form", "cascade", "--branch", "patch", "--mirror", "flip", "--targets", "hard")

OTHERS = {
    "behind-prior": ("--form", "behind-prior", "--branch", "both"),
    "bare": BARE,
    "with-plane": (*BARE, "--mirror", "plane"),
    "with-soft": (*BARE, "--targets", "soft"),
    "with-prior": (*BARE, "--prior"),
    "with-doubt": (*BARE, "--prior", "--doubt"),
}
"""Models that are trained where they are named: the fine network behind the shape prior, and what this project adds to
the paper's patch model, each alone (the doubt goes with the prior). Each counts as a fifth of the budget."""

KEPT = {"behind-prior": "behind", "rescaled": "matched", **dict.fromkeys(OTHERS.keys() - {"behind-prior"}, "doubt")}
"""Whose cases are others than those of "plain"."""

PROBE_STEPS = 1000
"""Of a dry run."""

INTERVAL = 100
"""Steps between two validations: a training has a whole number of such."""

MARGIN = 0.9
"""Of a share that steps are to fill: weights are written, and a busy machine is slower."""

GONE_ON = 130
"""The exit code of a command that was interrupted: it goes on when it is called again."""


def main(words: Sequence[str] | None = None) -> int:
    """Run what is left, or print it; 0: all is done, 130: the time is over before."""
    options = _parser().parse_args(words)
    steps = [*preparations(options), *([] if options.until == "cases" else trainings(options))]
    if options.until == "tables":
        steps += tables(options)
    if options.commands:
        for command in steps:
            say(shlex.join(["calvaria", *command]))
        return 0
    options.folder.mkdir(parents=True, exist_ok=True)
    end = time.monotonic() + 60 * options.minutes
    for command in steps:
        code = run(_planned(command, options), end)
        if code:
            return code
    say("all is done")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    add = parser.add_argument
    add("--data", type=Path, required=True, help="the AutoImplant 2020 (SkullFix) set")
    add("--folder", type=Path, required=True, help="where everything lies; a later call goes on from it")
    add("--budget", type=float, default=360.0, help="minutes of training, of all models together")
    add("--minutes", type=float, default=60.0, help="of this call, all that it does")
    add("--models", nargs="+", choices=[*SHARES, *OTHERS], default=list(SHARES), help="that are trained")
    add("--steps", type=int, help="of each model, whatever the budget says")
    add("--warmup", type=int, default=100, help="steps until the learning rate is at its highest")
    add("--until", choices=("cases", "models", "tables"), default="tables", help="the last thing that is done")
    add("--population", type=Path, help="population.json that skulls are rescaled to (K4); else none is rescaled")
    add("--form", default="cascade", help="cascade or cascade-published")
    add("--prior", action="store_true", help="show both networks the shape prior's answer")
    add("--count", type=int, default=150, help="cases of each branch")
    add("--watched", type=int, default=20, help="validation cases of each branch")
    add("--window", type=int, default=64, help="voxels along a window's edge")
    add("--precision", default="32-true", help="32-true or bf16-mixed")
    add("--device", default="cpu", help="cpu or cuda")
    add("--jobs", type=int, default=2, help="processes that make cases")
    add("--commands", action="store_true", help="print what would be run")
    return parser


def say(line: str) -> None:
    """A line at once."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def preparations(options: argparse.Namespace) -> list[list[str]]:
    """The cache, and implants of the persons that may be learned from or watched."""
    home, data = options.folder, str(options.data)
    learned = ["--side", "train", "--side", "validation", "--ct-share", "0"]
    return [
        ["data", "cache", data, "-o", str(home / "fine.safetensors"), "--refine", "2", "--jobs", str(options.jobs)],
        _simulated(options, home / "simulated", learned, 68),
        ["data", "import-clinical", str(home / "simulated" / "cases.csv"), "-o", str(home / "clinical")],
    ]


def _simulated(options: argparse.Namespace, output: Path, words: Sequence[str], count: int) -> list[str]:
    match = [] if options.population is None else ["--match", str(options.population)]
    base = ["data", "simulate-clinical", "--data", str(options.data), "-o", str(output), "--count", str(count)]
    return [*base, *words, *match]


def weights_of(options: argparse.Namespace) -> dict[str, Path]:
    """Where the weights of each model lie."""
    names = [name for name in options.models if name != "rescaled" or options.population is not None]
    return {name: options.folder / f"{name}.safetensors" for name in names}


def share_of(name: str) -> float:
    """Of the budget, before it is divided by the sum of all."""
    return SHARES.get(name, 0.2)


def trainings(options: argparse.Namespace) -> list[list[str]]:
    """A training for each model; cases are shared by all that can."""
    home, commands = options.folder, []
    for name, output in weights_of(options).items():
        branch = {"implant": "implant", "multi-branch": "both"}.get(name, "patch")
        matched = name in {"rescaled", "multi-branch"} and options.population is not None
        kept = "matched" if matched else KEPT.get(name, "plain")
        words = ["train", "cascade", "--cache", str(home / "fine.safetensors"), "-o", str(output)]
        words += ["--clinical", str(home / "clinical")] if branch != "patch" or name == "behind-prior" else []
        words += ["--match", str(options.population)] if matched else []
        words += ["--kept-cases", str(home / f"cases-{kept}"), "--work", str(home / name)]
        own = ["--branch", branch, "--form", options.form, *(["--prior"] if options.prior else [])]
        words += OTHERS.get(name, own)
        words += ["--count", str(options.count), "--window", str(options.window), "--jobs", str(options.jobs)]
        words += ["--validation-cases", str(options.watched), "--batch", "4", "--precision", options.precision]
        words += ["--warmup", str(options.warmup), "--device", options.device]
        commands.append(words)
    return commands


def tables(options: argparse.Namespace) -> list[list[str]]:
    """Cases of test persons, and what all models make of them."""
    home = options.folder
    named = [f"--weights={name}={path}" for name, path in weights_of(options).items()]
    seen = ["--side", "test", "--ct-share", "0", "--patch-share", "1"]
    bench = ["benchmark", "cascade", "--clinical", str(home / "clinical-test"), "--data", str(options.data)]
    return [
        _simulated(options, home / "simulated-test", seen, 15),
        ["data", "import-clinical", str(home / "simulated-test" / "cases.csv"), "-o", str(home / "clinical-test")],
        [*bench, *named, "-o", str(home / "cascade.csv"), "--jobs", str(options.jobs)],
    ]


def _planned(command: list[str], options: argparse.Namespace) -> list[str]:
    """A training with its number of steps, found once; anything else as it is."""
    if command[:2] != ["train", "cascade"]:
        return command
    if options.steps is not None:
        return [*command, "--steps", str(options.steps)]
    name, file = Path(command[command.index("-o") + 1]).stem, options.folder / "plan.json"
    plan = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    if name not in plan:
        told = json.loads(output_of([*command, "--steps", str(PROBE_STEPS), "--dry-run", "--json"]))
        share = share_of(name) / sum(map(share_of, weights_of(options)))
        steps = PROBE_STEPS * MARGIN * share * options.budget / told["minutes"]
        plan[name] = INTERVAL * max(1, round(steps / INTERVAL))
        file.write_text(json.dumps(plan, indent=1) + "\n", encoding="utf-8")
    return [*command, "--steps", str(plan[name])]


def output_of(command: list[str]) -> str:
    """What a command prints."""
    return subprocess.run(_calvaria(command), check=True, capture_output=True, text=True).stdout


def run(command: list[str], end: float) -> int:
    """Run a command until the time is over, when it is interrupted: it goes on at the next call."""
    say(shlex.join(["calvaria", *command]))
    left = end - time.monotonic()
    if left <= 0:
        return _over()
    if command[0] == "train":
        command = [*command, "--minutes", f"{left / 60:.2f}"]
    with subprocess.Popen(_calvaria(command)) as process:
        try:
            # A training ends by itself, with its state kept.
            code = process.wait(timeout=left + (120 if command[0] == "train" else 0))
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGINT)
            process.wait()
            return _over()
    if not code and command[0] == "train" and not Path(command[command.index("-o") + 1]).exists():
        return _over()
    return code


def _over() -> int:
    say("the time is over: the same call goes on")
    return GONE_ON


def _calvaria(command: list[str]) -> list[str]:
    return [sys.executable, "-m", "calvaria.cli", *command]


if __name__ == "__main__":
    sys.exit(run_while_read(main))
