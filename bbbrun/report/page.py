"""REPORT.md and report.html: a verdict, then all tables and figures of a report on one page, in the paper's order."""

import base64
import html
import re
from pathlib import Path

from bbbrun.report.opening import opening

_STYLE = "body{font:16px/1.5 sans-serif;max-width:60em;margin:2em auto}img{max-width:100%}td,th{padding:.2em .8em}"


def write_page(folder: Path, titles: dict[str, str]) -> None:
    """Write REPORT.md, which links to the figures, and report.html, which contains them, into `folder`.

    Both begin with the verdict and the compute. titles: by the names of the folders in it, in order. A folder that is
    missing has no section.
    """
    sections = {name: folder / name for name in titles if (folder / name).is_dir()}
    verdict = opening(folder)
    text = ["# Weight Uncertainty in Neural Networks, reproduced", "", *(f"{paragraph}\n" for paragraph in verdict)]
    body = [f"<p>{html.escape(paragraph)}</p>" for paragraph in verdict]
    for name, section in sections.items():
        tables = [path.read_text("utf-8") for path in sorted(section.glob("*.md"))]
        figures = sorted(section.glob("*.png"))
        text += [f"## {titles[name]}", "", *tables, *(f"![{titles[name]}]({name}/{path.name})\n" for path in figures)]
        body += [f"<h2>{html.escape(titles[name])}</h2>", *map(_table, tables), *map(_image, figures)]
    (folder / "REPORT.md").write_text("\n".join(text), "utf-8")
    head = f"<!doctype html><html lang='en'><meta charset='utf-8'><title>bbbrun</title><style>{_STYLE}</style>"
    (folder / "report.html").write_text("\n".join([head, f"<h1>{text[0][2:]}</h1>", *body, "</html>", ""]), "utf-8")


def _image(path: Path) -> str:
    content = base64.b64encode(path.read_bytes()).decode()
    return f"<img alt='{path.stem}' src='data:image/png;base64,{content}'>"


def _table(text: str) -> str:
    """HTML of a report's own Markdown: rows between bars, a rule below the head, then paragraphs."""
    lines = [line for line in text.splitlines() if line and not re.fullmatch(r"[|-]+", line)]
    cells = [[html.escape(cell.strip()) for cell in line.strip("|").split("|")] for line in lines if line[0] == "|"]
    rows = [f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in cells]
    rows[:1] = [line.replace("td>", "th>") for line in rows[:1]]
    paragraphs = [f"<p>{html.escape(line)}</p>" for line in lines if line[0] != "|"]
    return "\n".join(["<table>", *rows, "</table>", *paragraphs])
