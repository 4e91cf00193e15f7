// The perceptron: two columns of neurons, and which connections are left of all of them.

import { lessonDraw, lessonMake, lessonNumber, lessonTone } from "./lesson-widgets.js";

const LESSON_MATRIX_MOST = 2600;

/** Return the two columns of neurons; the view is "every", "cut" or "shared". */
export function lessonWires({ data, touched }) {
  const { weight } = data.perceptron;
  const [rows, columns] = [data.image.length, data.image[0].length];
  const [up, across] = [data.z.length, data.z[0].length];
  const [inputs, outputs] = lessonLayers([rows, columns], [up, across]);
  const tall = Math.max(inputs.height, outputs.height, 260);
  const left = inputs.margin;
  const right = left + inputs.width + 300;
  const width = right + outputs.width + outputs.margin;
  const point = (side, k) => {
    const [layer, edge] = side === "a" ? [inputs, left] : [outputs, right];
    const [x, y] = layer.at[k];
    return [edge + x, y + (tall - layer.height) / 2];
  };

  const svg = lessonDraw("svg", { class: "lesson-wires", viewBox: `0 0 ${width} ${tall + 28}`, role: "group" });
  svg.setAttribute("aria-label", "The layer as a perceptron: inputs on the left, outputs on the right");
  svg.append(
    lessonDraw("text", { x: left + inputs.width / 2, y: 14, class: "lesson-wires-head", "text-anchor": "middle" }, "a"),
    lessonDraw("text", { x: right + outputs.width / 2, y: 14, class: "lesson-wires-head", "text-anchor": "middle" }, "z"),
  );
  const whole = lessonDraw("g", { transform: "translate(0 24)" });
  svg.append(whole);

  const path = (pairs) =>
    pairs.map(([o, i]) => `M${point("a", i).join(" ")}L${point("z", o).join(" ")}`).join("");
  const cut = [];
  const kept = new Map();
  weight.forEach((row, o) =>
    row.forEach((k, i) => {
      if (k < 0) cut.push([o, i]);
      else kept.set(k, [...(kept.get(k) ?? []), [o, i]]);
    }),
  );
  whole.append(lessonDraw("path", { d: path(cut), class: "lesson-wire cut" }));
  for (const [k, pairs] of kept) {
    whole.append(lessonDraw("path", { d: path(pairs), class: `lesson-wire kept ${lessonTone(k)}` }));
  }
  const over = lessonDraw("g", {});
  whole.append(over);

  const neurons = { a: [], z: [] };
  const { size, named } = inputs;
  const list = (side, count, shape, label, values) => {
    const group = lessonDraw("g", { role: "listbox", "aria-label": label, "aria-orientation": "vertical" });
    for (let k = 0; k < count; k += 1) {
      const [y, x] = [Math.floor(k / shape), k % shape];
      const [cx, cy] = point(side, k);
      const used = side === "a" ? weight.filter((row) => row[k] >= 0).length : weight[k].filter((w) => w >= 0).length;
      const name = `${side}[${y},${x}] = ${lessonNumber(values[y][x])}`;
      const one = lessonDraw("g", {
        role: "option", tabindex: k ? "-1" : "0", class: "lesson-neuron", "aria-selected": "false",
        "aria-label": `${name}, ${used} ${used === 1 ? "connection" : "connections"}`,
      });
      const reach = named ? 40 : 0;
      const from = side === "a" ? cx - size - reach : cx - size;
      one.append(lessonDraw("rect", { x: from, y: cy - size, width: size * 2 + reach, height: size * 2, class: "lesson-reach" }));
      one.append(lessonDraw("circle", { cx, cy, r: size }));
      if (named || lessonNumber(values[y][x]).length < 4) one.append(lessonDraw("text", { x: cx, y: cy + 3.5, "text-anchor": "middle" }, lessonNumber(values[y][x])));
      const far = side === "a" ? cx - size - 5 : cx + size + 5;
      if (named) one.append(lessonDraw("text", { x: far, y: cy + 3.5, "text-anchor": side === "a" ? "end" : "start", class: "lesson-neuron-name" }, `${side}${y},${x}`));
      one.addEventListener("pointerenter", () => pick(side, k));
      one.addEventListener("focus", () => pick(side, k));
      one.addEventListener("keydown", (event) => {
        const [line, next] = named ? [1, count] : [shape, 1]; // in columns, left and right change sides
        const to = { ArrowDown: k + line, ArrowUp: k - line, ArrowRight: k + next, ArrowLeft: k - next, Home: 0, End: count - 1 }[event.key];
        if (to === undefined) return;
        event.preventDefault();
        event.stopPropagation();
        const other = neurons[event.key === "ArrowRight" ? "z" : event.key === "ArrowLeft" ? "a" : side];
        (neurons[side][to] ?? other[Math.min(k, other.length - 1)]).focus();
      });
      neurons[side].push(one);
      group.append(one);
    }
    whole.append(group);
  };
  list("a", rows * columns, columns, "Inputs a", data.image);
  list("z", up * across, across, "Outputs z", data.z);

  let view = "shared";
  function pick(side, k) {
    const lines = [];
    const reached = new Set();
    weight.forEach((row, o) =>
      row.forEach((w, i) => {
        if ((side === "a" ? i : o) !== k || (w < 0 && view !== "every")) return;
        const [x1, y1] = point("a", i);
        const [x2, y2] = point("z", o);
        const tone = view === "shared" ? lessonTone(w) : "";
        lines.push(lessonDraw("line", { x1, y1, x2, y2, class: `lesson-wire over ${tone}` }));
        reached.add(side === "a" ? o : i);
      }),
    );
    over.replaceChildren(...lines);
    for (const [one, group] of Object.entries(neurons)) {
      group.forEach((neuron, place) => {
        const chosen = one === side && place === k;
        neuron.setAttribute("aria-selected", String(chosen));
        if (one === side) neuron.tabIndex = chosen ? 0 : -1;
        neuron.classList.toggle("reached", one !== side && reached.has(place));
      });
    }
    svg.classList.add("is-picked");
    touched(side, k, reached.size);
  }
  return {
    element: svg,
    pick,
    show(named) {
      view = named;
      svg.setAttribute("class", `lesson-wires view-${named} ${inputs.named ? "" : "is-many"}`);
      over.replaceChildren();
    },
  };
}

