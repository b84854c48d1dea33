"""The style sheet of the page: light and dark, on paper, on a telephone, for keyboards."""

from __future__ import annotations

from banet_monai.report.page.palette import DARK, FRAME, INFERNO, LIGHT, TRUTH, css_variables, hexadecimal

__all__ = ["style_sheet"]

RULES = """
*, *::before, *::after { box-sizing: border-box; }
html { scroll-padding-top: 4.5rem; -webkit-text-size-adjust: 100%; text-size-adjust: 100%; }
body {
  margin: 0; background: var(--page); color: var(--text);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", "Noto Sans", "Liberation Sans", Arial, sans-serif;
}
header, main, footer { max-width: 84rem; margin: 0 auto; padding: 0 1.5rem; }
h1 { font-size: 1.75rem; line-height: 1.2; font-weight: 650; letter-spacing: -0.015em; margin: 0; }
h2 { font-size: 1.25rem; line-height: 1.3; font-weight: 650; letter-spacing: -0.01em; margin: 0 0 1rem; }
h3 { font-size: 1rem; line-height: 1.4; font-weight: 600; margin: 0; overflow-wrap: anywhere; }
p { margin: 0 0 0.75rem; max-width: 46rem; }
a { color: var(--accent); text-underline-offset: 0.15em; }
section { padding: 1.75rem 0; border-top: 1px solid var(--line); }
section[hidden], [hidden] { display: none !important; }
:focus-visible { outline: 3px solid var(--accent); outline-offset: 2px; border-radius: 3px; }
.skip { position: absolute; left: 1rem; top: -4rem; background: var(--page); padding: 0.5rem 1rem; z-index: 3; }
.skip:focus { top: 0.5rem; }
.muted, figcaption, caption { color: var(--muted); }
.small { font-size: 0.875rem; }
.visually-hidden {
  position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); white-space: nowrap;
}

header {
  display: flex; flex-wrap: wrap; gap: 0.5rem 2rem; align-items: baseline; padding-top: 2rem;
  padding-bottom: 1.25rem;
}
header .facts { flex-basis: 100%; order: 3; margin: 0; color: var(--muted); }
header nav { display: flex; flex-wrap: wrap; gap: 0 1.25rem; margin-left: auto; }
.banner {
  border: 2px solid var(--warning); color: var(--warning); padding: 0.75rem 1rem; border-radius: 4px;
  font-weight: 600;
}

button, select, input {
  font: inherit; font-size: 0.9375rem; color: var(--text); background: var(--page);
  border: 1px solid var(--muted); border-radius: 4px; padding: 0.3rem 0.6rem; min-height: 2.25rem;
}
button { cursor: pointer; }
button:hover { background: var(--raised); }
input[type="checkbox"] {
  min-height: 0; width: 1.05rem; height: 1.05rem; margin: 0 0.4rem 0 0; vertical-align: -0.15rem;
  accent-color: var(--accent);
}
.script { display: none; }
.js .script { display: flex; }
.js button.script { display: inline-block; }

.tiles { display: flex; flex-wrap: wrap; gap: 0.5rem 2.5rem; margin: 0; padding: 0; }
.tiles div { display: flex; flex-direction: column-reverse; }
.tiles dd {
  margin: 0; font-size: 1.75rem; font-weight: 600; line-height: 1.2; font-variant-numeric: tabular-nums;
  letter-spacing: -0.02em;
}
.tiles dt { color: var(--muted); font-size: 0.875rem; }
.tiles .alert dd { color: var(--warning); }
.beside { display: grid; grid-template-columns: minmax(0, 5fr) minmax(0, 7fr); gap: 1.5rem 3rem; align-items: start; }
.plots { display: grid; grid-template-columns: repeat(auto-fill, minmax(16rem, 1fr)); gap: 1rem 1.5rem; }

.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: 0.875rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; padding-bottom: 0.5rem; }
th, td { padding: 0.3rem 0.75rem; text-align: right; white-space: nowrap; border-bottom: 1px solid var(--line); }
th:first-child, td:first-child { text-align: left; padding-left: 0; }
th { font-weight: 600; }
tbody th { font-weight: 400; }
td.text, th.text { text-align: left; white-space: normal; overflow-wrap: anywhere; min-width: 12rem; }
td.interval { color: var(--muted); }
.cases th:first-child { max-width: 22rem; overflow: hidden; text-overflow: ellipsis; }
.cases thead th { padding: 0; vertical-align: bottom; border-bottom: 1px solid var(--muted); }
.cases thead button {
  border: 0; background: none; font-size: inherit; font-weight: 600; width: 100%; text-align: right;
  white-space: nowrap; padding: 0.3rem 0.75rem; line-height: 1.25; border-radius: 0;
}
.cases thead th:first-child button { text-align: left; padding-left: 0; }
.cases thead .name::after {
  content: "\\2195"; color: var(--muted); opacity: 0.55; padding-left: 0.3rem; font-weight: 400;
}
.cases thead [aria-sort="ascending"] .name::after { content: "\\2191"; color: var(--accent); opacity: 1; }
.cases thead [aria-sort="descending"] .name::after { content: "\\2193"; color: var(--accent); opacity: 1; }
.cases thead .unit { font-weight: 400; color: var(--muted); display: block; }
.cases tbody tr:hover { background: var(--raised); }

.toolbar {
  position: sticky; top: 0; z-index: 2; background: var(--page); flex-wrap: wrap; gap: 0.5rem 1.25rem;
  align-items: center; padding: 0.6rem 0; border-bottom: 1px solid var(--line); font-size: 0.9375rem;
}
.toolbar fieldset {
  border: 0; margin: 0; padding: 0; display: flex; flex-wrap: wrap; gap: 0.25rem 1rem; align-items: center;
}
.toolbar input[type="search"] { width: 12rem; max-width: 100%; }
.toolbar label { white-space: nowrap; }
.toolbar output { color: var(--muted); margin-left: auto; font-variant-numeric: tabular-nums; }
.samples label { display: flex; align-items: center; gap: 0.4rem; }
.samples input { margin: 0 !important; }
.sample { border-radius: 3px; flex: none; background: var(--frame); }
.sample svg { display: block; }
.sample path { fill: none; }
.js .legend .twice { display: none; }
.legend {
  display: flex; flex-wrap: wrap; gap: 0.5rem 1.5rem; align-items: center; margin: 0.75rem 0 0; padding: 0;
  list-style: none; font-size: 0.875rem; color: var(--muted);
}
.legend li { display: flex; align-items: center; gap: 0.5rem; }

.case {
  padding: 1.25rem 0 1.5rem; border-bottom: 1px solid var(--line); content-visibility: auto;
  contain-intrinsic-size: auto 30rem;
}
.case > header { max-width: none; margin: 0 0 0.75rem; padding: 0; gap: 0.25rem 1rem; flex-wrap: nowrap; }
.case > header button { margin-left: auto; flex: none; min-height: 0; padding: 0.15rem 0.6rem; font-size: 0.875rem; }
.case .lead { color: var(--muted); font-variant-numeric: tabular-nums; white-space: nowrap; }
.body { display: flex; flex-wrap: wrap; gap: 0.5rem 2.5rem; align-items: flex-start; }
.pictures { flex: 0 1 auto; min-width: 0; }
.told { flex: 1 1 23rem; min-width: 0; }
.strip { display: flex; gap: 0.75rem; margin-bottom: 0.75rem; align-items: flex-start; --panel: 14.5rem; }
.strip > figure { flex: 0 1 var(--panel); min-width: 0; width: var(--panel); }
.strip.of-1, .strip.of-2 { --panel: 19rem; }
.strip.of-3 { --panel: 14.75rem; }
.strip.of-4 { --panel: 18.5rem; }
.strip.many { --panel: 14rem; }
.strip-title { font-size: 0.875rem; color: var(--muted); margin: 0 0 0.25rem; font-weight: 400; }
figure { margin: 0; }
figcaption { font-size: 0.8125rem; line-height: 1.4; padding-top: 0.25rem; }
.frame, .drawing { position: relative; overflow: hidden; border-radius: 3px; }
.frame { background: var(--frame); }
.drawing > .drawing, figure > .drawing { background: var(--raised); }
.frame img { display: block; width: 100%; height: auto; }
.frame svg, figure > .drawing svg { display: block; width: 100%; height: auto; }
.frame img + svg { position: absolute; inset: 0; height: 100%; }
.frame path, .frame line { fill: none; vector-effect: non-scaling-stroke; stroke-linejoin: round; }
.halo { stroke: #000; stroke-opacity: 0.6; stroke-width: 3.8px; }
.prediction .line { stroke-width: 1.9px; }
.truth .line { stroke: var(--truth); stroke-width: 1.9px; stroke-dasharray: 5 4; }
.truth .halo { stroke-dasharray: 5 4; }
.chords .line, .measure .line { stroke: #fff; stroke-width: 1.2px; }
.chords .halo, .measure .halo { stroke-width: 2.6px; }
.shape {
  fill: var(--accent); fill-opacity: 0.14; stroke: var(--text); stroke-width: 1.4px;
  vector-effect: non-scaling-stroke; stroke-linejoin: round;
}
.chord { stroke: var(--accent); stroke-width: 1.6px; fill: none; vector-effect: non-scaling-stroke; }
.cross { stroke-dasharray: 4 3; }
.border { fill: none; stroke: var(--muted); stroke-width: 1px; vector-effect: non-scaling-stroke; }
.drawing text {
  fill: var(--text); stroke: var(--raised); stroke-width: 0.25em; paint-order: stroke; font-weight: 600;
  font-variant-numeric: tabular-nums;
}
[data-hide~="prediction"] .prediction, [data-hide~="truth"] .truth, [data-hide~="chords"] .chords { display: none; }

.values { margin: 0; font-size: 0.875rem; line-height: 1.35; columns: 12rem; column-gap: 1.5rem; }
.values div {
  break-inside: avoid; display: flex; justify-content: space-between; gap: 1rem; padding: 0.14rem 0;
  border-bottom: 1px solid var(--line);
}
.values dt { color: var(--muted); }
.values dd { margin: 0; font-variant-numeric: tabular-nums; text-align: right; white-space: nowrap; }
.values .private dd { white-space: normal; overflow-wrap: anywhere; }
.notes { margin: 0.75rem 0 0; padding-left: 1.1rem; font-size: 0.875rem; color: var(--warning); }
.chart { display: block; width: 100%; height: auto; }
.chart text { font-size: 10px; fill: var(--muted); font-variant-numeric: tabular-nums; }
.chart .label { font-size: 11px; fill: var(--text); }
.chart .bar { fill: var(--bar); }
.chart .dot { fill: var(--bar); fill-opacity: 0.75; }
.chart .axis { stroke: var(--muted); stroke-width: 1; }
.chart .grid { stroke: var(--line); stroke-width: 1; }
.chart .median { stroke: var(--text); stroke-width: 1.5; }

.provenance {
  display: grid; grid-template-columns: max-content minmax(0, 1fr); gap: 0.25rem 1.5rem; margin: 0 0 1rem;
  font-size: 0.9375rem;
}
.provenance dt { color: var(--muted); }
.provenance dd { margin: 0; overflow-wrap: anywhere; }
details summary { cursor: pointer; padding: 0.25rem 0; }
pre {
  background: var(--raised); padding: 1rem; overflow: auto; max-height: 28rem; font-size: 0.8125rem;
  line-height: 1.45; border-radius: 4px;
}
footer {
  color: var(--muted); font-size: 0.875rem; padding-top: 1.25rem; padding-bottom: 3rem;
  border-top: 1px solid var(--line);
}

dialog {
  width: min(96vw, 110rem); height: 94vh; max-width: none; max-height: none; border: 1px solid var(--line);
  border-radius: 6px; padding: 1rem 1.25rem; background: var(--page); color: var(--text);
}
dialog::backdrop { background: rgb(0 0 0 / 60%); }
dialog .bar { display: flex; gap: 0.5rem; align-items: center; margin-bottom: 0.75rem; }
dialog .bar h2 { margin: 0 auto 0 0; font-size: 1.0625rem; overflow-wrap: anywhere; }
dialog .strip { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 26rem), 1fr)); }
dialog .strip.many { grid-template-columns: repeat(auto-fit, minmax(min(100%, 18rem), 1fr)); }
dialog .strip > figure { width: auto; }
dialog figure.drawing svg { max-height: 80vh; }
dialog .frame svg .line { stroke-width: 2px; }

@media (max-width: 60rem) { .beside { grid-template-columns: minmax(0, 1fr); } }
@media (max-width: 40rem) {
  header, main, footer { padding-left: 1rem; padding-right: 1rem; }
  header { padding-top: 1.25rem; }
  header nav { margin-left: 0; flex-basis: 100%; order: 4; }
  header #theme { margin-left: auto; }
  h1 { font-size: 1.4rem; }
  .toolbar { position: static; }
  th, td { padding: 0.3rem 0.4rem; }
  html { scroll-padding-top: 1rem; }
  .told, .pictures { flex-basis: 100%; }
  .strip { display: grid; grid-template-columns: repeat(2, minmax(0, 1fr)); gap: 0.5rem; }
  .strip > figure { width: auto; }
  .strip.of-1 { grid-template-columns: minmax(0, 1fr); }
  .strip.many { display: flex; flex-wrap: nowrap; overflow-x: auto; }
  .strip.many > figure { flex: 0 0 9rem; }
  .tiles { gap: 0.5rem 1.5rem; }
  .provenance { grid-template-columns: minmax(0, 1fr); gap: 0; }
  .provenance dd { margin-bottom: 0.5rem; }
  dialog { width: 100vw; height: 100vh; padding: 0.75rem; border: 0; border-radius: 0; }
  dialog .strip { grid-template-columns: minmax(0, 1fr); }
}
@media (prefers-reduced-motion: no-preference) { html { scroll-behavior: smooth; } }
@media (forced-colors: active) { .frame, .drawing, .legend svg, .chart { forced-color-adjust: none; } }
@media print {
  .toolbar, .js .toolbar, nav, .skip, .case > header button, button.script, .js button.script { display: none; }
  body { font-size: 10pt; background: #fff; }
  header, main, footer { max-width: none; padding-left: 0; padding-right: 0; }
  .case { content-visibility: visible; break-inside: avoid; }
  figure, tr { break-inside: avoid; }
  .js .legend .twice { display: flex; }
  .scroll { overflow: visible; }
  .frame, .drawing { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
}
"""


def style_sheet() -> str:
    """The whole style sheet. Dark follows the system, and the page's own button goes before it."""
    stops = ", ".join(hexadecimal((int(r), int(g), int(b))) for r, g, b in INFERNO)
    always = f"--frame: {hexadecimal(FRAME)}; --truth: {hexadecimal(TRUTH)};"
    dark = css_variables(DARK)
    return (
        f":root {{ color-scheme: light dark; {always} {css_variables(LIGHT)} }}\n"
        f"@media (prefers-color-scheme: dark) {{ :root:not([data-theme='light']) {{ {dark} }} }}\n"
        f":root[data-theme='dark'] {{ color-scheme: dark; {dark} }}\n"
        f":root[data-theme='light'] {{ color-scheme: light; }}\n"
        f"@media print {{ :root, :root:not([data-theme='light']) {{ {css_variables(LIGHT)} }} }}\n"
        f".heat {{ width: 7rem; height: 0.8rem; border-radius: 3px; background: linear-gradient(to right, {stops}); }}"
        f"{RULES}"
    )
