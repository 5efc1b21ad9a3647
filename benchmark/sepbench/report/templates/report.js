"use strict";
document.documentElement.classList.remove("plain");

// Tables: a button in each heading. What has no figure comes last, whichever way.
function sortBy(table, column, falling) {
  const body = table.tBodies[0];
  const numeric = table.tHead.rows[0].cells[column].classList.contains("n");
  const key = (row) => {
    const cell = row.cells[column];
    if ("v" in cell.dataset) return Number(cell.dataset.v);
    const words = cell.textContent.trim();
    return numeric || words === "–" ? null : words;
  };
  const rows = Array.from(body.rows, (row) => [key(row), row]);
  const compare = (a, b) => (typeof a === "number" ? a - b : a.localeCompare(b, "en", { numeric: true }));
  rows.sort(([a], [b]) => {
    if (a === null || b === null) return (a === null) - (b === null);
    return falling ? compare(b, a) : compare(a, b);
  });
  body.append(...rows.map(([, row]) => row));
}

for (const table of document.querySelectorAll("table.sortable")) {
  const heads = Array.from(table.tHead.rows[0].cells);
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = head.textContent;
    head.replaceChildren(button);
    button.addEventListener("click", () => {
      const now = head.getAttribute("aria-sort");
      const falling = now ? now === "ascending" : "falling" in head.dataset;
      heads.forEach((each) => each.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", falling ? "descending" : "ascending");
      sortBy(table, column, falling);
    });
  });
}

// Print: what is folded, and charts that nobody has scrolled to yet.
const folded = Array.from(document.querySelectorAll("details:not(.run)"));
let opened = [];
addEventListener("beforeprint", () => {
  opened = folded.filter((details) => !details.open);
  opened.forEach((details) => { details.open = true; });
});
addEventListener("afterprint", () => opened.forEach((details) => { details.open = false; }));
addEventListener("load", () => setTimeout(() => {
  document.querySelectorAll("img.chart").forEach((chart) => { chart.loading = "eager"; });
}, 500));

// Players: their sounds are in the page, and are handed to them when their run is opened.
let sounds = null;
const addresses = new Map();
function addressOf(key) {
  sounds = sounds || JSON.parse(document.getElementById("sounds").textContent);
  if (!addresses.has(key)) {
    const bytes = Uint8Array.from(atob(sounds[key]), (letter) => letter.charCodeAt(0));
    addresses.set(key, URL.createObjectURL(new Blob([bytes], { type: "audio/ogg" })));
  }
  return addresses.get(key);
}

for (const details of document.querySelectorAll("details.run")) {
  details.addEventListener("toggle", () => {
    if (!details.open) return;
    for (const audio of details.querySelectorAll("audio:not([src])")) {
      audio.src = addressOf(audio.dataset.sound);
      audio.preload = "metadata";
    }
  });
}

let heard = null;
for (const audio of document.querySelectorAll("audio")) {
  const head = audio.parentElement.querySelector(".head");
  const move = () => {
    head.hidden = false;
    head.style.left = `${(100 * audio.currentTime) / (audio.duration || 1)}%`;
    if (!audio.paused) requestAnimationFrame(move);
  };
  audio.addEventListener("play", () => {
    if (heard && heard !== audio) heard.pause();
    heard = audio;
    move();
  });
  audio.addEventListener("seeked", move);
}
