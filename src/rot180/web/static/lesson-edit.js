// The numbers that can be changed: a field for each entry, sizes, and a grid as it stands in an address.

import { lessonMake } from "./lesson-widgets.js";

/** Write what stands in the fields as an address has it: 1,2;3,4. */
export function lessonWritten(fields) {
  return fields.map((row) => row.map((one) => one.value.trim()).join(",")).join(";");
}

/** Write a number into a field so that it can be edited again. */
export function lessonPlain(value) {
  return String(Number(value.toPrecision(12)));
}

/** Return fields for a grid of numbers; changed() is called as one types. */
export function lessonFields({ values, name, title, changed, most = 0, resized = null }) {
  const fields = values.map((row, y) =>
    row.map((value, x) => {
      const field = lessonMake("input", {
        type: "text", inputmode: "decimal", autocomplete: "off", spellcheck: "false", class: "lesson-field",
        "aria-label": `${name}[${y},${x}]`,
      });
      field.value = lessonPlain(value);
      field.addEventListener("input", () => changed(field));
      field.addEventListener("focus", () => field.select());
      field.addEventListener("keydown", (event) => lessonLeave(event, fields, y, x));
      return field;
    }),
  );
  const rows = fields.map((row) => lessonMake("tr", {}, row.map((one) => lessonMake("td", {}, one))));
  const table = lessonMake("table", { class: "lesson-grid lesson-fields", role: "presentation" }, lessonMake("tbody", {}, rows));
  const element = lessonMake("fieldset", { class: "lesson-grid-box" }, lessonMake("legend", { class: "lesson-grid-title" }, title), table);
  if (resized) element.append(lessonSizes({ values, most, resized }));
  return { element, fields };
}

/** Enter and the arrows up and down go to the next row; left and right stay in the number. */
function lessonLeave(event, fields, y, x) {
  const step = { ArrowUp: -1, ArrowDown: 1, Enter: 1 }[event.key];
  if (!step || event.altKey || event.ctrlKey || event.metaKey) return;
  event.preventDefault();
  fields[y + step]?.[x]?.focus();
}

function lessonSizes({ values, most, resized }) {
  const size = [values.length, values[0].length];
  const one = (axis, what) => {
    const step = (by) => {
      const button = lessonMake("button", { type: "button", "aria-label": `${by > 0 ? "One more" : "One less"} ${what}`, "data-size": `${what}${by}` }, by > 0 ? "+" : "−");
      button.disabled = size[axis] + by < 1 || size[axis] + by > most;
      button.addEventListener("click", () => resized(lessonResized(values, axis, by)));
      return button;
    };
    return lessonMake("span", { class: "lesson-size" }, step(-1), lessonMake("span", {}, `${size[axis]} ${what}${size[axis] === 1 ? "" : "s"}`), step(1));
  };
  return lessonMake("div", { class: "lesson-sizes" }, one(0, "row"), one(1, "column"));
}

/** A grid with one row or column more, which repeats the last, or one less. */
function lessonResized(values, axis, by) {
  const grow = (list) => (by > 0 ? [...list, list[list.length - 1]] : list.slice(0, -1));
  return axis === 0 ? grow(values) : values.map(grow);
}

/** Whether a person has written a number. */
export function lessonIsNumber(text) {
  return text.trim() !== "" && Number.isFinite(Number(text.trim().replace("−", "-")));
}
