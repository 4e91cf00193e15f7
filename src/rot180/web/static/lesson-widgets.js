// What lessons are made of: elements, numbers, symbols, the colours of weights.

/** Make an HTML element; attributes that are null or false are left out. */
export function lessonMake(tag, attributes = {}, ...children) {
  return lessonFill(document.createElement(tag), attributes, children);
}

/** Make an SVG element. */
export function lessonDraw(tag, attributes = {}, ...children) {
  return lessonFill(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
}

function lessonFill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...children.flat().filter((one) => one !== null && one !== undefined));
  return element;
}

/** Write a number with at most four digits. */
export function lessonNumber(value) {
  if (Math.abs(value) < 1e-12) return "0";
  const whole = Math.round(value);
  const near = Math.abs(value - whole) < 1e-9 * Math.max(1, Math.abs(value));
  const text = near && Math.abs(whole) < 1e6 ? String(whole) : lessonTrimmed(value.toPrecision(4));
  return text.replaceAll("-", "−");
}

function lessonTrimmed(text) {
  const [digits, power] = text.split("e");
  const short = digits.includes(".") ? digits.replace(/\.?0+$/, "") : digits;
  return power ? `${short}e${power.replace("+", "")}` : short;
}

/** Write a difference that ought to be zero: one digit and the power of ten. */
export function lessonTiny(value) {
  if (value === 0) return "0";
  return value > 1e-3 ? lessonNumber(value) : value.toExponential(0).replaceAll("-", "−");
}

/** The classes of a weight's colour: the same colour and stripes are the same weight. */
export function lessonTone(weight) {
  return weight === null || weight === undefined || weight < 0 ? "" : `w${weight % 8} r${Math.floor(weight / 8) % 4}`;
}

const LESSON_NAMES = { delta: "δ", "dC/da": "∂C/∂a", "dC/dw": "∂C/∂w", "dC/db": "∂C/∂b", "a'": "a′", "f'(z)": "f′", "-y": "−y" };

/** A name as it is written in formulas. */
export function lessonName(name) {
  return LESSON_NAMES[name] ?? name;
}

/** A symbol with its index below, as nodes. */
export function lessonSymbol(name, index) {
  const layer = /^([wszbp])([12p])$/.exec(name); // as w1, the weights of layer 1
  const shown = lessonMake("span", { class: "lesson-symbol" }, layer ? layer[1] : lessonName(name));
  if (layer) shown.append(lessonMake("sup", {}, layer[2]));
  if (index.length) shown.append(lessonMake("sub", {}, index.join(",")));
  return shown;
}

/** A symbol with its index, in a line of text. */
export function lessonSpoken(name, index) {
  return lessonName(name) + (index.length ? `[${index.join(",")}]` : "");
}

/** A number in a product, in brackets if it is negative. */
export function lessonFactor(value) {
  const text = lessonNumber(value);
  return text.startsWith("−") ? `(${text})` : text;
}

/** Whether motion is to be kept low. */
export function lessonStill() {
  return matchMedia("(prefers-reduced-motion: reduce)").matches;
}

/** What the server wrote into the page. */
export function lessonRead(id) {
  return JSON.parse(document.getElementById(id).textContent);
}

/**
 * A sum taken apart: one chip for each product, and what they add up to.
 *
 * extra: words after the products; touched(place): called as one points at a chip; weight: the
 * number of the weight that all products belong to.
 */
export function lessonSum(entry, { extra = "", touched = () => {}, weight = null } = {}) {
  const list = lessonMake("ul", { class: "lesson-terms" });
  entry.products.forEach((product, place) => {
    const symbols = product.factors.map((one) => lessonSymbol(one.name, one.index));
    const values = product.factors.map((one) => lessonFactor(one.value)).join(" · ");
    const result = product.factors.length > 1 ? ` = ${lessonNumber(product.value)}` : "";
    const chip = lessonMake(
      "li",
      { class: `lesson-term ${lessonTone(product.weight ?? weight)}` },
      lessonMake("span", { class: "lesson-term-symbols" }, symbols),
      lessonMake("span", { class: "lesson-term-values" }, values, lessonMake("b", {}, result)),
    );
    chip.addEventListener("pointerenter", () => touched(place));
    chip.addEventListener("pointerleave", () => touched(null));
    list.append(chip);
  });
  if (extra) list.append(lessonMake("li", { class: "lesson-term lesson-term-quiet" }, extra));
  return lessonMake(
    "div",
    { class: "lesson-sum" },
    lessonMake("p", { class: "lesson-sum-head" }, lessonSymbol(entry.name, entry.index), " = "),
    list,
    lessonMake("p", { class: "lesson-sum-total" }, "= ", lessonMake("output", {}, lessonNumber(entry.value))),
  );
}

/** The same sum in words, for a screen reader. */
export function lessonSumSpoken(entry) {
  const products = entry.products.map((one) => one.factors.map((f) => lessonNumber(f.value)).join(" times "));
  return `${lessonSpoken(entry.name, entry.index)} = ${products.join(" plus ") || "0"} = ${lessonNumber(entry.value)}`;
}

/** How strongly a value is coloured: greys from 0 to most, or orange above zero and blue below. */
export function lessonShade(kind, most) {
  return (value) => {
    if (kind === "grey") {
      const part = Math.min(Math.max(value / most, 0), 1);
      return { kind: part > 0.5 ? "grey bright" : "grey", part };
    }
    return { kind: value < 0 ? "minus" : value > 0 ? "plus" : "none", part: most ? Math.min(Math.abs(value) / most, 1) : 0 };
  };
}
