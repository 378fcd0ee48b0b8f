"use strict";
/** Pieces of the page. Text of corpora, labels and models enters it as text nodes alone, never as markup. */
const Page = (() => {
  /** Controls and marks that change what is around them, and would not be seen; joiners are letters' business. */
  const HIDDEN = /[\u0000-\u001f\u007f-\u009f\u00ad\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff\ufff9-\ufffb]/gu;
  const named = (mark) => `⟨U+${mark.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}⟩`;

  /** Text with its hidden marks spelled out. */
  const visible = (text) => String(text).replace(HIDDEN, named);

  /** An element with attributes, listeners (onclick: ...) and children; strings become text. */
  function h(tag, attributes = {}, ...children) {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
      else if (value === true) made.setAttribute(name, "");
      else if (value !== false && value !== null && value !== undefined) made.setAttribute(name, value);
    }
    made.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
    return made;
  }

  /** A word or sentence of a corpus: its own direction, isolated from what is around it. */
  const word = (text, attributes = {}) => h("bdi", { dir: "auto", ...attributes }, visible(text));

  const link = (changes, ...children) => h("a", { href: State.href(changes) }, ...children);

  /** A labelled list of choices; values are strings, or [value, name]. `key` is its own on the page. */
  function choice(label, values, chosen, onchange, key = label) {
    const options = values.map((value) => {
      const [given, name] = Array.isArray(value) ? value : [value, value];
      return h("option", { value: given, selected: String(given) === String(chosen) }, visible(name));
    });
    const select = h("select", { name: key, onchange: (e) => onchange(e.target.value) }, options);
    return h("label", { class: "field" }, label, select);
  }

  /** Check boxes of one group; `chosen` and what `onchange` gets are lists of names. */
  function several(legend, names, chosen, onchange) {
    const boxes = names.map((name) => {
      const box = h("input", { type: "checkbox", name: `${legend} ${name}`, value: name, checked: chosen.includes(name) });
      box.addEventListener("change", () => {
        const now = [...boxes].map((label) => label.querySelector("input")).filter((input) => input.checked);
        onchange(now.map((input) => input.value));
      });
      return h("label", { class: "box" }, box, " ", visible(name));
    });
    return h("fieldset", {}, h("legend", {}, legend), boxes);
  }

  /** A slider with its value; `oninput` gets numbers while it moves. */
  function slider(label, range, value, oninput) {
    const shown = h("output", {}, String(value));
    const input = h("input", {
      type: "range", min: range[0], max: range[1], step: range[2], value, "aria-label": label, name: label,
      oninput: (e) => {
        shown.textContent = e.target.value;
        oninput(Number(e.target.value));
      },
    });
    return h("label", { class: "slider" }, h("span", {}, label, " ", shown), input);
  }

  function save(name, type, content) {
    const address = URL.createObjectURL(content instanceof Blob ? content : new Blob([content], { type }));
    const anchor = h("a", { href: address, download: name });
    document.body.append(anchor);
    anchor.click();
    anchor.remove();
    setTimeout(() => URL.revokeObjectURL(address), 10000);
  }

  /** A cell of CSV: quoted where needed, and never a formula of a spreadsheet. */
  function cell(value) {
    const text = value === null || value === undefined || Number.isNaN(value) ? "" : String(value);
    const safe = typeof value === "string" && /^[=+\-@\t\r]/.test(text) ? `'${text}` : text;
    return /[",\n\r]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
  }

  const csv = (columns, rows) =>
    [columns, ...rows].map((row) => row.map(cell).join(",")).join("\r\n") + "\r\n";

  const button = (label, onclick) => h("button", { type: "button", onclick }, label);

  /**
   * A table with a caption that can be downloaded. Columns are {name, value(row), show(row)?, number?}: value is what
   * the file holds, show what the page does.
   */
  function table(caption, file, columns, rows, most = 100) {
    const body = h("tbody");
    const more = h("p", { class: "more" });
    const fill = (upTo) => {
      body.replaceChildren(...rows.slice(0, upTo).map((row) => h("tr", {}, columns.map((column) => {
        const shown = column.show ? column.show(row) : visible(column.value(row) ?? "");
        return h("td", { class: column.number ? "number" : null, "data-column": column.name }, shown);
      }))));
      more.replaceChildren(rows.length > upTo
        ? button(`Show all ${rows.length}`, () => fill(rows.length)) : "");
    };
    fill(most);
    const head = h("tr", {}, columns.map((column) => h("th", { scope: "col", class: column.number ? "number" : null },
      column.sort ? h("a", { href: column.sort }, column.name) : column.name)));
    const values = () => csv(columns.map((column) => column.name), rows.map((row) => columns.map((c) => c.value(row))));
    return h("section", { class: "table" },
      h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": caption },
        h("table", {}, h("caption", {}, caption), h("thead", {}, head), body)),
      more, button("CSV", () => save(`${file}.csv`, "text/csv", values())));
  }

  const percent = (value) => (Number.isNaN(value) || value === null ? "–" : `${(100 * value).toFixed(1)} %`);

  return { visible, h, word, link, choice, several, slider, save, csv, button, table, percent };
})();
