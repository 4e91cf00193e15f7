// A walk in steps: back, play and next, the keys for them, and the step in the address.

import { say, typing } from "./shortcuts.js";
import { keepState, stateOf } from "./state.js";

const LESSON_BEAT = 900;

/**
 * Run the walk of a page.
 *
 * show(step): called when a step is shown. beats(step): what play goes through there, functions.
 * Returns {step, go(step), pause(), refresh()}.
 */
export function lessonWalk(root, { show, beats }) {
  const buttons = [...root.querySelectorAll("[data-to]")];
  const panels = [...root.querySelectorAll("[data-step]")];
  const [back, play, next] = ["back", "play", "next"].map((one) => root.querySelector(`[data-walk="${one}"]`));
  const count = panels.length;
  let timer = 0;
  let pending = [];

  // In a folder nobody has looked at the address yet.
  const asked = document.documentElement.dataset.served === undefined ? Number(stateOf("step")) : 0;
  const walk = { step: asked || Number(root.dataset.at) || 1, go, pause, refresh: () => show(walk.step) };

  function go(step, { told = true } = {}) {
    walk.step = Math.min(Math.max(step, 1), count);
    panels.forEach((panel) => { panel.hidden = Number(panel.dataset.step) !== walk.step; });
    buttons.forEach((button) => {
      const step_ = Number(button.dataset.to);
      if (step_ === walk.step) button.setAttribute("aria-current", "step");
      else button.removeAttribute("aria-current");
      button.classList.toggle("done", step_ < walk.step);
    });
    back.disabled = walk.step === 1;
    next.disabled = walk.step === count;
    keepState({ step: walk.step === 1 ? null : String(walk.step) });
    show(walk.step);
    if (told) say(`Step ${walk.step} of ${count}: ${panels[walk.step - 1].querySelector("h2").textContent}`);
  }

  function pause() {
    clearInterval(timer);
    timer = 0;
    play.textContent = "▶ Play";
  }

  function start() {
    pending = beats(walk.step);
    play.textContent = "❚❚ Pause";
    timer = setInterval(beat, LESSON_BEAT);
    beat();
  }

  function beat() {
    const one = pending.shift();
    if (one) one();
    else if (walk.step < count) {
      go(walk.step + 1, { told: false });
      pending = [() => {}, ...beats(walk.step)];
    } else pause();
  }

  back.addEventListener("click", () => { pause(); go(walk.step - 1); });
  next.addEventListener("click", () => { pause(); go(walk.step + 1); });
  play.addEventListener("click", () => (timer ? pause() : start()));
  buttons.forEach((one) => one.addEventListener("click", () => { pause(); go(Number(one.dataset.to)); }));
  for (const what of ["pointerdown", "keydown"]) {
    panels.forEach((panel) => panel.addEventListener(what, () => timer && pause()));
  }
  root.addEventListener("keydown", (event) => {
    if (event.defaultPrevented || typing(event) || event.ctrlKey || event.metaKey || event.altKey || event.shiftKey) return;
    if (event.key === "ArrowLeft") go(walk.step - 1);
    else if (event.key === "ArrowRight") go(walk.step + 1);
    else if (event.key === " " && event.target === root) { if (timer) pause(); else start(); }
    else return;
    if (event.key !== " ") pause();
    event.preventDefault();
  });
  lessonKeepOpen(root.closest(".lesson"));
  return walk;
}

/** Draw a step's stage anew, and give the focus back to the cell that had it. Returns its beats. */
export function lessonStage(root, step, draw) {
  const stage = root.querySelector(`[data-step="${step}"] [data-stage]`);
  const held = stage.contains(document.activeElement) ? document.activeElement : null;
  const name = held?.getAttribute("aria-label")?.split(" = ")[0];
  stage.replaceChildren();
  const beats = draw(stage) ?? [];
  if (name) [...stage.querySelectorAll("[tabindex]")].find((one) => one.getAttribute("aria-label")?.split(" = ")[0] === name)?.focus();
  const numbers = root.querySelector("#lesson-numbers");
  if (numbers && numbers.dataset.step !== String(step)) {
    numbers.open = step === 1 || numbers.dataset.kept === "open";
    numbers.dataset.step = step;
  }
  return beats;
}

/** Remember whether a person has opened the numbers by hand, so that they stay open. */
export function lessonKeepOpen(root) {
  const numbers = root.querySelector("#lesson-numbers");
  numbers?.querySelector("summary").addEventListener("click", () => {
    numbers.dataset.kept = numbers.open ? "" : "open";
  });
}
