// Draws how blocks of layers are connected, beside their rows: a line to each from those that feed it.

import { jsonOf } from "./state.js";

const SPACE = "http://www.w3.org/2000/svg";

function startWiring() {
  const drawing = document.querySelector("svg[data-wiring]");
  const rows = []; // by their place in the network; the page shows the last one first
  for (const row of document.querySelectorAll("[data-row]")) rows[Number(row.dataset.row)] = row;
  if (!drawing || !rows.length) return;
  const wires = jsonOf(drawing, "data-wiring") ?? rows.map((_, n) => [n - 1, n]);

  function element(name, attributes) {
    const made = document.createElementNS(SPACE, name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    return made;
  }

  function draw() {
    const top = drawing.getBoundingClientRect().top;
    const width = drawing.clientWidth;
    const height = drawing.parentElement.clientHeight;
    const middles = rows.map((row) => {
      const box = row.getBoundingClientRect();
      return box.top + Math.min(box.height / 2, 60) - top;
    });
    drawing.setAttribute("viewBox", `0 0 ${width} ${height}`);
    const at = width - 9;
    const lines = wires.map(([from, to]) => {
      const [y, below] = [from < 0 ? height : middles[from], middles[to]];
      const far = to - from > 1;
      const bulge = far ? Math.min(width - 16, 8 + 7 * Math.log2(to - from) * 1.6) : 0;
      const path = far
        ? `M${at} ${y} C${at - bulge * 1.3} ${y + (below - y) * 0.15} ${at - bulge * 1.3} ${below - (below - y) * 0.15} ${at} ${below}`
        : `M${at} ${y} L${at} ${below}`;
      return element("path", { d: path, class: far ? "wire far" : "wire", "data-from": from, "data-to": to });
    });
    const dots = middles.map((y) => element("circle", { cx: at, cy: y, r: 4.5, class: "node" }));
    drawing.replaceChildren(...lines, ...dots);
  }

  function light(number, on) {
    for (const wire of drawing.querySelectorAll(".wire")) {
      const touches = Number(wire.dataset.from) === number || Number(wire.dataset.to) === number;
      wire.classList.toggle("lit", on && touches);
    }
  }

  rows.forEach((row, number) => {
    row.addEventListener("pointerenter", () => light(number, true));
    row.addEventListener("pointerleave", () => light(number, false));
    row.addEventListener("focusin", () => light(number, true));
    row.addEventListener("focusout", () => light(number, false));
  });
  new ResizeObserver(draw).observe(document.querySelector(".blocks"));
  draw();
}

startWiring();
