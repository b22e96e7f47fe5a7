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

// Every figure as the text of an SVG that needs no page, by name; those that are no Plotly's have their looks by a style.
const LOOKS = ["fill", "stroke", "stroke-width", "stroke-linejoin", "paint-order", "opacity", "font-family", "font-size", "font-weight"];
async function asPictures() {
  const found = {};
  for (const id of Object.keys(figures)) {
    await Plotly.relayout(id, { paper_bgcolor: colour("--page") });
    const { clientWidth: width, clientHeight: height } = document.getElementById(id);
    const made = await Plotly.toImage(id, { format: "svg", width, height });
    found[id] = decodeURIComponent(made.slice(made.indexOf(",") + 1));
  }
  for (const own of document.querySelectorAll("[id] > svg.drawn")) {
    const { width, height } = own.getBoundingClientRect();
    for (const part of own.querySelectorAll("*")) {
      const look = getComputedStyle(part);
      part.setAttribute("style", LOOKS.map((name) => `${name}:${look.getPropertyValue(name)}`).join(";"));
    }
    Object.entries({ xmlns: "http://www.w3.org/2000/svg", width, height }).forEach((pair) => own.setAttribute(...pair));
    found[own.parentElement.id] = own.outerHTML;
  }
  return found;
}

// What a page adds to its figures once they stand, in the order in which it asks.
const whenDrawn = [];
document.addEventListener("DOMContentLoaded", async () => {
  await drawAll();
  for (const add of whenDrawn) add();
  if (location.hash === "#pictures") {
    const textContent = JSON.stringify(await asPictures()).replaceAll("<", "\\u003c");
    document.body.append(Object.assign(document.createElement("script"), { type: "application/json", id: "pictures", textContent }));
  }
  document.documentElement.dataset.height = document.documentElement.scrollHeight;
  document.documentElement.dataset.drawn = Object.keys(figures).length;
});
function recolour() {
  for (const id of Object.keys(figures)) Plotly.relayout(id, theme());
}
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", recolour);
// On paper all is light, whatever the screen is.
for (const [event, on] of [["beforeprint", true], ["afterprint", false]]) {
  addEventListener(event, () => {
    document.documentElement.classList.toggle("paper", on);
    recolour();
  });
}
