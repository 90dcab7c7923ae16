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

for (const section of document.querySelectorAll("section:has(.choice)")) {
  const choices = [...section.querySelectorAll(".choice")];
  const panels = [...section.querySelectorAll("[data-panel]")];
  const nothing = section.querySelector(".nothing");
  const show = () => {
    for (const panel of panels) {
      panel.hidden = choices.some((choice) => {
        const [has, wanted] = [panel.dataset[choice.dataset.facet], choice.querySelector(":checked").value];
        return wanted && has !== undefined && has !== wanted; // what has no such facet stands beside everything
      });
    }
    if (nothing) nothing.hidden = panels.some((panel) => !panel.hidden);
  };
  for (const choice of choices) {
    choice.hidden = false;
    choice.addEventListener("change", show);
  }
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
    const key = (row) => row.cells[head.dataset.column].dataset.sort;
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
