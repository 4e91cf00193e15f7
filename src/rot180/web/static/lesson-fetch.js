// Asks the server for a lesson's numbers, the last question only, and says how that went.

/**
 * Return ask(state), which fetches JSON. found(data) gets what came; the note shows what went
 * wrong, and the root is marked while its numbers are not those that were asked for.
 */
export function lessonAsk({ root, address, note, found }) {
  let current = null;
  let last = null;
  const tell = (words, again) => {
    note.querySelector("span").textContent = words;
    note.querySelector("button").hidden = !again;
    note.hidden = !words;
  };
  const ask = async (state) => {
    current?.abort();
    const mine = (current = new AbortController());
    last = state;
    const slow = setTimeout(() => root.classList.add("is-waiting"), 250);
    try {
      const answer = await fetch(`${address}?${new URLSearchParams(state)}`, {
        signal: mine.signal,
        headers: { accept: "application/json" },
      });
      const data = await answer.json();
      if (mine !== current) return;
      if (answer.ok) {
        root.classList.remove("is-stale");
        tell("", false);
        found(data);
      } else {
        root.classList.add("is-stale");
        tell(`${data.error} The numbers shown are the last valid ones.`, false);
      }
    } catch (error) {
      if (error.name === "AbortError" || mine !== current) return;
      root.classList.add("is-stale");
      tell("The server does not respond. The numbers shown are the last that it sent.", true);
    } finally {
      clearTimeout(slow);
      if (mine === current) root.classList.remove("is-waiting");
    }
  };
  note.querySelector("button").addEventListener("click", () => ask(last));
  return ask;
}
