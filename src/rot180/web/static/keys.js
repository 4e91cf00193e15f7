// Keys that work on every page: / searches, ? lists the keys, arrows follow links.

const help = document.querySelector("#help");

/** Whether a person is typing, so that letters belong to what they type. */
export function typing(event) {
  const at = event.target;
  return at instanceof HTMLElement && (at.isContentEditable || /^(INPUT|SELECT|TEXTAREA)$/.test(at.tagName));
}

/** Say something to screen readers without moving anything on the page. */
export function say(words) {
  const place = document.querySelector("#said");
  if (place) place.textContent = words;
}

function follow(relation) {
  const link = document.querySelector(`a[rel~="${relation}"]`);
  if (link) link.click();
  return Boolean(link);
}

const RELATIONS = { ArrowLeft: "prev", ArrowRight: "next", ArrowUp: "up" };

document.querySelector("#help-button")?.addEventListener("click", () => help.showModal());
document.addEventListener("keydown", (event) => {
  if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey || typing(event)) return;
  if (help?.open) return;
  const search = document.querySelector("[data-search]");
  if (event.key === "?") help.showModal();
  else if (event.key === "/" && search) search.focus();
  else if (!event.shiftKey && event.key in RELATIONS && follow(RELATIONS[event.key])) { /* followed */ }
  else return;
  event.preventDefault();
});
