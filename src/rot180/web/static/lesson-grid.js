// A grid of numbers: arrow keys move inside it, and the cell under the pointer or focus is picked.

import { lessonMake, lessonNumber, lessonSpoken } from "./lesson-widgets.js";

const LESSON_MOVES = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };

/**
 * Make a grid.
 *
 * name: of its entries, as "dC/da"; title: what stands above it; values: rows of numbers;
 * pick(y, x, how): called when a cell is picked, how is "hover" or "focus"; without it the grid is
 * a plain table. text(value, y, x): how a value is written. at: what stands before the row and
 * column in an index, as the number of the map. shade(value): see lessonShade. act(y, x): called
 * when a cell is clicked, or Enter pressed there.
 */
export function lessonGrid({ name, title, values, pick = null, text = lessonNumber, kind = "", about = "", at = [], shade = null, act = null }) {
  const table = lessonMake("table", { class: `lesson-grid ${kind}`, role: pick ? "grid" : null });
  table.setAttribute("aria-label", about || `${title || name}, ${values.length} rows and ${values[0].length} columns`);
  const cells = values.map((row, y) => row.map((value, x) => lessonCell({ name, value, index: [...at, y, x], pick, text, shade, first: y + x === 0 })));
  const rows = cells.map((row) => lessonMake("tr", { role: pick ? "row" : null }, row));
  table.append(lessonMake("tbody", { role: pick ? "rowgroup" : null }, rows));
  const frame = lessonMake("div", { class: "lesson-frame", hidden: true });
  const inner = lessonMake("div", { class: "lesson-grid-inner" }, table, frame);
  const heading = lessonMake("div", { class: "lesson-grid-title" }, title ?? name);
  const element = lessonMake("div", { class: "lesson-grid-box" }, heading, inner);
  if (values[0].length > 7) table.classList.add("lesson-grid-dense");

  const grid = {
    element,
    cells,
    values,
    heading,
    at: (y, x) => cells[y]?.[x],
    /** Give every cell what paint(y, x) says of it: {tone, note, mark}. */
    paint(paint) {
      cells.forEach((row, y) =>
        row.forEach((cell, x) => {
          const { tone = "", note = "", mark = "" } = paint(y, x) ?? {};
          cell.className = `${cell.dataset.shade ?? ""} ${tone} ${mark}`.trim();
          const small = cell.querySelector("small");
          if (small) small.textContent = note;
          else if (note) cell.append(lessonMake("small", { "aria-hidden": "true" }, note));
        }),
      );
    },
    /** Make a cell the one that the Tab key leads to. */
    select(y, x) {
      if (!pick) return;
      cells.flat().forEach((cell) => {
        cell.tabIndex = -1;
        cell.removeAttribute("aria-selected");
      });
      const cell = grid.at(y, x);
      if (!cell) return;
      cell.tabIndex = 0;
      cell.setAttribute("aria-selected", "true");
    },
    /** Put a frame around height x width cells from (y, x) on, or take it away. */
    frame(y, x, height = 1, width = 1) {
      const first = grid.at(y ?? -1, x);
      const last = grid.at(y + height - 1, x + width - 1);
      frame.hidden = !first || !last;
      if (frame.hidden) return;
      const box = inner.getBoundingClientRect();
      const a = first.getBoundingClientRect();
      const b = last.getBoundingClientRect();
      frame.style.transform = `translate(${a.left - box.left}px, ${a.top - box.top}px)`;
      frame.style.width = `${b.right - a.left}px`;
      frame.style.height = `${b.bottom - a.top}px`;
    },
  };
  if (pick) lessonListen(table, cells, pick, act);
  return grid;
}

function lessonCell({ name, value, index, pick, text, shade, first }) {
  const shown = text(value, ...index.slice(-2));
  const cell = lessonMake("td", {}, lessonMake("span", {}, shown));
  if (shade) {
    const { kind, part } = shade(value);
    cell.className = cell.dataset.shade = `shaded ${kind}`;
    cell.style.setProperty("--part", `${Math.round(100 * part)}%`);
  }
  if (pick) {
    cell.setAttribute("role", "gridcell");
    cell.setAttribute("aria-label", `${lessonSpoken(name, index)} = ${shown}`);
    cell.tabIndex = first ? 0 : -1;
  }
  return cell;
}

function lessonListen(table, cells, pick, act) {
  const place = (target) => {
    const cell = target.closest?.("td");
    for (let y = 0; y < cells.length; y += 1) {
      const x = cells[y].indexOf(cell);
      if (x >= 0) return [y, x];
    }
    return null;
  };
  table.addEventListener("pointerover", (event) => {
    const at = place(event.target);
    if (at) pick(...at, "hover");
  });
  table.addEventListener("focusin", (event) => {
    const at = place(event.target);
    if (at) pick(...at, "focus");
  });
  table.addEventListener("click", (event) => {
    const at = place(event.target);
    if (at) act?.(...at);
  });
  table.addEventListener("keydown", (event) => {
    const at = place(event.target);
    if (!at || event.ctrlKey || event.metaKey || event.altKey) return;
    if (act && (event.key === "Enter" || event.key === " ")) {
      event.preventDefault();
      act(...at);
      return;
    }
    let [y, x] = at;
    if (event.key in LESSON_MOVES) {
      y += LESSON_MOVES[event.key][0];
      x += LESSON_MOVES[event.key][1];
    } else if (event.key === "Home") x = 0;
    else if (event.key === "End") x = cells[y].length - 1;
    else return;
    event.preventDefault();
    event.stopPropagation();
    cells[y]?.[x]?.focus();
  });
}

/** A grid of which only the colours of weights are of interest: the kernel, as it slides. */
export function lessonKernel({ numbers, kernel, title, kind = "" }) {
  const flat = kernel.flat();
  const values = numbers.map((row) => row.map((k) => flat[k]));
  const grid = lessonGrid({ name: "w", title, values, kind: `lesson-kernel ${kind}` });
  grid.numbers = numbers;
  return grid;
}
