// The page of an image: every feature of a layer on it, the units that fire at a pixel, and the
// projection of a unit over the image. The server keeps the forward pass, so a click costs only a
// backward pass.

import { showPicture, watchPictures } from "./images.js";
import { say, typing } from "./shortcuts.js";
import { chosenRules, nextChoice } from "./rules.js";
import { filled, keepState, stateOf } from "./state.js";

const LOOKS = { projections: "whole", peaks: "peak" };

function startImage() {
  const root = document.querySelector("#opened");
  if (!root) return;
  const { image, feature } = root.dataset;
  const at = (id) => document.querySelector(`#${id}`);
  const [stage, over, field, edge, dot] = ["stage", "stage-over", "stage-field", "stage-edge", "stage-pixel"].map(at);
  const [controls, allControls, layers] = [at("image-controls"), at("all-controls"), at("layer")];
  const { width, height } = stage.viewBox.baseVal;
  const asking = {};
  const chosen = { channel: null, y: null, x: null, pixel: null };

  const part = encodeURIComponent;
  const order = () => new FormData(allControls).get("order");
  const layer = () => layers.value; // the word by which addresses call it
  const layerName = () => layers.selectedOptions[0].dataset.name;
  const lookAddress = (channel, look, form = "webp") => `${image}/features/${part(layer())}/${channel}/${look}.${form}`;
  const pageOf = (channel) => filled(feature, { layer: part(layer()), channel });

  /** Ask the server; a newer question of the same kind takes the place of an older one. */
  async function ask(kind, address) {
    asking[kind]?.abort();
    const mine = (asking[kind] = new AbortController());
    const slow = setTimeout(() => (at("image-slow").hidden = false), 300);
    try {
      for (let attempt = 0; ; attempt += 1) {
        const answer = await fetch(address, { signal: mine.signal });
        if (answer.status === 503 && attempt < 5) {
          await new Promise((resolve) => setTimeout(resolve, 500 * 2 ** attempt));
          continue;
        }
        const told = await answer.json();
        if (!answer.ok) throw new Error(told.error);
        at("image-error").hidden = true;
        return told;
      }
    } catch (problem) {
      if (mine.signal.aborted) return null;
      at("image-error").textContent = problem instanceof TypeError ? "The server does not respond." : problem.message;
      at("image-error").hidden = false;
      return null;
    } finally {
      clearTimeout(slow);
      if (asking[kind] === mine) at("image-slow").hidden = true;
    }
  }

  function place(rectangle, box) {
    if (!box) return rectangle.setAttribute("visibility", "hidden");
    const [top, left, bottom, right] = box;
    const values = { x: left, y: top, width: right - left, height: bottom - top, visibility: "visible" };
    for (const [name, value] of Object.entries(values)) rectangle.setAttribute(name, value);
  }

  function unitTile({ channel, label }, words, look, click) {
    const item = document.createElement("li");
    const button = item.appendChild(document.createElement("button"));
    button.type = "button";
    button.dataset.channel = channel;
    const picture = button.appendChild(document.createElement("img"));
    picture.className = "tile";
    picture.alt = "";
    picture.loading = "lazy";
    picture.decoding = "async";
    showPicture(picture, lookAddress(channel, look));
    const text = button.appendChild(document.createElement("span"));
    text.textContent = label;
    const small = text.appendChild(document.createElement("small"));
    small.textContent = ` ${words}`;
    button.addEventListener("click", click);
    return item;
  }

  /** What stands below a feature: its activation, or on how many images it is weaker. */
  function tileWords(one) {
    if (order() !== "unusual") return short(one.activation);
    const above = 100 * (1 - one.lower);
    return one.activation > 0 ? `top ${above < 1 ? "1" : above.toFixed(0)} %` : short(one.activation);
  }

  const short = (value) => String(Number(value.toPrecision(3)));

  function markChosen() {
    for (const button of document.querySelectorAll("#all-features button, #at-pixel-units button")) {
      button.setAttribute("aria-pressed", String(Number(button.dataset.channel) === chosen.channel));
    }
  }

  function state() {
    const { method, unpool } = chosenRules(controls);
    const look = new FormData(controls).get("look");
    const show = new FormData(allControls).get("show");
    keepState({
      order: order() === "unusual" ? null : order(),
      layer: layer(), channel: chosen.channel, y: chosen.y, x: chosen.x,
      py: chosen.pixel?.[0] ?? null, px: chosen.pixel?.[1] ?? null,
      method: method === "auto" ? null : method, unpool: unpool === "switches" ? null : unpool,
      look: look === "over" ? null : look, show: show === "projections" ? null : show,
    });
  }

  /** Show a unit, or (y null) a whole map, over the image or alone. */
  function showUnit() {
    const { channel, y, x } = chosen;
    const { method, unpool } = chosenRules(controls);
    at("stage-saving").hidden = channel === null;
    markChosen();
    state();
    if (channel === null) return over.setAttribute("visibility", "hidden");
    const where = y === null ? "all-all" : `${y}-${x}`;
    const kind = new FormData(controls).get("look") === "over" ? "over" : "unit";
    const look = `${kind}-${where}-${method}-${unpool}`;
    over.setAttribute("href", lookAddress(channel, look));
    over.setAttribute("visibility", "visible");
    const save = at("stage-save");
    save.href = lookAddress(channel, look, "png");
    save.download = `${layer()}-${channel}-${look}.png`.replace(/[^\w.-]+/g, "_");
    at("stage-feature").href = pageOf(channel);
  }

  async function showPixel(y, x) {
    const asked = layer();
    const found = await ask("pixel", `${image}/pixels/${part(layer())}/${y}/${x}.json`);
    if (!found || asked !== layer()) return; // another layer was chosen meanwhile
    chosen.pixel = [y, x];
    place(field, found.box);
    place(edge, found.box);
    dot.setAttribute("cx", x + 0.5);
    dot.setAttribute("cy", y + 0.5);
    dot.setAttribute("visibility", "visible");
    const [row, column] = found.position;
    const { method, unpool } = chosenRules(controls);
    at("at-pixel").hidden = false;
    at("at-pixel-title").textContent = `At pixel (${y}, ${x})`;
    const words = `${found.firing} features of ${layerName()} fire at position (${row}, ${column}); its receptive field is framed`;
    const most = found.units.length < found.firing ? `, of which the ${found.units.length} strongest are shown` : "";
    at("at-pixel-words").textContent = `${words}${most}. Click one to see it over the image.`;
    at("at-pixel-units").replaceChildren(...found.units.map((one) => unitTile(
      one, short(one.activation), `tile-${row}-${column}-${method}-${unpool}`,
      () => { Object.assign(chosen, { channel: one.channel, y: row, x: column }); showUnit(); },
    )));
    at("stage-words").textContent = found.units.length
      ? `Pixel (${y}, ${x}): the strongest feature is ${found.units[0].label}, ${short(found.units[0].activation)}.`
      : `Pixel (${y}, ${x}): no unit fires there.`;
    watchPictures(at("at-pixel-units"));
    markChosen();
    state();
  }

  let peaks = [];
  let next = null; // where the server has more features of the layer
  function featureTiles(some) {
    const show = new FormData(allControls).get("show");
    const { method, unpool } = chosenRules(controls);
    const look = show === "maps" ? "map" : `${LOOKS[show]}-${method}-${unpool}`;
    return some.map((one) => unitTile(one, tileWords(one), look, () => {
      const [y, x] = show === "peaks" ? one.position : [null, null];
      Object.assign(chosen, { channel: one.channel, y, x });
      showUnit();
      stage.scrollIntoView({ block: "nearest" });
    }));
  }

  function showAll() {
    at("all-features").replaceChildren(...featureTiles(peaks));
    watchPictures(at("all-features"));
    markChosen();
    state();
    following.unobserve(end);
    if (next) following.observe(end);
  }

  /** Fetch the next page of a layer's features when the end of the list comes into view. */
  const end = document.createElement("div");
  at("all-features").after(end);
  const following = new IntersectionObserver(async ([entry]) => {
    if (!entry.isIntersecting || !next) return;
    following.unobserve(end);
    const asked = next;
    const found = await ask("layer", asked);
    if (!found || asked !== next) return; // another layer or order was chosen meanwhile
    peaks = [...peaks, ...found.peaks];
    next = found.next;
    at("all-features").append(...featureTiles(found.peaks));
    watchPictures(at("all-features"));
    markChosen();
    if (next) following.observe(end);
  }, { rootMargin: "800px" });

  async function showLayer() {
    peaks = []; // the features of the previous layer must not be drawn as this one's
    next = null;
    const unusual = order() === "unusual";
    const first = unusual ? "most unusual first" : "strongest first";
    at("all-title").textContent = `Every feature of ${layerName()} on this image, ${first}`;
    at("all-words").hidden = !unusual;
    const asked = layer();
    const found = await ask("layer", `${image}/layers/${part(layer())}.json${unusual ? "" : "?order=strongest"}`);
    if (!found || asked !== layer() || found.order !== order()) return;
    peaks = found.peaks;
    next = found.next;
    const named = found.top_classes.map((one) => `${one.name} (${(100 * one.probability).toFixed(one.probability < 0.1 ? 1 : 0)} %)`);
    at("answers").textContent = named.length ? `Prediction: ${named.slice(0, 3).join(", ")}.` : "";
    showAll();
    if (chosen.pixel) await showPixel(...chosen.pixel);
  }

  function pixelOf(event) {
    const box = stage.getBoundingClientRect();
    const clip = (value, size) => Math.min(size - 1, Math.max(0, Math.floor(value)));
    return [clip(((event.clientY - box.top) / box.height) * height, height), clip(((event.clientX - box.left) / box.width) * width, width)];
  }

  stage.addEventListener("click", (event) => showPixel(...pixelOf(event)));
  stage.addEventListener("keydown", (event) => {
    const by = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
    if (!by || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    const step = event.shiftKey ? Math.ceil(height / 16) : Math.max(1, Math.round(height / 64));
    const [y, x] = chosen.pixel ?? [height >> 1, width >> 1];
    showPixel(Math.min(height - 1, Math.max(0, y + step * by[0])), Math.min(width - 1, Math.max(0, x + step * by[1])));
  });
  layers.addEventListener("change", () => {
    Object.assign(chosen, { channel: null, y: null, x: null });
    showUnit();
    showLayer();
  });
  controls.addEventListener("change", (event) => {
    if (event.target === layers) return;
    showUnit();
    if (event.target.name === "look") return;
    showAll();
    if (chosen.pixel) showPixel(...chosen.pixel);
  });
  allControls.addEventListener("change", (event) => (event.target.name === "order" ? showLayer() : showAll()));
  for (const form of [controls, allControls]) form.addEventListener("submit", (event) => event.preventDefault());
  document.addEventListener("keydown", (event) => {
    if (typing(event) || event.ctrlKey || event.metaKey || event.altKey) return;
    const names = { m: [controls, "method"], u: [controls, "unpool"], o: [controls, "look"] };
    if (names[event.key]) nextChoice(...names[event.key]);
    if (event.key === "l" || event.key === "L") {
      const next = layers.selectedIndex + (event.key === "l" ? 1 : -1);
      layers.selectedIndex = (next + layers.options.length) % layers.options.length;
      layers.dispatchEvent(new Event("change"));
      say(`layer ${layerName()}`);
    }
  });

  // The state that the address holds.
  const number = (name) => (/^[0-9]+$/.test(stateOf(name)) ? Number(stateOf(name)) : null);
  const names = [...layers.options].map((one) => one.value);
  if (names.includes(stateOf("layer"))) layers.value = stateOf("layer"); // else the one that the page has chosen
  for (const [form, name] of [[controls, "method"], [controls, "unpool"], [controls, "look"], [allControls, "show"], [allControls, "order"]]) {
    const one = form.querySelector(`input[name="${name}"][value="${CSS.escape(stateOf(name))}"]`);
    if (one) one.checked = true;
  }
  Object.assign(chosen, { channel: number("channel"), y: number("y"), x: number("x") });
  if (number("py") !== null && number("px") !== null) chosen.pixel = [number("py"), number("px")];
  if (chosen.channel !== null) showUnit();
  showLayer();
}

startImage();
