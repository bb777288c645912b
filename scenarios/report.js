/* What moves on a report: the diagram of messages, and the way to it from everything that has a time.
 *
 * The page says in itself whether this worked: data-ready on the body, and #script-errors if something went wrong.
 * The window is kept in the address (#window=1.25-1.31), so a moment can be pointed at. Times are seconds. */
"use strict";

function complain(text) {
  let box = document.getElementById("script-errors");
  if (!box) {
    box = document.createElement("pre");
    box.id = "script-errors";
    document.body.prepend(box);
  }
  box.append(text + "\n");
}
addEventListener("error", (event) => complain(event.message));
addEventListener("securitypolicyviolation", (event) => complain("refused to load: " + event.blockedURI));

const DRAWN_MAX = 500;      /* So many messages are drawn at once, and so many lost ones, */
const LABELLED_MAX = 45;    /* and of so many the kind is written beside them. */
const LISTED_MAX = 200;
const WINDOW_SECONDS_MIN = 20e-6;
const WIDTH = 1000, LEFT = 128, RIGHT = 14, TOP = 30, ROW = 44;
const PLOT_LEFT = 64, PLOT_RIGHT = 16;

const byId = (id) => document.getElementById(id);
const NAMESPACE = document.querySelector("svg").namespaceURI;

function draw(parent, name, attributes, text) {
  const element = document.createElementNS(NAMESPACE, name);
  for (const key in attributes) element.setAttribute(key, attributes[key]);
  if (text !== undefined) element.textContent = text;
  parent.append(element);
  return element;
}

function make(parent, name, className, text) {
  const element = document.createElement(name);
  if (className) element.className = className;
  if (text !== undefined) element.textContent = text;
  parent.append(element);
  return element;
}

function duration(seconds) {
  if (seconds >= 0.9995) return Number(seconds.toPrecision(3)) + " s";
  if (seconds >= 0.9995e-3) return Number((seconds * 1e3).toPrecision(3)) + " ms";
  return Number((seconds * 1e6).toPrecision(3)) + " µs";
}

function ticksOf(begin, end, countMax) {
  const power = 10 ** Math.floor(Math.log10((end - begin) / countMax));
  const steps = [1, 2, 5, 10].map((factor) => factor * power);
  const step = steps.find((each) => (end - begin) / each <= countMax) || 10 * power;
  const digits = Math.max(0, -Math.floor(Math.log10(step) + 1e-9));
  const ticks = [];
  for (let number = Math.ceil(begin / step); number * step <= end; number++) {
    ticks.push([number * step, (number * step).toFixed(digits)]);
  }
  return ticks;
}

/* ---- what the page was given */

const data = JSON.parse(byId("data").textContent);
const words = data.words;
const messages = data.messages.map((row, number) => ({
  number, sent: row[0], received: row[1], from: row[2], to: row[3], kind: words[row[4]],
  sender: words[row[5]], receiver: words[row[6]], detail: words[row[7]], speech: words[row[8]],
  hay: (data.processes[row[2]] + " " + data.processes[row[3]] + " " + words[row[4]] + " " + words[row[5]] + " " +
    words[row[6]] + " " + words[row[7]]).toLowerCase(),
}));
const operations = data.operations.map((row) => ({
  place: row[0], invoked: row[1], completed: row[2], outcome: words[row[3]], text: words[row[4]],
}));
const events = data.events.map((row) => ({ at: row[0], place: row[1], what: words[row[2]] }));
const upkeep = new Set(data.upkeep);

const kinds = new Map();      /* By speech and kind: how many, which colour, whether shown. */
const kindOf = (message) => kinds.get(message.speech + " " + message.kind);
for (const message of messages) {
  const name = message.speech + " " + message.kind;
  const kind = kinds.get(name);
  if (kind) kind.count++;
  else kinds.set(name, { name: message.kind, speech: message.speech, count: 1, colour: "",
    upkeep: upkeep.has(message.kind) || message.speech === "links",
    shown: !upkeep.has(message.kind) && message.speech !== "links" });
}
const GROUPS = [["actors", "what actors tell each other"], ["clients", "clients ask, nodes answer"],
  ["zookeeper", "ZooKeeper"], ["links", "upkeep of links"]];
let hue = 205;
for (const kind of [...kinds.values()].sort((a, b) => (a.name < b.name ? -1 : 1))) {
  if (kind.upkeep) kind.colour = "var(--quiet)";
  else if (kind.speech === "clients") kind.colour = kind.name.startsWith("-") ? "var(--not)" : "var(--ok)";
  else if (kind.speech === "zookeeper") kind.colour = "var(--maybe)";
  else {
    kind.colour = "hsl(" + Math.round(hue) + " 62% 52%)";
    hue = (hue + 137.5) % 360;
  }
}

