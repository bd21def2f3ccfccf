"""Tables, JSON and plot of what was measured."""

from html import escape
from math import ceil, floor, log10
from statistics import median

from servers import BASE, FLOOR, SERVERS

# A load generator that is busy for more of the time than this is what limits the server.
BUSY = 0.9
# Of a CPU: more than this by other processes, or kept by a hypervisor below, disturbs.
DISTURBED = 0.1
FIGURES = ["requests_per_second", "p50_ms", "p99_ms", "p99.9_ms", "cpu_us_per_request", "server_cpu", "load_cpu",
           "other_cpu", "stolen_cpu", "memory_idle_mib", "memory_peak_mib"]
KINDS = {True: "Keep-alive", False: "A connection for each request"}


def summarize(cells):
    """A list of cells with medians over their rounds; of errors, the sum."""
    summary = []
    for (keep_alive, connections, name), rounds in cells.items():
        done = [figures for figures in rounds if figures]
        cell = {"server": name, "keep_alive": keep_alive, "connections": connections, "rounds": done,
                "failed_rounds": len(rounds) - len(done)}
        if done:
            cell["median"] = {figure: median(figures[figure] for figures in done)
                              for figure in FIGURES if figure in done[0]}
            cell["errors"] = {kind: sum(figures["errors"][kind] for figures in done) for kind in done[0]["errors"]}
            if name != FLOOR:
                compare(cell, "ratio", rounds, cells.get((keep_alive, connections, BASE), []))
            if SERVERS[name].makes_vms:
                compare(cell, "ratio_to_floor", rounds, cells.get((keep_alive, connections, FLOOR), []))
        summary.append(cell)
    # The order of the rounds changes; this one does not.
    order = list(SERVERS)
    summary.sort(key=lambda cell: (not cell["keep_alive"], cell["connections"], order.index(cell["server"])))
    return summary


def compare(cell, key, rounds, base):
    """The ratios of the rounds: what slows the machine down for a while slows both."""
    ratios = [ours["requests_per_second"] / theirs["requests_per_second"]
              for ours, theirs in zip(rounds, base) if ours and theirs]
    if ratios:
        cell[key] = {"median": median(ratios), "lowest": min(ratios), "highest": max(ratios)}


def shown_ratio(ratio):
    if not ratio:
        return ""
    shown = digits(ratio["median"])
    if ratio["lowest"] < ratio["highest"]:
        shown += f" ({digits(ratio['lowest'])}-{digits(ratio['highest'])})"
    return shown


def digits(value):
    """Three of them that matter."""
    return f"{value:.{2 if value < 10 else 1 if value < 100 else 0}f}"


def rounds_said(about):
    plural = "" if about["rounds"] == 1 else "s"
    return f"{about['rounds']} round{plural} of {about['seconds']} s"


def shown_errors(cell):
    told = [f"{count} {kind}" for kind, count in cell.get("errors", {}).items() if count]
    if cell["failed_rounds"]:
        told.append(f"{cell['failed_rounds']} of the rounds failed")
    return ", ".join(told) or "0"


def row(cell):
    start = f"| {'none' if cell['server'] == FLOOR else cell['connections']} | {cell['server']} |"
    if "median" not in cell:
        return f"{start} failed | | | | | | | | {shown_errors(cell)} |"
    middle = cell["median"]
    compared = f"{shown_ratio(cell.get('ratio'))} | {shown_ratio(cell.get('ratio_to_floor'))}"
    busy = "\\*" if middle["load_cpu"] > BUSY else ""
    return (f"{start} {middle['requests_per_second']:.0f}{busy} | {compared} | {digits(middle['p50_ms'])} | "
            f"{digits(middle['p99_ms'])} | {digits(middle['p99.9_ms'])} | {digits(middle['cpu_us_per_request'])} | "
            f"{digits(middle['memory_peak_mib'])} | {shown_errors(cell)} |")


