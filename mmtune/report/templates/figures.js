"use strict";
const read = (id) => JSON.parse(document.getElementById(id).textContent);
const figures = read("figures");
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
}

// What a page adds to its figures once they stand, in the order in which it asks.
const whenDrawn = [];
document.addEventListener("DOMContentLoaded", async () => {
  await drawAll();
  for (const add of whenDrawn) add();
  document.documentElement.dataset.height = document.documentElement.scrollHeight;
  document.documentElement.dataset.drawn = Object.keys(figures).length;
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  for (const id of Object.keys(figures)) Plotly.relayout(id, theme());
});
