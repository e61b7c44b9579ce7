"use strict";
// The page can be read without this file: it adds sliders, names of dots, and the button for the theme.
(function () {
  const root = document.documentElement;
  const all = (selector, from) => Array.from((from || document).querySelectorAll(selector));

  // --- theme: the system's, until the button says otherwise ---
  const button = document.getElementById("theme");
  const system = window.matchMedia("(prefers-color-scheme: dark)");
  const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : system.matches);
  const label = () => { button.textContent = isDark() ? "Light theme" : "Dark theme"; };
  const remember = (theme) => { try { localStorage.setItem("report-theme", theme); } catch (error) { /* no storage */ } };
  try {
    const kept = localStorage.getItem("report-theme");
    if (kept === "dark" || kept === "light") root.dataset.theme = kept;
  } catch (error) { /* a file may be opened where storage is forbidden */ }
  button.hidden = false;
  button.addEventListener("click", () => { root.dataset.theme = isDark() ? "light" : "dark"; remember(root.dataset.theme); label(); });
  system.addEventListener("change", label);
  label();

  // --- slices ---
  const store = document.getElementById("stacks");
  const stacks = store ? JSON.parse(store.textContent) : [];
  const region = () => { const chosen = document.querySelector("#regions :checked"); return chosen && chosen.value; };
  const linesOf = (stack) => stack.lines[region()] || Object.values(stack.lines)[0];
  const text = (stack, place) => {
    const truth = linesOf(stack).truth_area[place], pred = linesOf(stack).pred_area[place];
    if (!stack.judged) return "slice " + stack.numbers[place] + " of " + stack.total + ", tumour " + pred.toFixed(1) + " cm\u00b2";
    if (stack.flat) return "truth " + truth.toFixed(0) + " pixels, prediction " + pred.toFixed(0) + " pixels";
    return "slice " + stack.numbers[place] + " of " + stack.total +
      ", truth " + truth.toFixed(1) + " cm\u00b2, prediction " + pred.toFixed(1) + " cm\u00b2";
  };
  const shows = [];
  for (const figure of all(".plane")) {
    const stack = stacks[Number(figure.dataset.stack)], slider = figure.querySelector("input");
    const image = figure.querySelector("image"), output = figure.querySelector("output");
    const show = () => {
      const place = slider ? Number(slider.value) : 0;
      image.setAttribute("href", "data:image/jpeg;base64," + stack.grey[place]);
      for (const path of all("path.truth", figure)) path.setAttribute("d", linesOf(stack).truth[place]);
      for (const path of all("path.pred", figure)) path.setAttribute("d", linesOf(stack).pred[place]);
      output.textContent = text(stack, place);
      if (slider) slider.setAttribute("aria-valuetext", "slice " + stack.numbers[place]);
    };
    if (slider) {
      slider.hidden = false;
      slider.addEventListener("input", show);
    }
    show();  // a browser may bring back an old place of the slider
    shows.push(show);
  }
  const regions = document.getElementById("regions");
  if (regions) {
    regions.hidden = false;
    regions.addEventListener("change", () => shows.forEach((show) => show()));
  }

  // --- dots: the name of the case that is pointed at, or reached by arrow keys ---
  const said = document.getElementById("case-said");
  const words = (dot) => dot.querySelector("title").textContent;
  const nameOf = (dot) => words(dot).slice(0, words(dot).lastIndexOf(": "));
  const choose = (dot) => {
    all(".dots circle.on, .dots circle.same").forEach((other) => other.classList.remove("on", "same"));
    if (!dot) return;
    all(".dots circle").forEach((other) => { if (nameOf(other) === nameOf(dot)) other.classList.add("same"); });
    dot.classList.add("on");
    if (said) { said.textContent = words(dot); document.getElementById("case-box").classList.add("on"); }
  };
  for (const group of all(".dots")) {
    const dots = all("circle", group);
    group.addEventListener("pointerover", (event) => { if (event.target.tagName === "circle") choose(event.target); });
    group.addEventListener("click", (event) => { if (event.target.tagName === "circle") choose(event.target); });
    group.addEventListener("focus", () => { if (!group.querySelector(".on")) choose(dots[0]); });
    group.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1, Home: -dots.length, End: dots.length }[event.key];
      if (!step) return;
      event.preventDefault();
      const now = dots.findIndex((dot) => dot.classList.contains("on"));
      choose(dots[Math.min(dots.length - 1, Math.max(0, now + step))]);
    });
  }

  // --- paper shows what is folded away ---
  window.addEventListener("beforeprint", () => all("details").forEach((part) => { part.open = true; }));
})();
