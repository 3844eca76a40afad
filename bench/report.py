"""What a run of the suite prints and keeps: medians, ratios to ext4 beside the limits, CPU seconds; CSV, JSON, SVG."""
import csv
import html
import json
import os
import statistics

COLOURS = {"ext4": "#888888", "overlayfs": "#7aa6c2", "overlayfs-nfs": "#4f7f9f", "fuse-overlayfs": "#d9a441",
           "btrfs": "#a3719e", "xfs": "#c27a7a", "coppice": "#2e8b57", "coppice-async": "#7bc796", "fuse-floor": "#444444"}


def median(rows, work, side, key="value"):
    values = [row[key] for row in rows if row["work"] == work and row["side"] == side]
    return statistics.median(values) if values else None


def show(value):
    return "-" if value is None else f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def print_columns(lines):
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    for line in lines:
        print("  ".join(cell.ljust(width) if i == 0 else cell.rjust(width)
                        for i, (cell, width) in enumerate(zip(line, widths))).rstrip())


def ratio(rows, work, side):
    value, ext4 = median(rows, work, side), median(rows, work, "ext4")
    return value / ext4 if value is not None and ext4 else None


def print_added(sides, names):
    print("Adding a node")
    print_columns([["side", "seconds", "KiB on disk"]] + [
        [name, f"{sides.node_seconds[name]:.3f}", f"{sides.node_bytes[name] / 1024:.0f}"] for name in names])


def print_works(rows, works, names):
    print("\nMedians")
    print_columns([["work", "unit", *names]] + [
        [work.name, work.unit, *(show(median(rows, work.name, side)) for side in names)] for work in works])
    if "ext4" not in names:
        return
    print("\nRatio to ext4 (less is better), and what coppice is to reach")
    lines = [["work", *names, "limit", ""]]
    for work in works:
        reached = ratio(rows, work.name, work.side)
        verdict = "" if work.limit is None or reached is None else "met" if reached <= work.limit else "MISSED"
        lines.append([work.name, *(show(ratio(rows, work.name, side)) for side in names), show(work.limit), verdict])
    print_columns(lines)


def print_cpu(rows, works, names):
    """Caller + daemon: what a GiB, or 10,000 operations, cost of one CPU."""
    print("\nCPU seconds of caller + who serves, for each GiB (works by MiB) or 10,000 operations")
    lines = [["work", *names]]
    for work in works:
        if work.in_shell:
            continue
        cells = []
        for side in names:
            amount = median(rows, work.name, side, "amount")
            scale = (1024 if work.unit == "us/MiB" else 10000) / amount if amount else 0
            cells.append("-" if not amount else
                         show(median(rows, work.name, side, "caller_cpu") * scale) + " + " +
                         show(median(rows, work.name, side, "daemon_cpu") * scale))
        lines.append([work.name, *cells])
    print_columns(lines)


def print_grid(title, rows, names):
    """Rows of `work`, `what`, `side`, `value`: a line for each work and what of it is told."""
    if not rows:
        return
    print("\n" + title)
    lines = [["", "", *names]]
    for work, what in dict.fromkeys((row["work"], row["what"]) for row in rows):
        values = {row["side"]: row["value"] for row in rows if (row["work"], row["what"]) == (work, what)}
        lines.append([work, what, *(show(values.get(side)) for side in names)])
    print_columns(lines)


def write_chart(path, rows, works, names):
    """One bar for each side of each work, as a ratio to ext4, on a scale that ends at 8; a stroke where the limit is."""
    bar, gap, left, most, width, top = 11, 14, 190, 8, 640, 50
    parts, y, x = [], top, left
    for name in names:
        parts.append(f'<rect x="{x}" y="12" width="10" height="10" fill="{COLOURS[name]}"/><text x="{x + 14}" y="21">{name}</text>')
        x += 34 + 7 * len(name)
    height = top + len(works) * (bar * len(names) + gap)
    for tick in range(1, most + 1):
        at = left + tick / most * width
        parts.append(f'<path d="M{at:.1f} {top - 8}V{height}" stroke="{"#999" if tick == 1 else "#e4e4e4"}"/>'
                     f'<text x="{at:.1f}" y="{top - 12}" font-size="9" text-anchor="middle" fill="#666">{tick}</text>')
    for work in works:
        parts.append(f'<text x="{left - 8}" y="{y + bar * len(names) / 2 + 4:.0f}" text-anchor="end">{html.escape(work.name)}</text>')
        if work.limit:
            at = left + min(work.limit, most) / most * width
            parts.append(f'<path d="M{at:.1f} {y - 3}v{bar * len(names) + 6}" stroke="#c00" stroke-dasharray="3 2"/>')
        for name in names:
            value = ratio(rows, work.name, name)
            if value is not None:
                long = min(value, most) / most * width
                parts.append(f'<rect x="{left}" y="{y}" width="{long:.1f}" height="{bar - 1}" fill="{COLOURS[name]}"/>'
                             f'<text x="{left + long + 4:.1f}" y="{y + 9}" font-size="9">{value:.2f}</text>')
            y += bar
        y += gap
    wide = max(left + width + 60, x)
    with open(path, "w") as file:
        file.write(f'<svg xmlns="http://www.w3.org/2000/svg" width="{wide}" height="{height}" font-family="sans-serif" '
                   f'font-size="11"><rect width="100%" height="100%" fill="white"/>{"".join(parts)}</svg>\n')


def write_csv(path, rows):
    if not rows:
        return
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)


def write(directory, sides, tables, works, names):
    """`tables`: name and rows of each. Each becomes a CSV, all together one JSON, works' ratios a chart."""
    os.makedirs(directory)
    for name, rows in tables.items():
        write_csv(os.path.join(directory, name + ".csv"), rows)
    with open(os.path.join(directory, "results.json"), "w") as file:
        json.dump(dict(tables, node_seconds=sides.node_seconds, node_bytes=sides.node_bytes), file, indent=1)
    if "ext4" in names and tables["works"]:
        write_chart(os.path.join(directory, "ratios.svg"), tables["works"], works, names)
    print(f"\nall figures: {directory}")
