"use strict";
const byId = (id) => document.getElementById(id);

// light and dark
const theme = byId("theme");
theme.hidden = false;
theme.addEventListener("click", () => {
  const root = document.documentElement;
  const dark = root.dataset.theme
    ? root.dataset.theme === "dark"
    : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
});

// zoom: a copy in a dialog, which Escape closes and which gives the focus back
const zoom = byId("zoom");
for (const button of document.querySelectorAll("button.zoom")) {
  button.addEventListener("click", () => {
    byId("enlarged").replaceChildren(button.firstElementChild.cloneNode(true));
    zoom.showModal();
  });
}

const ranked = byId("ranked");
if (ranked) {
  const body = ranked.tBodies[0];
  const rows = [...body.rows];

  // filter
  const filter = byId("filter");
  filter.closest("div").hidden = false;
  const texts = rows.map((row) => row.textContent.toLowerCase());
  const show = () => {
    const wanted = filter.value.trim().toLowerCase();
    rows.forEach((row, place) => { row.hidden = !texts[place].includes(wanted); });
    byId("matches").textContent = `${rows.filter((row) => !row.hidden).length} of ${rows.length} shown`;
  };
  filter.addEventListener("input", show);
  show();

  // sort
  const heads = [...ranked.tHead.rows[0].cells];
  const value = (row, place) => {
    const given = row.cells[place].dataset.value ?? "";
    const number = Number(given);
    return given !== "" && !Number.isNaN(number) ? number : given;
  };
  const compare = (a, b) => (typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b)));
  heads.forEach((head, place) => {
    if (!("sort" in head.dataset)) return;
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = head.textContent;
    head.replaceChildren(button);
    button.addEventListener("click", () => {
      const sign = head.getAttribute("aria-sort") === "ascending" ? -1 : 1;
      for (const other of heads) if ("sort" in other.dataset) other.setAttribute("aria-sort", "none");
      head.setAttribute("aria-sort", sign > 0 ? "ascending" : "descending");
      body.append(...[...rows].sort((a, b) => sign * compare(value(a, place), value(b, place))));
    });
  });
}