/* When a process did not live, or was paused: from one event to the next. */
const absences = [];
{
  const since = new Map();
  const close = (place, at) => {
    const begun = since.get(place);
    if (begun) absences.push({ place, from: begun.at, to: at, how: begun.how });
    since.delete(place);
  };
  for (const event of events) {
    if (event.place === null || event.place === undefined) continue;
    const how = /^(killed|lost power)/.test(event.what) ? "dead" : event.what === "paused" ? "paused" : "";
    if (how || /^(started|resumed)/.test(event.what)) close(event.place, event.at);
    if (how) since.set(event.place, { at: event.at, how });
  }
  for (const place of [...since.keys()]) close(place, data.end);
}

/* ---- the window */

const state = {
  begin: data.window[0], end: data.window[1], search: "", chosen: null, past: new Set(), future: new Set(),
};
const height = TOP + ROW * data.processes.length + 8;
const x = (at) => LEFT + (WIDTH - LEFT - RIGHT) * (at - state.begin) / (state.end - state.begin);
const y = (place) => TOP + ROW * (place + 0.5);
const svg = byId("lamport");
let asked = false;

function show(begin, end) {
  const length = Math.min(Math.max(end - begin, WINDOW_SECONDS_MIN), data.end);
  const middle = (begin + end) / 2;
  state.begin = Math.min(Math.max(0, middle - length / 2), data.end - length);
  state.end = state.begin + length;
  render();
}

function goTo(begin, end) {
  const room = Math.max((end - begin) * 0.1, 0.02);
  show(begin - room, end + room);
  byId("messages").scrollIntoView();
}

function zoom(factor, at) {
  const middle = at === undefined ? (state.begin + state.end) / 2 : at;
  show(middle - (middle - state.begin) * factor, middle + (state.end - middle) * factor);
}

function move(part) {
  const by = (state.end - state.begin) * part;
  show(state.begin + by, state.end + by);
}

function wanted(message) {
  return kindOf(message).shown && (!state.search || message.hay.includes(state.search));
}

/* ---- what can have caused a message, and what it can have caused: by messages, and by the order in each process */

function choose(message) {
  state.chosen = state.chosen === message ? null : message;
  state.past.clear();
  state.future.clear();
  if (state.chosen) {
    const reached = data.processes.map(() => Infinity);
    if (message.received !== null) reached[message.to] = message.received;
    for (let number = message.number + 1; number < messages.length; number++) {
      const next = messages[number];
      if (next.sent >= reached[next.from]) {
        state.future.add(number);
        if (next.received !== null) reached[next.to] = Math.min(reached[next.to], next.received);
      }
    }
    const left = data.processes.map(() => -Infinity);
    left[message.from] = message.sent;
    const arrived = messages.filter((each) => each.received !== null && each.received <= message.sent);
    arrived.sort((a, b) => b.received - a.received);
    for (const before of arrived) {
      if (before.received <= left[before.to]) {
        state.past.add(before.number);
        left[before.from] = Math.max(left[before.from], before.sent);
      }
    }
  }
  render();
}

function roleOf(message) {
  if (message === state.chosen) return "chosen";
  return state.past.has(message.number) ? "past" : state.future.has(message.number) ? "future" : "";
}

function sentence(message) {
  const whole = (place, actor) => data.processes[place] + (actor ? " " + actor : "");
  const end = message.received === null ? "and never received" :
    "received " + message.received.toFixed(6) + " s (" + duration(message.received - message.sent) + " later)";
  return message.kind + " from " + whole(message.from, message.sender) + " to " + whole(message.to, message.receiver) +
    ", sent " + message.sent.toFixed(6) + " s, " + end + (message.detail ? ": " + message.detail : "");
}

/* ---- drawing */

function render() {
  if (!asked) {
    asked = true;
    setTimeout(() => { asked = false; renderNow(); }, 0);  /* A page that is not looked at has no animation frames. */
  }
}

