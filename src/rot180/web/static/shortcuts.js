// Keys that work on every page: / searches, ? lists the keys, arrows follow links.

const help = document.querySelector("#help");

const NOT_TYPED = /^(radio|checkbox|range|button|submit|file)$/;

/** Whether a person is typing, so that letters belong to what they type. */
export function typing(event) {
  const at = event.target;
  if (!(at instanceof HTMLElement)) return false;
  if (at.tagName === "INPUT") return !NOT_TYPED.test(at.type);
  return at.isContentEditable || at.tagName === "SELECT" || at.tagName === "TEXTAREA";
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

/** Whether arrow keys belong to what has the focus, as to a group of switches or to a slider. */
function moving(event) {
  const at = event.target;
  return at instanceof Element && at.matches("input, select, textarea, [role=application], [role=grid] *");
}

const RELATIONS = { ArrowLeft: "prev", ArrowRight: "next", ArrowUp: "up" };

document.querySelector("#help-button")?.addEventListener("click", () => help.showModal());
document.addEventListener("keydown", (event) => {
  if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey || typing(event)) return;
  if (help?.open) return;
  const search = document.querySelector("[data-search]");
  if (event.key === "?") help.showModal();
  else if (event.key === "/" && search) search.focus();
  else if (event.shiftKey || moving(event) || !(event.key in RELATIONS) || !follow(RELATIONS[event.key])) return;
  event.preventDefault();
});
