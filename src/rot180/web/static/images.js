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
  const image = event.target;
  if (image instanceof HTMLImageElement && document.documentElement.dataset.served !== undefined) again(image);
}, true);

// A picture that is still on its way shimmers; those that are not in view yet are not.
const watching = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) {
    if (!isIntersecting) continue;
    watching.unobserve(target);
    if (!target.complete) target.classList.add("waiting");
  }
});
export function watchPictures(root) {
  for (const image of root.querySelectorAll("img.tile")) if (!image.complete) watching.observe(image);
}
watchPictures(document);
