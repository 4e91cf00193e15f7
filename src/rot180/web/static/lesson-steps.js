// What each step of the first lesson shows: forward, the error, its other view, the weights.

import { lessonGrid } from "./lesson-grid.js";
import { lessonLines } from "./lesson-lines.js";
import { lessonMake, lessonNumber, lessonSum, lessonSumSpoken, lessonTone } from "./lesson-widgets.js";
import { lessonTurn } from "./lesson-rotate.js";
import { say } from "./shortcuts.js";

/** A sign between grids, as "=". */
export function lessonSign(text) {
  return lessonMake("div", { class: "lesson-sign", "aria-hidden": "true" }, text);
}

/** Grids beside each other, with a heading if there is one. */
export function lessonFlow(...parts) {
  return lessonMake("div", { class: "lesson-flow" }, parts);
}

/** All entries in the order in which a grid is played. */
export function lessonBeats(values, pick) {
  return values.flatMap((row, y) => row.map((_, x) => () => pick(y, x, "play")));
}

/** The entry of a kind at a place. */
export function lessonEntry(data, kind, values, y, x) {
  return data.entries[kind][y * values[0].length + x];
}

/** A place where the sum of the picked entry stands, told to screen readers if it has the focus. */
export function lessonSumPlace() {
  const element = lessonMake("div", { class: "lesson-sum-place" });
  return {
    element,
    show(entry, how, options) {
      element.replaceChildren(lessonSum(entry, options));
      if (how === "focus") say(lessonSumSpoken(entry));
    },
  };
}

/** The first step: what follows from the case. */
export function lessonStageCase(stage, { data, picked, served }) {
  const sum = lessonSumPlace();
  const pick = (y, x, how) => {
    picked.z = [y, x];
    delta.select(y, x);
    [z, y_, out].forEach((one) => one?.paint((r, c) => ({ mark: r === y && c === x ? "picked" : "" })));
    delta.paint((r, c) => ({ mark: r === y && c === x ? "picked" : "" }));
    sum.show(lessonEntry(data, "delta", data.delta, y, x), how);
  };
  const z = lessonGrid({ name: "z", title: "z", values: data.z });
  const out = data.activation === "none" ? null : lessonGrid({ name: "a'", title: "a′ = f(z)", values: data.output });
  const y_ = lessonGrid({ name: "y", title: "y, wanted", values: data.target });
  const delta = lessonGrid({ name: "delta", title: "δ = ∂C/∂z", values: data.delta, pick });
  const cost = lessonMake("p", { class: "lesson-cost" }, "C = ", lessonMake("b", {}, lessonNumber(data.cost)));
  if (!served) {
    const given = [["a", "a, the image", data.image], ["w", "w, the kernel", data.kernel], ["b", "b", [[data.bias]]]];
    stage.append(lessonFlow(...given.map(([name, title, values]) => lessonGrid({ name, title, values }).element)));
  }
  stage.append(
    lessonFlow(z.element, out && lessonSign("→"), out?.element, lessonSign("−"), y_.element, lessonSign(out ? "· f′ →" : "="), delta.element),
    cost,
    sum.element,
  );
  pick(...picked.z);
  return lessonBeats(data.delta, pick);
}

/** Forward: the kernel slides over the image. */
export function lessonStageForward(stage, { data, picked }) {
  const { forward } = data.both.find((one) => one.operation === data.operation);
  const flat = data.kernel.flat();
  const sum = lessonSumPlace();
  const [[top], [left]] = data.border;
  const inside = (y, x) => y >= top && x >= left && y - top < data.image.length && x - left < data.image[0].length;
  const image = lessonGrid({ name: "a", title: data.border.flat().some(Boolean) ? "a, with a border of zeros" : "a", values: data.framed });
  const turn = lessonTurn({ kernel: data.kernel, turned: data.operation === "convolution", title: data.operation === "convolution" ? "rot180(w)" : "w" });
  const pick = (y, x, how) => {
    picked.z = [y, x];
    z.select(y, x);
    z.paint((r, c) => ({ mark: r === y && c === x ? "picked" : "" }));
    const entry = lessonEntry(data, "z", data.z, y, x);
    const [v, u] = entry.window;
    image.paint((r, c) => {
      const weight = forward[r - v]?.[c - u];
      const mark = inside(r, c) ? "" : "outside";
      return weight === undefined ? { mark } : { mark, tone: `tinted ${lessonTone(weight)}`, note: `×${lessonNumber(flat[weight])}` };
    });
    image.frame(v, u, forward.length, forward[0].length);
    sum.show(entry, how);
  };
  const z = lessonGrid({ name: "z", title: "z", values: data.z, pick });
  stage.append(lessonFlow(turn.element, lessonSign("over"), image.element, lessonSign("+ b ="), z.element), sum.element);
  pick(...picked.z);
  return lessonBeats(data.z, pick);
}

