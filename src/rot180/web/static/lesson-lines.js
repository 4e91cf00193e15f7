// Lines between cells of grids, in the colours of the weights.

import { lessonDraw, lessonTone } from "./lesson-widgets.js";

/** Return a layer over a box; its draw(lines) takes [{from, to, weight, strong}], two cells each. */
export function lessonLines(box) {
  const layer = lessonDraw("svg", { class: "lesson-lines", "aria-hidden": "true", focusable: "false" });
  box.classList.add("lesson-lined");
  box.append(layer);
  let last = [];
  const draw = (lines) => {
    last = lines;
    const frame = layer.getBoundingClientRect();
    const strokes = [];
    for (const { from, to, weight, strong } of lines) {
      if (!from?.isConnected || !to?.isConnected) continue;
      const [a, b] = [lessonBox(from, frame), lessonBox(to, frame)];
      if (!a.w || !b.w) continue; // on a step that is not shown
      const [[x1, y1], [x2, y2]] = [lessonEdge(a, b), lessonEdge(b, a)];
      const kind = `${lessonTone(weight)} ${strong ? "strong" : ""}`;
      strokes.push(
        lessonDraw("line", { x1, y1, x2, y2, class: `lesson-line ${kind}` }),
        lessonDraw("circle", { cx: x2, cy: y2, r: 4, class: `lesson-line-end ${kind}` }),
      );
    }
    layer.replaceChildren(...strokes);
  };
  new ResizeObserver(() => draw(last)).observe(box);
  return { draw };
}

function lessonBox(element, frame) {
  const at = element.getBoundingClientRect();
  return { x: at.left + at.width / 2 - frame.left, y: at.top + at.height / 2 - frame.top, w: at.width / 2, h: at.height / 2 };
}

/** Where the line from the middle of a box to that of another leaves the box. */
function lessonEdge(box, other) {
  const [dx, dy] = [other.x - box.x, other.y - box.y];
  const part = 1 / Math.max(Math.abs(dx) / box.w, Math.abs(dy) / box.h, 1e-9);
  return [box.x + dx * part, box.y + dy * part];
}
