// The second lesson: a unit of a tiny network goes back to the pixels, by three methods.

import { lessonStageBack, lessonStageSide } from "./lesson-backward.js";
import { lessonForm } from "./lesson-form.js";
import { lessonStageMaps, lessonStageNetwork, lessonStageUnit } from "./lesson-maps.js";
import { lessonRead } from "./lesson-widgets.js";
import { lessonStage, lessonWalk } from "./lesson-walk.js";

const LESSON_WAY = [
  lessonStageNetwork,
  lessonStageMaps,
  lessonStageUnit,
  ...["rectify2", "filter2", "unpool", "rectify1", "filter1"].map((which) => (stage, lesson) => lessonStageBack(stage, lesson, which)),
  lessonStageSide,
];

function lessonDeconvnetParts(data) {
  const kernels = (name, title, values) => values.map((one, k) => ({ name: `${name}, grid ${k} `, title: title(k), values: one }));
  return [
    { key: "image", grids: [{ name: "x", title: "x, greys from 0 to 9", values: data.image }] },
    { key: "first", grids: kernels("first kernels", (k) => `w¹, feature ${k}`, data.first) },
    { key: "second", grids: kernels("second kernels", (k) => `w², feature ${k >> 1} on map ${k % 2}`, data.second) },
  ];
}

function lessonDeconvnet() {
  const root = document.querySelector("#lesson-deconvnet");
  if (!root) return;
  const lesson = { data: lessonRead("lesson-data"), picked: {}, form: null };
  let beats = [];
  const show = (step) => {
    beats = lessonStage(root, step, (stage) => LESSON_WAY[step - 1](stage, lesson));
    root.querySelectorAll("[data-when]").forEach((one) => { one.hidden = one.dataset.when !== lesson.data.unpool; });
  };
  const walk = lessonWalk(root.querySelector(".lesson-walk"), { show, beats: () => [...beats] });
  if (root.dataset.json !== undefined) {
    const found = (data) => {
      const { unit } = lesson.data;
      const moved = unit.feature !== data.unit.feature || unit.y !== data.unit.y || unit.x !== data.unit.x;
      if (moved) lesson.picked = {};
      lesson.data = data;
      walk.refresh();
    };
    lesson.form = lessonForm({ root, data: lesson.data, parts: lessonDeconvnetParts, found, touched: walk.pause });
  }
  walk.go(walk.step, { told: false });
}

lessonDeconvnet();