function renderNow() {
  svg.replaceChildren();
  svg.setAttribute("viewBox", "0 0 " + WIDTH + " " + height);
  svg.classList.toggle("causal", state.chosen !== null);
  const clip = draw(draw(svg, "defs", {}), "clipPath", { id: "inside" });
  draw(clip, "rect", { x: LEFT, y: 0, width: WIDTH - LEFT - RIGHT, height });
  const inside = draw(svg, "g", { "clip-path": "url(#inside)" });
  drawTime(inside);
  drawLives(inside);
  drawOperations(inside);
  const found = messages.filter((each) => each.sent <= state.end &&
    (each.received === null ? each.sent : each.received) >= state.begin && wanted(each));
  let drawn = found;
  if (found.length > DRAWN_MAX) {  /* As many as fit, evenly spread; lost and chosen ones in any case. */
    const every = found.length / DRAWN_MAX;
    drawn = found.filter((each, index) => Math.floor(index / every) !== Math.floor((index - 1) / every) ||
      each === state.chosen || each.received === null).slice(0, 2 * DRAWN_MAX);
  }
  labels = [];
  for (const message of drawn) drawMessage(inside, message, drawn.length <= LABELLED_MAX);
  for (const event of events) {
    if (event.at < state.begin || event.at > state.end) continue;
    const place = event.place === null || event.place === undefined ? -0.5 : event.place;
    const mark = draw(inside, "circle", { class: "event", cx: x(event.at), cy: y(place), r: 4 });
    draw(mark, "title", {}, event.at.toFixed(6) + " s: " + event.what);
  }
  const shown = byId("shown");
  const length = duration(state.end - state.begin) + " from " + state.begin.toFixed(6) + " s: ";
  const cut = drawn.length < found.length;
  shown.textContent = length + (cut ? found.length + " messages, of which " + drawn.length +
    " are drawn: zoom in, or choose fewer kinds" : found.length + (found.length === 1 ? " message" : " messages"));
  shown.classList.toggle("cut", cut);
  svg.dataset.drawn = drawn.length;
  const causes = state.past.size + " messages can have caused it, it can have caused " + state.future.size + ".";
  byId("chosen").textContent = state.chosen ? sentence(state.chosen) + " — " + causes : "";
  renderDensity();
  if (byId("listed").open) renderList(found);
  const address = "#window=" + state.begin.toFixed(6) + "-" + state.end.toFixed(6);
  try {
    history.replaceState(null, "", address);
  } catch (refused) { /* A page without an address of its own keeps none. */ }
  document.body.dataset.ready = "yes";
}

function drawTime(parent) {
  for (const [at, label] of ticksOf(state.begin, state.end, 8)) {
    draw(parent, "path", { class: "grid", d: "M" + x(at) + " 16V" + height });
    if (x(at) > LEFT + 24 && x(at) < WIDTH - RIGHT - 24) {
      draw(parent, "text", { class: "scale", x: x(at), y: 12, "text-anchor": "middle" }, label + " s");
    }
  }
  data.moments.forEach(([at, text], index) => {
    if (at < state.begin || at > state.end) return;
    const line = draw(parent, "path", { class: "story", d: "M" + x(at) + " 28V" + height });
    draw(line, "title", {}, text);
    const label = draw(parent, "text", { class: "story-label", x: x(at) + 3, y: 26 }, String(index + 1));
    draw(label, "title", {}, text);
  });
}

function drawLives(parent) {
  data.processes.forEach((name, place) => {
    draw(parent, "path", { class: "life", d: "M" + LEFT + " " + y(place) + "H" + (WIDTH - RIGHT) });
    draw(svg, "text", { class: "name", x: LEFT - 8, y: y(place) + 4 }, name);
  });
  for (const each of absences) {
    if (each.to < state.begin || each.from > state.end) continue;
    const from = x(Math.max(each.from, state.begin)), to = x(Math.min(each.to, state.end));
    const line = "M" + from + " " + y(each.place) + "H" + to;
    draw(parent, "path", { class: each.how, d: line });
    if (each.how === "dead") draw(parent, "path", { class: "dead-line", d: line });
  }
}

function drawOperations(parent) {
  for (const each of operations) {
    const end = each.completed === null ? data.end : each.completed;
    if (end < state.begin || each.invoked > state.end) continue;
    const left = x(Math.max(each.invoked, state.begin));
    const bar = draw(parent, "rect", { class: "operation " + each.outcome, x: left, y: y(each.place) - 6,
      width: Math.max(1.5, x(Math.min(end, state.end)) - left), height: 12 });
    draw(bar, "title", {}, each.text);
  }
}

