"use strict";
/** Where the occurrences of a word or of a concept are in each layer, of one checkpoint and beside it of another. */
const Follow = (() => {
  const { h, choice, table, word, link, percent, isolated, status } = Page;
  const kept = 8;
  const OTHERS = -1;
  let study = null;
  const begin = (given) => { study = given; };

  function controls(state) {
    const names = study.checkpoints.map((one) => one.name);
    const languages = Clusters.languagesOf(state.selection);
    const set = (name) => (value) => State.change({ [name]: value });
    const input = h("input", { type: "search", name: "word", value: state.word ?? "",
      onchange: (e) => State.change({ word: e.target.value || null }) });
    return [
      Concepts.place(state),
      h("label", { class: "field" }, "Word", input),
      languages.length > 1 ? choice("Word of", [["", "any language"], ...languages], state.word_language, set("word_language")) : null,
      names.length > 1 ? choice("Beside", [["", "nothing"], ...names.filter((name) => name !== state.checkpoint)],
        state.beside, set("beside")) : null,
    ];
  }

  /** Occurrences that are followed, and what they are. */
  async function followed(state) {
    const held = await Clusters.concepts(state.checkpoint, state.stack, state.selection, state.layer);
    const { forms } = held.text;
    const languages = Clusters.languagesOf(state.selection);
    const tokens = [];
    if (state.word) {
      const of = languages.length > 1 ? languages.indexOf(state.word_language) : -1;
      const wanted = new Set(forms.flatMap((form, i) => (form === state.word && (of < 0 || held.text.form_language[i] === of) ? [i] : [])));
      held.text.word.forEach((w, token) => { if (wanted.has(w)) tokens.push(token); });
      return { tokens, told: `«${isolated(state.word)}»`, near: tokens.length ? [] : like(forms, state.word) };
    }
    if (state.concept === null || state.concept === undefined) return { tokens, told: null, near: [] };
    held.concept.forEach((concept, token) => { if (concept === state.concept) tokens.push(token); });
    return { tokens, told: `concept ${state.concept} of layer ${state.layer} of ${state.checkpoint}`, near: [] };
  }

  /** A few words that begin as the one that was not found. */
  const like = (forms, start) => forms.filter((form) => form.toLowerCase().startsWith(start.toLowerCase().slice(0, 3))).slice(0, 10);

  /** Nodes (layer, concept, count) and links between consecutive layers of some occurrences in a checkpoint. */
  async function flow(checkpoint, state, tokens) {
    const layers = Clusters.layersOf(checkpoint, state.stack);
    const held = await Promise.all(layers.map((layer) => Clusters.concepts(checkpoint, state.stack, state.selection, layer)));
    const places = held.map((one) => {
      const counts = new Map();
      for (const token of tokens) {
        const concept = one.concept[token];
        if (concept !== one.k) counts.set(concept, (counts.get(concept) ?? 0) + 1);
      }
      return [...counts].sort((a, b) => b[1] - a[1] || a[0] - b[0]);
    });
    const top = places.map((counts) => new Set(counts.slice(0, kept).map(([concept]) => concept)));
    const nodes = places.flatMap((counts, i) => {
      const shown = counts.slice(0, kept).map(([concept, count]) => ({ concept, count }));
      const rest = counts.slice(kept).reduce((sum, [, count]) => sum + count, 0);
      if (rest) shown.push({ concept: OTHERS, count: rest, concepts: counts.length - kept });
      return shown.map((node, y) => ({ ...node, layer: layers[i], i, y, words: named(held[i], node) }));
    });
    const at = new Map(nodes.map((node) => [`${node.i}/${node.concept}`, node.y]));
    const links = new Map();
    for (const token of tokens) {
      for (let i = 0; i + 1 < layers.length; i++) {
        const ends = [held[i].concept[token], held[i + 1].concept[token]];
        if (ends.some((concept, j) => concept === held[i + j].k)) continue;
        const [from, to] = ends.map((concept, j) => (top[i + j].has(concept) ? concept : OTHERS));
        const key = `${i}/${from}/${to}`;
        const old = links.get(key) ?? { i, i2: i + 1, y: at.get(`${i}/${from}`), y2: at.get(`${i + 1}/${to}`), count: 0 };
        links.set(key, { ...old, count: old.count + 1 });
      }
    }
    const rows = places.flatMap((counts, i) => counts.map(([concept, count]) => ({ layer: layers[i], concept, count, held: held[i] })));
    return { layers, nodes, links: [...links.values()], rows };
  }

  const named = (held, { concept, concepts }) => (concept === OTHERS ? `${concepts} more concept${concepts > 1 ? "s" : ""}`
    : `${concept}: ${held.concepts[concept].words.slice(0, 3).map(([w]) => isolated(held.text.forms[w])).join(" ")}`);

  function spec({ layers, nodes, links }, tokens, width) {
    const most = Math.max(1, ...nodes.map((node) => node.y));
    const step = Math.max(110, Math.floor((width - 140) / layers.length));
    const x = { field: "i", type: "quantitative", scale: { domain: [0, layers.length - 0.2], nice: false },
      axis: { values: layers.map((_, i) => i), labelExpr: `'layer ' + [${layers}][datum.value]`, title: null, grid: false, orient: "top" } };
    const y = { field: "y", type: "quantitative", axis: null, scale: { domain: [-0.5, most + 0.5], reverse: true, nice: false } };
    const sized = (range) => ({ field: "count", type: "quantitative", legend: null, scale: { domain: [0, tokens], range } });
    const tip = [{ field: "words", title: "concept" }, { field: "count", title: "occurrences" }];
    return {
      width: step * layers.length, height: Math.max(120, (most + 1) * 34),
      layer: [
        { data: { values: links }, mark: { type: "rule", color: Figures.colours()[0], opacity: 0.55 },
          encoding: { x, x2: { field: "i2" }, y, y2: { field: "y2" }, strokeWidth: sized([0.5, 16]),
            tooltip: [{ field: "count", title: "occurrences" }] } },
        { data: { values: nodes }, mark: { type: "point", filled: true, opacity: 1, color: Figures.colours()[0], cursor: "pointer" },
          encoding: { x, y, size: sized([20, 400]), tooltip: tip } },
        { data: { values: nodes }, mark: { type: "text", align: "left", dx: 11, dy: -7, limit: step - 18, fontSize: 11, cursor: "pointer" },
          encoding: { x, y, text: { field: "words" }, tooltip: tip } },
      ],
    };
  }

  async function panel(checkpoint, state, { tokens, told }, width) {
    const found = await flow(checkpoint, state, tokens);
    const open = (datum) => datum.concept >= 0 && State.change({ view: "concepts", checkpoint, layer: datum.layer, concept: datum.concept });
    const caption = `Where the ${tokens.length} occurrences of ${told} are in ${checkpoint}: wider lines for more of them.`;
    const spread = found.layers.map((layer) => `layer ${layer}: ${found.rows.filter((row) => row.layer === layer).length} concepts`).join(", ");
    const columns = [
      { name: "layer", value: (row) => row.layer, number: true },
      { name: "concept", value: (row) => row.concept, number: true,
        show: (row) => link({ view: "concepts", checkpoint, layer: row.layer, concept: row.concept }, String(row.concept)) },
      { name: "occurrences", value: (row) => row.count, number: true },
      { name: "share", value: (row) => row.count / tokens.length, show: (row) => percent(row.count / tokens.length), number: true },
      { name: "words of the concept", value: (row) => row.held.concepts[row.concept].words.map(([w]) => row.held.text.forms[w]).join(" "),
        show: (row) => row.held.concepts[row.concept].words.slice(0, 8).flatMap(([w]) => [word(row.held.text.forms[w]), " "]) },
    ];
    return [
      h("h2", {}, checkpoint),
      await Figures.figure(caption, `follow-${checkpoint}`, `${caption} ${spread}`, spec(found, tokens.length, width), open),
      h("details", { class: "numbers" }, h("summary", {}, "In numbers"),
        table(`Occurrences of ${told} in ${checkpoint}`, `follow-${checkpoint}`, columns, found.rows)),
    ];
  }

  async function results(state, width) {
    const found = await followed(state);
    if (!found.told) return [status("Write a word, or open a concept and follow it from there.")];
    if (!found.tokens.length) {
      return [status("No occurrence of ", word(state.word), ` was selected in ${state.selection}.`),
        found.near.length ? h("p", {}, "Others that begin so: ", found.near.flatMap((near) => [link({ word: near }, word(near)), " "])) : null];
    }
    const names = [state.checkpoint, state.beside].filter((name, i, all) => name && all.indexOf(name) === i);
    const panels = await Promise.all(names.map((name) => panel(name, state, found, width)));
    return [status(`${found.tokens.length} occurrences of ${found.told}`), ...panels.flat()];
  }

  return { begin, controls, results };
})();
