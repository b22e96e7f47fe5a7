"use strict";
const figures = JSON.parse(document.getElementById("figures").textContent);
const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

// Text takes the page's colours, which change with the reader's light or dark setting.
const theme = () => ({
  "font.color": colour("--ink"),
  "modebar.bgcolor": "rgba(0,0,0,0)",
  "modebar.color": colour("--dim"),
  "hoverlabel.bgcolor": colour("--soft"),
  "hoverlabel.bordercolor": colour("--rule"),
  "hoverlabel.font.color": colour("--ink"),
});

async function drawAll() {
  const font = getComputedStyle(document.body).fontFamily;
  for (const [id, { data, layout }] of Object.entries(figures)) {
    layout.font.family = font;
    await Plotly.newPlot(id, data, layout, { responsive: true, displaylogo: false });
    await Plotly.relayout(id, theme());
  }
  document.documentElement.dataset.drawn = Object.keys(figures).length;
}

matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  for (const id of Object.keys(figures)) Plotly.relayout(id, theme());
});
drawAll();
