// Pictures: a shimmer while they are made, another try where the server was busy, saving.

const TRIES = 6;
const tries = new WeakMap();

/** Show another picture in an image; until it is there, the image shimmers. */
export function showPicture(image, address) {
  if (image.getAttribute("src") === address) return;
  tries.delete(image);
  image.classList.add("waiting");
  image.classList.remove("failed");
  image.src = address;
}

function again(image) {
  if (document.documentElement.dataset.served === undefined) return;
  const count = (tries.get(image) ?? 0) + 1;
  tries.set(image, count);
  const address = image.getAttribute("src");
  if (count > TRIES || !address || !image.isConnected) {
    image.classList.remove("waiting");
    image.classList.add("failed");
    return;
  }
  image.classList.add("waiting");
  setTimeout(() => {
    if (image.isConnected && image.getAttribute("src") === address) image.src = address;
  }, Math.min(400 * 2 ** count, 5000) * (0.7 + 0.6 * Math.random()));
}

document.addEventListener("load", (event) => {
  if (event.target instanceof HTMLImageElement) event.target.classList.remove("waiting");
}, true);
document.addEventListener("error", (event) => {
  if (event.target instanceof HTMLImageElement) again(event.target);
}, true);

// A picture in view that is still on its way shimmers; one that failed before anybody listened is
// asked for again.
const watching = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) {
    if (!isIntersecting) continue;
    watching.unobserve(target);
    if (!target.complete) target.classList.add("waiting");
    else if (target.naturalWidth === 0 && target.currentSrc) again(target);
  }
});

/** Watch the pictures below an element until they are there. */
export function watchPictures(root) {
  for (const image of root.querySelectorAll("img.tile")) {
    if (!image.complete || image.naturalWidth === 0) watching.observe(image);
  }
}

watchPictures(document);

