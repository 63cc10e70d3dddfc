"use strict";
const story = JSON.parse(document.getElementById("story").textContent);
const svg = document.querySelector("#stage svg"), map = document.getElementById("map"), panel = document.getElementById("panel");
const slider = document.getElementById("slider"), where = document.getElementById("where"), root = document.documentElement;
const whole = svg.viewBox.baseVal, size = { width: whole.width, height: whole.height };
const gates = story.gates, count = gates.length;
const backwards = story.ranBack ? gates.map((gate, index) => index).filter(index => gates[index].upstream).reverse() : [];
// A frame is the whole picture (null), or one gate in one direction.
const frames = [null, ...gates.map((gate, index) => ({ index, back: false })), ...backwards.map(index => ({ index, back: true }))];
const SMALLEST_READABLE = 0.55;
const items = [...svg.querySelectorAll(".item")].map(group => ({ key: group.id, kind: group.classList[1], box: group.getBBox() }));
const wireGroups = story.wires.map((wire, number) => document.getElementById("wire" + number));
let position = 0, view = { x: 0, y: 0, scale: 1 };

// Walking through the sweeps -------------------------------------------------------------------------------------

function show(next, follow = true) {
  position = Math.max(0, Math.min(frames.length - 1, next));
  const frame = frames[position], index = frame ? frame.index : null, back = Boolean(frame && frame.back);
  story.wires.forEach((wire, number) => {
    const group = wireGroups[number];
    const seesValue = !frame || back || wire.from <= index, seesGradient = !frame || (back && wire.to >= index);
    group.querySelectorAll(".above").forEach(part => part.classList.toggle("hidden", story.hasValues && !seesValue));
    group.querySelectorAll(".below").forEach(part => part.classList.toggle("hidden", !seesGradient));
    group.classList.toggle("current", frame !== null && (wire.to === index || wire.from === index));
  });
  gates.forEach((gate, number) => {
    const group = document.getElementById(gate.key);
    group.classList.toggle("current", number === index);
    group.classList.toggle("waiting", frame !== null && (back ? number < index : number > index));
  });
  slider.value = position;
  where.textContent = !frame ? `${count} gates` : back
    ? `backward, gate ${position - count} of ${backwards.length}` : `forward, gate ${index + 1} of ${count}`;
  panel.replaceChildren(...(frame ? aboutGate(gates[index], back) : aboutPage()));
  root.dataset.position = position;
  if (frame && follow) bringIntoView(document.getElementById(gates[index].key));
  drawMap();
}

function element(name, text, style, ...children) {
  const made = document.createElement(name);
  if (text) made.textContent = text;
  if (style) made.className = style;
  made.append(...children);
  return made;
}

function table(rows) {
  return element("table", "", "", ...rows.map(([name, text, style]) =>
    element("tr", "", "", element("td", name), element("td", text, style))));
}

function aboutGate(gate, back) {
  const parts = [element("h2", gate.name), element("p", "", "", element("code", gate.gate))];
  if (gate.formula) parts.push(element("p", gate.formula));
  parts.push(element("h3", "local gradient"), element("p", gate.local || "not given in the docstring of the gate", gate.local ? "" : "small"));
  parts.push(element("h3", "forward"), table([
    ...gate.inputs.map(input => [`${input.port} ← ${input.source}`, input.value, "v"]), ["output", gate.output, "v"]]));
  if (!back) return parts;
  parts.push(element("h3", "backward"), table([
    ["upstream", gate.upstream, "g"], ...gate.inputs.map(input => [`to ${input.port}`, input.grad || "no gradient needed", input.grad ? "g" : "small"])]));
  if (gate.chain.length) parts.push(element("h3", "upstream × local = downstream"));
  gate.chain.forEach(link => parts.push(aboutLink(link)));
  return parts;
}

function aboutLink(link) {
  const box = element("div", "", "chain", element("div", link.through ? `${link.port}${link.at}, through output${link.through}` : link.port + link.at, "small"));
  const product = element("div", "", "product", element("span", link.upstream, "g"), " × ", element("span", link.local), " = ", element("span", link.product, "g"));
  box.append(product);
  if (link.whole) box.append(element("div", `one term of ${link.whole}, the sum over all elements of the output`, "small"));
  return box;
}

function aboutPage() {
  const keys = [["→ ←", "next, previous gate"], ["Home End", "start, end"], ["b", "backward sweep"], ["+ − 0", "zoom in, zoom out, fit"], ["d", "dark or light"]];
  const legend = element("p", "", "", element("span", "Values", "v"), " are above the wires", ...(story.ranBack ? [", ", element("span", "gradients", "g"), " below"] : []), ".");
  return [element("h2", "The whole graph"), element("p", `${count} gates. Step through the sweeps with the arrow keys, or click a gate.`),
    ...(story.hasValues ? [legend] : []), element("h3", "keys"),
    element("table", "", "", ...keys.map(([key, text]) => element("tr", "", "", element("td", "", "", element("kbd", key)), element("td", text))))];
}

// Zooming and moving ---------------------------------------------------------------------------------------------

function stage() { return svg.getBoundingClientRect(); }

function apply() {
  const { width, height } = stage();
  svg.setAttribute("viewBox", `${view.x} ${view.y} ${width / view.scale} ${height / view.scale}`);
  drawMap();
}

function fit() {
  const { width, height } = stage();
  view.scale = Math.min(width / size.width, height / size.height, 1.6);
  centre(size.width / 2, size.height / 2);
}