/**
 * Where the neurons stand: in columns, row by row of the image, with a gap between rows; where
 * there are many, in planes as the image and the outputs have them.
 */
function lessonLayers(...shapes) {
  const many = shapes.some(([rows, columns]) => rows * columns > 25);
  return shapes.map(([rows, columns]) => {
    const step = 26;
    const gap = columns > 1 ? step * 0.35 : 0;
    const at = [];
    for (let y = 0; y < rows; y += 1) {
      for (let x = 0; x < columns; x += 1) {
        at.push(many ? [x * step, step / 2 + y * step] : [0, step / 2 + (y * columns + x) * step + y * gap]);
      }
    }
    const height = many ? rows * step : rows * columns * step + (rows - 1) * gap;
    return { at, height, width: many ? (columns - 1) * step : 0, margin: many ? 20 : 86, size: many ? 11 : 12, named: !many };
  });
}

/** Return the perceptron's weights as a table: a row an output, a column an input. */
export function lessonMatrix({ data, view }) {
  const { weight, matrix, connections } = data.perceptron;
  if (connections > LESSON_MATRIX_MOST) {
    return lessonMake("p", { class: "note" }, `The matrix has ${connections} entries, too many to show. Use a smaller image.`);
  }
  const [columns, across] = [data.image[0].length, data.z[0].length];
  const name = (k, width) => `${Math.floor(k / width)},${k % width}`;
  const head = lessonMake("tr", {}, lessonMake("th", { scope: "col" }, "z \\ a"), weight[0].map((_, i) => lessonMake("th", { scope: "col" }, name(i, columns))));
  const body = weight.map((row, o) =>
    lessonMake(
      "tr",
      {},
      lessonMake("th", { scope: "row" }, name(o, across)),
      row.map((k, i) => {
        const text = view === "every" ? "?" : k < 0 ? "·" : lessonNumber(matrix[o][i]);
        const tone = view === "shared" && k >= 0 ? lessonTone(k) : "";
        return lessonMake("td", { class: k < 0 && view !== "every" ? "cut" : tone }, text);
      }),
    ),
  );
  const table = lessonMake("table", { class: "lesson-matrix", "aria-label": "The perceptron's weights: a row an output, a column an input" }, lessonMake("thead", {}, head), lessonMake("tbody", {}, body));
  table.addEventListener("pointerover", (event) => {
    const cell = event.target.closest("td, th");
    table.querySelectorAll(".here").forEach((one) => one.classList.remove("here"));
    if (!cell) return;
    cell.parentElement.firstElementChild.classList.add("here");
    table.rows[0].cells[cell.cellIndex]?.classList.add("here");
  });
  return lessonMake("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Matrix of weights" }, table);
}
