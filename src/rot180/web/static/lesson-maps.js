// Maps of a small network, forward: where each number of a layer comes from.

import { lessonGrid } from "./lesson-grid.js";
import { lessonMake, lessonNumber, lessonShade, lessonSymbol, lessonTone } from "./lesson-widgets.js";
import { lessonFlow, lessonSign, lessonSumPlace } from "./lesson-steps.js";

/** The maps of a layer above each other: {element, grids}. */
export function lessonMaps({ name, title, maps, pick = null, act = null, shade = null, single = false }) {
  const most = Math.max(...maps.flat(2).map(Math.abs), 1e-9);
  const grids = maps.map((values, f) =>
    lessonGrid({
      name,
      title: f ? "" : title,
      about: single ? title : `${title}, map ${f}`,
      values,
      at: single ? [] : [f],
      kind: "lesson-map",
      shade: shade ?? lessonShade("signed", most),
      pick: pick && ((y, x, how) => pick(f, y, x, how)),
      act: act && ((y, x) => act(f, y, x)),
    }),
  );
  return { element: lessonMake("div", { class: "lesson-maps" }, grids.map((one) => one.element)), grids };
}

/** The image as greys. */
export function lessonImage(data, title = "x, the image") {
  return lessonMaps({ name: "x", title, maps: [data.image], shade: lessonShade("grey", 9), single: true });
}

/** Take all marks away. */
export function lessonClean(...layers) {
  layers.forEach((layer) => layer.grids.forEach((grid) => grid.paint(() => ({}))));
}

/** Kernels with the colours of their weights; first is the number of the first weight. */
export function lessonKernels({ name, title, kernels }) {
  const grids = kernels.map((values, k) => {
    const grid = lessonGrid({ name, title: k ? "" : title, values, kind: "lesson-map" });
    const [height, width] = [values.length, values[0].length];
    grid.paint((y, x) => ({ tone: `tinted ${lessonTone(k * height * width + y * width + x)}` }));
    return grid;
  });
  return lessonMake("div", { class: "lesson-maps" }, grids.map((one) => one.element));
}

/** The first step: what the network is. */
export function lessonStageNetwork(stage, { data }) {
  const part = (name, words) => lessonMake("li", {}, lessonMake("b", {}, name), lessonMake("span", {}, words));
  stage.append(
    lessonMake(
      "ol",
      { class: "lesson-chain", "aria-label": "The network" },
      part("x", "image, 6×6"),
      part("conv 3×3", "2 features, border of zeros"),
      part("ReLU", "max(z, 0)"),
      part("max pooling 2×2", "the largest of four"),
      part("conv 2×2", "2 features"),
      part("ReLU", "max(z, 0)"),
    ),
    lessonFlow(
      lessonImage(data).element,
      lessonKernels({ name: "w1", title: "first kernels", kernels: data.first }),
      lessonKernels({ name: "w2", title: "of feature 0", kernels: data.second.slice(0, 2) }),
      lessonKernels({ name: "w2", title: "of feature 1", kernels: data.second.slice(2) }),
    ),
  );
  return [];
}

