// Forms that go where their choices say, and the slider through a series of atlases.

import { showPicture } from "./images.js";
import { filled, jsonOf, keepState } from "./state.js";

function startComparing() {
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
  const stages = jsonOf(series, "data-stages");
  const template = jsonOf(series, "data-tile");
  const time = series.querySelector("#time");
  const [patches, projections] = ["patches", "projections"].map((one) => series.querySelector(`#stage-${one}`));

  function show() {
    const number = Number(time.value);
    const stage = stages[number];
    series.querySelector("#stage-name").textContent = stage.atlas;
    const missing = stage.channel === null;
    const parts = missing ? ["nothing here goes with it"] : [stage.title];
    if (!missing && stage.maximum !== null) parts.push(`largest activation ${Number(stage.maximum.toPrecision(3))}`);
    if (!missing && stage.firing_images !== null) parts.push(`fires on ${Math.round(100 * stage.firing_images)} % of images`);
    if (stage.correlation !== null) parts.push(`correlation with the stage before ${Number(stage.correlation.toPrecision(2))}`);
    series.querySelector("#stage-words").textContent = parts.join(", ");
    time.setAttribute("aria-valuetext", `${stage.atlas}: ${parts.join(", ")}`);
    for (const [image, look] of [[patches, "patches-9"], [projections, "projections-9-deconvnet-switches"]]) {
      if (!image) continue;
      image.hidden = missing;
      if (!missing) showPicture(image, filled(template[number], { channel: stage.channel, show: look }));
    }
    keepState({ at: number });
  }

  time.addEventListener("input", show);
  show();
  // The other stages are fetched ahead, so that the slider answers at once.
  stages.forEach((stage, number) => {
    if (stage.channel !== null) new Image().src = filled(template[number], { channel: stage.channel, show: "patches-9" });
  });
}

startComparing();
