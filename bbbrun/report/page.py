"""REPORT.md and report.html: what a folder of tables and figures holds, in the paper's order, as one page."""

import base64
import html
import re
from pathlib import Path

_STYLE = "body{font:16px/1.5 sans-serif;max-width:60em;margin:2em auto}img{max-width:100%}td,th{padding:.2em .8em}"


def write_page(folder: Path, titles: dict[str, str]) -> None:
    """Write REPORT.md, which links to the figures, and report.html, which holds them, into `folder`.

    titles: of the folders in it, in order.
    """
    sections = {name: folder / name for name in titles if (folder / name).is_dir()}
    text, body = ["# Weight Uncertainty in Neural Networks, reproduced", ""], []
    for name, place in sections.items():
        tables = [path.read_text() for path in sorted(place.glob("*.md"))]
        figures = sorted(place.glob("*.png"))
        text += [f"## {titles[name]}", "", *tables, *(f"![{titles[name]}]({name}/{path.name})\n" for path in figures)]
        body += [f"<h2>{html.escape(titles[name])}</h2>", *map(_table, tables), *map(_image, figures)]
    (folder / "REPORT.md").write_text("\n".join(text))
    head = f"<!doctype html><html lang='en'><meta charset='utf-8'><title>bbbrun</title><style>{_STYLE}</style>"
    (folder / "report.html").write_text("\n".join([head, f"<h1>{text[0][2:]}</h1>", *body, "</html>", ""]))


def _image(path: Path) -> str:
    content = base64.b64encode(path.read_bytes()).decode()
    return f"<img alt='{path.stem}' src='data:image/png;base64,{content}'>"


def _table(text: str) -> str:
    """Our own tables' Markdown: rows between bars, a rule below the head, then paragraphs."""
    lines = [line for line in text.splitlines() if line and not re.fullmatch(r"[|-]+", line)]
    rows = [[html.escape(cell.strip()) for cell in line.strip("|").split("|")] for line in lines if line[0] == "|"]
    marked = [f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows]
    marked[:1] = [line.replace("td>", "th>") for line in marked[:1]]
    paragraphs = [f"<p>{html.escape(line)}</p>" for line in lines if line[0] != "|"]
    return "\n".join(["<table>", *marked, "</table>", *paragraphs])
