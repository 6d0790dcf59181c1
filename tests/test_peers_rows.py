"""Rows of `make bench-peers`: what a figure is compared with, and that nothing is lost in silence."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).resolve().parents[1] / "scripts"


@pytest.fixture(scope="module")
def verdicts():
    sys.path.insert(0, str(SCRIPTS))
    try:
        from peers import plot, verdicts

        verdicts.plot = plot
        yield verdicts
    finally:
        sys.path.remove(str(SCRIPTS))


def system(verdicts, name: str, kind: str = "mount", failed: dict | None = None, **figures):
    """A system with these figures; `a__b` stands for `a.b`, a pair is value and ratio to native."""
    one = verdicts.Measured(name)
    one.about["kind"] = kind
    one.failed = failed or {}
    for id, value in figures.items():
        value, of_native = value if isinstance(value, tuple) else (value, None)
        native = [value / of_native] if of_native else []
        one.figures[id.replace("__", ".")] = verdicts.Figure(value, "files/s", [value], of_native, native)
    return one


def rows(verdicts, *measured):
    return {row["id"]: row for row in verdicts.rows_of(list(measured), [one.name for one in measured if one.about["kind"] == "mount"])}


@pytest.mark.parametrize(
    ("ours", "peer", "download", "baseline", "met"),
    [
        (1000, 150, 1500, 750, True),  # 5 x the peer is less than 0.8 of the downloader
        (1000, 700, 1500, 1200, False),  # 0.8 of the downloader is less
    ],
)
def test_a_cold_row_is_held_against_the_lesser(verdicts, ours, peer, download, baseline, met):
    made = rows(
        verdicts,
        system(verdicts, "forebay", cold__listing__1__0ms=ours),
        system(verdicts, "slow", cold__listing__1__0ms=peer / 2),
        system(verdicts, "quick", cold__listing__1__0ms=peer),
        system(verdicts, "copy", "download", download__0ms=download),
    )
    row = made["peers.cold.listing.1.0ms"]
    assert (row["baseline"], row["met"]) == (baseline, met)
    assert row["ratio"] == round(ours / baseline, 3)
    assert made["peers.cold.listing.1.0ms.first"]["baseline"] == peer


def test_the_first_of_a_hot_row_goes_by_the_ratio_to_native(verdicts):
    made = rows(
        verdicts,
        system(verdicts, "forebay", hot__stat=(500, 0.9)),
        system(verdicts, "in a kind minute", hot__stat=(900, 0.8)),
    )
    assert made["peers.hot.stat.first"]["met"]
    assert not made["peers.hot.stat"]["met"], "0.9 of native is less than its target"


def test_a_peer_that_does_not_start_is_a_row_with_its_words(verdicts):
    silent = system(verdicts, "rclone", failed={"cold.listing.1.20ms": "fusermount: not found"})
    made = rows(verdicts, system(verdicts, "forebay", hot__stat=(500, 0.9)), silent)
    row = made["peers.runs.rclone"]
    assert not row["met"]
    assert "fusermount: not found" in row["baseline_name"]


def test_our_ceiling_is_no_peer(verdicts):
    made = rows(
        verdicts,
        system(verdicts, "forebay", cold__random__1__0ms=10),
        system(verdicts, "forebay-nginx", cold__random__1__0ms=100),
        system(verdicts, "peer", cold__random__1__0ms=5),
    )
    assert made["peers.cold.random.1.0ms.first"]["baseline"] == 5


def test_the_picture_shows_who_was_not_measured(verdicts):
    measured = [system(verdicts, "forebay", hot__stat=(500, 0.9)), system(verdicts, "rclone")]
    svg = verdicts.plot.picture(measured, "0" * 40)
    assert "0.90 (500)" in svg
    assert "not measured" in svg
