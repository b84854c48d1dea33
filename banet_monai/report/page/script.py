"""The script of the page: order, search, layers, colours and the large view. Without it all is there, in one order."""

from __future__ import annotations

__all__ = ["SCRIPT"]

SCRIPT = """
(() => {
  "use strict";
  const root = document.documentElement;
  const find = (selector, place = document) => place.querySelector(selector);
  const all = (selector, place = document) => [...place.querySelectorAll(selector)];
  root.classList.add("js");

  // ---- light and dark -----------------------------------------------------------------------------------------------
  const KEY = "banet-report-theme";
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const themeButton = find("#theme");
  const isDark = () => (root.dataset.theme || (dark.matches ? "dark" : "light")) === "dark";
  const showTheme = () => { themeButton.textContent = isDark() ? "Light page" : "Dark page"; };
  try {
    const kept = localStorage.getItem(KEY);
    if (kept === "dark" || kept === "light") root.dataset.theme = kept;
  } catch { /* a browser may keep nothing for files */ }
  themeButton.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    try { localStorage.setItem(KEY, root.dataset.theme); } catch { /* as above */ }
    showTheme();
  });
  dark.addEventListener("change", showTheme);
  showTheme();

  // ---- order --------------------------------------------------------------------------------------------------------
  const body = find("#figures tbody");
  if (!body) return;
  const cards = find("#cards");
  const headings = all("#figures thead th");
  const select = find("#sort");
  const direction = find("#direction");
  const said = find("#said");
  const rows = [...body.rows];
  const cardOf = new Map(all(".case", cards).map((card) => [card.dataset.case, card]));
  let column = 0;
  let ascending = true;

  const keysOf = (index) => {
    const isNumber = headings[index].dataset.kind === "number";
    return new Map(rows.map((row) => {
      const text = row.cells[index].dataset.value ?? "";
      return [row, isNumber ? (text === "" ? null : Number(text)) : text];
    }));
  };
  const words = new Intl.Collator(undefined, { numeric: true, sensitivity: "base" });
  const sort = (index, up) => {
    column = index;
    ascending = up;
    const keys = keysOf(index);
    const sign = up ? 1 : -1;
    rows.sort((a, b) => {
      const first = keys.get(a);
      const second = keys.get(b);
      if (first === null || second === null) return (first === null) - (second === null); // missing ones last
      return sign * (typeof first === "number" ? first - second : words.compare(first, second));
    });
    body.append(...rows);
    cards.append(...rows.map((row) => cardOf.get(row.dataset.case)).filter(Boolean));
    headings.forEach((heading, place) => {
      if (place === index) heading.setAttribute("aria-sort", up ? "ascending" : "descending");
      else heading.removeAttribute("aria-sort");
    });
    select.value = String(index);
    direction.textContent = up ? "Ascending" : "Descending";
    tell();
  };
  const firstWay = (index) => headings[index].dataset.worst !== "high";
  headings.forEach((heading, index) => {
    const click = () => sort(index, index === column ? !ascending : firstWay(index));
    find("button", heading).addEventListener("click", click);
  });
  select.addEventListener("change", () => sort(Number(select.value), firstWay(Number(select.value))));
  direction.addEventListener("click", () => sort(column, !ascending));

  // ---- search -------------------------------------------------------------------------------------------------------
  const search = find("#search");
  const warned = find("#warned");
  const tell = () => {
    const shown = rows.filter((row) => !row.hidden).length;
    const count = shown === rows.length ? `${shown} cases` : `${shown} of ${rows.length} cases`;
    said.textContent = `${count}, by ${headings[column].dataset.name}, ${ascending ? "ascending" : "descending"}`;
  };
  const filter = () => {
    const wanted = search.value.trim().toLowerCase();
    for (const row of rows) {
      const fits = row.dataset.name.toLowerCase().includes(wanted) && (!warned?.checked || "warned" in row.dataset);
      row.hidden = !fits;
      const card = cardOf.get(row.dataset.case);
      if (card) card.hidden = !fits;
    }
    tell();
  };
  search.addEventListener("input", filter);
  warned?.addEventListener("change", filter);

  // ---- layers -------------------------------------------------------------------------------------------------------
  const layers = all("[data-layer]");
  const showLayers = () => {
    root.dataset.hide = layers.filter((box) => !box.checked).map((box) => box.dataset.layer).join(" ");
  };
  layers.forEach((box) => box.addEventListener("change", showLayers));
  showLayers();

  // ---- large view ---------------------------------------------------------------------------------------------------
  const dialog = find("#large");
  const place = find("#large-place");
  const title = find("#large-title");
  let current = null;
  const visible = () => all(".case", cards).filter((card) => !card.hidden);
  const show = (card) => {
    if (!card) return;
    current = card;
    title.textContent = card.dataset.name;
    place.replaceChildren(...all(".strip-title, .strip", card).map((part) => part.cloneNode(true)));
    for (const figure of all("figure", place)) { // no higher than the window
      const part = find("img, svg", figure);
      const [width, height] = ["width", "height"].map((name) => Number(part.getAttribute(name)));
      figure.style.maxWidth = `calc((94vh - 9rem) * ${(width / height).toFixed(4)})`;
    }
    place.scrollTop = 0;
    if (!dialog.open) dialog.showModal();
  };
  const step = (by) => {
    const list = visible();
    show(list[(list.indexOf(current) + by + list.length) % list.length]);
  };
  cards.addEventListener("click", (event) => {
    const button = event.target.closest(".case > header button");
    if (button) show(button.closest(".case"));
  });
  find("#previous").addEventListener("click", () => step(-1));
  find("#next").addEventListener("click", () => step(1));
  find("#close").addEventListener("click", () => dialog.close());
  dialog.addEventListener("keydown", (event) => {
    if (event.key === "ArrowLeft") step(-1);
    else if (event.key === "ArrowRight") step(1);
    else return;
    event.preventDefault();
  });
  dialog.addEventListener("close", () => {
    const button = current && find("button", current);
    place.replaceChildren();
    if (button) { button.focus(); current.scrollIntoView({ block: "nearest" }); }
  });

  // As the page was written: its own order, and what a browser has kept in the fields.
  const sorted = headings.findIndex((heading) => heading.hasAttribute("aria-sort"));
  column = Math.max(sorted, 0);
  ascending = headings[column].getAttribute("aria-sort") !== "descending";
  select.value = String(column);
  direction.textContent = ascending ? "Ascending" : "Descending";
  filter();
})();
"""
