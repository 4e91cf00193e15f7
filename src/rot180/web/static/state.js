// The state of a page is in its address, so that it can be linked and comes back on reload.

/** What the address says of a name; "" if nothing. */
export function stateOf(name) {
  return new URLSearchParams(location.search).get(name) ?? "";
}

/** Write state into the address, without a new entry in the history; null takes a name away. */
export function keepState(values) {
  const told = new URLSearchParams(location.search);
  for (const [name, value] of Object.entries(values)) {
    if (value === null || value === "") told.delete(name);
    else told.set(name, value);
  }
  // Rows of numbers are easier to read with their commas.
  const query = told.toString().replaceAll("%2C", ",").replaceAll("%3B", ";").replaceAll("%7C", "|");
  try {
    history.replaceState(null, "", `${location.pathname}${query ? `?${query}` : ""}${location.hash}`);
  } catch {
    // A page that is opened from a disk may not be allowed to change its address.
  }
}

/** Put values in place of {names} in an address. */
export function filled(template, values) {
  return template.replace(/\{(\w+)\}|%7B(\w+)%7D/g, (whole, one, two) => values[one ?? two] ?? whole);
}

/** JSON that stands in an attribute or in a script element of the page. */
export function jsonOf(element, attribute) {
  const text = attribute ? element?.getAttribute(attribute) : element?.textContent;
  return text ? JSON.parse(text) : null;
}
