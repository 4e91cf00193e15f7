// Says how the loading of the network goes, and what it means once it is over.

import { say } from "./shortcuts.js";

const place = document.querySelector("[data-status]");

async function ask(started) {
  const seconds = place.querySelector("[data-seconds]");
  if (seconds) seconds.textContent = `${Math.round((performance.now() - started) / 1000)} s`;
  let state;
  try {
    const answer = await fetch(place.dataset.status);
    if (!answer.ok) return;
    state = (await answer.json()).state;
  } catch {
    return; // The server is gone; the page stays as it is.
  }
  if (state === "waiting" || state === "loading") {
    setTimeout(() => ask(started), 700);
    return;
  }
  place.dataset.state = state;
  if (state === "absent") location.reload();
  else {
    place.querySelector(".note[role=status]")?.remove();
    say("The network is loaded.");
    document.dispatchEvent(new CustomEvent("network-ready"));
  }
}

if (place && (place.dataset.state === "waiting" || place.dataset.state === "loading")) {
  setTimeout(() => ask(performance.now()), 300);
}
