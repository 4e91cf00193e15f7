// A layer's features as tiles: sorted, chosen and shown as the controls say, without the server.

import { showPicture, watchPictures } from "./images.js";
import { chosenRules } from "./rules.js";
import { filled, jsonOf, keepState, stateOf } from "./state.js";

const CONDITION = /^([a-z_0-9]+)(>=|<=)(-?[0-9]*\.?[0-9]+(?:e-?[0-9]+)?)$/;

/** The features that meet all conditions, in order; those without a value come last. */
export function chosenFeatures(columns, order, where) {
  const count = columns.max.length;
  const whole = { ...columns, channel: Array.from({ length: count }, (_, n) => n) };
  const conditions = where.split(",").map((one) => CONDITION.exec(one.trim())).filter(Boolean);
  const holds = (n) => conditions.every(([, column, sign, value]) => {
    const found = whole[column]?.[n];
    if (found === null || found === undefined) return false;
    return sign === ">=" ? Number(found) >= Number(value) : Number(found) <= Number(value);
  });
  const values = whole[order.replace(/^-/, "")] ?? whole.channel;
  const sign = order.startsWith("-") ? -1 : 1;
  return whole.channel.filter(holds).sort((a, b) => {
    const [x, y] = [values[a], values[b]];
    if (x === null || y === null) return (x === null) - (y === null) || a - b;
    return sign * (Number(x) - Number(y)) || a - b;
  });
}

