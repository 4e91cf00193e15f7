// The backward pass to the pixels by three methods side by side; differences are marked.

import { lessonClean, lessonImage, lessonMaps, lessonSwitch } from "./lesson-maps.js";
import { lessonMake, lessonNumber, lessonShade, lessonSum, lessonSumSpoken, lessonSymbol, lessonTone } from "./lesson-widgets.js";
import { lessonTurn } from "./lesson-rotate.js";
import { lessonFlow, lessonSign } from "./lesson-steps.js";
import { say } from "./shortcuts.js";

const LESSON_METHODS = { deconvnet: "Deconvnet", gradient: "Gradient", guided: "Guided" };

const LESSON_BACK = {
  rectify2: { from: "relu2", to: "conv2", kind: "rectify", name: "s2" },
  filter2: { from: "conv2", to: "pool1", kind: "filter", name: "sp" },
  unpool: { from: "pool1", to: "relu1", kind: "unpool", name: "s1" },
  rectify1: { from: "relu1", to: "conv1", kind: "rectify", name: "s1" },
  filter1: { from: "conv1", to: "pixels", kind: "filter", name: "x̂" },
};

/** The largest size of what any method has at a layer, so that all share one scale. */
function lessonMost(data, layer) {
  return Math.max(...Object.values(data.ways).flatMap((way) => way.signals[layer].flat(2).map(Math.abs)), 1e-9);
}

function lessonPlace(data, layer, f, y, x) {
  const map = data.ways.deconvnet.signals[layer][0];
  return (f * map.length + y) * map[0].length + x;
}

/** Why a rectifier passes or stops a backward signal, in words. */
function lessonPasses(method, signal, fired) {
  const number = lessonNumber(signal);
  if (method === "deconvnet") return signal > 0 ? `${number} is above zero: it passes` : `max(${number}, 0) = 0`;
  if (!fired) return `the unit did not fire: ${number} is stopped`;
  if (method === "gradient") return `the unit fired: ${number} passes, whatever its sign`;
  return signal > 0 ? `the unit fired and ${number} is above zero: it passes` : `the unit fired, but max(${number}, 0) = 0`;
}

/** One step back, for each method: what came from above, and what becomes of it. */
export function lessonStageBack(stage, { data, picked }, which) {
  const { from, to, kind, name } = LESSON_BACK[which];
  const single = to === "pixels";
  const above = kind === "filter" && from === "conv2" ? "s2" : from === "pool1" ? "sp" : from === "relu2" ? "s2" : "s1";
  const shades = Object.fromEntries([from, to].map((layer) => [layer, lessonShade("signed", lessonMost(data, layer))]));
  const columns = Object.entries(LESSON_METHODS).map(([method, title]) => {
    const { signals } = data.ways[method];
    const before = lessonMaps({ name: above, title: "before", maps: signals[from], shade: shades[from] });
    const after = lessonMaps({ name, title: single ? "the pixels" : "after", maps: signals[to], shade: shades[to], single, pick: (f, y, x, how) => pick(f, y, x, how) });
    const detail = lessonMake("div", { class: "lesson-detail" });
    const element = lessonMake("section", { class: "lesson-method", "data-method": method }, lessonMake("h3", {}, title), lessonFlow(before.element, lessonSign("→"), after.element), detail);
    return { method, signals, before, after, detail, element };
  });

  const pick = (f, y, x, how) => {
    picked[which] = [f, y, x];
    const spoken = [];
    fired?.layer.grids.forEach((grid, k) => grid.paint((r, c) => ({ mark: k === f && r === y && c === x ? "picked" : "" })));
    for (const column of columns) {
      lessonClean(column.before, column.after);
      column.after.grids.forEach((grid, k) => {
        grid.paint((r, c) => {
          const here = k === f && r === y && c === x;
          const apart = data.differs[to][k][r][c] ? "differs" : "";
          return { mark: `${here ? "picked" : ""} ${apart}`, note: kind === "unpool" ? lessonSwitch(data, k, r, c).note : "" };
        });
        if (k === f) grid.select(y, x);
      });
      spoken.push(`${column.method}: ${lessonExplain(column, f, y, x)}`);
    }
    if (how === "focus") say(spoken.join("; "));
  };

  function lessonExplain({ method, signals, before, detail }, f, y, x) {
    if (kind === "filter") {
      const entry = data.ways[method].sums[to][lessonPlace(data, to, f, y, x)];
      const tones = new Map(entry.products.map((one) => [one.factors[1].index.join(), one]));
      before.grids.forEach((grid, k) => grid.paint((r, c) => {
        const product = tones.get([k, r, c].join());
        return product ? { tone: `tinted ${lessonTone(product.weight)}`, note: `×${lessonNumber(product.factors[0].value)}` } : {};
      }));
      detail.replaceChildren(lessonSum(entry));
      return lessonSumSpoken(entry);
    }
    const value = lessonNumber(signals[to][f][y][x]);
    let words = "";
    if (kind === "rectify") {
      before.grids[f].paint((r, c) => ({ mark: r === y && c === x ? "picked" : "" }));
      const forward = from === "relu2" ? "relu2" : "relu1";
      words = lessonPasses(method, signals[from][f][y][x], data.maps[forward][f][y][x] > 0);
    } else {
      const [v, u] = [Math.floor(y / 2), Math.floor(x / 2)];
      before.grids[f].paint((r, c) => ({ mark: r === v && c === u ? "picked" : "" }));
      const [sy, sx] = data.switches[f][v][u];
      const here = sy === y && sx === x;
      words = data.unpool === "repeat"
        ? "the whole window takes the value"
        : here ? "the maximum was here: the switch sends the value back" : `the maximum was at ${sy},${sx}: nothing comes here`;
    }
    detail.replaceChildren(lessonMake("p", {}, lessonSymbol(name, single ? [y, x] : [f, y, x]), ` = ${value}: ${words}.`));
    return `${value}, ${words}`;
  }

  const fired = kind === "rectify" ? lessonFired(data, from) : null;
  if (fired) stage.append(fired.element);
  if (kind === "filter") stage.append(lessonTurned(data, to));
  const same = !data.differs[to].flat(2).some(Boolean);
  stage.append(
    lessonMake("p", { class: "lesson-apart" }, same ? "All three methods agree here." : "A dashed frame marks entries on which the methods disagree."),
    lessonMake("div", { class: "lesson-methods" }, columns.map((one) => one.element)),
  );
  const places = data.differs[to].flatMap((map, f) => map.flatMap((row, y) => row.map((_, x) => [f, y, x])));
  const busy = places.filter(([f, y, x]) => columns.some((one) => one.signals[to][f][y][x] !== 0));
  const first = busy.find(([f, y, x]) => data.differs[to][f][y][x]) ?? busy[0] ?? [0, 0, 0];
  pick(...(picked[which] ?? first), "");
  return busy.map((one) => () => pick(...one, "play"));
}

