"use strict";
const read = (id) => JSON.parse(document.getElementById(id).textContent);
const figures = read("figures");
const { colourings, close } = read("controls");
const curves = Object.keys(figures).filter((id) => id.startsWith("curve-"));
const tracked = Object.fromEntries(curves.map((id) => [id, figures[id].data.map(({ x, y }) => ({ x, y }))]));
const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

// Text takes the page's colours, which change with the reader's light or dark setting.
const theme = () => ({
  "font.color": colour("--ink"),
  "modebar.bgcolor": "rgba(0,0,0,0)",
  "modebar.color": colour("--dim"),
  "modebar.activecolor": colour("--accent"),
  "hoverlabel.bgcolor": colour("--soft"),
  "hoverlabel.bordercolor": colour("--rule"),
  "hoverlabel.font.color": colour("--ink"),
});

async function drawAll() {
  const font = getComputedStyle(document.body).fontFamily;
  const config = { responsive: true, displaylogo: false, modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d"] };
  for (const [id, { data, layout }] of Object.entries(figures)) {
    layout.font.family = font;
    await Plotly.newPlot(id, data, layout, config);
    await Plotly.relayout(id, theme());
  }
  document.documentElement.dataset.drawn = Object.keys(figures).length;
}

// The first trial is drawn last, so the traces stand in reverse.
function colourCurves(index) {
  const { colours, legend } = colourings[index];
  const lines = [...colours].reverse();
  const widths = lines.map((c) => (index > 0 ? 1.5 : c.startsWith("rgba") ? 1 : 2));
  for (const id of curves) {
    Plotly.restyle(id, { "line.color": lines, "line.width": widths, "marker.color": lines });
  }
  showLegend(legend);
}

function closeUp(on) {
  for (const id of curves) {
    if (close[id]) Plotly.relayout(id, on ? { "yaxis.range": close[id] } : { "yaxis.autorange": true });
  }
}

// The mean over an epoch and the four before it; an epoch that was never logged is no part of it.
function trailing({ x, y }) {
  return y.map((_, i) => {
    const inside = y.filter((_, j) => x[j] <= x[i] && x[j] > x[i] - 5);
    return inside.reduce((sum, value) => sum + value, 0) / inside.length;
  });
}

function average(on) {
  for (const id of curves) {
    Plotly.restyle(id, { y: tracked[id].map((line) => (on ? trailing(line) : line.y)) });
  }
}

function showLegend(legend) {
  const items = legend.map(([colour, text]) => {
    const item = document.createElement("li");
    const line = document.createElement("i");
    line.style.borderTopColor = colour;
    item.append(line, text);
    return item;
  });
  document.getElementById("legend").replaceChildren(...items);
}

// Numbers begin with the greatest, text with the first. A row that ends in a reason has no cell for its scores.
function sortBy(table, column, heading) {
  const last = heading.getAttribute("aria-sort");
  const up = last ? last === "descending" : !heading.classList.contains("n");
  const key = (row) => row.cells[column]?.dataset.sort ?? row.cells[column]?.textContent.trim() ?? "";
  const rows = [...table.tBodies[0].rows].sort((a, b) => (up ? 1 : -1) * compare(key(a), key(b), up));
  for (const other of table.querySelectorAll("th")) other.removeAttribute("aria-sort");
  heading.setAttribute("aria-sort", up ? "ascending" : "descending");
  table.tBodies[0].append(...rows);
}

// A missing value comes last, whichever way the column is sorted.
function compare(a, b, up) {
  if (a === "" || b === "") return a === b ? 0 : (a === "") === up ? 1 : -1;
  const [x, y] = [Number(a), Number(b)];
  return Number.isNaN(x) || Number.isNaN(y) ? a.localeCompare(b) : x - y;
}

for (const table of document.querySelectorAll("table.sortable")) {
  [...table.tHead.rows[0].cells].forEach((heading, column) => {
    heading.tabIndex = 0;
    heading.addEventListener("click", () => sortBy(table, column, heading));
    heading.addEventListener("keydown", (event) => event.key === "Enter" && sortBy(table, column, heading));
  });
}
// Which wrong rows stand on the page: all, or those of one true and one predicted class.
const pair = document.getElementById("pair");
function filterRows(chosen) {
  for (const card of document.querySelectorAll("#cards-wrong .card")) {
    card.hidden = chosen !== "" && card.dataset.pair !== chosen;
  }
}
function lookInto({ points: [{ x, y }] }) {
  const chosen = `${y},${x}`;
  if (![...pair.options].some((option) => option.value === chosen)) return;
  pair.value = chosen;
  filterRows(chosen);
  document.getElementById("gallery").scrollIntoView();
}
pair?.addEventListener("change", () => filterRows(pair.value));

showLegend(colourings[0].legend);
document.getElementById("colouring").addEventListener("change", (event) => colourCurves(Number(event.target.value)));
document.getElementById("close").addEventListener("change", (event) => closeUp(event.target.checked));
document.getElementById("average").addEventListener("change", (event) => average(event.target.checked));
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  for (const id of Object.keys(figures)) Plotly.relayout(id, theme());
});
drawAll().then(() => {
  if (pair && figures.confusion) document.getElementById("confusion").on("plotly_click", lookInto);
});