function drawMessage(parent, message, labelled) {
  const kind = kindOf(message), lost = message.received === null;
  const x1 = x(message.sent), y1 = y(message.from);
  let x2 = lost ? x1 + 14 : x(message.received), y2 = y(message.to);
  if (lost) y2 = y1 + (y2 - y1) * 0.5;
  const group = draw(parent, "g", { class: "arrow " + (lost ? "lost " : "") + roleOf(message) });
  draw(group, "title", {}, sentence(message));
  const line = "M" + x1 + " " + y1 + "L" + x2 + " " + y2;
  draw(group, "path", { class: "touch", d: line });
  const path = draw(group, "path", { class: "message" + (kind.upkeep ? " upkeep" : ""), d: line });
  path.style.stroke = kind.colour;
  if (lost) {
    const cross = "M" + (x2 - 4) + " " + (y2 - 4) + "l8 8m0 -8l-8 8";
    draw(group, "path", { class: "cross", d: cross });
  } else {
    const long = Math.hypot(x2 - x1, y2 - y1) || 1;
    const dx = (x2 - x1) / long, dy = (y2 - y1) / long;
    const corner = (side) => (x2 - 8 * dx - side * 3.2 * dy) + " " + (y2 - 8 * dy + side * 3.2 * dx);
    const shape = "M" + x2 + " " + y2 + "L" + corner(1) + "L" + corner(-1) + "Z";
    const head = draw(group, "path", { class: "head", d: shape });
    head.style.fill = kind.colour;
  }
  if (labelled) placeLabel(group, message.kind, (part) => [x1 + (x2 - x1) * part + 5, y1 + (y2 - y1) * part + 3]);
  group.addEventListener("click", () => { if (!dragged) choose(message); });
}

/* A label goes where it covers no other; where there is no such place it is left out, and the title has it. */
let labels = [];

function placeLabel(parent, text, placeOf) {
  const wide = text.length * 5.6 + 4;
  for (const part of [0.5, 0.35, 0.65, 0.22, 0.78, 0.12]) {
    const [left, base] = placeOf(part);
    if (left + wide > WIDTH || left < LEFT) continue;
    const covers = (other) => left < other.right && left + wide > other.left && Math.abs(base - other.base) < 11;
    if (labels.some(covers)) continue;
    labels.push({ left, right: left + wide, base });
    draw(parent, "text", { class: "label", x: left, y: base }, text);
    return;
  }
}

function renderDensity() {
  const box = byId("density"), count = 220;
  box.replaceChildren();
  const bins = new Array(count).fill(0);
  for (const message of messages) {
    if (wanted(message)) bins[Math.min(count - 1, Math.floor(message.sent / data.end * count))]++;
  }
  const most = Math.max(1, ...bins), wide = (WIDTH - PLOT_LEFT - PLOT_RIGHT) / count;
  bins.forEach((number, index) => {
    const height = 30 * Math.sqrt(number / most);
    const bar = { class: "bar", x: PLOT_LEFT + index * wide, y: 32 - height, width: wide - 0.5, height };
    if (number) draw(box, "rect", bar);
  });
  const left = PLOT_LEFT + (WIDTH - PLOT_LEFT - PLOT_RIGHT) * state.begin / data.end;
  const right = PLOT_LEFT + (WIDTH - PLOT_LEFT - PLOT_RIGHT) * state.end / data.end;
  draw(box, "rect", { class: "window", x: left, y: 1, width: Math.max(3, right - left), height: 32 });
}

function renderList(found) {
  const table = byId("listed").querySelector("table");
  table.replaceChildren();
  const row = (name, cells) => {
    const made = make(table, "tr");
    for (const cell of cells) make(made, name, "", cell);
    return made;
  };
  row("th", ["sent", "took", "from", "to", "message", ""]);
  for (const each of found.slice(0, LISTED_MAX)) {
    const took = each.received === null ? "lost" : duration(each.received - each.sent);
    const from = data.processes[each.from] + " " + each.sender, to = data.processes[each.to] + " " + each.receiver;
    const made = row("td", [each.sent.toFixed(6), took, from, to, each.kind, each.detail]);
    made.className = roleOf(each);
    made.addEventListener("click", () => choose(each));
  }
  if (found.length > LISTED_MAX) row("td", ["and " + (found.length - LISTED_MAX) + " more"]);
}

/* ---- what people do */

let dragged = false, dragging = null;

function atOf(event, box, left, right) {
  const place = box.getBoundingClientRect();
  const inside = (event.clientX - place.left) * WIDTH / place.width;
  return (inside - left) / (WIDTH - left - right);
}

