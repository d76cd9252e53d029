"""``calvaria data``: what trains and tests: public sets, splits, defects, clinical tables, the training cache."""

from __future__ import annotations

import typer

from calvaria.cli.data import (
    cache,
    check,
    duplicates,
    fetch,
    import_clinical,
    list_,
    make_defects,
    simulate_clinical,
    split,
)

EXAMPLES = """\b
Examples:
  calvaria data check autoimplant2020
  calvaria data make-defects autoimplant2020/training_set/complete_skull -o defects
  calvaria data cache autoimplant2020 -o coarse.safetensors
"""
"""Shown below the options by --help; ``\\b`` is typer's mark for "keep these line breaks"."""

app = typer.Typer(
    help="Public sets, splits, synthetic defects, clinical cases, the training cache.",
    epilog=EXAMPLES,
    no_args_is_help=True,
    rich_markup_mode=None,
)

# In the order of the work: what there is, whether it is whole, who is who; then what is made from it.
app.command("list", epilog=list_.EXAMPLES)(list_.list_)
app.command("fetch", epilog=fetch.EXAMPLES)(fetch.fetch)
app.command("check", epilog=check.EXAMPLES)(check.check)
app.command("duplicates", epilog=duplicates.EXAMPLES)(duplicates.duplicates)
app.command("split", epilog=split.EXAMPLES)(split.split)
app.command("make-defects", epilog=make_defects.EXAMPLES)(make_defects.make_defects)
app.command("import-clinical", epilog=import_clinical.EXAMPLES)(import_clinical.import_clinical)
app.command("simulate-clinical", epilog=simulate_clinical.EXAMPLES)(simulate_clinical.simulate_clinical)
app.command("cache", epilog=cache.EXAMPLES)(cache.cache)
app.command("deformations", epilog=cache.DEFORMATION_EXAMPLES)(cache.deformations)


@app.callback()
def _group() -> None:
    """Public sets, splits, synthetic defects, clinical cases, the training cache."""


__all__ = ["app"]
