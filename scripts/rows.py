"""Rows of a bench: ratios and limits, the table, the file of results, and the verdict with bench/known-losses.toml."""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import platform
import statistics
import subprocess
import sys
import tomllib
from pathlib import Path

from results import shown  # beside this file

ROOT = Path(__file__).resolve().parents[1]


def ratio_row(name: str, runs: list[list[float]], baseline_name: str, target: float, unit: str, higher_is_better: bool) -> dict:
    """`runs` holds [ours, baseline]; the ratio is ours to baseline in speed (or, of bytes, in thrift)."""
    ratios = [ours / base if higher_is_better else base / ours for ours, base in runs]
    ratio = statistics.median(ratios)
    baselines = [base for _, base in runs]
    return {
        "id": name,
        "ours": statistics.median(ours for ours, _ in runs),
        "baseline": statistics.median(baselines),
        "baseline_spread": [min(baselines), max(baselines)],
        "baseline_name": baseline_name,
        "unit": unit,
        "ratio": round(ratio, 3),
        "target": target,
        "met": ratio >= target,
        "runs": runs,
    }


def limit_row(name: str, ours: float, limit: float, unit: str, runs: list[float]) -> dict:
    return {
        "id": name,
        "ours": ours,
        "baseline": None,
        "baseline_name": "limit",
        "unit": unit,
        "ratio": None,
        "target": limit,
        "met": ours < limit,
        "runs": runs,
    }


def machine() -> dict:
    model = "unknown"
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                model = line.partition(":")[2].strip()
                break
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {"cpu": model, "cores": os.cpu_count(), "memory_bytes": memory, "kernel": platform.release()}


def commit() -> str:
    done = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, timeout=10)
    changed = subprocess.run(["git", "status", "--porcelain"], cwd=ROOT, capture_output=True, text=True, timeout=10)
    return done.stdout.strip() + ("-changed" if changed.stdout.strip() else "")


def table(rows: list[dict]) -> str:
    lines = [f"{'row':<32} {'ours':>20} {'baseline':>20} {'ratio':>6} {'target':>10}  met"]
    for row in rows:
        ratio = "-" if row["ratio"] is None else f"{row['ratio']:.2f}"
        target = f">= {row['target']:.2f}" if row["ratio"] is not None else f"< {shown(row['target'], row['unit'])}"
        met = "yes" if row["met"] else "NO"
        ours, base = shown(row["ours"], row["unit"]), shown(row["baseline"], row["unit"])
        lines.append(f"{row['id']:<32} {ours:>20} {base:>20} {ratio:>6} {target:>10}  {met}")
    return "\n".join(lines)


def write(bench: str, rows: list[dict], machine: dict, conditions: list[str], more: dict | None = None) -> Path:
    """Writes bench/results/`bench`.json, and bench/RESULTS.md anew. `conditions` say what the figures mean; `more` stands beside the rows."""
    result = {
        "commit": commit(),
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "machine": machine,
    }
    if conditions:
        result["conditions"] = conditions
    path = ROOT / "bench" / "results" / f"{bench}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result | {"rows": rows} | (more or {}), indent=1) + "\n")
    subprocess.run([sys.executable, str(ROOT / "scripts" / "results.py")], check=True, timeout=30)
    return path


def known_losses() -> dict[str, str]:
    """The reasons of rows that may miss their target. An id belongs to one bench: `store.` to bench-store, `peers.` to bench-peers."""
    path = ROOT / "bench" / "known-losses.toml"
    if not path.exists():
        return {}
    return {loss["id"]: loss["reason"] for loss in tomllib.loads(path.read_text()).get("loss", [])}


def verdict(rows: list[dict]) -> int:
    """Says which rows miss their target. The exit status: 1 if one of them is not known."""
    losses = known_losses()
    unmet = [row["id"] for row in rows if not row["met"]]
    for name in unmet:
        print(f"unmet: {name}: {losses.get(name, 'not in bench/known-losses.toml')}")
    for name in losses:
        if any(row["id"] == name and row["met"] for row in rows):
            print(f"met again: {name}: it can leave bench/known-losses.toml")
    return 1 if any(name not in losses for name in unmet) else 0
