"""REPORT.md and report.html: a verdict, then all tables and figures of a report on one page, in the paper's order."""

import base64
import html
import itertools
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from bbbrun.errors import UserError
from bbbrun.report.judge import ITEMS, judge
from bbbrun.report.opening import opening
from bbbrun.report.published.paper import claims
from bbbrun.report.sections import against_paper, provenance, runs_table

TITLE = "Weight Uncertainty in Neural Networks, reproduced"
COMPARED = "Runs compared"
EVALUATED = "Trained networks, evaluated"
SEARCH = "Search"
_VERDICTS = {"pass": "pass", "miss": "miss", "better": "pass", "equivalent": "pass", "worse": "miss"}  # cell -> class
_HEAD = "<!doctype html><html lang='en'><meta charset='utf-8'><meta name='viewport' content='width=device-width'>"
_STYLE = """
:root{color-scheme:light dark}
body{font:16px/1.5 sans-serif;max-width:60em;margin:2em auto;padding:0 1em}
img{max-width:100%;height:auto;background:#fff}
.wide{overflow-x:auto;margin:1em 0;width:max-content;max-width:min(100vw - 2em,50vw + 28em)}
table{border-collapse:collapse;font-size:.9em}
td,th{padding:.25em .7em;text-align:left;vertical-align:top}
td+td{white-space:nowrap}
td:first-child{min-width:9em}
tr+tr{border-top:1px solid light-dark(#ddd,#444)}
.pass{background:light-dark(#d8f0dc,#1d4a28)}
.miss{background:light-dark(#fadcd9,#6b211c)}
summary{cursor:pointer}
"""


def require_replaceable(folder: Path, tables: Mapping[str, tuple[str, ...]] | None = None) -> None:
    """Raise UserError where a page in `folder`, or one of `tables`, would replace a file that is not bbbrun's.

    tables: what bbbrun's own files may begin with, by their names.
    """
    titles = tuple(f"# {title}\n" for title in (TITLE, COMPARED, EVALUATED, SEARCH))
    for name, beginnings in {"REPORT.md": titles, "report.html": (_HEAD,), **(tables or {})}.items():
        path = folder / name
        text = ""
        if path.is_file():
            with path.open(encoding="utf-8", errors="replace") as file:
                text = file.read(max(map(len, beginnings)))
        if text and not text.startswith(beginnings):
            raise UserError(f"{path} is there, and is not bbbrun's: move it, or name another folder by --output")


def write_page(
    folder: Path,
    titles: dict[str, str],
    tried: Iterable[Path] = (),
    title: str = TITLE,
    paragraphs: list[str] | None = None,
) -> None:
    """Write REPORT.md, which links to the figures, and report.html, which contains them, into `folder`.

    Both begin with `paragraphs`, by default the verdict and the compute; below each item stand its numbers against the
    paper's, and, folded away, the runs it shows. titles: by the names of the folders in it, in order. A folder that is
    missing has no section. tried: folders with other reports, whose runs count as tried.
    """
    sections = {name: folder / name for name in titles if (folder / name).is_dir()}
    verdicts = judge(folder, [item for item in ITEMS if item in sections], claims().to_dict("records"))
    parts = opening(verdicts, sections.values(), tried) if paragraphs is None else paragraphs
    text = [f"# {title}", "", *(f"{part}\n" for part in parts)]
    body = [f"<h1>{title}</h1>", *map(_html, parts)]
    for name, section in sections.items():
        tables = [path.read_text("utf-8") for path in sorted(section.glob("*.md"))]
        if name in ITEMS and (paper := against_paper(verdicts[verdicts["item"] == name])):
            tables.append(paper)
        figures = sorted(section.glob("*.png"))
        text += [f"## {titles[name]}", "", *tables, *(f"![{titles[name]}]({name}/{path.name})\n" for path in figures)]
        body += [f"<h2>{html.escape(titles[name])}</h2>", *map(_html, tables), *map(_image, figures)]
        if len(runs := runs_table(section)):
            summary, table = provenance(runs)
            text.append(f"<details><summary>{summary}</summary>\n\n{table}\n</details>\n")
            body.append(f"<details><summary>{html.escape(summary)}</summary>{_html(table)}</details>")
    (folder / "REPORT.md").write_text("\n".join(text), "utf-8")
    head = f"{_HEAD}<title>bbbrun</title><style>{_STYLE}</style>"
    (folder / "report.html").write_text("\n".join([head, *body, "</html>", ""]), "utf-8")


def _image(path: Path) -> str:
    content = base64.b64encode(path.read_bytes()).decode()
    return f"<img alt='{path.stem}' src='data:image/png;base64,{content}'>"


def _html(text: str) -> str:
    """HTML of a report's own Markdown: tables, each a run of lines that begin with a bar, and paragraphs."""
    parts = []
    for is_table, lines in itertools.groupby(text.splitlines(), key=lambda line: line.startswith("|")):
        block = list(filter(None, lines))
        parts += [_table(block)] if is_table else [f"<p>{html.escape(line)}</p>" for line in block]
    return "\n".join(parts)


def _table(lines: list[str]) -> str:
    """A table with a head, a rule below it and rows."""
    texts = [line for line in lines if not re.fullmatch(r"[|-]+", line)]
    cells = [line.strip("|").split("|") for line in texts]
    rows = [f"<tr>{''.join(map(_cell, row))}</tr>" for row in cells]
    rows[:1] = [line.replace("td>", "th>") for line in rows[:1]]
    return "\n".join(["<div class='wide'><table>", *rows, "</table></div>"])


def _cell(text: str) -> str:
    text = text.strip()
    verdict = f" class='{_VERDICTS[text]}'" if text in _VERDICTS else ""
    return f"<td{verdict}>{html.escape(text)}</td>"
