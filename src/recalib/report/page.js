"use strict";

const root = document.documentElement;
const theme = document.getElementById("theme");
const dark = matchMedia("(prefers-color-scheme: dark)");
const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : dark.matches);
const nameTheme = () => (theme.textContent = isDark() ? "Light" : "Dark");
theme.hidden = false;
theme.addEventListener("click", () => {
  root.dataset.theme = isDark() ? "light" : "dark";
  nameTheme();
});
dark.addEventListener("change", nameTheme);
nameTheme();

// Charts that are not shown at first come compressed, in a page that would be large.
const unpack = async (chart) => {
  const bytes = Uint8Array.from(atob(chart.dataset.packed), (letter) => letter.charCodeAt(0));
  const svg = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  chart.innerHTML = await new Response(svg).text();
  delete chart.dataset.packed;
};
for (const chart of document.querySelectorAll("[data-packed]")) unpack(chart);

// One bar of filters for the whole page. What has no such facet stands beside everything.
const filters = document.querySelector(".filters");
if (filters) {
  const choices = [...filters.querySelectorAll("select")];
  const panels = [...document.querySelectorAll("[data-panel]")];
  const folded = document.querySelector("table.folded");
  const before = folded.querySelector(".before");
  const columns = before.colSpan;
  const show = () => {
    const wanted = choices.filter((choice) => choice.value).map((choice) => [choice.dataset.facet, choice.value]);
    for (const panel of panels) {
      panel.hidden = wanted.some(([facet, value]) => facet in panel.dataset && panel.dataset[facet] !== value);
    }
    for (const section of document.querySelectorAll("section:has(.nothing)")) {
      const [there, shown] = ["[data-panel]", "[data-panel]:not([hidden])"].map((of) => section.querySelector(of));
      section.querySelector(".nothing").hidden = !there || Boolean(shown);
    }
    let hidden = 0; // columns that say the same in every row
    for (const head of folded.querySelectorAll("th[data-column]")) {
      const same = wanted.some(([facet]) => facet === head.dataset.facet);
      hidden += same;
      for (const row of [head.parentElement, ...folded.tBodies[0].rows]) row.cells[head.dataset.column].hidden = same;
    }
    before.colSpan = columns - hidden;
  };
  filters.hidden = false;
  filters.addEventListener("change", show);
  show();
}

const compare = (a, b) => {
  const [x, y] = [Number(a), Number(b)];
  return Number.isNaN(x) || Number.isNaN(y) ? a.localeCompare(b) : x - y;
};
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.querySelectorAll("th[data-column]")];
  const body = table.tBodies[0];
  const sortBy = (head) => {
    const up = head.getAttribute("aria-sort") !== "ascending";
    for (const other of heads) other.setAttribute("aria-sort", "none");
    head.setAttribute("aria-sort", up ? "ascending" : "descending");
    const key = (row) => row.cells[head.dataset.column].dataset.sort ?? row.cells[head.dataset.column].textContent;
    const rows = [...body.rows].sort((a, b) => {
      if (!key(a) || !key(b)) return !key(a) - !key(b); // what was not measured stays last
      return up ? compare(key(a), key(b)) : compare(key(b), key(a));
    });
    body.append(...rows);
  };
  for (const head of heads) head.querySelector("button").addEventListener("click", () => sortBy(head));
}

const tip = document.getElementById("tip");
const point = (event) => {
  const mark = event.target.closest?.(".chart path[aria-roledescription][aria-label]");
  tip.hidden = !mark || !mark.closest(".role-mark");
  if (tip.hidden) return;
  tip.textContent = mark.getAttribute("aria-label");
  tip.style.left = `${Math.max(8, Math.min(event.clientX + 14, innerWidth - tip.offsetWidth - 8))}px`;
  tip.style.top = `${event.clientY > innerHeight / 2 ? event.clientY - tip.offsetHeight - 12 : event.clientY + 16}px`;
};
document.addEventListener("pointermove", point);
document.addEventListener("pointerdown", point);
