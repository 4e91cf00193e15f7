// The first lesson: the learner's numbers, asked of the server, and the walk that shows them.

import { lessonAsk } from "./lesson-ask.js";
import { lessonFields, lessonPlain, lessonWritten } from "./lesson-edit.js";
import { lessonRead } from "./lesson-parts.js";
import { lessonStageBoth, lessonStageDifferences, lessonStageWires } from "./lesson-proofs.js";
import { lessonStageCase, lessonStageError, lessonStageForward, lessonStageWeights } from "./lesson-stages.js";
import { lessonRemember, lessonWalk } from "./lesson-walk.js";

const LESSON_STAGES = [
  lessonStageCase,
  lessonStageWires,
  lessonStageForward,
  (stage, lesson) => lessonStageError(stage, lesson, false),
  (stage, lesson) => lessonStageError(stage, lesson, true),
  lessonStageWeights,
  lessonStageDifferences,
  lessonStageBoth,
];

function lessonGridText(values) {
  return values.map((row) => row.map(lessonPlain).join(",")).join(";");
}

function lessonConvolution() {
  const root = document.querySelector("#lesson-convolution");
  if (!root) return;
  const served = root.dataset.json !== undefined;
  const lesson = { data: lessonRead("lesson-data"), picked: { z: [0, 0], a: [1, 1], w: [0, 0] }, served };
  const editor = root.querySelector("#lesson-editor");
  const numbers = root.querySelector("#lesson-numbers");
  let beats = [];
  let state = { ...lesson.data.state };
  let wait = 0;

  const inside = (at, values) => [Math.min(at[0], values.length - 1), Math.min(at[1], values[0].length - 1)];

  function show(step) {
    const { data, picked } = lesson;
    picked.z = inside(picked.z, data.z);
    picked.a = inside(picked.a, data.image);
    picked.w = inside(picked.w, data.kernel);
    const stage = root.querySelector(`[data-step="${step}"] [data-stage]`);
    const active = stage.contains(document.activeElement) ? document.activeElement.getAttribute("aria-label") : null;
    stage.replaceChildren();
    beats = LESSON_STAGES[step - 1](stage, lesson) ?? [];
    const name = active?.split(" = ")[0];
    if (name) [...stage.querySelectorAll("[tabindex]")].find((one) => one.getAttribute("aria-label")?.startsWith(name))?.focus();
    root.querySelectorAll("[data-when]").forEach((one) => { one.hidden = !one.dataset.when.split(" ").includes(data.operation); });
    root.querySelectorAll("[data-if]").forEach((one) => { one.hidden = !lessonHolds(one.dataset.if, data); });
    if (numbers) numbers.open = numbers.dataset.kept === "open" || step === 1;
  }

  const walk = lessonWalk(root.querySelector(".lesson-walk"), { show, beats: () => [...beats] });
  numbers?.querySelector("summary").addEventListener("click", () => {
    numbers.dataset.kept = numbers.open ? "" : "open";
  });

  if (served) {
    const ask = lessonAsk({
      root,
      address: root.dataset.json,
      note: root.querySelector("#lesson-note"),
      found(data) {
        lesson.data = data;
        state = { ...data.state };
        lessonRemember(state);
        write(data);
        walk.refresh();
      },
    });
    const later = () => {
      clearTimeout(wait);
      wait = setTimeout(() => ask(state), 250);
    };
    const now = (changes) => {
      clearTimeout(wait);
      walk.pause();
      state = { ...state, ...changes };
      Object.keys(state).forEach((key) => state[key] === null && delete state[key]);
      ask(state);
    };
    const shown = {};

    function write(data) {
      const shape = (values) => `${values.length}x${values[0].length}`;
      const parts = [
        ["image", "a", "a, the image", data.image, 8],
        ["kernel", "w", "w, the kernel", data.kernel, 5],
        ["bias", "b", "b", [[data.bias]], 0],
        ["target", "y", "y, the target", data.target, 0],
      ];
      for (const [key, name, title, values, most] of parts) {
        if (shown[key]?.shape === shape(values)) {
          shown[key].fields.forEach((row, y) =>
            row.forEach((field, x) => {
              if (field !== document.activeElement) field.value = lessonPlain(values[y][x]);
              field.removeAttribute("aria-invalid");
            }),
          );
          continue;
        }
        const changed = (field) => {
          const written = lessonWritten(shown[key].fields);
          field.toggleAttribute("aria-invalid", !lessonIsNumber(field.value));
          if (field.hasAttribute("aria-invalid")) field.setAttribute("aria-invalid", "true");
          state = { ...state, [key]: written };
          walk.pause();
          later();
        };
        const resized = most ? (grid) => now({ [key]: lessonGridText(grid), target: null }) : null;
        const made = lessonFields({ values, name, title, changed, most, resized });
        const focused = shown[key]?.element.contains(document.activeElement) ? document.activeElement.dataset.size : null;
        if (shown[key]) shown[key].element.replaceWith(made.element);
        else editor.append(made.element);
        shown[key] = { ...made, shape: shape(values) };
        if (focused) made.element.querySelector(`[data-size="${focused}"]`)?.focus();
      }
      root.querySelectorAll("[data-choice]").forEach((link) => {
        const chosen = data.state[link.dataset.choice] === link.dataset.value;
        if (chosen) link.setAttribute("aria-current", "true");
        else link.removeAttribute("aria-current");
      });
    }

    root.querySelectorAll("[data-choice]").forEach((link) =>
      link.addEventListener("click", (event) => {
        if (event.ctrlKey || event.metaKey || event.shiftKey) return;
        event.preventDefault();
        const { choice, value } = link.dataset;
        const fits = choice === "operation" || choice === "activation";
        now({ [choice]: value, ...(fits ? {} : { target: null }) });
      }),
    );
    let seed = 1 + Math.floor(Math.random() * 1000);
    root.querySelector("#lesson-draw").addEventListener("click", () => {
      seed += 1;
      const { image, kernel } = lesson.data;
      now({
        image: null, kernel: null, target: null, bias: null, seed: String(seed),
        size: `${image.length}x${image[0].length}`, kernel_size: `${kernel.length}x${kernel[0].length}`,
      });
    });
    write(lesson.data);
  }
  walk.go(walk.step, { told: false });
}

function lessonIsNumber(text) {
  return text.trim() !== "" && Number.isFinite(Number(text.trim().replace("−", "-")));
}

function lessonHolds(condition, data) {
  return {
    stride: data.stride > 1,
    border: data.border.flat().some((one) => one > 0),
    activation: data.activation !== "none",
    plain: data.activation === "none",
    flat: data.delta.flat().every((one) => Math.abs(one) < 1e-9),
  }[condition];
}

lessonConvolution();
