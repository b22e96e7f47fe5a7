"use strict";
const model = JSON.parse(document.getElementById("model").textContent);
const FEW = 12, MOST = 10, WAIT = 120, RATE = 16000;
const cards = new Map([...document.querySelectorAll(".bank")].map((card) => [card.dataset.bank, card]));
// By bank, what gives its value for a request; a bank of which nothing is given has none.
const given = new Map();

const base64 = (blob) => new Promise((done, fail) => {
  const reader = new FileReader();
  reader.onload = () => done(reader.result.split(",")[1] ?? "");
  reader.onerror = () => fail(reader.error);
  reader.readAsDataURL(blob);
});

// Requests: one at a time, and of what was given meanwhile the last.
let waiting = null, asking = false, again = false;

function give(bank, value) {
  if (value) given.set(bank, value); else given.delete(bank);
  waiting ??= setTimeout(() => { waiting = null; ask(); }, WAIT);
}

async function ask() {
  if (asking) { again = true; return; }
  asking = true;
  do {
    again = false;
    show(given.size ? await answered() : null);
  } while (again);
  asking = false;
}

async function answered() {
  try {
    const row = {};
    for (const [bank, value] of [...given]) row[bank] = await value();
    const body = JSON.stringify({ rows: [row], top: Math.min(model.classes.length, 100), look: true });
    const response = await fetch("predict", { method: "POST", headers: { "Content-Type": "application/json" }, body });
    const text = await response.text();
    if (response.ok) return JSON.parse(text).predictions[0];
    return { refused: text.startsWith("{") ? JSON.parse(text).message : text };
  } catch (error) {
    return { refused: `no answer: ${error.message}` };
  }
}

// Answers
const element = (name, properties = {}, ...inner) => {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...inner);
  return made;
};
const percent = (share) => `${(100 * share).toFixed(share > 0.9995 || share < 0.0005 ? 0 : 1)} %`;

function show(record) {
  const found = record && !("refused" in record) ? record : null;
  const said = document.querySelector(".class");
  said.classList.toggle("hint", !found);
  if (found) said.replaceChildren(found.class, " ", element("small", { textContent: percent(found.probability) }));
  else said.textContent = record ? record.refused : "Draw, speak, type or drop something.";
  document.querySelector(".states").replaceChildren(
    ...states(record, found).map(([kind, text]) => element("li", { className: kind, textContent: text })));
  document.querySelector(".remarks").replaceChildren(
    ...(found?.remarks ?? []).map((text) => element("li", { textContent: text })));
  bars(found);
  for (const [bank, card] of cards) look(card, found?.seen[bank]);
  for (const place of document.querySelectorAll(".near")) nearest(place, found?.near[place.dataset.near] ?? []);
}

function states(record, found) {
  if (!found) return record ? [["bad", "refused"]] : [];
  const told = [found.familiar ? ["good", "like what it knows"] : ["bad", "like nothing it knows"]];
  if (!found.agree) told.push(["bad", "banks contradict each other"]);
  if (found.abstained) told.push(["bad", "would rather not answer"]);
  return told;
}

function bars(found) {
  const columns = [found?.top ?? {}, ...model.alone.map((bank) => found?.alone[bank] ?? {})];
  const best = columns.map((own) => Object.keys(own).reduce((a, b) => (own[b] > (own[a] ?? -1) ? b : a), null));
  const few = model.classes.length <= FEW;
  const sorted = Object.entries(columns[0]).sort((a, b) => b[1] - a[1]).map(([name]) => name);
  const rows = few ? model.classes : (found ? sorted : model.classes).slice(0, MOST);
  document.querySelector("tbody").replaceChildren(...rows.map((name) => {
    const cells = columns.map((own, place) => bar(own[name], name === best[place]));
    return element("tr", {}, element("th", { scope: "row", textContent: name }), ...cells);
  }));
}

function bar(share, isBest) {
  const line = element("i");
  line.style.width = `${100 * (share ?? 0)}%`;
  return element("td", { className: isBest ? "best" : "" }, element("b", { textContent: share === undefined ? "\u2013" : percent(share) }), line);
}

