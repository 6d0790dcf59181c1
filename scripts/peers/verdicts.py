"""What the figures of all systems come to: rows with targets, the table of systems, and the conditions under which they hold."""

from __future__ import annotations

from results import shown, systems_lines  # beside the bench

from .downloads import ROUNDS
from .ground import LATENCIES, SMALL_AT, Ground
from .measure import COLD, HOT, PAIRS, PASS_SECONDS, PASS_SHORT, PASSES_MAX, Figure, Measured

OURS = "forebay"
CEILING = "forebay-nginx"
# A first pass with one reader in listing order, and with eight in random order: the lesser of so many times the best peer and this
# part of the best plain downloader.
TIMES_BEST_PEER = {"listing.1": 5.0, "random.8": 1.5}
PART_OF_DOWNLOADER = 0.8
OF_NATIVE = {"hot.small.1": 0.95, "hot.small.4": 0.95, "hot.stat": 0.95, "hot.sequential": 0.95, "hot.random-4k": 0.90}
FIRST = 1.0


def row(name: str, ours: Figure | None, runs: list, baseline: float | None, baseline_name: str, unit: str, ratio: float, target: float) -> dict:
    """`runs` holds [ours, baseline]."""
    baselines = [base for _, base in runs]
    made = {
        "id": f"peers.{name}",
        "ours": ours.value if ours else None,
        "baseline": baseline,
        "baseline_name": baseline_name,
        "unit": unit,
        "ratio": round(ratio, 3),
        "target": target,
        "met": ours is not None and ratio >= target,
        "runs": runs,
    }
    if baselines:
        made["baseline_spread"] = [min(baselines), max(baselines)]
    return made


def best(measured: list[Measured], name: str, key=lambda figure: figure.value) -> tuple[str, Figure] | None:
    """The peer that is first in a row, we aside."""
    found = [(one.name, one.figures[name]) for one in measured if one.name not in (OURS, CEILING) and name in one.figures]
    return max(found, key=lambda pair: key(pair[1])) if found else None


def rows_of(measured: list[Measured], expected: list[str]) -> list[dict]:
    ours = next((one for one in measured if one.name == OURS), Measured(OURS))
    rows = []
    for latency in LATENCIES:
        for name in ["list", *[name for name, _, _ in COLD]]:
            id = f"cold.{name}.{latency}ms"
            if name in TIMES_BEST_PEER:
                rows.append(lesser_row(id, TIMES_BEST_PEER[name], latency, ours.figures.get(id), measured))
            rows += first_row(id, ours.figures.get(id), measured)
    for id, *_ in HOT:
        figure = ours.figures.get(id)
        runs = [list(pair) for pair in zip(figure.runs, figure.native, strict=True)] if figure else []
        native = sorted(figure.native)[len(figure.native) // 2] if figure else None
        ratio = figure.of_native if figure else 0.0
        rows.append(row(id, figure, runs, native, "plain local file system", figure.unit if figure else "", ratio, OF_NATIVE[id]))
        rows += first_of_native_row(id, figure, measured)
    for name in expected:
        rows.append(runs_row(name, next((one for one in measured if one.name == name), Measured(name))))
    return rows


def lesser_row(id: str, times: float, latency: int, ours: Figure | None, measured: list[Measured]) -> dict:
    """Against the lesser of so many times the best peer and a part of the best downloader."""
    limits = []
    if peer := best(measured, id):
        limits.append((times * peer[1].value, f"{times:g} x {peer[0]} ({peer[1].value:,.0f})"))
    if download := best(measured, f"download.{latency}ms"):
        limits.append((PART_OF_DOWNLOADER * download[1].value, f"{PART_OF_DOWNLOADER:g} x {download[0]} ({download[1].value:,.0f})"))
    if not limits:
        return row(id, ours, [], None, "no peer and no downloader was measured", "files/s", 0.0, 1.0)
    baseline, _ = min(limits)
    name = "lesser of " + " and ".join(text for _, text in limits)
    runs = [[value, baseline] for value in ours.runs] if ours else []
    return row(id, ours, runs, baseline, name, "files/s", ours.value / baseline if ours else 0.0, 1.0)


def first_row(id: str, ours: Figure | None, measured: list[Measured]) -> list[dict]:
    """Against the best peer."""
    peer = best(measured, id)
    if peer is None:
        return []
    name, figure = peer
    runs = [[value, figure.value] for value in ours.runs] if ours else []
    ratio = ours.value / figure.value if ours else 0.0
    return [row(f"{id}.first", ours, runs, figure.value, f"best peer: {name}", figure.unit, ratio, FIRST)]


def first_of_native_row(id: str, ours: Figure | None, measured: list[Measured]) -> list[dict]:
    """Against the best peer, by the ratio of each to native in its own turns: native itself swings from minute to minute."""
    peer = best(measured, id, lambda figure: figure.of_native or 0.0)
    if peer is None:
        return []
    name, theirs = peer
    mine = Figure(ours.of_native, "of native", []) if ours else None
    runs = [[ours.of_native, theirs.of_native]] if ours else []
    ratio = ours.of_native / theirs.of_native if ours else 0.0
    return [row(f"{id}.first", mine, runs, theirs.of_native, f"best peer: {name}", "of native", ratio, FIRST)]


def runs_row(name: str, one: Measured) -> dict:
    """Whether a system was measured at all: the part of the rows that it has, and what it said where it has none."""
    part = sum(id in one.figures for id in one.expected) / len(one.expected)
    said = "; ".join(f"{what}: {text}" for what, text in one.failed.items()) or "nothing failed"
    return row(f"runs.{name}", Figure(part, "of its rows", []), [], None, said.replace("|", "/"), "of its rows", part, 1.0)


def systems_table(measured: list[Measured]) -> str:
    return "\n".join(systems_lines([as_json(one) for one in measured]))


def as_json(one: Measured) -> dict:
    figures = {
        id: {"value": figure.value, "unit": figure.unit, "of_native": figure.of_native and round(figure.of_native, 3), "runs": figure.runs}
        for id, figure in one.figures.items()
    }
    return {"name": one.name, **one.about, "seconds": round(one.seconds), "figures": figures, "failed": one.failed}


def conditions(ground: Ground, measured: list[Measured]) -> list[str]:
    """What the figures mean."""
    small, some = ground.folders[SMALL_AT[0]], ground.folders[SMALL_AT[20]]
    lines = [
        f"One `weed` on the same two cores and disk: {small[0]:,} files of {small[1] >> 10} KiB in one folder, read at 0 ms; {some[0]:,} in"
        f" another, read at 20 ms; 4 of {ground.folders['big'][1] >> 20} MiB. 20 ms are put before every request to the origin, by the tests'"
        " proxy; at 0 ms nothing stands between.",
        "Cold: a new process with an empty cache, the kernel's caches dropped, then weed's files read back into them: cold is the reader's"
        " side, not the origin's disk. First up to 400 files of another folder are read by 8 readers (connections stand, a JVM has compiled),"
        f" then the folder is listed (`cold.list`), then each file is read once. After {PASS_SECONDS:g} s a pass ends and counts as far as it"
        f" came. One of less than {PASS_SHORT:g} s is done {PASSES_MAX} times; the median counts.",
        "Hot: everything has been read once and compared byte for byte with the plain files; slices of a second in turns with the plain"
        f" files, median of {PAIRS} pairs. Rows `.first` compare with the best peer, of hot rows by each one's ratio to native.",
        f"Downloaders write the same objects as plain files to the same disk: median of {ROUNDS}.",
    ]
    return lines + [f"{one.name}: {one.about['remark']}" for one in measured if one.about["remark"]]