/** The lines of an entry of dC/da: from the errors above, through the weights. */
function lessonErrorLines(entry, delta, error, [y, x], strong = null) {
  return entry.products.map((product, place) => {
    const above = product.factors.find((one) => one.name === "delta");
    return { from: error.at(y, x), to: delta.at(...above.index), weight: product.weight, strong: strong === place };
  });
}

function lessonErrorTones(entry) {
  return new Map(entry.products.map((one) => [one.factors.find((f) => f.name === "delta").index.join(), one.weight]));
}

/** The error of an input, connection by connection; with both views if both are wanted. */
export function lessonStageError(stage, { data, picked }, both) {
  const sum = lessonSumPlace();
  const way = data.both.find((one) => one.operation === data.operation);
  const flat = data.kernel.flat();
  const pick = (y, x, how) => {
    picked.a = [y, x];
    const entry = lessonEntry(data, "error", data.error, y, x);
    const tones = lessonErrorTones(entry);
    delta.paint((r, c) => {
      const weight = tones.get(`${r},${c}`);
      return weight === undefined ? {} : { tone: `tinted ${lessonTone(weight)}`, note: `×${lessonNumber(flat[weight])}` };
    });
    [error, second].forEach((one) => {
      one?.select(y, x);
      one?.paint((r, c) => ({ mark: r === y && c === x ? "picked" : "" }));
    });
    lines.draw(lessonErrorLines(entry, delta, error, [y, x]));
    const missing = data.kernel.flat().length - entry.products.length;
    const zeros = both && missing ? `+ ${missing} × a zero of the border${data.stride > 1 ? " or between" : ""}` : "";
    if (both) slide(entry);
    sum.show(entry, how, {
      extra: zeros,
      touched: (place) => lines.draw(lessonErrorLines(entry, delta, error, [y, x], place)),
    });
  };
  const slide = (entry) => {
    const [v, u] = entry.window;
    spread.paint((r, c) => {
      const weight = way.back[r - v]?.[c - u];
      const mark = real(r, c) ? "" : "outside";
      return weight === undefined ? { mark } : { mark, tone: `tinted ${lessonTone(weight)}`, note: `×${lessonNumber(flat[weight])}` };
    });
    spread.frame(v, u, way.back.length, way.back[0].length);
  };
  const real = (r, c) => {
    const y = (r - data.kernel.length + 1) / data.stride;
    const x = (c - data.kernel[0].length + 1) / data.stride;
    return Number.isInteger(y) && Number.isInteger(x) && data.delta[y]?.[x] !== undefined;
  };
  const delta = lessonGrid({ name: "delta", title: "δ above", values: data.delta });
  const error = lessonGrid({ name: "dC/da", title: "∂C/∂a below", values: data.error, pick });
  const planes = lessonMake("div", { class: "lesson-planes" }, error.element, delta.element);
  let second = null;
  let spread = null;
  if (both) {
    const turned = data.operation === "correlation";
    const turn = lessonTurn({ kernel: data.kernel, turned, title: turned ? "rot180(w)" : "w, as it is" });
    spread = lessonGrid({ name: "delta", title: data.stride > 1 ? "δ, spread, with zeros around" : "δ, with zeros around", values: data.spread });
    second = lessonGrid({ name: "dC/da", title: "∂C/∂a", values: data.error, pick });
    stage.append(
      lessonMake(
        "div",
        { class: "lesson-pair" },
        lessonMake("section", {}, lessonMake("h3", {}, "Connection by connection"), planes),
        lessonMake("section", {}, lessonMake("h3", {}, turned ? "The rotated kernel slides" : "The kernel slides as it is"), lessonFlow(turn.element, lessonSign("over"), spread.element, lessonSign("="), second.element)),
      ),
    );
  } else stage.append(planes);
  stage.append(sum.element);
  const lines = lessonLines(planes);
  pick(...picked.a);
  return lessonBeats(data.error, pick);
}

