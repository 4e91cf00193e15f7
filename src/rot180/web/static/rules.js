// Method and unpooling as switches that answer at once: every picture that depends on them changes.

import { say, typing } from "./shortcuts.js";
import { filled, jsonOf, keepState } from "./state.js";
import { showPicture } from "./images.js";

/** The rules that a form's switches say. */
export function chosenRules(form) {
  const data = new FormData(form);
  return { method: data.get("method") ?? "auto", unpool: data.get("unpool") ?? "switches" };
}

/** Choose the next of a group of switches, and let the form know. */
export function nextChoice(form, name) {
  const all = [...form.querySelectorAll(`input[name="${name}"]`)];
  if (all.length < 2) return;
  const at = all.findIndex((one) => one.checked);
  const next = all[(at + 1) % all.length];
  next.checked = true;
  next.dispatchEvent(new Event("change", { bubbles: true }));
  say(`${name}: ${next.value}`);
}

function startRules() {
  const form = document.querySelector("form[data-rules]");
  if (!form) return;
  const words = document.querySelector("#rule-words");
  const methods = jsonOf(words, "data-method-words");
  const unpoolings = jsonOf(words, "data-unpool-words");
  const matters = jsonOf(words, "data-matters") ?? {};

  function explain({ method, unpool }) {
    const nothing = matters[method] === false
      ? " With this method the backward pass does not depend on the image, so the projections differ only in strength and at the border."
      : "";
    words.textContent = `${methods[method]} ${unpoolings[unpool]}${nothing}`;
  }

  explain(chosenRules(form));
  form.addEventListener("change", () => {
    const rules = chosenRules(form);
    explain(rules);
    for (const image of document.querySelectorAll("img[data-template]")) {
      showPicture(image, filled(image.dataset.template, rules));
    }
    keepState(rules);
  });
  form.addEventListener("submit", (event) => event.preventDefault());
  document.addEventListener("keydown", (event) => {
    if (typing(event) || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "m") nextChoice(form, "method");
    if (event.key === "u") nextChoice(form, "unpool");
  });
  // A link to this page with other rules, opened from a disk, is followed here.
  const asked = new URLSearchParams(location.search);
  let changed = false;
  for (const name of ["method", "unpool"]) {
    const one = form.querySelector(`input[name="${name}"][value="${CSS.escape(asked.get(name) ?? "")}"]`);
    if (one && !one.checked) changed = one.checked = true;
  }
  if (changed) form.dispatchEvent(new Event("change"));
}

startRules();
