// The last steps of the first lesson: finite differences beside everything, and both operations.

import { lessonGrid, lessonKernel } from "./lesson-grid.js";
import { lessonMake, lessonNumber, lessonSpoken, lessonSymbol, lessonTiny, lessonTone } from "./lesson-widgets.js";
import { lessonEntry, lessonFlow, lessonSign, lessonSumPlace } from "./lesson-steps.js";
import { lessonTurn } from "./lesson-rotate.js";
import { lessonWires, lessonMatrix } from "./lesson-wires.js";
import { say } from "./shortcuts.js";

const LESSON_CHECKED = [
  ["gradient", "gradient", "dC/dw", "∂C/∂w"],
  ["error", "error", "dC/da", "∂C/∂a"],
  ["delta", "delta", "delta", "δ = ∂C/∂z"],
];

/** The perceptron with all connections, then cut, then shared. */
export function lessonStageWires(stage, { data, picked }) {
  const { kept, connections } = data.perceptron;
  const weights = data.kernel.flat().length;
  const many = (count, what) => `${count} ${what}${count === 1 ? "" : "s"}`;
  const counts = {
    every: `${many(connections, "connection")}, ${many(connections, "weight")}`,
    cut: `${many(kept, "connection")} left, ${many(kept, "weight")}`,
    shared: `${many(kept, "connection")}, ${many(weights, "weight")}`,
  };
  const names = { every: "Every connection", cut: "Cut outside the windows", shared: "Share the weights" };
  const told = lessonMake("output", { class: "lesson-count" });
  const wires = lessonWires({ data, touched: (side, k, count) => tell(side, k, count) });
  const place = lessonMake("div", { class: "lesson-wires-place" });
  const line = lessonMake("p", { class: "lesson-wires-said" }, "Hover over a neuron, or press Tab, to see only its connections.");
  const buttons = Object.entries(names).map(([view, text]) => {
    const button = lessonMake("button", { type: "button", "data-view": view, "aria-pressed": "false" }, text);
    button.addEventListener("click", () => show(view));
    return button;
  });
  const matrix = lessonMake("button", { type: "button", "aria-pressed": "false" }, "As a matrix");
  let view = picked.view ?? "shared";
  let dense = picked.dense ?? false;
  const show = (named) => {
    picked.view = view = named;
    picked.dense = dense;
    buttons.forEach((one) => one.setAttribute("aria-pressed", String(one.dataset.view === view)));
    matrix.setAttribute("aria-pressed", String(dense));
    told.textContent = counts[view];
    wires.show(view);
    legend.element.classList.toggle("lesson-faint", view !== "shared");
    sum.element.hidden = true;
    place.replaceChildren(dense ? lessonMatrix({ data, view }) : wires.element);
  };
  const tell = (side, k, count) => {
    const width = (side === "a" ? data.image : data.z)[0].length;
    const name = lessonSymbol(side, [Math.floor(k / width), k % width]);
    const things = side === "a" ? "output" : "input";
    line.replaceChildren(name, side === "a" ? " goes into " : " takes ", `${count} ${things}${count === 1 ? "" : "s"}.`);
    sum.element.hidden = side === "a" || view !== "shared";
    if (side === "z") sum.show(data.entries.z[k], "");
  };
  const sum = lessonSumPlace();
  sum.element.hidden = true;
  const numbers = data.kernel.map((row, y) => row.map((_, x) => y * data.kernel[0].length + x));
  const legend = lessonKernel({ numbers, kernel: data.kernel, title: "w: the weights that are shared" });
  legend.paint((y, x) => ({ tone: `tinted ${lessonTone(numbers[y][x])}`, note: `${data.perceptron.uses[y][x]}×` }));
  const beside = lessonMake("div", { class: "lesson-wires-beside" }, legend.element, lessonMake("p", { class: "quiet small" }, "The small number says how many connections use the weight."), line, sum.element);
  matrix.addEventListener("click", () => { dense = !dense; show(view); });
  stage.append(
    lessonMake("div", { class: "lesson-row", role: "group", "aria-label": "What is left of the connections" }, buttons, matrix, told),
    lessonMake("div", { class: "lesson-pair lesson-wires-pair" }, place, beside),
  );
  show(view);
  const turns = ["every", "cut", "shared"].map((one) => () => { dense = false; show(one); });
  return [...turns, ...data.z.flat().map((_, k) => () => wires.pick("z", k))];
}