function look(card, seen) {
  const figure = card.querySelector(".seen"), shares = card.querySelectorAll(".share");
  if (figure) figure.hidden = !seen?.picture;
  if (seen?.picture) {
    figure.querySelector(".got").src = seen.picture;
    const over = figure.querySelector(".over");
    over.hidden = figure.querySelector(".where").hidden = !seen.over;
    if (seen.over) over.src = seen.over;
  }
  (model.banks[card.dataset.bank].columns ?? []).forEach((name, place) => {
    if (seen?.numbers) shares[place].style.width = `${100 * seen.numbers[name]}%`;
  });
  for (const line of shares) line.hidden = !seen?.numbers;
}

function nearest(place, rows) {
  place.hidden = !rows.length;
  place.querySelector("ul").replaceChildren(...rows.map((row) => {
    const who = Object.entries(row.groups).map(([name, own]) => `${name} ${own}`).join(", ");
    // Who said it is heard; whose picture it is a reader asks for.
    const told = element("p", { title: who }, element("b", { textContent: row.class }), row.sounds.length ? ` ${who}` : "");
    const seen = row.pictures.map((src) => element("img", { src, alt: `${place.dataset.near} of a ${row.class}` }));
    const played = row.sounds.map((src) => {
      const button = element("button", { type: "button", textContent: "Play", ariaLabel: `Play ${row.class}, ${who}` });
      button.addEventListener("click", () => new Audio(src).play());
      return button;
    });
    return element("li", {}, ...seen, ...row.numbers.map((text) => element("p", { textContent: text })), told, ...played);
  }));
}

// What is given
function pictures(bank, card) {
  const canvas = card.querySelector("canvas"), pen = canvas.getContext("2d");
  let last = null, isFile = false, taken = null;
  const clear = () => {
    taken = null;
    pen.fillStyle = "#fff";
    pen.fillRect(0, 0, canvas.width, canvas.height);
    isFile = false;
  };
  const place = (event) => {
    const box = canvas.getBoundingClientRect(), across = canvas.width / box.width;
    return [(event.clientX - box.left) * across, (event.clientY - box.top) * across];
  };
  const drawn = async () => base64(await new Promise((done) => canvas.toBlob(done)));
  const line = (to) => {
    Object.assign(pen, { lineWidth: Math.min(canvas.width, canvas.height) / 14, lineCap: "round", lineJoin: "round" });
    pen.beginPath();
    pen.moveTo(...last);
    pen.lineTo(...to);
    pen.stroke();
    last = to;
    give(bank, drawn);
  };
  canvas.addEventListener("pointerdown", (event) => {
    if (event.button) return;
    if (isFile) clear();
    card.querySelector(".name").textContent = "";
    canvas.setPointerCapture(event.pointerId);
    last = place(event);
    line(last);
  });
  canvas.addEventListener("pointermove", (event) => {
    if (last) for (const own of [...(event.getCoalescedEvents?.() ?? []), event]) line(place(own));
  });
  for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, () => { last = null; });
  clear();
  return {
    clear,
    take: async (file) => {
      clear();
      isFile = true;
      const own = (taken = file);
      // A browser may know fewer kinds of files than the model does.
      const seen = await createImageBitmap(file).catch(() => null);
      if (seen && taken === own) pen.drawImage(seen, 0, 0, canvas.width, canvas.height);
    },
  };
}

