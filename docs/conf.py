"""Configuration of the documentation site: `make docs` builds docs/ with Sphinx, where each warning is an error.

Pages are the Markdown files of docs/, which read well without the site too. Before each build three are generated: the
commands, from their `--help`, the fields of a recipe, and the report of the registry's measured ablations, from their
records.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
from pathlib import Path
from typing import Any

os.environ.setdefault("TERMINAL_WIDTH", "100")  # typer's help texts

from sphinx.errors import ExtensionError

from cifar_lab import __version__
from cifar_lab.cli import run
from cifar_lab.cli.app import GROUPS

DOCS = Path(__file__).parent
project, author, release = "cifar-lab", "cifar-lab developers", __version__
copyright = "2026, cifar-lab developers"
html_title = f"cifar-lab {release}"
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
default_role = "code"
exclude_patterns = ["_build", "conf.py", "jupyter_execute", "results/ablations", "notebooks/runs"]
html_extra_path = ["site/registry-report.html"]
html_static_path = ["static"]
html_css_files = ["tables.css"]
html_theme = "furo"
html_theme_options = {"navigation_with_keys": True}
nb_custom_formats = {".py": ["jupytext.reads", {"fmt": "py:percent"}]}
nb_execution_mode = os.environ.get("CIFAR_LAB_DOCS_EXECUTE", "off")
"""`off`: notebooks are shown without output. `make docs` executes them; `make check` does not."""
nb_execution_timeout = 600
nb_merge_streams = True
nb_execution_in_temp = True
nb_execution_cache_path = str(DOCS / "_build" / ".jupyter_cache")
"""Notebooks leave their files in temporary folders, and their outputs beside the pages."""
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 4
suppress_warnings = ["mystnb.unknown_mime_type"]
autodoc_preserve_defaults = True
autodoc_typehints = "signature"
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True, "show-inheritance": False}
OUTSIDE = {"CONTRIBUTING.md": "contributing", "CHANGELOG.md": "changelog", "docker/README.md": "containers"}
"""Files outside docs/ that are pages of the site, in docs/site/."""
LINK = re.compile(r"(?<!!)\[([^\]]*)\]\((?!https?:|#)([^)#]+)(#[^)]*)?\)")


def _help_of(command: str) -> str:
    """Return what `cifar-lab COMMAND --help` prints."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        run([*command.split(), "--help"])
    return printed.getvalue().rstrip()


def _write_commands() -> None:
    lines = ["# Commands", "", "Each command with its arguments and options, as `--help` prints them."]
    for title, commands in GROUPS.items():
        lines += ["", f"## {title}"]
        for name in commands:
            lines += ["", f"### {name}", "", "```text", _help_of(name), "```"]
    _write("commands-reference.md", lines)


def _write_recipe_fields() -> None:
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        run(["describe", "recipe"])
    intro = "Fields of a recipe with defaults and ranges, as `cifar-lab describe recipe` prints them."
    _write("recipe-reference.md", ["# Recipe fields", "", intro, "", "```text", printed.getvalue().rstrip(), "```"])


def _write_report() -> None:
    report = DOCS / "site" / "registry-report.html"
    with contextlib.redirect_stdout(io.StringIO()):
        code = run(["report", "--all", "--runs", str(DOCS / "results" / "registry.zip"), "-o", str(report)])
    if code:
        raise ExtensionError(f"the registry's report was not written: exit code {code}")


def _write_outside() -> None:
    for path, name in OUTSIDE.items():
        file = DOCS.parent / path
        _write(f"{name}.md", [_relinked(file.read_text(), file.parent, DOCS / "site")])


def _write(name: str, lines: list[str]) -> None:
    """Write a generated page if it changed, so that Sphinx reads it again only then."""
    path, text = DOCS / "site" / name, "\n".join([*lines, ""])
    if not path.exists() or path.read_text() != text:
        path.write_text(text)


def _generate(app: Any, config: Any) -> None:  # noqa: ARG001
    os.environ["COLUMNS"] = "100"
    _write_commands()
    _write_recipe_fields()
    _write_report()
    _write_outside()


def _relinked(text: str, base: Path, folder: Path) -> str:
    """Return Markdown from `base` for a page in `folder`: links to files that are no part of the site become words."""

    def target(match: re.Match[str]) -> str:
        words, path, anchor = match.groups()
        file = (base / path).resolve()
        outside = str(file.relative_to(DOCS.parent)) if file.is_relative_to(DOCS.parent) else path
        if outside in OUTSIDE:
            file = DOCS / "site" / f"{OUTSIDE[outside]}.md"
        elif not file.is_relative_to(DOCS) or (file.is_dir() and not (file / "README.md").exists()):
            return words if outside in words else f"{words} (`{outside}`)"
        if file.is_dir():
            file /= "README.md"
        return f"[{words}]({os.path.relpath(file, folder)}{anchor or ''})"

    return LINK.sub(target, text)


def _follow_links(app: Any, page: str, source: list[str]) -> None:  # noqa: ARG001
    """Point the links of a page of docs/ to where the site has their files."""
    if not page.startswith("site/"):
        folder = (DOCS / page).parent
        source[0] = _relinked(source[0], folder, folder)


def setup(app: Any) -> None:
    """Register what runs before the pages are read."""
    app.connect("config-inited", _generate)
    app.connect("source-read", _follow_links)
