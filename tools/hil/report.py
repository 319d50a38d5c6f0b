"""What was seen, for programs (JUnit's XML) and for people (a page)."""

import html
import time
import xml.etree.ElementTree as tree

COLOURS = {"nominal": "#2a7", "warm": "#c90", "hot": "#d50", "critical": "#b02"}


class Record:
    """Of one scenario."""

    def __init__(self, name, about):
        self.name, self.about = name, about
        self.begun = time.monotonic()
        self.seconds = 0
        self.outcome, self.why = "passed", ""
        self.seen, self.timings, self.facts, self.curve = [], [], [], []

    def saw(self, what):
        self.seen.append(what)
        print(f"    {time.monotonic() - self.begun:7.1f} s  {what}", flush=True)

    def timing(self, what, seconds):
        self.timings.append((what, seconds))
        self.saw(f"{what}: {seconds:.1f} s")

    def fact(self, what, value):
        self.facts.append((what, value))
        self.saw(f"{what}: {value}")

    def point(self, word, celsius, ahead, state, rest):
        self.curve.append((time.monotonic() - self.begun, word, celsius, ahead, state, rest))

    def end(self, outcome, why=""):
        self.outcome, self.why = outcome, why
        self.seconds = time.monotonic() - self.begun


def junit(records, board, file):
    suite = tree.Element("testsuite", name=f"hardware in the loop: {board.kind}", tests=str(len(records)),
                         failures=str(sum(it.outcome == "failed" for it in records)),
                         skipped=str(sum(it.outcome == "skipped" for it in records)),
                         time=f"{sum(it.seconds for it in records):.1f}")
    if board.label:
        told = tree.SubElement(tree.SubElement(suite, "properties"), "property")
        told.set("name", "label")
        told.set("value", board.label)
    for it in records:
        case = tree.SubElement(suite, "testcase", classname="hil", name=it.name, time=f"{it.seconds:.1f}")
        if it.outcome == "failed":
            tree.SubElement(case, "failure", message=it.why[:500]).text = it.why
        elif it.outcome == "skipped":
            tree.SubElement(case, "skipped", message=it.why)
        tree.SubElement(case, "system-out").text = "\n".join(it.seen)
    tree.indent(suite)
    tree.ElementTree(suite).write(file, encoding="utf-8", xml_declaration=True)


def picture(curve, limit):
    """The temperature over time, coloured by what the governor made of it."""
    wide, high, left, base = 900, 300, 45, 270
    points = [it for it in curve if it[2] is not None]
    if len(points) < 2:
        return ""
    span = points[-1][0] or 1
    low, top = 40, max(95, max(it[2] for it in points) + 3)
    x = lambda t: left + (wide - left - 10) * t / span
    y = lambda c: base - (base - 15) * (c - low) / (top - low)
    parts = [f'<svg viewBox="0 0 {wide} {high}" role="img" aria-label="temperature">']
    for celsius in range(low, int(top), 10):
        parts.append(f'<line x1="{left}" x2="{wide - 10}" y1="{y(celsius):.0f}" y2="{y(celsius):.0f}" stroke="#ddd"/>'
                     f'<text x="4" y="{y(celsius) + 4:.0f}">{celsius} °C</text>')
    parts.append(f'<line x1="{left}" x2="{wide - 10}" y1="{y(limit):.0f}" y2="{y(limit):.0f}" stroke="#b02" '
                 f'stroke-dasharray="6 4"/>')
    for a, b in zip(points, points[1:]):
        parts.append(f'<line x1="{x(a[0]):.1f}" y1="{y(a[2]):.1f}" x2="{x(b[0]):.1f}" y2="{y(b[2]):.1f}" '
                     f'stroke="{COLOURS.get(b[4], "#555")}" stroke-width="3"/>')
    ahead = " ".join(f"{x(it[0]):.1f},{y(min(max(it[3], low), top)):.1f}" for it in points if it[3] is not None)
    parts.append(f'<polyline points="{ahead}" fill="none" stroke="#669" stroke-width="1"/>')
    rest = " ".join(f"{x(it[0]):.1f},{base - 60 * it[5] / 1000:.1f}" for it in points)
    parts.append(f'<polyline points="{rest}" fill="none" stroke="#888" stroke-dasharray="2 2"/>')
    for second in range(0, int(span) + 1, max(30, int(span / 10) // 30 * 30)):
        parts.append(f'<text x="{x(second):.0f}" y="{high - 10}">{second} s</text>')
    return "".join(parts) + "</svg>"


def page(records, board, limit, file):
    rows, curves = [], []
    for it in records:
        notes = [f"{html.escape(what)}: <b>{seconds:.1f} s</b>" for what, seconds in it.timings]
        notes += [f"{html.escape(what)}: {html.escape(str(value))}" for what, value in it.facts]
        notes += [html.escape(it.why)] if it.why else []
        rows.append(f'<tr class="{it.outcome}"><td>{it.outcome}</td><td><b>{it.name}</b><br>{html.escape(it.about)}'
                    f'</td><td>{it.seconds:.0f} s</td><td>{"<br>".join(notes)}</td></tr>')
        if it.curve:
            curves.append(f"<h2>{it.name}</h2>{picture(it.curve, limit)}<p>Thick: the sensor, coloured by the "
                          "governor's state (" + ", ".join(f'<span style="color:{c}">{s}</span>' for s, c in COLOURS.items())
                          + "). Thin: its forecast for a minute later. Dotted: its rest between passes, of 1. "
                          "Dashed: the limit.</p>")
    label = f'<p class="label">{html.escape(board.label)}</p>' if board.label else ""
    file.write_text(f"""<!doctype html><meta charset="utf-8"><title>lineside: hardware in the loop</title>
<style>body{{font:15px/1.4 sans-serif;max-width:60em;margin:2em auto;padding:0 1em}}td{{padding:.3em .6em;vertical-align:top;
border-top:1px solid #ccc}}.failed td:first-child{{color:#b02}}.passed td:first-child{{color:#2a7}}
.label{{background:#fe9;padding:.5em}}svg text{{font-size:12px}}</style>
<h1>Hardware in the loop</h1><p>{html.escape(board.kind)}; {time.strftime("%Y-%m-%d %H:%M", time.gmtime())} UTC</p>{label}
<table>{"".join(rows)}</table>{"".join(curves)}
""")
