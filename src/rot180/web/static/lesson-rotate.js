// A kernel that turns by 180 degrees before one's eyes; its numbers stay upright.

import { lessonKernel } from "./lesson-grid.js";
import { lessonMake, lessonStill, lessonTone } from "./lesson-widgets.js";

/**
 * Return a kernel that slides as it is or turned: {element, turn()}.
 *
 * turned: whether it ends turned; first: number of its first weight, which gives it its colour.
 */
export function lessonTurn({ kernel, turned, title, first = 0 }) {
  const width = kernel[0].length;
  const numbers = kernel.map((row, y) => row.map((_, x) => y * width + x));
  const reversed = numbers.map((row) => [...row].reverse()).reverse();
  const words = turned ? "the kernel, rotated by 180 degrees" : "the kernel as it is";
  const plate = lessonMake("div", { class: "lesson-turn-plate" });
  const label = lessonMake("div", { class: "lesson-grid-title" }, title);
  const element = lessonMake("div", { class: "lesson-turn", role: "group", "aria-label": words }, label, plate);
  const put = (order) => {
    const grid = lessonKernel({ numbers: order, kernel, title: "" });
    grid.paint((y, x) => ({ tone: `tinted ${lessonTone(first + order[y][x])}` }));
    plate.className = "lesson-turn-plate";
    plate.replaceChildren(grid.element);
  };
  const turn = () => {
    put(numbers);
    if (lessonStill()) return put(reversed);
    requestAnimationFrame(() => requestAnimationFrame(() => plate.classList.add("is-turned")));
  };
  // Once it has turned, the same numbers stand there upright and sharp.
  plate.addEventListener("transitionend", (event) => event.target === plate && put(reversed));
  if (!turned) put(numbers);
  else {
    const button = lessonMake("button", { type: "button", class: "lesson-turn-button" }, "↻ Rotate again");
    button.addEventListener("click", turn);
    element.append(button);
    turn();
  }
  return { element, turn };
}
