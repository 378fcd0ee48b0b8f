"use strict";
/** Concepts of a layer in two dimensions, by their centroids. */
const ConceptMap = (() => {
  const { h, choice, link, word, isolated, status } = Page;

  function controls(state) {
    const languages = Clusters.languagesOf(state.selection);
    const aims = Concepts.others(state.selection);
    const colours = languages.length > 1 ? ["languages", "overlap"] : aims.length ? ["alignment"] : [];
    return [
      Concepts.place(state),
      colours.length > 1 ? choice("Colour", colours, state.colour, (colour) => State.change({ colour })) : null,
      aims.length > 1 ? choice("Aligned to", aims, Concepts.towards(state), (target) => State.change({ target })) : null,
      Curves.thresholds(state, languages.length > 1 ? ["colap"] : ["calign"]),
    ];
  }

  function spec(rows, coloured, title, width, chosen) {
    const names = [...new Set(rows.map((row) => row.group))].sort();
    const colour = coloured === "nothing" ? { value: Figures.colours()[0] } : coloured === "share"
      ? { field: "share", type: "quantitative", title, scale: { domain: [0, 1], scheme: "blueorange" }, legend: { format: "%" } }
      : { field: "group", type: "nominal", title, scale: Figures.scale(names) };
    const axis = { axis: null, scale: { zero: false, nice: false } };
    return {
      data: { values: rows }, width: Math.min(width - 20, 900), height: Math.min(width * 0.7, 560), padding: 12,
      mark: { type: "point", filled: true, opacity: 0.85, cursor: "pointer" },
      encoding: {
        x: { field: "x", type: "quantitative", ...axis }, y: { field: "y", type: "quantitative", ...axis },
        size: { field: "tokens", type: "quantitative", scale: { range: [20, 400] }, legend: { title: "tokens", columns: 4, symbolFillColor: "#888" } },
        color: colour,
        stroke: { condition: { test: `datum.concept === ${chosen ?? -1}`, value: Figures.dark.matches ? "white" : "black" }, value: null },
        strokeWidth: { value: 2 },
        tooltip: [{ field: "concept" }, { field: "words" }, { field: "tokens" }, ...(title === null ? [] : [{ field: "told", title }])],
      },
    };
  }

  async function results(state, width) {
    const list = await Concepts.listed(state);
    const { held, languages, target } = list;
    const mixed = languages.length > 1;
    const byShare = mixed && languages.length === 2 && state.colour !== "overlap";
    const rows = list.rows.filter((one) => Number.isFinite(held.map[2 * one.concept])).map((one) => {
      const largest = one.mix.indexOf(Math.max(...one.mix));
      const aligned = one.aligned ? "aligned" : "not aligned";
      const overlaps = one.overlaps ? "overlaps" : "does not overlap";
      const group = !mixed ? aligned : state.colour === "overlap" ? overlaps : `mostly ${languages[largest]}`;
      const shares = languages.map((name, i) => `${name} ${Page.percent(one.mix[i] / one.tokens)}`).join(", ");
      return {
        concept: one.concept, x: held.map[2 * one.concept], y: held.map[2 * one.concept + 1], tokens: one.tokens, group,
        share: one.mix[0] / one.tokens, told: mixed ? `${shares}; ${overlaps}` : aligned,
        words: one.words.slice(0, 6).map(([w]) => isolated(held.text.forms[w])).join(" "),
      };
    });
    const title = byShare ? `share of ${languages[0]}` : mixed ? "" : list.counts ? `to ${target}` : null;
    const coloured = byShare ? "share" : mixed || list.counts ? "group" : "nothing";
    const caption = `Concepts of ${state.selection}, layer ${state.layer} of ${state.checkpoint}: centroids laid out by t-SNE, near ones near.`;
    const figure = await Figures.figure(caption, "map", `${caption} ${rows.length} concepts; the table of concepts says the same in words.`,
      spec(rows, coloured, title, width, state.concept), (datum) => datum.concept >= 0 && State.change({ concept: datum.concept }));
    const found = list.rows.find((one) => one.concept === state.concept);
    return [
      status(`${rows.length} concepts`), figure,
      found ? h("section", { class: "chosen" }, h("h2", {}, link({ view: "concepts" }, `Concept ${found.concept}`)),
        Concepts.cloud(found, held, languages)) : h("p", {}, "Choose a point to read its words."),
      found ? null : h("p", {}, "Largest: ", list.rows.sort((a, b) => b.tokens - a.tokens).slice(0, 5).flatMap((one) => [
        link({ concept: one.concept }, word(held.text.forms[one.words[0][0]])), " "])),
    ];
  }

  return { controls, results };
})();
