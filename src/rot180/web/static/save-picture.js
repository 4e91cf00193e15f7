// The key s saves the picture under the pointer, or of what has the focus: without loss, as PNG from
// the server, as it lies in a folder; drawings of numbers as SVG.

import { typing } from "./shortcuts.js";

const KEPT_STYLES = ["fill", "fill-opacity", "stroke", "stroke-width", "opacity", "font-size", "font-family", "font-weight"];

function saveAs(address, name) {
  const link = document.createElement("a");
  link.href = address;
  link.download = name.replace(/[^\w.-]+/g, "_");
  link.click();
}

function savePicture(address) {
  const served = document.documentElement.dataset.served !== undefined;
  const whole = new URL(served ? address.replace(/\.webp$/, ".png") : address, location.href);
  saveAs(whole.href, decodeURIComponent(whole.pathname).split("/").slice(-3).join("-"));
}

/** Save a drawing with the colours that it has on this page. */
function saveDrawing(drawing) {
  const copy = drawing.cloneNode(true);
  copy.setAttribute("xmlns", "http://www.w3.org/2000/svg");
  const box = drawing.getBoundingClientRect();
  copy.setAttribute("width", Math.round(box.width));
  copy.setAttribute("height", Math.round(box.height));
  const [originals, copies] = [drawing, copy].map((one) => [one, ...one.querySelectorAll("*")]);
  originals.forEach((original, number) => {
    const styles = getComputedStyle(original);
    for (const name of KEPT_STYLES) copies[number].setAttribute(name, styles.getPropertyValue(name));
    copies[number].removeAttribute("class");
  });
  const address = URL.createObjectURL(new Blob([copy.outerHTML], { type: "image/svg+xml" }));
  const words = drawing.getAttribute("aria-label") ?? "drawing";
  saveAs(address, `${document.title.split(" · ")[0]} ${words}`.slice(0, 80) + ".svg");
  setTimeout(() => URL.revokeObjectURL(address), 10_000);
}

/** Return what saves the picture that an element is, holds, or lies in; null if there is none. */
function savingOf(element) {
  if (!(element instanceof Element) || !element.closest("main")) return null;
  const image = element.matches("img") ? element : element.querySelector("a > img.tile, button > img.tile, :scope > img.tile");
  if (image?.currentSrc) return () => savePicture(image.getAttribute("src"));
  const drawing = element.closest("main svg") ?? element.querySelector(":scope > svg");
  if (!drawing || drawing.closest(".wiring")) return null;
  const shown = [...drawing.querySelectorAll("image")].filter((one) => one.getAttribute("visibility") !== "hidden").at(-1);
  return shown ? () => savePicture(shown.getAttribute("href")) : () => saveDrawing(drawing);
}

function startSavePicture() {
  let pointed = null;
  document.addEventListener("pointerover", (event) => { pointed = event.target; });
  document.addEventListener("keydown", (event) => {
    if (event.key !== "s" || event.ctrlKey || event.metaKey || event.altKey || typing(event)) return;
    const save = savingOf(pointed) ?? savingOf(document.activeElement);
    if (save) {
      save();
      event.preventDefault();
    }
  });
}

startSavePicture();
