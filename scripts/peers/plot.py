"""All figures as a picture: a panel a row, a bar a system. SVG that needs nothing but itself."""

from __future__ import annotations

from dataclasses import dataclass
from xml.sax.saxutils import escape

from results import shown  # beside the bench

from .measure import HOT, Figure, Measured, all_ids
from .verdicts import CEILING, OURS

WIDTH = 1260
COLUMNS = 3
PANEL = WIDTH // COLUMNS
BAR, GAP = 13, 3
HEAD, TOP = 26, 78
# Within a panel: names, bars, figures.
NAMES, FIGURES = 96, 104
# Told apart by colour-blind people too (Okabe and Ito).
COLORS = {OURS: "#0072b2", CEILING: "#56b4e9", "native": "#777777", "download": "#009e73"}
PEER = "#e69f00"
LEGEND = [
    ("forebay", COLORS[OURS]),
    ("forebay over nginx", COLORS[CEILING]),
    ("peers", PEER),
    ("plain downloaders", COLORS["download"]),
    ("native", COLORS["native"]),
]
TITLES = {
    "cold.list": "cold: first listing, names/s",
    "cold.listing.1": "cold: 112 KiB files in listing order, 1 reader, files/s",
    "cold.random.1": "cold: in random order, 1 reader, files/s",
    "cold.random.8": "cold: in random order, 8 readers, files/s",
    "hot.small.1": "hot: 112 KiB files, 1 reader, part of native",
    "hot.small.4": "hot: 112 KiB files, 4 readers, part of native",
    "hot.stat": "hot: stat, part of native",
    "hot.sequential": "hot: 256 MiB file from start to end, part of native",
    "hot.random-4k": "hot: 4 KiB at random places of it, part of native",
}
IS_HOT = {name for name, *_ in HOT}


@dataclass
class Bar:
    """One system's length in a panel; None: it was not measured."""

    name: str
    length: float | None
    words: str
    color: str


def title(id: str) -> str:
    base, _, latency = id.rpartition(".")
    return TITLES[id] if id in IS_HOT else f"{TITLES[base]}, origin +{latency.removesuffix('ms')} ms"


def bars_of(id: str, measured: list[Measured]) -> list[Bar]:
    """The longest first. Hot rows are drawn as what they are measured as: parts of native in the same minute."""
    bars = []
    for one in measured:
        figure: Figure | None = one.figures.get(id)
        color = COLORS.get(one.name, PEER)
        if one.about["kind"] == "download":
            is_read = id.startswith(("cold.listing", "cold.random"))
            figure = one.figures.get(f"download.{id.rpartition('.')[2]}") if is_read else None
            color = COLORS["download"]
            if figure is None:
                continue
        if figure is None and id not in one.expected:
            continue
        if figure is None:
            bars.append(Bar(one.name, None, "not measured", color))
        elif figure.of_native is not None:
            bars.append(Bar(one.name, figure.of_native, f"{figure.of_native:.2f} ({short(figure)})", color))
        else:
            bars.append(Bar(one.name, figure.value, f"{figure.value:,.0f}", color))
    if id in IS_HOT:
        bars.append(Bar("native", 1.0, "1", COLORS["native"]))
    return sorted(bars, key=lambda bar: -(bar.length or 0.0))


def short(figure: Figure) -> str:
    return shown(figure.value, figure.unit).removesuffix(figure.unit).strip()


def text(x: float, y: float, words: str, more: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" {more}>{escape(words)}</text>'


def panel(id: str, measured: list[Measured], left: float, top: float) -> list[str]:
    bars = bars_of(id, measured)
    most = max((bar.length or 0.0 for bar in bars), default=0.0) or 1.0
    out = [text(left + 8, top + 16, title(id), 'font-weight="bold"')]
    for place, bar in enumerate(bars):
        y = top + HEAD + place * (BAR + GAP)
        weight = 'font-weight="bold"' if bar.name == OURS else ""
        out.append(text(left + NAMES - 6, y + 11, bar.name, f'text-anchor="end" {weight}'))
        if bar.length is None:
            out.append(text(left + NAMES, y + 11, bar.words, 'fill="#d55e00"'))
            continue
        width = max(1.0, bar.length / most * (PANEL - NAMES - FIGURES))
        out.append(f'<rect x="{left + NAMES}" y="{y}" width="{width:.1f}" height="{BAR}" fill="{bar.color}"/>')
        out.append(text(left + NAMES + width + 5, y + 11, bar.words, weight))
    return out


def picture(measured: list[Measured], commit: str) -> str:
    ids = all_ids()
    height = HEAD + (len(measured) + 1) * (BAR + GAP) + 12
    lines = (len(ids) + COLUMNS - 1) // COLUMNS
    total = TOP + lines * height
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {total}" width="{WIDTH}" height="{total}"'
        ' font-family="sans-serif" font-size="11">',
        '<rect width="100%" height="100%" fill="white"/>',
        text(8, 24, "Forebay and its peers over one origin", 'font-size="16" font-weight="bold"'),
        text(8, 42, f"make bench-peers, commit {commit[:12]}; longer is better; each panel has a scale of its own", 'fill="#555555"'),
    ]
    for place, (name, color) in enumerate(LEGEND):
        x = 8 + 150 * place
        out.append(f'<rect x="{x}" y="52" width="12" height="12" fill="{color}"/>')
        out.append(text(x + 17, 62, name))
    for place, id in enumerate(ids):
        out += panel(id, measured, (place % COLUMNS) * PANEL, TOP + (place // COLUMNS) * height)
    return "\n".join([*out, "</svg>", ""])