function sounds(bank, card, seconds) {
  const player = card.querySelector("audio"), button = card.querySelector(".record");
  let recorder = null, asking = false;
  const clear = () => {
    // What is being said then is dropped.
    const own = recorder;
    recorder = null;
    own?.stop();
    URL.revokeObjectURL(player.src);
    player.removeAttribute("src");
    player.hidden = true;
  };
  const record = async () => {
    const stream = await navigator.mediaDevices.getUserMedia({ audio: true });
    try {
      const parts = [], own = new MediaRecorder(stream);
      own.ondataavailable = (event) => parts.push(event.data);
      const ended = new Promise((done) => { own.onstop = done; });
      own.start();
      recorder = own;
      button.setAttribute("aria-pressed", "true");
      button.textContent = "Stop";
      setTimeout(() => own.state === "recording" && own.stop(), 1000 * (seconds + 1));
      await ended;
      return recorder === own ? new Blob(parts, { type: own.mimeType }) : null;
    } finally {
      stream.getTracks().forEach((track) => track.stop());
      recorder = null;
      button.setAttribute("aria-pressed", "false");
      button.textContent = "Record";
    }
  };
  const say = (words) => { card.querySelector(".name").textContent = words; };
  button.addEventListener("click", async () => {
    if (recorder) return recorder.stop();
    if (asking) return;
    asking = true;
    const heard = await record().catch((error) => say(`no microphone: ${error.message}`));
    asking = false;
    if (heard) wav(heard).then((sound) => take(bank, new File([sound], "recorded")), (error) => say(`not a recording: ${error.message}`));
  });
  return { clear, take: (file) => { clear(); player.src = URL.createObjectURL(file); player.hidden = false; } };
}

// A recording as a WAV of 16 bits, one channel.
async function wav(blob) {
  const context = new AudioContext({ sampleRate: RATE });
  const sound = await context.decodeAudioData(await blob.arrayBuffer());
  context.close();
  const channels = Array.from({ length: sound.numberOfChannels }, (_, number) => sound.getChannelData(number));
  const bytes = 2 * sound.length, view = new DataView(new ArrayBuffer(44 + bytes));
  const text = (at, word) => [...word].forEach((letter, place) => view.setUint8(at + place, letter.charCodeAt(0)));
  text(0, "RIFF"); view.setUint32(4, 36 + bytes, true); text(8, "WAVEfmt "); view.setUint32(16, 16, true);
  view.setUint16(20, 1, true); view.setUint16(22, 1, true); view.setUint32(24, RATE, true);
  view.setUint32(28, 2 * RATE, true); view.setUint16(32, 2, true); view.setUint16(34, 16, true);
  text(36, "data"); view.setUint32(40, bytes, true);
  for (let place = 0; place < sound.length; place++) {
    const level = channels.reduce((sum, own) => sum + own[place], 0) / channels.length;
    view.setInt16(44 + 2 * place, Math.max(-1, Math.min(1, level)) * 32767, true);
  }
  return view.buffer;
}

function numbers(bank, card) {
  const fields = [...card.querySelectorAll(".numbers input")];
  const texts = () => fields.map((field) => field.value.trim().replace(",", "."));
  for (const field of fields) field.addEventListener("input", () => give(bank, texts().some(Boolean) ? texts : null));
  return { clear: () => fields.forEach((field) => { field.value = ""; }), take: () => {} };
}

const KINDS = { picture: pictures, recording: sounds, numbers };
const makers = new Map([...cards].map(([bank, card]) => {
  const own = model.banks[bank], make = KINDS[own.source];
  return [bank, make ? make(bank, card, own.seconds) : { clear: () => {}, take: () => {} }];
}));

function take(bank, file) {
  makers.get(bank).take(file);
  cards.get(bank).querySelector(".name").textContent = file.name;
  give(bank, () => base64(file));
}

for (const [bank, card] of cards) {
  const chooser = card.querySelector("input[type=file]");
  card.querySelector(".clear")?.addEventListener("click", () => {
    makers.get(bank).clear();
    card.querySelector(".name").textContent = "";
    give(bank, null);
  });
  // The same file may be chosen again.
  chooser?.addEventListener("change", () => { if (chooser.files[0]) take(bank, chooser.files[0]); chooser.value = ""; });
  card.addEventListener("dragover", () => chooser && card.classList.add("over"));
  card.addEventListener("dragleave", () => card.classList.remove("over"));
  card.addEventListener("drop", (event) => {
    card.classList.remove("over");
    if (chooser && event.dataTransfer.files[0]) take(bank, event.dataTransfer.files[0]);
  });
}
// Else a browser would open what is dropped.
for (const name of ["dragover", "drop"]) addEventListener(name, (event) => event.preventDefault());
show(null);
