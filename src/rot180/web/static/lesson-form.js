// What a learner changes: choices and fields, asked of the server, with the state in the address.

import { lessonAsk } from "./lesson-fetch.js";
import { lessonFields, lessonIsNumber, lessonPlain, lessonWritten } from "./lesson-edit.js";
import { keepState } from "./state.js";

/** Write a grid of numbers as it stands in an address. */
export function lessonGridText(values) {
  return values.map((row) => row.map(lessonPlain).join(",")).join(";");
}

/**
 * Take a learner's changes.
 *
 * parts(data): what has fields, [{key, grids: [{name, title, values}], most, drops}]; drops are the
 * parts of the state that no longer fit a grid of another size.
 * found(data): shows what came. Returns {change(changes)}.
 */
export function lessonForm({ root, data, parts, found, touched }) {
  const editor = root.querySelector("#lesson-editor");
  const shown = {};
  const without = (keys) => Object.fromEntries(keys.filter(Boolean).map((key) => [key, null]));
  let state = { ...data.state };
  let wait = 0;

  const ask = lessonAsk({
    root,
    address: root.dataset.json,
    note: root.querySelector("#lesson-note"),
    found(fresh) {
      state = { ...fresh.state };
      const old = [...new URLSearchParams(location.search).keys()].filter((key) => key !== "step");
      keepState({ ...without(old), ...state });
      const same = document.querySelector(`.foot a[href^="${root.dataset.json}"]`);
      if (same) same.href = `${root.dataset.json}?${new URLSearchParams(state)}`;
      write(fresh);
      found(fresh);
    },
  });

  function change(changes, later = false) {
    clearTimeout(wait);
    touched();
    state = { ...state, ...changes };
    Object.keys(state).forEach((key) => state[key] === null && delete state[key]);
    if (later) wait = setTimeout(() => ask(state), 250);
    else ask(state);
  }

  function write(fresh) {
    for (const part of parts(fresh)) {
      const shape = part.grids.map((one) => `${one.values.length}x${one.values[0].length}`).join();
      if (shown[part.key]?.shape === shape) {
        lessonRewrite(shown[part.key].made, part.grids);
        continue;
      }
      const changed = (field) => {
        if (lessonIsNumber(field.value)) field.removeAttribute("aria-invalid");
        else field.setAttribute("aria-invalid", "true");
        const text = shown[part.key].made.map((one) => lessonWritten(one.fields)).join("|");
        change({ [part.key]: text }, true);
      };
      const resized = part.most ? (grid) => change({ ...without(part.drops ?? []), [part.key]: lessonGridText(grid) }) : null;
      const made = part.grids.map((one) => lessonFields({ ...one, changed, resized, most: part.most }));
      const old = shown[part.key]?.made;
      const active = old?.some((one) => one.element.contains(document.activeElement)) ? document.activeElement.dataset.size : null;
      made.forEach((one, k) => (old ? old[k].element.replaceWith(one.element) : editor.append(one.element)));
      shown[part.key] = { made, shape };
      if (active) made[0].element.querySelector(`[data-size="${active}"]`)?.focus();
    }
    root.querySelectorAll("[data-choice]").forEach((link) => {
      if (fresh.state[link.dataset.choice] === link.dataset.value) link.setAttribute("aria-current", "true");
      else link.removeAttribute("aria-current");
    });
  }

  root.querySelectorAll("[data-choice]").forEach((link) =>
    link.addEventListener("click", (event) => {
      if (event.ctrlKey || event.metaKey || event.shiftKey) return;
      event.preventDefault();
      change({ ...without(link.dataset.drops.split(" ")), [link.dataset.choice]: link.dataset.value });
    }),
  );
  write(data);
  return { change };
}

/** Write new numbers into fields, but not into the one that is being typed in. */
function lessonRewrite(made, grids) {
  made.forEach(({ fields }, k) =>
    fields.forEach((row, y) =>
      row.forEach((field, x) => {
        if (field !== document.activeElement) field.value = lessonPlain(grids[k].values[y][x]);
        field.removeAttribute("aria-invalid");
      }),
    ),
  );
}
