#!/usr/bin/env python3
"""Writes bench/RESULTS.md from bench/results/*.json."""

from __future__ import annotations

import json
from pathlib import Path

BENCH = Path(__file__).resolve().parents[1] / "bench"
HEAD = """# Results

Generated from `bench/results/*.json` by `scripts/results.py`; do not edit. Ratios are of speeds measured in turns in one run on one
machine: above 1 is faster than the baseline. The spread is the baseline's lowest and highest slice.
"""


def shown(value, unit: str) -> str:
    if value is None:
        return "-"
    if unit == "bytes/s":
        return f"{value / 1e9:.2f} GB/s"
    if unit == "bytes":
        return f"{value / (1 << 20):.0f} MiB"
    if unit == "seconds":
        return f"{value:.2f} s"
    # Small figures have their digits behind the point.
    return f"{value:,.{0 if value >= 100 else 1 if value >= 10 else 2 if value >= 1 else 3}f} {unit}"


def systems_lines(systems: list[dict]) -> list[str]:
    """A table of all systems of `make bench-peers`: a line a row, a column a system. The first in a row is bold."""
    ids = list(dict.fromkeys(id for system in systems for id in system["figures"]))
    lines = ["| row | " + " | ".join(system["name"] for system in systems) + " |", "|---" * (len(systems) + 1) + "|"]
    for id in ids:
        figures = [system["figures"].get(id) for system in systems]
        values = [(figure["of_native"] or figure["value"]) if figure else 0.0 for figure in figures]
        cells = []
        for figure, value in zip(figures, values, strict=True):
            cell = "-" if figure is None else shown(figure["value"], figure["unit"])
            if figure and figure["of_native"]:
                cell += f" ({figure['of_native']:.2f})"
            cells.append(f"**{cell}**" if value and value == max(values) else cell)
        lines.append(f"| {id} | " + " | ".join(cells) + " |")
    return lines


def systems_section(systems: list[dict]) -> list[str]:
    """All systems: figures, settings, and what those said that were not measured whole."""
    lines = ["", "All systems (hot rows: ratio to native in its own turns in brackets):", "", *systems_lines(systems), ""]
    for system in systems:
        lines.append(f"- {system['version']}: " + " · ".join(f"`{line}`" for line in system["settings"]))
        lines += [f"- {system['name']}, {what}, not measured: {said}" for what, said in system["failed"].items()]
    return lines


def section(path: Path) -> str:
    result = json.loads(path.read_text())
    machine = result.get("machine", {})
    memory = machine.get("memory_bytes", 0) / (1 << 30)
    lines = [
        f"## {path.stem}",
        "",
        f"{result.get('date', '')}, commit `{result.get('commit', '')[:12]}`, {machine.get('cores')} cores"
        f" ({machine.get('cpu')}), {memory:.0f} GiB, Linux {machine.get('kernel')}.",
        "",
        *[f"- {condition}" for condition in result.get("conditions", [])],
        *([""] if result.get("conditions") else []),
        "| row | ours | baseline | spread | ratio | target | met |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in result["rows"]:
        unit = row.get("unit", "")
        spread = row.get("baseline_spread")
        between = f"{shown(spread[0], unit)} - {shown(spread[1], unit)}" if spread else ""
        ratio = "" if row["ratio"] is None else f"{row['ratio']:.2f}"
        target = f"< {shown(row['target'], unit)}" if row["ratio"] is None else f">= {row['target']}"
        met = "yes" if row["met"] else "**no**"
        base = f"{shown(row['baseline'], unit)} ({row['baseline_name']})" if row["baseline"] is not None else ""
        # A row without a figure to compare with, which has something to say.
        if row["baseline"] is None and row["ratio"] is not None:
            base = row["baseline_name"]
        lines.append(f"| {row['id']} | {shown(row['ours'], unit)} | {base} | {between} | {ratio} | {target} | {met} |")
    if "systems" in result:
        lines += systems_section(result["systems"])
    return "\n".join(lines) + "\n"


def main():
    parts = [HEAD]
    for path in sorted((BENCH / "results").glob("*.json")):
        if "rows" in json.loads(path.read_text()):
            parts.append(section(path))
    (BENCH / "RESULTS.md").write_text("\n".join(parts))


if __name__ == "__main__":
    main()
