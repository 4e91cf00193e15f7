// Forms that go where their choices say, and the slider through a series of atlases.

import { showPicture } from "./images.js";
import { filled, jsonOf, keepState } from "./state.js";

function startCompare() {
  for (const form of document.querySelectorAll("form[data-goes]")) {
    form.addEventListener("change", (event) => {
      // Layers of another atlas may have other names: the server chooses.
      if (event.target.name === "first" && form.elements.layer) form.elements.layer.disabled = true;
      if (event.target.name === "second" && form.elements.other) form.elements.other.disabled = true;
      if (form.reportValidity()) form.requestSubmit();
    });
  }

  const series = document.querySelector("#series");
  if (!series) return;
  const steps = jsonOf(series, "data-steps");
  const template = jsonOf(series, "data-tile");
  const time = series.querySelector("#time");
  const [patches, projections] = ["patches", "projections"].map((one) => series.querySelector(`#step-${one}`));

  function show() {
    const number = Number(time.value);
    const step = steps[number];
    series.querySelector("#step-name").textContent = step.atlas;
    const missing = step.channel === null;
    const parts = missing ? ["no matching feature"] : [step.title];
    if (!missing && step.maximum !== null) parts.push(`largest activation ${Number(step.maximum.toPrecision(3))}`);
    if (!missing && step.firing_images !== null) parts.push(`fires on ${Math.round(100 * step.firing_images)} % of images`);
    if (step.correlation !== null) parts.push(`correlation with the previous atlas ${Number(step.correlation.toPrecision(2))}`);
    series.querySelector("#step-words").textContent = parts.join(", ");
    time.setAttribute("aria-valuetext", `${step.atlas}: ${parts.join(", ")}`);
    for (const [image, look] of [[patches, "patches-9"], [projections, "projections-9-deconvnet-switches"]]) {
      if (!image) continue;
      image.hidden = missing;
      if (!missing) showPicture(image, filled(template[number], { channel: step.channel, show: look }));
    }
    keepState({ at: number });
  }

  time.addEventListener("input", show);
  show();
  // The other steps are fetched ahead, so that the slider answers at once.
  steps.forEach((step, number) => {
    if (step.channel !== null) new Image().src = filled(template[number], { channel: step.channel, show: "patches-9" });
  });
}

startCompare();