def table(summary, about):
    """Markdown."""
    computer = about["machine"]
    lines = [
        f"{computer['cpu']}, {computer['cpus']} CPUs, {computer['kernel']}; {about['time']}. "
        f"Medians of {rounds_said(about)}.",
    ]
    for keep_alive, title in KINDS.items():
        cells = [cell for cell in summary if cell["keep_alive"] == keep_alive]
        lines += [
            "", f"{title}:", "",
            f"| connections | server | requests/s | to {BASE} | to {FLOOR} | p50 ms | p99 ms | p99.9 ms | "
            "CPU us/request | memory MiB | errors |",
            "|--:|---|--:|--:|--:|--:|--:|--:|--:|--:|---|",
            *map(row, cells),
        ]
    if any(cell.get("median", {}).get("load_cpu", 0) > BUSY for cell in summary):
        lines += ["", "\\* The load generator was busy all the time: the server may be able to do more."]
    if floors := [figures for cell in summary if cell["server"] == FLOOR for figures in cell["rounds"]]:
        make, enter, drop = (digits(median(figures[part] for figures in floors))
                             for part in ("make_us", "enter_us", "drop_us"))
        lines += ["", f"The floor's requests are VMs: to make one takes {make} us, to enter it up to its first exit "
                  f"{enter} us, to drop it {drop} us, in the median of all rounds."]
    rounds = [figures for cell in summary for figures in cell["rounds"]]
    disturbed = [figures for figures in rounds if max(figures["other_cpu"], figures["stolen_cpu"]) > DISTURBED]
    if disturbed:
        usual = median(max(figures["other_cpu"], figures["stolen_cpu"]) for figures in disturbed)
        lines += ["", f"In {len(disturbed)} of {len(rounds)} measurements something else took more than "
                  f"{DISTURBED:.0%} of a CPU, {usual:.0%} in the median of them: a quieter machine has other figures."]
    lines += ["", "| server | what | version |", "|---|---|---|"]
    lines += [f"| {name} | {SERVERS[name].what} | {version} |" for name, version in about["versions"].items()]
    return "\n".join(lines)


def as_json(summary, about, failures):
    return {"about": about, "cells": summary, "failures": failures}


# The plot: one panel for each kind of connection, with a line for each server.
PANEL, NAMES, AXIS = 450, 112, 260
LINE, GAP, TOP = 16, 34, 62
COLORS = {FLOOR: "#000", "sandgrain": "#b5541c", "wasmtime": "#3d5799"}
OTHER = "#777"


def plot(summary, about):
    """SVG: requests/s, grouped by connections. Logarithmic: the ceiling is far above the rest."""
    speeds = [cell["median"]["requests_per_second"] for cell in summary if "median" in cell] or [1]
    low = floor(log10(min(speeds)))
    high = max(ceil(log10(max(speeds))), low + 1)
    lines = max(sum(cell["keep_alive"] == keep_alive for cell in summary) for keep_alive in KINDS)
    groups = len({cell["connections"] for cell in summary})
    bottom = TOP + lines * LINE + groups * GAP
    body = [text(16, 22, "Requests/s, one CPU for the server", size=15, weight="bold")]
    for panel, (keep_alive, title) in enumerate(KINDS.items()):
        left = 16 + panel * PANEL
        start = left + NAMES
        body.append(text(left, TOP - 10, title, weight="bold"))
        for power in range(low, high + 1):
            x = start + (power - low) / (high - low) * AXIS
            body.append(f'<line x1="{x:.1f}" y1="{TOP}" x2="{x:.1f}" y2="{bottom + 4}" stroke="#ddd"/>')
            body.append(text(x, bottom + 18, str(10 ** power), anchor="middle", color="#555"))
        y = TOP
        connections = None
        for cell in (cell for cell in summary if cell["keep_alive"] == keep_alive):
            if cell["connections"] != connections:
                connections = cell["connections"]
                plural = "" if connections == 1 else "s"
                y += GAP
                body.append(text(left, y - 8, f"{connections} connection{plural}", color="#555"))
            name = cell["server"]
            body.append(text(start - 8, y + LINE - 4, "floor (VMs/s)" if name == FLOOR else name, anchor="end"))
            if "median" in cell:
                speed = cell["median"]["requests_per_second"]
                x = start + (log10(speed) - low) / (high - low) * AXIS
                color = COLORS.get(name) or COLORS.get(SERVERS[name].program, OTHER)
                body.append(f'<line x1="{start}" y1="{y + 8}" x2="{x:.1f}" y2="{y + 8}" stroke="{color}" '
                            'stroke-opacity="0.3"/>')
                body.append(f'<circle cx="{x:.1f}" cy="{y + 8}" r="4" fill="{color}"/>')
                wrong = any(cell["errors"].values()) or cell["failed_rounds"]
                body.append(text(x + 8, y + LINE - 4, f"{speed:.0f}{', errors' if wrong else ''}"))
            else:
                body.append(text(start, y + LINE - 4, "failed"))
            y += LINE
    computer = about["machine"]
    body.append(text(16, bottom + 42, f"{computer['cpu']}, {computer['kernel']}; medians of {rounds_said(about)}; "
                     "logarithmic scale", color="#555"))
    width, height = 2 * PANEL + 16, bottom + 54
    return (f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
            f'viewBox="0 0 {width} {height}" font-family="sans-serif">\n'
            f'<rect width="{width}" height="{height}" fill="#fff"/>\n' + "\n".join(body) + "\n</svg>\n")


def text(x, y, words, anchor="start", color="#111", size=11, weight="normal"):
    return (f'<text x="{x:.1f}" y="{y}" text-anchor="{anchor}" fill="{color}" font-size="{size}" '
            f'font-weight="{weight}">{escape(words)}</text>')