/** The gradient of a weight: over all connections that share it, and the error sliding. */
export function lessonStageWeights(stage, { data, picked }) {
  const sum = lessonSumPlace();
  const [[top], [left]] = data.border;
  const links = (entry) =>
    entry.products.map((product) => {
      const [above, below] = product.factors;
      return { above: above.index, below: below.index };
    });
  const drawn = (entry, number, strong = null) =>
    links(entry).map(({ above, below }, place) => ({ from: image.at(...below), to: delta.at(...above), weight: number, strong: strong === place }));
  const pick = (y, x, how) => {
    picked.w = [y, x];
    const number = y * data.kernel[0].length + x;
    const entry = lessonEntry(data, "gradient", data.gradient, y, x);
    const found = links(entry);
    const has = (kind, r, c) => found.some((one) => one[kind][0] === r && one[kind][1] === c);
    const tone = `tinted ${lessonTone(number)}`;
    image.paint((r, c) => (has("below", r, c) ? { tone } : {}));
    delta.paint((r, c) => (has("above", r, c) ? { tone } : {}));
    const [v, u] = entry.window;
    framed.paint((r, c) => {
      const value = data.dilated[r - v]?.[c - u];
      const inside = data.image[r - top]?.[c - left] !== undefined;
      const mark = inside ? "" : "outside";
      if (value === undefined) return { mark };
      const between = (r - v) % data.stride || (c - u) % data.stride;
      return between ? { mark, note: "×0" } : { mark, tone, note: `×${lessonNumber(value)}` };
    });
    framed.frame(v, u, data.dilated.length, data.dilated[0].length);
    [gradient, second].forEach((one) => {
      one.select(y, x);
      one.paint((r, c) => ({ mark: r === y && c === x ? "picked" : "", tone: `tinted ${lessonTone(r * data.kernel[0].length + c)}` }));
    });
    lines.draw(drawn(entry, number));
    sum.show(entry, how, { weight: number, touched: (place) => lines.draw(drawn(entry, number, place)) });
  };
  const image = lessonGrid({ name: "a", title: "a below", values: data.image });
  const delta = lessonGrid({ name: "delta", title: "δ above", values: data.delta });
  const gradient = lessonGrid({ name: "dC/dw", title: "∂C/∂w: pick a weight", values: data.gradient, pick });
  const slid = lessonGrid({ name: "delta", title: data.stride > 1 ? "δ, spread" : "δ", values: data.dilated });
  const framed = lessonGrid({ name: "a", title: data.border.flat().some(Boolean) ? "a, with its border" : "a", values: data.framed });
  const second = lessonGrid({ name: "dC/dw", title: "∂C/∂w", values: data.gradient, pick });
  const planes = lessonMake("div", { class: "lesson-planes" }, image.element, delta.element);
  stage.append(
    lessonMake(
      "div",
      { class: "lesson-pair" },
      lessonMake("section", {}, lessonMake("h3", {}, "All connections that share a weight"), lessonFlow(gradient.element, planes)),
      lessonMake("section", {}, lessonMake("h3", {}, "The error slides over the image"), lessonFlow(slid.element, lessonSign("over"), framed.element, lessonSign("="), second.element)),
    ),
    sum.element,
  );
  const lines = lessonLines(planes);
  pick(...picked.w);
  return lessonBeats(data.gradient, pick);
}