/** What the units at a rectifier had on the way forward: those above zero fired. */
function lessonFired(data, layer) {
  const title = "on the way forward: units above zero fired";
  const made = lessonMaps({ name: layer === "relu2" ? "a2" : "a1", title, maps: data.maps[layer] });
  return { layer: made, element: lessonMake("div", { class: "lesson-fired" }, made.element) };
}

/** The kernels of a filter, turning. */
function lessonTurned(data, to) {
  const kernels = to === "pixels" ? data.first : data.second.slice(2 * data.unit.feature, 2 * data.unit.feature + 2);
  const first = to === "pixels" ? 0 : 8 * data.unit.feature;
  const size = kernels[0].length * kernels[0][0].length;
  const what = to === "pixels" ? "feature" : "map";
  return lessonFlow(...kernels.map((kernel, k) => lessonTurn({ kernel, turned: true, title: `rot180(w), ${what} ${k}`, first: first + k * size }).element));
}

/** The backward passes side by side, and the three results. */
export function lessonStageSide(stage, { data, picked }) {
  const layers = [["relu2", "the unit"], ["conv2", "rectified"], ["pool1", "filtered"], ["relu1", "unpooled"], ["conv1", "rectified"]];
  const shade = lessonShade("signed", lessonMost(data, "pixels"));
  const image = lessonImage(data);
  const columns = Object.entries(LESSON_METHODS).map(([method, title]) => {
    const { signals } = data.ways[method];
    const way = layers.map(([layer, words]) => {
      const maps = lessonMaps({ name: layer, title: words, maps: signals[layer], shade: lessonShade("signed", lessonMost(data, layer)) });
      maps.grids.forEach((grid, f) => grid.paint((r, c) => ({ mark: data.differs[layer][f][r][c] ? "differs" : "" })));
      maps.element.classList.add("lesson-tiny");
      return maps.element;
    });
    const pixels = lessonMaps({ name: "x̂", title: "the pixels", maps: [signals.pixels[0]], shade, single: true, pick: (_, y, x, how) => pick(y, x, how) });
    const detail = lessonMake("div", { class: "lesson-detail" });
    const element = lessonMake("section", { class: "lesson-method", "data-method": method }, lessonMake("h3", {}, title), lessonMake("div", { class: "lesson-way-back" }, way), pixels.element, detail);
    return { method, pixels, detail, element };
  });
  const pick = (y, x, how) => {
    picked.side = [y, x];
    image.grids[0].paint((r, c) => ({ mark: r === y && c === x ? "picked" : "" }));
    const spoken = columns.map(({ method, pixels, detail }) => {
      pixels.grids[0].paint((r, c) => ({ mark: `${r === y && c === x ? "picked" : ""} ${data.differs.pixels[0][r][c] ? "differs" : ""}` }));
      pixels.grids[0].select(y, x);
      const entry = data.ways[method].sums.pixels[lessonPlace(data, "pixels", 0, y, x)];
      detail.replaceChildren(lessonSum(entry));
      return `${method}: ${lessonSumSpoken(entry)}`;
    });
    if (how === "focus") say(spoken.join("; "));
  };
  const legend = lessonMake(
    "ul",
    {},
    lessonMake("li", {}, "Orange is above zero, blue below; all three share one scale."),
    lessonMake("li", {}, "A dashed frame marks entries on which the methods disagree."),
    lessonMake("li", {}, `The unit: feature ${data.unit.feature}, position ${data.unit.y},${data.unit.x}, activation ${lessonNumber(data.unit.activation)}.`),
  );
  stage.append(lessonFlow(image.element, legend), lessonMake("div", { class: "lesson-methods" }, columns.map((one) => one.element)));
  const apart = data.differs.pixels[0].flatMap((row, y) => row.map((yes, x) => (yes ? [y, x] : null))).filter(Boolean);
  pick(...(picked.side ?? apart[0] ?? [2, 2]), "");
  return apart.map((one) => () => pick(...one, "play"));
}
