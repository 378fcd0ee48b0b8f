"use strict";
/** Pieces of the page. Text of corpora, labels and models enters it as text nodes alone, never as markup. */
const Page = (() => {
  /** Controls and marks that change what is around them, and would not be seen; joiners are letters' business. */
  const HIDDEN = new RegExp("[\\u0000-\\u001f\\u007f-\\u009f\\u00ad\\u034f\\u061c\\u115f\\u1160\\u180e\\u200b\\u200e\\u200f"
    + "\\u2028-\\u202e\\u2060-\\u206f\\u3164\\ufeff\\uffa0\\ufff0-\\ufffb\\u{e0000}-\\u{e0fff}]", "gu");
  const named = (mark) => `⟨U+${mark.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}⟩`;

  /** Text with its hidden marks spelled out. */
  const visible = (text) => String(text).replace(HIDDEN, named);

  /** Visible text that keeps its direction to itself, for places that take no elements, such as figures. */
  const isolated = (text) => `\u2068${visible(text)}\u2069`;

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

  /** A cell of CSV: text is quoted, whatever separates cells, and never a formula of a spreadsheet. */
  function cell(value) {
    if (value === null || value === undefined || Number.isNaN(value)) return "";
    if (typeof value !== "string") return String(value);
    const safe = /^[=+\-@\t\r]/.test(value) ? `'${value}` : value;
    return `"${safe.replaceAll('"', '""')}"`;
  }

  /** A table as CSV; the mark at its beginning tells spreadsheets that it is UTF-8. */
  const csv = (columns, rows) =>
    `\ufeff${[columns, ...rows].map((row) => row.map(cell).join(",")).join("\r\n")}\r\n`;

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
    const head = h("tr", {}, columns.map((column) => h("th", { scope: "col", class: column.number ? "number" : null }, column.name)));
    const values = () => csv(columns.map((column) => column.name), rows.map((row) => columns.map((c) => c.value(row))));
    return h("section", { class: "table" },
      h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": caption },
        h("table", {}, h("caption", {}, caption), h("thead", {}, head), body)),
      more, button("CSV", () => save(`${file}.csv`, "text/csv", values())));
  }

  const percent = (value) => (Number.isNaN(value) || value === null ? "–" : `${(100 * value).toFixed(1)} %`);

  /** What is said of a result to those who see it and, by the shell, to those who hear the page. */
  const status = (...told) => h("p", { class: "status" }, ...told);

  /** Pairs of words, of which the first are shown. */
  const pairs = (found, most = 20) => [
    found.slice(0, most).flatMap(([a, b], i) => [i ? "; " : "", word(a), " – ", word(b)]),
    found.length > most ? ` and ${found.length - most} more` : null,
  ];

  return { visible, isolated, h, word, link, choice, several, slider, save, csv, button, table, percent, status, pairs };
})();
