"""What mkdocs is helped with: pages that stand outside docs/, the help of every command, the colours of code.

README, CONTRIBUTING and CHANGELOG stay where a checkout has them, and are pages of the site as well. Links between them
and docs/ are written as they must be in a checkout, and changed here to what they are on the site.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

CHECKOUT = Path(__file__).resolve().parents[2]

OUTSIDE = {"README.md": "readme.md", "CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}
"""Files of the checkout -> pages of the site. (readme: mkdocs takes a README.md for the first page.)"""

HELP_WIDTH = 100
"""Characters: lines of the commands' help fit on the page."""

LINK = re.compile(r"(!?\[[^\]]*\]\()([^)#\s]+)(#[^)\s]*)?(\))")


def on_files(files: Any, config: Any) -> Any:
    """Add the pages that do not stand in docs/, and the numbered decisions to the nav."""
    from mkdocs.structure.files import File

    for source, page in OUTSIDE.items():
        text = (CHECKOUT / source).read_text(encoding="utf-8")
        files.append(File.generated(config, page, content=_from_root(text)))
    files.append(File.generated(config, "LICENSE.txt", abs_src_path=str(CHECKOUT / "LICENSE")))
    files.append(File.generated(config, "commands.md", content=_commands()))
    files.append(File.generated(config, "site/code.css", content=_colours()))
    config.extra_css.append("site/code.css")
    decisions = sorted(file.src_uri for file in files.documentation_pages() if file.src_uri.startswith("decisions/"))
    config.nav[-1]["Decisions"] = decisions
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Turn links that leave docs/ into links to pages of the site, or, into the sources, to plain text."""
    up = "../" * page.file.src_uri.count("/")

    def changed(link: re.Match[str]) -> str:
        begin, target, anchor, end = link[1], link[2], link[3] or "", link[4]
        outside = target.removeprefix(up + "../") if target.startswith(up + "../") else None
        if outside in OUTSIDE:
            return f"{begin}{up}{OUTSIDE[outside]}{anchor}{end}"
        if outside is not None and (CHECKOUT / outside).exists():
            return f"{begin[1:-2]} (`{outside}`)"
        return link[0]

    return _outside_code(markdown, lambda text: LINK.sub(changed, text))


def _from_root(markdown: str) -> str:
    """A page of the checkout's root, its links as they are from the root of the site."""

    def changed(link: re.Match[str]) -> str:
        begin, target, anchor, end = link[1], link[2], link[3] or "", link[4]
        if target == "LICENSE":
            target = "LICENSE.txt"
        target = OUTSIDE.get(target, target.removeprefix("docs/"))
        return f"{begin}{target}{anchor}{end}"

    return _outside_code(markdown, lambda text: LINK.sub(changed, text))


def _outside_code(markdown: str, change: Any) -> str:
    """Change what does not stand between fences."""
    parts = re.split(r"(^```.*?^```$)", markdown, flags=re.MULTILINE | re.DOTALL)
    return "".join(part if part.startswith("```") else change(part) for part in parts)


def _commands() -> str:
    """Every command with the help that it prints."""
    lines = ["# The command line", "", "What `calvaria COMMAND --help` prints.", ""]
    for name, text in _helps():
        lines += [f"## {name}", "", "```text", *(line.rstrip() for line in text.strip().splitlines()), "```", ""]
    return "\n".join(lines)


def _helps() -> Iterator[tuple[str, str]]:
    """(name, help) of the program and each command, groups before their commands."""
    import typer

    from calvaria.cli.app import app

    root = typer.main.get_command(app)
    wide: dict[str, Any] = {"terminal_width": HELP_WIDTH, "max_content_width": HELP_WIDTH}
    yield from _walk(root, root.make_context("calvaria", [], resilient_parsing=True, **wide))


def _walk(command: Any, context: Any) -> Iterator[tuple[str, str]]:
    yield context.command_path, command.get_help(context)
    for name, child in getattr(command, "commands", {}).items():
        yield from _walk(child, type(context)(child, info_name=name, parent=context))


def _colours() -> str:
    """The colours of code, from Pygments."""
    from pygments.formatters import HtmlFormatter

    return str(HtmlFormatter(style="tango").get_style_defs(".highlight"))