function startLayer() {
  const list = document.querySelector("#layer-tiles");
  const form = document.querySelector("#layer-controls");
  if (!list || !form) return;
  const { columns, orders, examples, page, labels: called } = jsonOf(document.querySelector("#layer-data"));
  const { tile, feature, pictures, projected } = list.dataset;
  const where = form.querySelector("input[name=where]");
  const chips = document.querySelector("[data-chips]");
  const labels = new Map([...form.querySelectorAll("[data-condition=column] option")].map((one) => [one.value, one.textContent]));
  const items = new Map();
  for (const item of list.children) items.set(Number(item.dataset.channel), item);
  const more = document.querySelector("#layer-more");
  const end = document.createElement("div"); // more features are shown when it comes into view
  more.after(end);
  let order = [];
  let draw = () => {};

  function shown(kind, zoom) {
    const { method, unpool } = chosenRules(form);
    const number = kind === "mean" ? 9 : examples[zoom];
    const alone = kind === "patches" || kind === "fields" || !projected;
    return alone ? `${kind}-${number}` : `${kind}-${number}-${method}-${unpool}`;
  }

  function itemOf(channel) {
    if (items.has(channel)) return items.get(channel);
    const item = document.createElement("li");
    item.dataset.channel = channel;
    const link = item.appendChild(document.createElement("a"));
    link.href = filled(feature, { channel });
    if (pictures) {
      const image = link.appendChild(document.createElement("img"));
      image.className = "tile";
      image.loading = "lazy";
      image.decoding = "async";
      image.alt = "";
    }
    link.appendChild(document.createElement("span")).textContent = called[channel] ?? channel;
    items.set(channel, item);
    return item;
  }

  function caption(item, channel, column) {
    const value = column === "channel" ? null : columns[column]?.[channel];
    const text = item.querySelector("span");
    text.textContent = called[channel] ?? channel;
    if (typeof value !== "number") return;
    const small = text.appendChild(document.createElement("small"));
    small.textContent = ` ${Number(value.toPrecision(3))}`;
  }

  function showConditions() {
    const all = where.value.split(",").filter(Boolean);
    for (const button of form.querySelectorAll("[data-where]")) {
      button.setAttribute("aria-pressed", String(all.includes(button.dataset.where)));
    }
    chips.replaceChildren(...all.map((one) => {
      const [, column, sign, value] = CONDITION.exec(one) ?? [];
      const chip = document.createElement("button");
      chip.type = "button";
      chip.className = "small";
      chip.textContent = `${labels.get(column) ?? one} ${sign === ">=" ? "≥" : "≤"} ${value} ×`;
      chip.setAttribute("aria-label", `Remove: ${chip.textContent.slice(0, -2)}`);
      chip.addEventListener("click", () => toggle(one));
      return chip;
    }));
  }

  function toggle(condition) {
    const all = where.value.split(",").filter(Boolean);
    where.value = (all.includes(condition) ? all.filter((one) => one !== condition) : [...all, condition]).join(",");
    update();
  }

  /** Show as many features more as a page has; the others follow when they are scrolled to. */
  function showMore() {
    const fragment = document.createDocumentFragment();
    const from = list.childElementCount;
    for (const channel of order.slice(from, from + page)) fragment.append(draw(channel));
    list.append(fragment);
    watchPictures(list);
    return list.childElementCount < order.length;
  }

  /** Fetch the next page of a layer whose statistics are too many to be in the page. */
  async function fetchMore() {
    const next = more.querySelector("[data-more]");
    if (!next) return false;
    const answer = await fetch(next.href, { headers: { accept: "text/html" }, priority: "high" }).catch(() => null);
    if (!answer?.ok) return false; // the link is still there
    const found = new DOMParser().parseFromString(await answer.text(), "text/html");
    list.append(...found.querySelectorAll("#layer-tiles > li"));
    more.replaceChildren(...found.querySelectorAll("#layer-more > *"));
    watchPictures(list);
    return true;
  }

  const following = new IntersectionObserver(async ([entry]) => {
    if (!entry.isIntersecting) return;
    following.unobserve(end);
    if (columns ? showMore() : await fetchMore()) following.observe(end);
  }, { rootMargin: "800px" });

  function update() {
    showConditions();
    if (!columns) return form.requestSubmit();
    const data = new FormData(form);
    const [kind, zoom, sort] = [data.get("show"), data.get("zoom"), data.get("sort")];
    const named = orders[sort] ?? sort;
    order = chosenFeatures(columns, named, where.value);
    const column = named.replace(/^-/, "");
    const show = shown(kind, zoom);
    draw = (channel) => {
      const item = itemOf(channel);
      caption(item, channel, column);
      const image = item.querySelector("img");
      if (image) showPicture(image, filled(tile, { channel, show }));
      return item;
    };
    list.replaceChildren();
    more.replaceChildren();
    following.unobserve(end);
    if (showMore()) following.observe(end);
    list.className = `tiles zoom-${zoom}${kind === "mean" && projected ? " wide" : ""}`;
    for (const part of form.querySelectorAll("[data-for-projections]")) part.hidden = kind === "patches";
    document.querySelector("#layer-empty").hidden = order.length > 0;
    document.querySelector("#layer-count").textContent = `${order.length} of ${columns.max.length} features`;
    const { method, unpool } = chosenRules(form);
    const rules = kind === "patches" ? { method: null, unpool: null } : { method, unpool };
    keepState({ sort: sort === "channel" ? null : sort, where: where.value, show: kind === "patches" ? null : kind, zoom: zoom === "medium" ? null : zoom, from: null, ...rules });
  }

  // On an exported page no server has read the state in the address.
  for (const name of ["show", "zoom", "method", "unpool"]) {
    const one = form.querySelector(`input[name="${name}"][value="${CSS.escape(stateOf(name))}"]`);
    if (one) one.checked = true;
  }
  const sort = stateOf("sort");
  if (sort && [...form.elements.sort.options].some((one) => one.value === sort)) form.elements.sort.value = sort;
  if (stateOf("where")) where.value = stateOf("where");

  form.addEventListener("change", (event) => {
    if (!event.target.dataset.condition) update();
  });
  if (columns) form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (button?.dataset.where) toggle(button.dataset.where);
    if (button?.dataset.condition === "add") {
      const at = (name) => form.querySelector(`[data-condition=${name}]`).value;
      if (at("value") !== "") toggle(`${at("column")}${at("sign")}${Number(at("value"))}`);
    }
  });
  if (columns) update();
  else {
    showConditions();
    following.observe(end);
  }
}

startLayer();