// A long graph would be unreadable as a whole, so it opens at its left end.
function open() {
  fit();
  if (view.scale >= SMALLEST_READABLE) return;
  view.scale = SMALLEST_READABLE;
  const box = document.getElementById(gates[0].key).getBBox();
  centre(stage().width / 2 / view.scale, box.y);
}

function zoom(factor, x, y) {
  const { width, height } = stage();
  x ??= width / 2; y ??= height / 2;
  const scale = Math.max(0.02, Math.min(6, view.scale * factor));
  view.x += x / view.scale - x / scale;
  view.y += y / view.scale - y / scale;
  view.scale = scale;
  apply();
}

function bringIntoView(group) {
  const box = group.getBBox(), { width, height } = stage();
  const isWhole = view.scale >= 0.75;
  if (!isWhole) view.scale = 1;
  const left = (box.x - view.x) * view.scale, top = (box.y - view.y) * view.scale;
  const inside = left > 0.2 * width && left + box.width * view.scale < 0.8 * width && top > 0.15 * height && top < 0.8 * height;
  const fits = size.width * view.scale <= width && size.height * view.scale <= height;
  if (!isWhole || (!inside && !fits)) centre(box.x + box.width / 2, box.y + box.height / 2);
}

function centre(x, y) {
  const { width, height } = stage();
  view.x = x - width / 2 / view.scale;
  view.y = y - height / 2 / view.scale;
  apply();
}

function drawMap() {
  const { width, height } = stage();
  const fits = size.width * view.scale <= width + 1 && size.height * view.scale <= height + 1;
  map.style.display = fits ? "none" : "block";
  if (fits) return;
  // A very long or very high graph is shown out of proportion, but never thinner than 36 pixels.
  const shrink = Math.min(300 / size.width, 120 / size.height), ratio = window.devicePixelRatio || 1;
  const across = Math.max(shrink, 36 / size.width), down = Math.max(shrink, 36 / size.height);
  map.width = size.width * across * ratio; map.height = size.height * down * ratio;
  map.style.width = map.width / ratio + "px"; map.style.height = map.height / ratio + "px";
  const pen = map.getContext("2d"), colours = getComputedStyle(root), frame = frames[position];
  pen.scale(ratio * across, ratio * down);
  for (const { key, kind, box } of items) {
    const isCurrent = frame && gates[frame.index].key === key;
    pen.fillStyle = colours.getPropertyValue(isCurrent ? "--focus" : `--${kind}-line`);
    const grow = isCurrent ? 2 : 0;
    pen.fillRect(box.x - grow / across, box.y - grow / down,
      Math.max(box.width, 1.5 / across) + 2 * grow / across, Math.max(box.height, 1.5 / down) + 2 * grow / down);
  }
  pen.resetTransform();
  pen.scale(ratio, ratio);
  pen.strokeStyle = colours.getPropertyValue("--ink");
  pen.strokeRect(view.x * across, view.y * down, width / view.scale * across, height / view.scale * down);
}

// Input ----------------------------------------------------------------------------------------------------------

function toBackward() { if (backwards.length) show(count + 1); }
function toggleTheme() { root.dataset.theme = root.dataset.theme === "dark" ? "light" : "dark"; drawMap(); }
const actions = { first: () => show(0), back: () => show(position - 1), next: () => show(position + 1), last: () => show(frames.length - 1),
  in: () => zoom(1.3), out: () => zoom(1 / 1.3), fit, theme: toggleTheme };
for (const [id, action] of Object.entries(actions)) document.getElementById(id).addEventListener("click", action);
const keys = { ArrowRight: actions.next, ArrowLeft: actions.back, " ": actions.next, Home: actions.first, End: actions.last,
  "+": actions.in, "=": actions.in, "-": actions.out, "0": fit, d: toggleTheme, b: toBackward };
document.addEventListener("keydown", event => {
  if (!(event.key in keys) || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === " " && event.target.tagName === "BUTTON") return;
  event.preventDefault();
  keys[event.key]();
});
slider.max = frames.length - 1;
slider.addEventListener("input", () => show(Number(slider.value)));
svg.addEventListener("wheel", event => {
  event.preventDefault();
  const box = stage();
  zoom(Math.exp(-event.deltaY * 0.0015), event.clientX - box.left, event.clientY - box.top);
}, { passive: false });
let held = null, moved = 0;
svg.addEventListener("pointerdown", event => { held = { x: event.clientX, y: event.clientY }; moved = 0; });
window.addEventListener("pointermove", event => {
  if (!held) return;
  const x = event.clientX - held.x, y = event.clientY - held.y;
  moved += Math.abs(x) + Math.abs(y);
  view.x -= x / view.scale; view.y -= y / view.scale;
  held = { x: event.clientX, y: event.clientY };
  svg.classList.add("dragged");
  apply();
});
window.addEventListener("pointerup", () => { held = null; svg.classList.remove("dragged"); });
gates.forEach((gate, index) => document.getElementById(gate.key).addEventListener("click", () => {
  if (moved > 6) return;
  const frame = frames[position];
  const found = frames.findIndex(other => other && other.index === index && other.back === Boolean(frame && frame.back));
  show(found < 0 ? index + 1 : found, false);
}));
map.addEventListener("pointerdown", event => {
  const box = map.getBoundingClientRect();
  centre((event.clientX - box.left) / box.width * size.width, (event.clientY - box.top) / box.height * size.height);
});
window.addEventListener("resize", apply);
root.dataset.theme = window.matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
// The fragment of the URL may select a position and a theme: page.html#5, page.html#5,dark
const [start, theme] = location.hash.slice(1).split(",");
if (theme) root.dataset.theme = theme;
open();
show(Number(start) || 0);
