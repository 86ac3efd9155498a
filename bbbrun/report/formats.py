"""The check's verdicts for other programs: JSON, and the XML of JUnit that CI systems show as tests."""

import json
import math
from xml.etree import ElementTree

import pandas as pd


def as_json(table: pd.DataFrame) -> str:
    """{"counts": {verdict: number}, "rows": [{column: value}]}; a missing number is null."""
    rows = [{name: plain_value(value) for name, value in row.items()} for row in table.to_dict("records")]
    counts = {name: int((table["verdict"] == name).sum()) for name in ("pass", "miss", "not run")}
    return json.dumps({"counts": counts, "rows": rows}, indent=1, allow_nan=False) + "\n"


def as_junit(table: pd.DataFrame) -> str:
    """A test case for each row: a miss is a failure, a row that was not run an error; neither passes the check."""
    verdicts = table["verdict"]
    counts = {"tests": len(table), "failures": (verdicts == "miss").sum(), "errors": (verdicts == "not run").sum()}
    suites = ElementTree.Element("testsuites")
    attributes = {name: str(count) for name, count in counts.items()}
    suite = ElementTree.SubElement(suites, "testsuite", {"name": "bbbrun check", **attributes})
    for row in table.to_dict("records"):
        cells = {str(name): value for name, value in row.items() if plain_value(value) not in (None, "")}
        names = [str(value) for name, value in cells.items() if isinstance(value, str) and name != "verdict"]
        # The first word names the run or item, the others its number.
        case = {"classname": (names or ["check"])[0], "name": ", ".join(names[1:]) or "run"}
        element = ElementTree.SubElement(suite, "testcase", case)
        if row["verdict"] != "pass":
            text = ", ".join(f"{name} {value}" for name, value in cells.items())
            ElementTree.SubElement(element, "failure" if row["verdict"] == "miss" else "error", {"message": text})
    ElementTree.indent(suites)
    return ElementTree.tostring(suites, encoding="unicode", xml_declaration=True) + "\n"


def plain_value(value: object) -> object:
    """The value for JSON: numpy's numbers as Python's, a number that is not finite as null."""
    value = value.item() if hasattr(value, "item") else value
    return None if value is None or (isinstance(value, float) and not math.isfinite(value)) else value
