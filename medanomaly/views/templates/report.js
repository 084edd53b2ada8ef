"use strict";
// The page is complete without this script; it adds a filter over the cases and a larger view of an image.

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