function listen() {
  const on = (id, action) => byId(id).addEventListener("click", action);
  on("earlier", () => move(-0.5));
  on("later", () => move(0.5));
  on("closer", () => zoom(0.5));
  on("farther", () => zoom(2));
  on("whole", () => show(0, data.end));
  byId("search").addEventListener("input", (event) => {
    state.search = event.target.value.trim().toLowerCase();
    render();
  });
  byId("listed").addEventListener("toggle", render);
  svg.addEventListener("keydown", (event) => {
    const action = { ArrowLeft: () => move(-0.2), ArrowRight: () => move(0.2), "+": () => zoom(0.5), "-": () => zoom(2),
      Escape: () => { if (state.chosen) choose(state.chosen); } }[event.key];
    if (action) {
      action();
      event.preventDefault();
    }
  });
  svg.addEventListener("wheel", (event) => {
    if (!event.ctrlKey && !event.metaKey) return;  /* The page scrolls as pages do. */
    event.preventDefault();
    zoom(event.deltaY > 0 ? 1.25 : 0.8, state.begin + (state.end - state.begin) * atOf(event, svg, LEFT, RIGHT));
  }, { passive: false });
  svg.addEventListener("dblclick", (event) =>
    zoom(0.4, state.begin + (state.end - state.begin) * atOf(event, svg, LEFT, RIGHT)));
  svg.addEventListener("pointerdown", (event) => {
    dragged = false;
    dragging = { part: atOf(event, svg, LEFT, RIGHT), begin: state.begin, end: state.end };
  });
  addEventListener("pointermove", (event) => {
    if (!dragging) return;
    const part = dragging.part - atOf(event, svg, LEFT, RIGHT);
    if (Math.abs(part) > 0.004) dragged = true;
    const by = part * (dragging.end - dragging.begin);
    if (dragged) show(dragging.begin + by, dragging.end + by);
  });
  addEventListener("pointerup", () => { dragging = null; });
  byId("density").addEventListener("click", (event) => {
    const at = data.end * atOf(event, byId("density"), PLOT_LEFT, PLOT_RIGHT), half = (state.end - state.begin) / 2;
    show(at - half, at + half);
  });
}

function listenToPage(possible) {
  for (const button of document.querySelectorAll("button.goto")) {
    const { begin, end } = button.dataset;
    button.disabled = !possible;
    button.title = possible ? "show the messages of that time" : "";
    button.addEventListener("click", () => goTo(Number(begin), Number(end)));
  }
  const plots = byId("plots"), cursor = byId("cursor");
  const timeOf = (event) => {
    const plot = byId("latency");
    return data.end * Math.min(1, Math.max(0, atOf(event, plot, PLOT_LEFT, PLOT_RIGHT)));
  };
  plots.addEventListener("pointermove", (event) => {
    const plot = event.target.closest("svg.plot");
    cursor.hidden = !plot;
    if (!plot) return;
    cursor.style.left = event.clientX - plots.getBoundingClientRect().left + "px";
    cursor.firstElementChild.textContent = timeOf(event).toFixed(3) + " s";
  });
  plots.addEventListener("pointerleave", () => { cursor.hidden = true; });
  if (possible) {
    plots.addEventListener("click", (event) => {
      if (event.target.closest("svg.plot")) goTo(timeOf(event), timeOf(event));
    });
  }
}

function listKinds() {
  for (const [speech, title] of GROUPS) {
    const group = [...kinds.values()].filter((kind) => kind.speech === speech);
    group.sort((a, b) => b.count - a.count);
    if (!group.length) continue;
    const field = make(byId("kinds"), "fieldset");
    make(field, "legend", "", title);
    const boxes = [];
    for (const [word, value] of [["all", true], ["none", false]]) {
      make(field, "button", "", word).addEventListener("click", () => {
        group.forEach((kind, index) => { kind.shown = boxes[index].checked = value; });
        render();
      });
    }
    for (const kind of group) {
      const label = make(field, "label");
      const box = make(label, "input");
      box.type = "checkbox";
      box.checked = kind.shown;
      boxes.push(box);
      make(label, "i").style.background = kind.colour;
      label.append(kind.name + " (" + kind.count + ")");
      box.addEventListener("change", () => { kind.shown = box.checked; render(); });
    }
  }
}

function readAddress() {
  const found = /^#window=([\d.]+)-([\d.]+)$/.exec(location.hash);
  if (found && Number(found[1]) < Number(found[2])) {
    show(Number(found[1]), Number(found[2]));
    return true;
  }
  return false;
}

listenToPage(messages.length > 0);
if (messages.length) {
  byId("diagram").hidden = false;
  for (const note of data.notes) make(byId("notes"), "li", "", note);
  listKinds();
  listen();
  addEventListener("hashchange", readAddress);
  if (!readAddress()) show(state.begin, state.end);
} else {
  byId("missing").hidden = false;
  document.body.dataset.ready = "yes";
}
