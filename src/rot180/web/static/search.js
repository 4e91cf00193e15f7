// The search field: a layer, or a layer and a number, is gone to at once; the server finds the rest.

import { filled, jsonOf } from "./state.js";

function startSearch() {
  const form = document.querySelector("form.search");
  if (!form) return;
  const layers = jsonOf(form, "data-layers");
  form.addEventListener("submit", (event) => {
    const words = form.elements.q.value.trim();
    const named = layers.find((one) => one.name === words);
    const [, name, number] = /^(.+?)[\s/,:#]+([0-9]{1,7})$/.exec(words) ?? [];
    const layer = layers.find((one) => one.name === name);
    let address = named?.address;
    if (!address && layer && Number(number) < layer.channels) address = filled(layer.feature, { channel: Number(number) });
    if (!address && document.documentElement.dataset.served !== undefined) return;
    event.preventDefault();
    if (address) location.href = address;
    else form.elements.q.setCustomValidity("There is no such layer or feature.");
    form.elements.q.reportValidity();
  });
  form.elements.q.addEventListener("input", () => form.elements.q.setCustomValidity(""));
}

startSearch();