/** Forward: every map, and for each number the window that made it. */
export function lessonStageMaps(stage, { data, picked }) {
  const sum = lessonSumPlace();
  const image = lessonImage(data);
  const words = (...parts) => sum.element.replaceChildren(lessonMake("p", {}, parts));
  const layers = {};
  const make = (name, symbol, title) => {
    const pick = (f, y, x, how) => choose(name, f, y, x, how);
    layers[name] = lessonMaps({ name: symbol, title, maps: data.maps[name], pick });
  };
  make("conv1", "z1", "conv");
  make("relu1", "a1", "ReLU");
  make("pool1", "p", "pooled");
  make("conv2", "z2", "conv");
  make("relu2", "a2", "ReLU");
  const entry = (name, f, y, x) => {
    const [height, width] = [data.maps[name][0].length, data.maps[name][0][0].length];
    return data.sums[name][(f * height + y) * width + x];
  };
  const window_ = (kernels, number, height, y, x) => (r, c) => {
    const value = kernels[r - y]?.[c - x];
    return value === undefined ? {} : { tone: `tinted ${lessonTone(number + (r - y) * height + c - x)}`, note: `×${lessonNumber(value)}` };
  };
  const choose = (name, f, y, x, how) => {
    picked.map = [name, f, y, x];
    lessonClean(image, ...Object.values(layers));
    layers.relu1.grids.forEach((grid, k) => grid.paint((r, c) => lessonSwitch(data, k, r, c)));
    layers[name].grids[f].paint((r, c) => (r === y && c === x ? { mark: "picked" } : name === "relu1" ? lessonSwitch(data, f, r, c) : {}));
    layers[name].grids[f].select(y, x);
    const value = lessonNumber(data.maps[name][f][y][x]);
    if (name === "conv1") {
      image.grids[0].paint(window_(data.first[f], f * 9, 3, y - 1, x - 1));
      sum.show(entry(name, f, y, x), how);
    } else if (name === "conv2") {
      layers.pool1.grids.forEach((grid, c) => grid.paint(window_(data.second[2 * f + c], f * 8 + c * 4, 2, y, x)));
      sum.show(entry(name, f, y, x), how);
    } else if (name === "pool1") {
      const [v, u] = data.switches[f][y][x];
      layers.relu1.grids[f].paint((r, c) => {
        const mark = Math.floor(r / 2) === y && Math.floor(c / 2) === x ? "inside" : "";
        return { ...lessonSwitch(data, f, r, c), mark: r === v && c === u ? "picked" : mark };
      });
      words(lessonSymbol("p", [f, y, x]), ` = ${value}, the largest of its window. The switch ● remembers that it stood at ${v},${u}.`);
    } else {
      const below = name === "relu1" ? "conv1" : "conv2";
      const under = lessonNumber(data.maps[below][f][y][x]);
      layers[below].grids[f].paint((r, c) => ({ mark: r === y && c === x ? "picked" : "" }));
      words(`max(${under}, 0) = ${value}`);
    }
  };
  const column = (layer) => layers[layer].element;
  stage.append(
    lessonFlow(image.element, lessonSign("→"), column("conv1"), lessonSign("→"), column("relu1"), lessonSign("→"), column("pool1"), lessonSign("→"), column("conv2"), lessonSign("→"), column("relu2")),
    sum.element,
  );
  choose(...(picked.map ?? ["conv1", 0, 1, 2]), "");
  const places = (name) => data.maps[name].flatMap((map, f) => map.flatMap((row, y) => row.map((_, x) => [name, f, y, x])));
  const some = [...places("conv1").slice(0, 8), ...places("pool1").slice(0, 5), ...places("conv2")];
  return some.map((one) => () => choose(...one, "play"));
}

/** The mark of a switch, where a maximum was. */
export function lessonSwitch(data, f, r, c) {
  const [v, u] = data.switches[f][Math.floor(r / 2)][Math.floor(c / 2)];
  return v === r && u === c ? { note: "●" } : {};
}

/** The unit that is kept; in a served page another can be chosen. */
export function lessonStageUnit(stage, { data, form }) {
  const { unit } = data;
  const choose = form ? (f, y, x) => form.change({ feature: String(f), unit: `${y},${x}` }) : null;
  const pick = form ? () => {} : null;
  const shown = lessonMaps({ name: "a2", title: form ? "a², after ReLU: choose a unit" : "a², after ReLU", maps: data.maps.relu2, pick, act: choose });
  const kept = lessonMaps({ name: "s2", title: "s², the signal", maps: data.ways.deconvnet.signals.relu2 });
  [shown, kept].forEach((layer) => layer.grids[unit.feature].paint((r, c) => ({ mark: r === unit.y && c === unit.x ? "picked" : "" })));
  shown.grids[unit.feature].select(unit.y, unit.x);
  const dead = unit.activation === 0;
  stage.append(
    lessonFlow(shown.element, lessonSign("→"), kept.element),
    lessonMake("p", {}, `Feature ${unit.feature}, position ${unit.y},${unit.x}: the signal starts with its activation, `, lessonMake("output", {}, lessonNumber(unit.activation)), "."),
    dead ? lessonMake("p", { class: "note" }, "This unit does not fire on this image, so there is nothing to project. Choose another unit.") : "",
  );
  return [];
}
