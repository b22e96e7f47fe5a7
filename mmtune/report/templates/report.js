const { colourings, close, explorer, parallel } = read("controls");
const curves = Object.keys(figures).filter((id) => id.startsWith("curve-"));
const tracked = Object.fromEntries(curves.map((id) => [id, figures[id].data.map(({ x, y }) => ({ x, y }))]));

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

function items(legend) {
  return legend.map(([colour, text]) => {
    const item = document.createElement("li");
    const line = document.createElement("i");
    line.style.borderTopColor = colour;
    item.append(line, text);
    return item;
  });
}

function showLegend(legend) {
  document.getElementById("legend").replaceChildren(...items(legend));
}

// A button within a heading, which the keyboard and a screen reader know how to press; what is clicked is the heading.
function press(heading) {
  const button = Object.assign(document.createElement("button"), { className: "press", type: "button" });
  button.append(...heading.childNodes);
  heading.append(button);
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
    heading.addEventListener("click", () => sortBy(table, column, heading));
    press(heading);
  });
}
// Which wrong rows stand on the page: all, or those of one true and one predicted class.
const pair = document.getElementById("wrong-pair");
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
  open(document.getElementById("gallery"), true);
  document.getElementById("gallery").scrollIntoView();
}
pair?.addEventListener("change", () => filterRows(pair.value));

// Parallel coordinates: a line for each trial, an axis for each choice, a stretch of an axis that lines must pass.
const [WIDE, HIGH, TOP, BOTTOM, SIDE] = [1100, 366, 50, 340, 70];
function svg(name, attributes, text = "") {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.textContent = text;
  return made;
}

function drawParallel({ axes, colours, titles }, holder) {
  const canvas = svg("svg", { class: "drawn", viewBox: `0 0 ${WIDE} ${HIGH}` });
  const across = (n) => SIDE + (n * (WIDE - 2 * SIDE)) / (axes.length - 1);
  const down = (place) => BOTTOM - place * (BOTTOM - TOP);
  const stretches = axes.map(() => null);
  const told = document.getElementById("passing");
  const lines = titles.map((title, trial) => {
    const points = axes.map(({ places }, n) => `${across(n).toFixed(1)},${down(places[trial]).toFixed(1)}`);
    const line = svg("path", { d: `M${points.join("L")}`, stroke: colours[trial] });
    line.append(svg("title", {}, title));
    return line;
  });
  const show = () => {
    const passes = (trial) => stretches.every((own, n) => !own || (axes[n].places[trial] >= own[0] && axes[n].places[trial] <= own[1]));
    const left = titles.filter((_, trial) => {
      lines[trial].classList.toggle("out", !passes(trial));
      return passes(trial);
    });
    told.textContent = stretches.some(Boolean) ? `${left.length} of ${titles.length} trials pass${left.length ? `, the best ${left[0]}` : ""}.` : "";
  };
  canvas.append(...lines.toReversed());
  axes.forEach(({ name, ticks }, n) => {
    const x = across(n);
    const brush = svg("rect", { class: "brush", x: x - 9, width: 18, y: 0, height: 0 });
    const grip = svg("rect", { class: "grip", x: x - 18, width: 36, y: TOP - 8, height: BOTTOM - TOP + 16 });
    const place = (event) => {
      const { top, height } = canvas.getBoundingClientRect();
      // Lines through the first and the last value stand a little apart, beyond the axis too.
      return Math.min(1.05, Math.max(-0.05, (BOTTOM - ((event.clientY - top) * HIGH) / height) / (BOTTOM - TOP)));
    };
    let from = null;
    const set = (one, other) => {
      const [low, high] = [Math.min(one, other), Math.max(one, other)];
      stretches[n] = high - low > 0.02 ? [low, high] : null;
      brush.setAttribute("y", down(high));
      brush.setAttribute("height", stretches[n] ? down(low) - down(high) : 0);
      show();
    };
    grip.addEventListener("pointerdown", (event) => {
      grip.setPointerCapture(event.pointerId);
      from = place(event);
      set(from, from);
    });
    grip.addEventListener("pointermove", (event) => from !== null && set(from, place(event)));
    for (const end of ["pointerup", "pointercancel"]) grip.addEventListener(end, () => (from = null));
    const anchor = n === axes.length - 1 ? "start" : "end";
    const beside = n === axes.length - 1 ? 8 : -8;
    canvas.append(svg("line", { class: "axis", x1: x, x2: x, y1: TOP, y2: BOTTOM }), brush);
    canvas.append(svg("text", { class: "name", x, y: n % 2 ? 14 : 30, "text-anchor": "middle" }, name));
    for (const [at, text] of ticks) canvas.append(svg("text", { x: x + beside, y: down(at) + 4, "text-anchor": anchor }, text));
    canvas.append(grip);
  });
  holder.replaceChildren(canvas);
}

