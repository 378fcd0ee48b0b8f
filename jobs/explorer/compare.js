"use strict";
/** Two clusterings side by side: two languages by CALIGN, two checkpoints or stacks by the occurrences they share. */
const Compare = (() => {
  const { h, button, table, word, link, percent, isolated, status, pairs } = Page;
  const drawn = 40;
  let study = null;
  const begin = (given) => { study = given; };

  /** A layer that both have: the one that is shown, or the last. */
  const shared = (ours, theirs, layer) => (theirs.includes(layer) && ours.includes(layer) ? layer
    : ours.filter((number) => theirs.includes(number)).at(-1) ?? ours.at(-1));

  /** Ready-made comparisons that the study allows. */
  function ready(state) {
    const [source, target] = study.directions[0];
    const same = { other_checkpoint: state.checkpoint, other_stack: state.stack, other_layer: state.layer };
    const made = [button("Two languages", () => State.change({
      ...same, selection: Clusters.selectionOf(source, target), other_selection: Clusters.selectionOf(target, source),
    }))];
    if (study.checkpoints.length > 1) {
      const other = study.checkpoints.map((one) => one.name).find((name) => name !== state.checkpoint);
      const layer = shared(Clusters.layersOf(state.checkpoint, state.stack), Clusters.layersOf(other, state.stack), state.layer);
      made.push(" ", button("Two checkpoints", () => State.change({
        ...same, other_checkpoint: other, other_selection: state.selection, layer, other_layer: layer,
      })));
    }
    if (study.stacks.length > 1) {
      const [one, two] = study.stacks;
      const [ours, theirs] = [one, two].map((stack) => Clusters.layersOf(state.checkpoint, stack));
      const layer = shared(ours, theirs, state.layer);
      made.push(" ", button("Encoder and decoder", () => State.change({
        ...same, stack: one, other_stack: two, layer, other_layer: layer, other_selection: state.selection,
      })));
    }
    return h("p", {}, made);
  }

  const controls = (state) => [
    ready(state), Concepts.place(state, "", "Left"), Concepts.place(state, "other_", "Right"), Curves.thresholds(state, ["calign"]),
  ];

  const stackOf = (one, other) => (one === other ? one : `${one}-${other}`);

  /** Language pair whose concepts are compared; null where none is. */
  function pairOf(state) {
    const stack = stackOf(state.stack, state.other_stack);
    const found = study.directions.find(([source, target]) => Clusters.selectionOf(source, target) === state.selection
      && Clusters.selectionOf(target, source) === state.other_selection);
    const fits = state.checkpoint === state.other_checkpoint && state.layer === state.other_layer
      && study.alignment_stacks.includes(stack);
    return found && fits ? { stack, source: found[0], target: found[1] } : null;
  }

  async function byTranslation(state, { stack, source, target }, left, right) {
    const rules = Curves.rules(state);
    const [counts] = await Clusters.between(state.checkpoint, stack, source, target);
    const found = Scores.aligned(counts, counts.layers.indexOf(state.layer), rules);
    const rows = await Promise.all(found.map(async (pair) => ({
      left: pair.source, right: pair.target, strength: pair.part, share: pair.part / pair.source_size,
      pairs: await Clusters.matched(source, target, left.concepts[pair.source].words, right.concepts[pair.target].words, rules),
    })));
    const told = `Aligned concepts of ${source} and ${target}: a line for each pair that passes the thresholds.`;
    return { rows, told, strength: `${study.metrics.align_unit}s translated`, columns: [
      { name: "translated", value: (row) => row.share, show: (row) => percent(row.share), number: true },
      { name: "word pairs", value: (row) => row.pairs.map((pair) => pair.join(" – ")).join("; "),
        show: (row) => pairs(row.pairs, 12) },
    ] };
  }

  /** Pairs of concepts of which each holds more of the other's occurrences than any other does. */
  function byOccurrence(state, left, right) {
    const counts = new Map();
    const apart = (key) => [Math.floor(key / right.k), key % right.k];
    left.concept.forEach((one, token) => {
      const other = right.concept[token];
      if (one === left.k || other === right.k) return;
      const key = one * right.k + other;
      counts.set(key, (counts.get(key) ?? 0) + 1);
    });
    const best = [new Map(), new Map()];
    const sorted = [...counts].sort((a, b) => b[1] - a[1] || a[0] - b[0]);
    for (const [key] of sorted) {
      const sides = apart(key);
      sides.forEach((side, i) => { if (!best[i].has(side)) best[i].set(side, key); });
    }
    const rows = sorted
      .filter(([key]) => apart(key).every((side, i) => best[i].get(side) === key))
      .map(([key, shared]) => {
        const [one, other] = apart(key);
        const union = left.concepts[one].tokens + right.concepts[other].tokens - shared;
        return { left: one, right: other, strength: shared, share: shared / union };
      });
    return { rows, told: "Concepts that hold most of each other’s occurrences: a line for each such pair.",
      strength: "occurrences shared", columns: [
        { name: "shared of both", value: (row) => row.share, show: (row) => percent(row.share), number: true }] };
  }

  const called = (held, concept) => held.concepts[concept].words.slice(0, 4).map(([w]) => isolated(held.text.forms[w])).join(" ");

  function spec(rows, left, right, width) {
    const shown = rows.slice(0, drawn);
    const place = (side) => new Map([...new Set(shown.map((row) => row[side]))].map((concept, i) => [concept, i]));
    const [one, other] = [place("left"), place("right")];
    const lines = shown.map((row) => ({ ...row, pairs: undefined, x: 0, x2: 1, y: one.get(row.left), y2: other.get(row.right) }));
    const nodes = [
      ...[...one].map(([concept, y]) => ({ side: "left", concept, x: 0, y, words: called(left, concept) })),
      ...[...other].map(([concept, y]) => ({ side: "right", concept, x: 1, y, words: called(right, concept) })),
    ];
    const inner = Math.max(60, Math.min(320, width * 0.25));
    const room = Math.max(90, (width - inner) / 2 - 30);
    const axis = { axis: null, scale: { domain: [0, 1] } };
    const y = { field: "y", type: "quantitative", axis: null, scale: { reverse: true, zero: false, nice: false } };
    const text = (side, align, dx) => ({
      transform: [{ filter: { field: "side", equal: side } }],
      mark: { type: "text", align, dx, limit: room, fontSize: 12, cursor: "pointer" },
      encoding: { x: { field: "x", type: "quantitative", ...axis }, y, text: { field: "words" }, tooltip: [{ field: "concept" }, { field: "words" }] },
    });
    return {
      width: inner, height: Math.max(one.size, other.size) * 20, padding: { left: 8, right: 8, top: 8, bottom: 8 },
      layer: [
        { data: { values: lines },
          mark: { type: "rule", color: Figures.colours()[0], opacity: 0.7 },
          encoding: { x: { field: "x", type: "quantitative", ...axis }, x2: { field: "x2" }, y, y2: { field: "y2" },
            strokeWidth: { field: "strength", type: "quantitative", legend: null, scale: { range: [1, 6], zero: true } },
            tooltip: [{ field: "left" }, { field: "right" }, { field: "strength" }, { field: "share", format: ".1%" }] } },
        { data: { values: nodes }, layer: [text("left", "right", -8), text("right", "left", 8)] },
      ],
    };
  }

  const to = (state, side, concept) => (side === "left"
    ? { view: "concepts", concept }
    : { view: "concepts", checkpoint: state.other_checkpoint, stack: state.other_stack, selection: state.other_selection,
      layer: state.other_layer, concept });

  async function results(state, width) {
    const pair = pairOf(state);
    if (!pair && state.selection !== state.other_selection) {
      return [status("These are not compared: choose two languages of a pair, of one checkpoint and layer, "
        + "or the same text on both sides.")];
    }
    const [left, right] = await Promise.all(["", "other_"].map((prefix) => Clusters.concepts(
      state[`${prefix}checkpoint`], state[`${prefix}stack`], state[`${prefix}selection`], state[`${prefix}layer`])));
    const found = pair ? await byTranslation(state, pair, left, right) : byOccurrence(state, left, right);
    found.rows.sort((a, b) => b.strength - a.strength || a.left - b.left || a.right - b.right);
    const { rows } = found;
    const words = (held, side) => (row) => held.concepts[row[side]].words.slice(0, 6).flatMap(([w]) => [word(held.text.forms[w]), " "]);
    const all = (held, side) => (row) => held.concepts[row[side]].words.map(([w]) => held.text.forms[w]).join(" ");
    const number = (side) => (row) => link(to(state, side, row[side]), String(row[side]));
    const columns = [
      { name: "left", value: (row) => row.left, show: number("left"), number: true },
      { name: "left words", value: all(left, "left"), show: words(left, "left") },
      { name: "right", value: (row) => row.right, show: number("right"), number: true },
      { name: "right words", value: all(right, "right"), show: words(right, "right") },
      { name: found.strength, value: (row) => row.strength, number: true }, ...found.columns,
    ];
    const told = status(`${rows.length} pairs`);
    if (!rows.length) return [told, h("p", {}, "Nothing passes the thresholds.")];
    const note = rows.length > drawn ? ` The ${drawn} strongest of ${rows.length} are drawn.` : "";
    const figure = await Figures.figure(found.told + note, "compare", `${found.told} ${rows.length} pairs.`,
      spec(rows, left, right, width), (datum) => datum.side && State.change(to(state, datum.side, datum.concept)));
    return [told, figure, table("Pairs of concepts", "compare", columns, rows)];
  }

  return { begin, controls, results };
})();
