"""All figures as a picture: a panel a row, a bar a system. SVG that needs nothing but itself."""

from __future__ import annotations

from xml.sax.saxutils import escape

from .measure import HOT, Figure, Measured, all_ids
from .verdicts import CEILING, OURS

WIDTH = 1260
COLUMNS = 3
PANEL = WIDTH // COLUMNS
BAR, GAP = 13, 3
HEAD, TOP = 26, 78
# Within a panel: names, bars, figures.
NAMES, FIGURES = 96, 92
# Told apart by colour-blind people too (Okabe and Ito).
COLORS = {OURS: "#0072b2", CEILING: "#56b4e9", "native": "#777777", "download": "#009e73"}
PEER = "#e69f00"
TITLES = {
    "cold.list": "cold: first listing, names/s",
    "cold.listing.1": "cold: 112 KiB files in listing order, 1 reader, files/s",
    "cold.random.1": "cold: in random order, 1 reader, files/s",
    "cold.random.8": "cold: in random order, 8 readers, files/s",
    "hot.small.1": "hot: 112 KiB files, 1 reader, files/s",
    "hot.small.4": "hot: 112 KiB files, 4 readers, files/s",
    "hot.stat": "hot: stat, calls/s",
    "hot.sequential": "hot: 256 MiB file from start to end, MB/s",
    "hot.random-4k": "hot: 4 KiB at random places of it, reads/s",
}


def title(id: str) -> str:
    base, _, latency = id.rpartition(".")
    return TITLES[id] if id in TITLES else f"{TITLES[base]}, origin +{latency.removesuffix('ms')} ms"


def bars_of(id: str, measured: list[Measured]) -> list[tuple[str, float | None, str]]:
    """Name, value (None: not measured) and color, in the order of drawing."""
    scale = 1e-6 if id == "hot.sequential" else 1.0
    bars = []
    latency = id.rpartition(".")[2]
    for one in measured:
        figure: Figure | None = one.figures.get(id)
        if one.about["kind"] == "download":
            files = id.startswith(("cold.listing", "cold.random"))
            figure = one.figures.get(f"download.{latency}") if files else None
            if figure is None:
                continue
        color = COLORS["download"] if one.about["kind"] == "download" else COLORS.get(one.name, PEER)
        bars.append((one.name, figure.value * scale if figure else None, color))
    if any(id == name for name, *_ in HOT):
        natives = sorted(value for one in measured if id in one.figures for value in one.figures[id].native)
        if natives:
            bars.append(("native", natives[len(natives) // 2] * scale, COLORS["native"]))
    return sorted(bars, key=lambda bar: -(bar[1] or 0.0))


def text(x: float, y: float, words: str, more: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" {more}>{escape(words)}</text>'


def panel(id: str, measured: list[Measured], left: float, top: float) -> list[str]:
    bars = bars_of(id, measured)
    most = max((value or 0.0 for _, value, _ in bars), default=0.0) or 1.0
    room = PANEL - NAMES - FIGURES
    out = [text(left + 8, top + 16, title(id), 'font-weight="bold"')]
    for place, (name, value, color) in enumerate(bars):
        y = top + HEAD + place * (BAR + GAP)
        weight = ' font-weight="bold"' if name == OURS else ""
        out.append(text(left + NAMES - 6, y + 11, name, f'text-anchor="end"{weight}'))
        if value is None:
            out.append(text(left + NAMES, y + 11, "not measured", 'fill="#d55e00"'))
            continue
        width = max(1.0, value / most * room)
        shown = f"{value:,.0f}"
        out.append(f'<rect x="{left + NAMES}" y="{y}" width="{width:.1f}" height="{BAR}" fill="{color}"><title>{name}: {shown}</title></rect>')
        out.append(text(left + NAMES + width + 5, y + 11, shown, weight.strip()))
    return out


def picture(measured: list[Measured], commit: str) -> str:
    ids = all_ids()
    height = HEAD + (len(measured) + 1) * (BAR + GAP) + 12
    lines = (len(ids) + COLUMNS - 1) // COLUMNS
    total = TOP + lines * height
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {total}" width="{WIDTH}" height="{total}" font-family="sans-serif" font-size="11">',
        '<rect width="100%" height="100%" fill="white"/>',
        text(8, 24, "Forebay and its peers over one origin", 'font-size="16" font-weight="bold"'),
        text(8, 42, f"make bench-peers, commit {commit[:12]}; longer is better; each panel has a scale of its own", 'fill="#555555"'),
    ]
    for place, (name, color) in enumerate([("forebay", COLORS[OURS]), ("forebay over nginx", COLORS[CEILING]), ("peers", PEER), ("plain downloaders", COLORS["download"]), ("native", COLORS["native"])]):
        x = 8 + 150 * place
        out.append(f'<rect x="{x}" y="52" width="12" height="12" fill="{color}"/>')
        out.append(text(x + 17, 62, name))
    for place, id in enumerate(ids):
        out += panel(id, measured, (place % COLUMNS) * PANEL, TOP + (place // COLUMNS) * height)
    return "\n".join([*out, "</svg>", ""])