/** Finite differences beside every gradient. */
export function lessonStageDifferences(stage, { data }) {
  const detail = lessonMake("div", { class: "lesson-sum-place" });
  const beats = [];
  const worst = Math.max(...["gradient", "error", "bias", "delta"].flatMap((kind) => data.entries[kind].filter((one) => !one.kink).map((one) => one.off)));
  const explain = (entry, symbol, ours, how) => {
    const text = entry.kink
      ? "A unit turns on or off between the two points: there is a kink, and no derivative to compare with."
      : `differs by ${lessonTiny(entry.off)}`;
    const digits = entry.difference.toPrecision(10).replace("-", "−");
    detail.replaceChildren(
      lessonMake("p", {}, symbol, " = ", lessonMake("b", {}, lessonNumber(ours)), " by back-propagation, ", lessonMake("b", { class: "number" }, digits), " by going forward twice: ", text),
    );
    if (how === "focus") say(detail.textContent);
  };
  const rows = LESSON_CHECKED.map(([kind, field, name, title]) => {
    const values = data[field];
    const near = values.map((row, y) => row.map((_, x) => lessonEntry(data, kind, values, y, x)));
    const pick = (y, x, how) => {
      grids.forEach((one) => {
        one.select(y, x);
        one.paint((r, c) => ({ mark: `${r === y && c === x ? "picked" : ""} ${near[r][c].kink ? "kink" : ""}` }));
      });
      explain(near[y][x], lessonSymbol(name, [y, x]), values[y][x], how);
    };
    const grids = [
      lessonGrid({ name, title: `${title}, back-propagated`, values, pick }),
      lessonGrid({ name, title: "by finite differences", values: near.map((row) => row.map((e) => Number(e.difference.toFixed(6)))), pick, about: `${lessonSpoken(name, [])} by finite differences` }),
      lessonGrid({ name, title: "how far apart", values: near.map((row) => row.map((e) => e.off)), pick, text: (value, y, x) => (near[y][x].kink ? "kink" : lessonTiny(value)), kind: "lesson-small", about: `${lessonSpoken(name, [])}: how far apart both are` }),
    ];
    beats.push(...values.flatMap((row, y) => row.map((_, x) => () => pick(y, x, "play"))));
    grids.forEach((one) => one.paint((r, c) => ({ mark: near[r][c].kink ? "kink" : "" })));
    return lessonFlow(grids[0].element, lessonSign("≈"), grids[1].element, grids[2].element);
  });
  const [bias] = data.entries.bias;
  stage.append(
    lessonMake("p", { class: "lesson-cost" }, "Largest difference: ", lessonMake("output", {}, lessonTiny(worst))),
    detail,
    lessonMake("div", { class: "lesson-pair" }, rows),
    lessonMake("p", {}, lessonSymbol("dC/db", []), ` = ${lessonNumber(data.bias_gradient)}, the sum of all δ, beside ${lessonNumber(Number(bias.difference.toFixed(6)))} by finite differences${bias.kink ? " (at a kink)" : ""}.`),
  );
  explain(lessonEntry(data, "gradient", data.gradient, 0, 0), lessonSymbol("dC/dw", [0, 0]), data.gradient[0][0], "");
  return beats.slice(0, data.kernel.flat().length);
}

/** Both operations side by side: the rotation changes sides. */
export function lessonStageBoth(stage, { data }) {
  const whole = data.kernel.map((row, y) => row.map((_, x) => y * data.kernel[0].length + x));
  const symmetric = JSON.stringify(data.kernel) === JSON.stringify(data.turned);
  const zero = data.delta.flat().every((one) => one === 0);
  const note = symmetric
    ? "This kernel equals its rotation, so both orientations give the same result."
    : zero ? "All errors are zero here, so both orientations give the same result." : "";
  const cards = data.both.map((one) => {
    const turnedForward = one.operation === "convolution";
    const half = (title, turned, result) =>
      lessonMake(
        "div",
        { class: `lesson-way ${turned ? "turned" : ""}` },
        lessonMake("h4", {}, title, " ", lessonMake("span", { class: "lesson-badge" }, turned ? "rotated" : "as it is")),
        lessonFlow(lessonTurn({ kernel: data.kernel, turned, title: turned ? "rot180(w)" : "w" }).element, lessonSign("→"), result),
      );
    const formulas = document.querySelector(`template[data-formulas="${one.operation}"]`).content.cloneNode(true);
    const plain = (name, title, values) => lessonGrid({ name, title, values, kind: "lesson-small" }).element;
    const weighted = lessonKernel({ numbers: whole, kernel: one.gradient, title: "∂C/∂w", kind: "lesson-small" });
    weighted.paint((y, x) => ({ tone: `tinted ${lessonTone(whole[y][x])}` }));
    return lessonMake(
      "section",
      { class: `card lesson-operation ${one.operation === data.operation ? "chosen" : ""}`, "data-operation": one.operation },
      lessonMake("h3", {}, one.operation === "correlation" ? "Correlation" : "Convolution", one.operation === data.operation ? " (this case)" : ""),
      formulas,
      half("Forward, the kernel slides", turnedForward, plain("z", "z", one.z)),
      half("Back, it slides", !turnedForward, plain("dC/da", "∂C/∂a", one.error)),
      lessonMake("div", { class: "lesson-way" }, lessonMake("h4", {}, "The gradient of the weights"), weighted.element),
      lessonMake(
        "dl",
        { class: "lesson-offs" },
        lessonMake("dt", {}, "∂C/∂a off by"),
        lessonMake("dd", { class: "good" }, lessonTiny(one.off)),
        lessonMake("dt", {}, "slid back the other way round, off by"),
        lessonMake("dd", { class: note ? "" : "bad" }, lessonTiny(one.otherwise)),
      ),
    );
  });
  stage.append(lessonMake("div", { class: "lesson-pair lesson-both" }, cards), note ? lessonMake("p", { class: "note" }, note) : "");
  return [];
}
