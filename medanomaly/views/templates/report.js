"use strict";
// The page is complete without this script; it adds a slider between two images of a case, a filter over the cases, sorting of
// long tables, and a larger view of an image.

for (const filter of document.querySelectorAll(".filter")) {
  const [choice, search, count] = ["select", "input", "output"].map((name) => filter.querySelector(name));
  const cases = [...filter.nextElementSibling.children];
  const apply = () => {
    const words = search.value.trim().toLowerCase();
    let shown = 0;
    for (const one of cases) {
      const fits = (!choice.value || one.dataset.label === choice.value) && one.querySelector("h4").textContent.toLowerCase().includes(words);
      one.hidden = !fits;
      shown += fits;
    }
    count.textContent = shown === cases.length ? "" : `${shown} of ${cases.length} shown`;
  };
  choice.addEventListener("change", apply);
  search.addEventListener("input", apply);
  filter.hidden = cases.length < 2;
}

// Two images of one case on top of each other: a slider uncovers one, a button swaps them twice a second (WCAG 2.3.1: below three).
function element(name, facts, ...children) {
  const made = Object.assign(document.createElement(name), facts);
  made.append(...children);
  return made;
}

for (const strip of document.querySelectorAll(".strip")) {
  const pair = ["0", "1"].map((place) => strip.querySelector(`[data-compare="${place}"]`));
  if (pair.includes(null)) continue;
  const names = pair.map((figure) => figure.querySelector("figcaption").textContent);
  const [below, above] = pair.map((figure) => figure.querySelector("img").cloneNode());
  const slider = element("input", { type: "range", min: 0, max: 100, value: 50, ariaLabel: `${names[0]} left, ${names[1]} right` });
  const button = element("button", { type: "button", textContent: "flicker", ariaPressed: "false" });
  const stage = element("div", { className: "stage" }, below, above);
  const place = () => stage.style.setProperty("--at", `${slider.value}%`);
  let timer = 0;
  const stop = () => {
    clearInterval(timer);
    timer = 0;
    stage.classList.remove("whole", "swapped");
    button.ariaPressed = "false";
  };
  slider.addEventListener("input", () => { stop(); place(); });
  button.addEventListener("click", () => {
    if (timer) return stop();
    stage.classList.add("whole");
    button.ariaPressed = "true";
    timer = setInterval(() => stage.classList.toggle("swapped"), 500);
  });
  place();
  const controls = element("div", { className: "controls" }, slider, button);
  const words = element("figcaption", { textContent: `${names[0]} | ${names[1]}` });
  strip.prepend(element("figure", { className: "compare" }, stage, controls, words));
}

// Cells are compared as numbers where both begin with one, else as text; rows without a value go last.
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  [...table.tHead.rows[0].cells].forEach((heading, column) => {
    const button = element("button", { type: "button", textContent: heading.textContent });
    heading.replaceChildren(button);
    button.addEventListener("click", () => {
      const falling = heading.ariaSort !== "descending";
      for (const other of table.tHead.rows[0].cells) other.ariaSort = null;
      heading.ariaSort = falling ? "descending" : "ascending";
      const value = (row) => row.cells[column].textContent.trim();
      const order = (one, two) => {
        const [a, b] = [parseFloat(one), parseFloat(two)];
        return Number.isNaN(a) || Number.isNaN(b) ? one.localeCompare(two) : a - b;
      };
      const rows = [...body.rows].sort((one, two) => {
        const [a, b] = [value(one), value(two)];
        if (!a || !b) return (a ? 0 : 1) - (b ? 0 : 1);
        return falling ? order(b, a) : order(a, b);
      });
      body.append(...rows);
    });
  });
}

const view = document.createElement("dialog");
const large = document.createElement("img");
const words = document.createElement("p");
view.append(large, words);
document.body.append(view);
view.addEventListener("click", () => view.close());

function enlarge(image) {
  large.src = image.src;
  large.alt = image.alt;
  large.className = image.classList.contains("pixels") ? "pixels" : "";
  words.textContent = `${image.alt} (${image.naturalWidth} × ${image.naturalHeight} px)`;
  // Small images grow by a whole factor, so that their pixels stay square; large ones are fitted by the style sheet.
  const room = Math.min((innerWidth * 0.94) / image.naturalWidth, (innerHeight * 0.86) / image.naturalHeight);
  large.width = image.naturalWidth * Math.max(1, Math.floor(room));
  large.height = image.naturalHeight * Math.max(1, Math.floor(room));
  view.showModal();
}

for (const image of document.querySelectorAll("main img")) {
  if (image.closest(".stage")) continue;
  image.classList.add("opens");
  image.tabIndex = 0;
  image.setAttribute("role", "button");
  image.addEventListener("click", () => enlarge(image));
  image.addEventListener("keydown", (event) => {
    if (event.key === "Enter" || event.key === " ") {
      event.preventDefault();
      enlarge(image);
    }
  });
}
