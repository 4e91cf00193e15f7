// The first lesson: the learner's numbers, asked of the server, and the walk that shows them.

import { lessonForm } from "./lesson-form.js";
import { lessonRead } from "./lesson-widgets.js";
import { lessonStageBoth, lessonStageDifferences, lessonStageWires } from "./lesson-checks.js";
import { lessonStageCase, lessonStageError, lessonStageForward, lessonStageWeights } from "./lesson-steps.js";
import { lessonStage, lessonWalk } from "./lesson-walk.js";

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

function lessonConvolutionParts(data) {
  const part = (key, name, title, values, more = {}) => ({ key, grids: [{ name, title, values }], ...more });
  return [
    part("image", "a", "a, the image", data.image, { most: 8, drops: ["target"] }),
    part("kernel", "w", "w, the kernel", data.kernel, { most: 5, drops: ["target"] }),
    part("bias", "b", "b", [[data.bias]]),
    part("target", "y", "y, the target", data.target),
  ];
}

function lessonConvolution() {
  const root = document.querySelector("#lesson-convolution");
  if (!root) return;
  const served = root.dataset.json !== undefined;
  const lesson = { data: lessonRead("lesson-data"), picked: { z: [0, 0], a: [1, 1], w: [0, 0] }, served };
  let beats = [];

  const inside = (at, values) => [Math.min(at[0], values.length - 1), Math.min(at[1], values[0].length - 1)];

  function show(step) {
    const { data, picked } = lesson;
    picked.z = inside(picked.z, data.z);
    picked.a = inside(picked.a, data.image);
    picked.w = inside(picked.w, data.kernel);
    beats = lessonStage(root, step, (stage) => LESSON_STAGES[step - 1](stage, lesson));
    root.querySelectorAll("[data-when]").forEach((one) => { one.hidden = one.dataset.when !== data.operation; });
    root.querySelectorAll("[data-if]").forEach((one) => { one.hidden = !lessonHolds(one.dataset.if, data); });
  }

  const walk = lessonWalk(root.querySelector(".lesson-walk"), { show, beats: () => [...beats] });
  if (served) {
    const found = (data) => { lesson.data = data; walk.refresh(); };
    const form = lessonForm({ root, data: lesson.data, parts: lessonConvolutionParts, found, touched: walk.pause });
    let seed = Math.floor(Math.random() * 1000);
    root.querySelector("#lesson-draw").addEventListener("click", () => {
      seed += 1;
      const size = (values) => `${values.length}x${values[0].length}`;
      const { image, kernel } = lesson.data;
      form.change({ image: null, kernel: null, target: null, bias: null, seed: String(seed), size: size(image), kernel_size: size(kernel) });
    });
  }
  walk.go(walk.step, { told: false });
}

function lessonHolds(condition, data) {
  return {
    stride: data.stride > 1,
    border: data.border.flat().some((one) => one > 0),
    activation: data.activation !== "none",
    flat: data.delta.flat().every((one) => Math.abs(one) < 1e-9),
  }[condition];
}

lessonConvolution();