// A row of an embedding: its picture, who says it, its recording.
const { pictures, sounds, colourings: explored } = explorer;
const embedded = Object.keys(figures).filter((id) => /^(labels|clusters)-/.test(id));
// Plotly changes what it is given.
const clusters = Object.fromEntries(embedded.map((id) => {
  const { data, layout } = figures[id];
  const points = data.map(({ x, meta }) => ({ x, depth: meta }));
  const axes = [layout.xaxis.title.text, layout.meta?.[0]];
  return [id, { colours: data.map(({ marker }) => marker.color), names: structuredClone(layout.annotations ?? []), points, axes }];
}));
const look = document.getElementById("look");
const unescaped = (text) => new DOMParser().parseFromString(text, "text/html").documentElement.textContent;
function lookAt({ points: [{ customdata, text }] }) {
  const words = document.createElement("div");
  const more = explored.filter(({ ofRow }) => ofRow).map(({ name, values, rows }) => `${name} ${values[rows[customdata]]}`);
  words.textContent = [unescaped(text), ...more].join(", ");
  const images = (pictures[customdata] ?? []).map((src) => Object.assign(new Image(), { src, alt: "" }));
  const players = (sounds[customdata] ?? []).map((src) => Object.assign(document.createElement("audio"), { src, controls: true }));
  look.replaceChildren(words, ...images, ...players);
  look.hidden = false;
}
function hear(event) {
  lookAt(event);
  look.querySelector("audio")?.play().catch(() => {});
}
let way = null;
function colourPoints(index) {
  way = explored[index];
  for (const id of embedded.filter((id) => id.startsWith("clusters-"))) {
    const own = figures[id].data.map(({ customdata }, n) => (way ? customdata.map((row) => way.colours[way.rows[row]]) : clusters[id].colours[n]));
    Plotly.restyle(id, { "marker.color": own });
    Plotly.relayout(id, { annotations: groupNames(id) });
  }
  for (const by of document.querySelectorAll(".by")) by.textContent = way?.name ?? "K-means cluster";
  document.getElementById("meaning").replaceChildren(...items(way?.values.map((value, n) => [way.colours[n], value]) ?? []));
}

// PCA turned about its second component, so that the third is seen too. The axis stays as long as it must ever be.
let angle = 0;
function across({ x, depth }) {
  const [along, into] = [Math.cos((angle * Math.PI) / 180), Math.sin((angle * Math.PI) / 180)];
  return depth ? x.map((value, n) => along * value + into * depth[n]) : x;
}
function median(values) {
  const [sorted, half] = [[...values].sort((a, b) => a - b), (values.length - 1) / 2];
  return (sorted[Math.floor(half)] + sorted[Math.ceil(half)]) / 2;
}
function groupNames(id) {
  const { names, points } = clusters[id];
  if (way && id.startsWith("clusters-")) return [];
  return structuredClone(names).map((name, n) => ({ ...name, x: median(across(points[n])) }));
}
function turn(degrees) {
  angle = Number(degrees);
  document.querySelector("output[for=turned]").textContent = `${angle}°`;
  for (const id of embedded.filter((id) => clusters[id].axes[1])) {
    const { points, axes: [first, third] } = clusters[id];
    const widest = 1.05 * Math.max(...points.flatMap(({ x, depth }) => x.map((value, n) => Math.hypot(value, depth[n]))));
    const title = { 0: first, 90: third }[angle] ?? `components 1 and 3, seen from ${angle}°`;
    Plotly.update(id, { x: points.map(across) }, { "xaxis.title.text": title, "xaxis.range": [-widest, widest], annotations: groupNames(id) });
  }
}
document.getElementById("turned")?.addEventListener("input", ({ target }) => turn(target.value));
document.getElementById("explored")?.addEventListener("change", ({ target }) => colourPoints(target.value));
document.addEventListener("keydown", ({ key }) => key === "Escape" && (look.hidden = true));

// Sections of a phone's page open one by one; a link into one opens it.
const phone = matchMedia("screen and (max-width: 640px)");
function open(section, on) {
  section.classList.toggle("open", on);
  section.querySelector("h2 > .press")?.setAttribute("aria-expanded", on);
  if (on) for (const plot of section.querySelectorAll(".js-plotly-plot")) Plotly.Plots.resize(plot);
}
const folding = document.querySelectorAll("main > section[id]");
function fold() {
  for (const section of folding) {
    const heading = section.querySelector("h2"), button = heading.querySelector(".press");
    if (phone.matches && !button) {
      press(heading);
      open(section, section.classList.contains("open"));
    } else if (!phone.matches) {
      button?.replaceWith(...button.childNodes);
    }
  }
}
for (const section of folding) {
  section.classList.add("folds");
  section.querySelector("h2").addEventListener("click", () => phone.matches && open(section, !section.classList.contains("open")));
  for (const link of document.querySelectorAll(`a[href="#${section.id}"]`)) link.addEventListener("click", () => open(section, true));
}
fold();
phone.addEventListener("change", fold);
const asked = document.getElementById(location.hash.slice(1))?.closest("main > section[id]");
if (asked) open(asked, true);

if (parallel) drawParallel(parallel, document.getElementById("parallel"));

showLegend(colourings[0].legend);
document.getElementById("colouring").addEventListener("change", (event) => colourCurves(Number(event.target.value)));
document.getElementById("close").addEventListener("change", (event) => closeUp(event.target.checked));
document.getElementById("average").addEventListener("change", (event) => average(event.target.checked));
whenDrawn.push(() => {
  for (const id of embedded) {
    document.getElementById(id).on("plotly_hover", lookAt);
    document.getElementById(id).on("plotly_click", hear);
  }
  if (pair && figures.confusion) document.getElementById("confusion").on("plotly_click", lookInto);
});
