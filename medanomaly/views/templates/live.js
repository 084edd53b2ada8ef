// The panes of a Visdom server on a page of one file: pictures and curves, nothing loaded from anywhere else.
"use strict";

const panes = document.getElementById("panes");
const state = document.getElementById("state");
const SVG = "http://www.w3.org/2000/svg";
const RETRY_MS = 2000;
// Okabe & Ito 2008, those that are bright enough on a dark ground; the colours in the message are for Visdom's white one.
const COLOURS = ["#56b4e9", "#e69f00", "#009e73", "#cc79a7", "#f0e442", "#d55e00"];

function say(text, lost) {
  state.textContent = text;
  state.classList.toggle("lost", lost);
}

function element(parent, name, text, className) {
  const made = document.createElement(name);
  // Text, never markup: a title is whatever a program sent.
  if (text !== undefined) made.textContent = text;
  if (className) made.className = className;
  parent.append(made);
  return made;
}

function drawn(parent, name, attributes, text) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  parent.append(made);
  return made;
}

// Round values that divide [low, high]; on a logarithmic axis the powers of ten, or the ends where there are fewer than two.
function ticks(low, high, logarithmic) {
  if (logarithmic) {
    const powers = [];
    for (let power = Math.ceil(low); power <= Math.floor(high); power += 1) powers.push(power);
    return powers.length > 1 ? powers : [low, (low + high) / 2, high];
  }
  const rough = (high - low) / 4 || 1;
  const unit = 10 ** Math.floor(Math.log10(rough));
  const step = unit * [1, 2, 5, 10].find((factor) => factor * unit >= rough);
  const found = [];
  for (let value = Math.ceil(low / step) * step; value <= high + step * 1e-9; value += step) found.push(value);
  return found;
}

function short(value) {
  if (value === 0) return "0";
  const size = Math.abs(value);
  return size >= 1e5 || size < 1e-3 ? value.toExponential(1) : String(Number(value.toPrecision(3)));
}

function plot(card, content) {
  const [width, height, left, right, top, bottom] = [460, 280, 62, 14, 10, 30];
  const logarithmic = content.layout?.yaxis?.type === "log";
  const seen = (y) => Number.isFinite(y) && (!logarithmic || y > 0);
  const scaled = (y) => (logarithmic ? Math.log10(y) : y);
  const traces = content.data.filter((trace) => Array.isArray(trace.x) && Array.isArray(trace.y));
  const xs = traces.flatMap((trace) => trace.x).filter(Number.isFinite);
  const ys = traces.flatMap((trace) => trace.y).filter(seen).map(scaled);
  const svg = drawn(card, "svg", { width, height, viewBox: `0 0 ${width} ${height}`, role: "img" });
  if (!xs.length || !ys.length) {
    drawn(svg, "text", { x: left, y: height / 2 }, "nothing finite yet");
    return;
  }
  const [x0, x1] = [Math.min(...xs), Math.max(...xs)];
  let [y0, y1] = [Math.min(...ys), Math.max(...ys)];
  const room = (y1 - y0) * 0.05 || Math.abs(y1) * 0.05 || 1;
  [y0, y1] = [y0 - room, y1 + room];
  const across = (x) => left + ((x - x0) / (x1 - x0 || 1)) * (width - left - right);
  const down = (y) => top + ((y1 - y) / (y1 - y0)) * (height - top - bottom);
  for (const tick of ticks(y0, y1, logarithmic)) {
    drawn(svg, "line", { class: "grid", x1: left, x2: width - right, y1: down(tick), y2: down(tick) });
    const label = short(logarithmic ? 10 ** tick : tick);
    drawn(svg, "text", { x: left - 6, y: down(tick) + 4, "text-anchor": "end" }, label);
  }
  for (const tick of ticks(x0, x1, false)) {
    drawn(svg, "line", { class: "grid", x1: across(tick), x2: across(tick), y1: top, y2: height - bottom });
    drawn(svg, "text", { x: across(tick), y: height - bottom + 15, "text-anchor": "middle" }, short(tick));
  }
  const label = content.layout?.xaxis?.title?.text ?? "";
  drawn(svg, "text", { x: width - right, y: height - 3, "text-anchor": "end" }, label);
  if (logarithmic) drawn(svg, "text", { x: left, y: height - 3 }, "logarithmic");
  const legend = element(card, "p", undefined, "legend");
  for (const [index, trace] of traces.entries()) {
    const colour = COLOURS[index % COLOURS.length];
    let [path, pen] = ["", "M"];
    trace.x.forEach((x, index) => {
      const y = trace.y[index];
      // A value that is not there lifts the pen.
      if (!seen(y)) { pen = "M"; return; }
      path += `${pen}${across(x).toFixed(1)},${down(scaled(y)).toFixed(1)}`;
      pen = "L";
      if (trace.mode !== "lines") drawn(svg, "circle", { cx: across(x), cy: down(scaled(y)), r: 2.5, fill: colour });
    });
    drawn(svg, "path", { class: "line", d: path, stroke: colour });
    const entry = element(legend, "span");
    element(entry, "i").style.borderTopColor = colour;
    const last = trace.y.filter(seen).at(-1);
    entry.append(`${trace.name ?? ""}${last === undefined ? "" : ` ${short(last)}`}`);
  }
}

function show(pane) {
  document.getElementById("empty").hidden = true;
  const id = `pane-${pane.id}`;
  let card = document.getElementById(id);
  if (!card) {
    card = element(panes, "section");
    card.id = id;
  }
  card.replaceChildren();
  element(card, "h2", pane.title || pane.id);
  if (pane.type === "plot") plot(card, pane.content);
  else if (pane.type === "image" && String(pane.content?.src).startsWith("data:image/")) {
    const image = element(card, "img");
    image.src = pane.content.src;
    image.alt = pane.title || pane.id;
    if (pane.content.caption) element(card, "p", pane.content.caption);
  } else element(card, "p", `a pane of the kind ${pane.type}: see Visdom's own page`);
  say(`connected, last change ${new Date().toLocaleTimeString()}`, false);
}

function connect() {
  const socket = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/socket`);
  socket.onmessage = (event) => {
    const message = JSON.parse(event.data);
    if (message.command === "register") {
      say("connected, waiting for a run", false);
      // Asks for the panes that were there before this page.
      fetch("/env/main", { method: "POST", body: JSON.stringify({ sid: message.data }) });
    } else if (message.command === "window") show(message);
    else if (message.command === "close") document.getElementById(`pane-${message.data}`)?.remove();
  };
  socket.onclose = () => {
    say("the server is gone; what is shown is old", true);
    setTimeout(connect, RETRY_MS);
  };
}

connect();
