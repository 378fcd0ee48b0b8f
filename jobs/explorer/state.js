"use strict";
/** What is shown, as the part of the address behind #, so that every view has a link. */
const State = (() => {
  let defaults = {};
  const numbers = new Set([
    "layer", "other_layer", "concept", "n_best", "theta_align", "min_types", "max_size_gap", "theta_overlap", "min_languages",
  ]);

  /** Values that hold unless the address says otherwise. */
  function begin(values) {
    defaults = values;
  }

  function read() {
    const given = Object.fromEntries(new URLSearchParams(location.hash.slice(1)));
    const found = { ...defaults };
    for (const [name, text] of Object.entries(given)) {
      const counts = numbers.has(name) && text !== "" && Number.isFinite(Number(text));
      found[name] = counts ? Number(text) : text; // what is no number is refused by whoever checks the state
    }
    return found;
  }

  /** Address of what is shown now with some changes; null takes a value away. */
  function href(changes) {
    const next = { ...read(), ...changes };
    const kept = Object.entries(next).filter(([name, value]) => value !== null && value !== defaults[name]);
    return `#${new URLSearchParams(kept)}`;
  }

  /** Show something else; `quietly` leaves no step behind to go back to, as for a slider on its way. */
  function change(changes, quietly = false) {
    const next = href(changes);
    if (quietly) {
      history.replaceState(null, "", next);
      dispatchEvent(new Event("adjusted"));
    } else {
      location.hash = next;
    }
  }

  return { begin, read, href, change };
})();
