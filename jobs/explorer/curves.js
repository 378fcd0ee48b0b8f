"use strict";
/** CALIGN and COLAP by layer, under thresholds that can be moved. */
const Curves = (() => {
  const { h, choice, several, slider, button, table, percent } = Page;
  let study = null;
  const begin = (given) => { study = given; };

  /** The definitions of CALIGN and COLAP in the state. */
  const RULES = [
    "n_best", "theta_align", "min_types", "max_size_gap", "theta_overlap", "comparison", "size_rule", "min_types_of",
    "denominator", "overlap_unit", "min_languages",
  ];
  const rules = (state) => Object.fromEntries(RULES.map((name) => [name, state[name]]));
  const GRID = { theta_align: [null, 1, 0.01], min_types: [0, 20, 1], max_size_gap: [0, 1, 0.01], n_best: [1, null, 1],
    theta_overlap: [0.05, 0.5, 0.01] };
  const CHOICES = { comparison: ["at_least", "more_than"], size_rule: ["both", "source"], min_types_of: ["both", "source"],
    denominator: ["all", "considered"], overlap_unit: ["token", "type"] };

  /** Range and step of a slider, which hold the study's own value. */
  function grid(name) {
    const [low, high, step] = GRID[name];
    const own = study.metrics[name];
    const fits = Math.abs(own / step - Math.round(own / step)) < 1e-6;
    return [Math.min(low ?? study.floor, own), Math.max(high ?? study.ranks, own), fits ? step : "any"];
  }

  const numbersOfLanguages = () => {
    const most = Math.max(2, ...Object.values(study.selections).map((languages) => languages.length));
    return [...Array.from({ length: most - 1 }, (_, i) => i + 2), "all"];
  };

  /** A definition of the state that is none, with what it may be; undefined where all are. */
  function wrong(state) {
    const limits = {
      theta_align: [study.floor, 1], max_size_gap: [0, 1], theta_overlap: [0, 1], n_best: [1, study.ranks], min_types: [0, 1e9],
    };
    for (const [name, [low, high]] of Object.entries(limits)) {
      const whole = !["n_best", "min_types"].includes(name) || Number.isInteger(state[name]);
      if (!(state[name] >= low && state[name] <= high && whole)) return [name, [`${low} to ${high}`]];
    }
    const choices = { ...CHOICES, min_languages: [...new Set([...numbersOfLanguages(), study.metrics.min_languages])] };
    return Object.entries(choices).find(([name, values]) => !values.includes(state[name]));
  }

  const areOwn = (state) => RULES.every((name) => state[name] === study.metrics[name]);

  /** Sliders and choices of all definitions. */
  function thresholds(state, measures = ["calign", "colap"]) {
    const set = (name) => (value) => State.change({ [name]: value }, true);
    const pick = (name, label, values) => choice(label, values, state[name], (value) => State.change({ [name]: value }), name);
    const of = {
      calign: [
        slider("θ_A", grid("theta_align"), state.theta_align, set("theta_align")),
        slider("Types, more than", grid("min_types"), state.min_types, set("min_types")),
        slider("Size gap", grid("max_size_gap"), state.max_size_gap, set("max_size_gap")),
        slider("N-best", grid("n_best"), state.n_best, set("n_best")),
        pick("size_rule", "Size gap holds for", [["both", "both concepts"], ["source", "a smaller source"]]),
        pick("min_types_of", "Types are of", [["both", "both concepts"], ["source", "the source"]]),
        pick("denominator", "Fraction of", [["all", "all concepts"], ["considered", "those with the types"]]),
      ],
      colap: [
        slider("θ_O", grid("theta_overlap"), state.theta_overlap, set("theta_overlap")),
        pick("overlap_unit", "θ_O counts", CHOICES.overlap_unit),
        pick("min_languages", "Languages", numbersOfLanguages().map((count) => [count, count === "all" ? "all" : `at least ${count}`])),
      ],
    };
    const preset = (name) => {
      const values = Object.fromEntries(RULES.map((rule) => [rule, study.presets[name][rule]]));
      return button(name, () => State.change(values));
    };
    return h("details", { class: "thresholds", open: innerWidth > 600 },
      h("summary", {}, "Thresholds"),
      h("div", { class: "sliders" }, measures.flatMap((measure) => of[measure]),
        pick("comparison", "At the threshold", [["at_least", "passes"], ["more_than", "does not pass"]])),
      h("p", {}, "Preset: ", preset("paper"), " ", preset("reference"), " ",
        button("this study’s", () => State.change(Object.fromEntries(RULES.map((rule) => [rule, study.metrics[rule]])))),
        " ", h("span", { class: "note" }, `Translations were counted ${study.counted}.`)));
  }

  const list = (text) => (text ? text.split(",") : []);

  function controls(state) {
    const names = study.checkpoints.map((one) => one.name);
    const set = (name) => (values) => State.change({ [name]: values.join(",") });
    const groups = [...new Set(study.curves.calign.map((curve) => curve.group))];
    const sets = [...new Set(study.curves.colap.map((curve) => curve.group))];
    return [
      several("Checkpoints", names, list(state.checkpoints), set("checkpoints")),
      several("CALIGN", groups, list(state.groups), set("groups")),
      several("COLAP", sets, list(state.sets), set("sets")),
      study.alignment_stacks.length > 1
        ? choice("Stack", study.alignment_stacks, state.stack, (stack) => State.change({ stack, layer: null })) : null,
      thresholds(state),
    ];
  }

  /** Curves of the chosen checkpoints and groups under the thresholds: the study's own are stored with intervals. */
  async function chosen(state, measure) {
    const wanted = list(measure === "calign" ? state.groups : state.sets);
    const curves = study.curves[measure].filter((curve) => curve.stack === state.stack
      && list(state.checkpoints).includes(curve.checkpoint) && wanted.includes(curve.group));
    if (areOwn(state)) return curves;
    const scored = measure === "calign" ? calign : colap;
    return Promise.all(curves.map(async (curve) => {
      const found = await scored(curve, rules(state));
      return { ...curve, low: null, high: null, null: null, ...found };
    }));
  }

  const columns = (rows) => Object.fromEntries(Object.keys(rows[0]).map((name) => [name, rows.map((row) => row[name])]));

  async function calign({ checkpoint, stack, source, targets, layers }, given) {
    const both = await Promise.all(targets.map((target) => Clusters.between(checkpoint, stack, source, target)));
    const [towards, back] = [both.map((pair) => pair[0]), both.map((pair) => pair[1])];
    return columns(layers.map((layer) => Scores.calign(towards, back, towards[0].layers.indexOf(layer), given)));
  }

  async function colap({ checkpoint, stack, group, layers }, given) {
    const counts = await Clusters.mixed(checkpoint, stack, group);
    return columns(layers.map((layer) => Scores.colap(counts, counts.layers.indexOf(layer), given)));
  }

  function spec(curves, measure, width) {
    const value = (values, i) => (values ? values[i] : null);
    const rows = curves.flatMap((curve) => curve.layers.map((layer, i) => ({
      checkpoint: Page.visible(curve.checkpoint), group: Page.visible(curve.group), state: curve.state, layer,
      score: curve[measure][i], low: value(curve.low, i), high: value(curve.high, i), null: value(curve.null, i),
    })));
    const groups = [...new Set(rows.map((row) => row.group))];
    const states = [...new Set(rows.map((row) => row.state))];
    const names = [...new Set(rows.map((row) => row.checkpoint))];
    const across = Math.max(1, Math.min(names.length, Math.floor(width / 280)));
    const y = { field: "score", type: "quantitative", axis: { format: "%", title: measure.toUpperCase() } };
    const colour = { field: "group", type: "nominal", scale: Figures.scale(groups), title: null };
    const layers = [...new Set(rows.map((row) => row.layer))].sort((a, b) => a - b);
    const x = { field: "layer", type: "quantitative", axis: { values: layers, title: "layer", grid: false, format: "d" } };
    return {
      data: { values: rows },
      facet: { field: "checkpoint", type: "nominal", sort: names, title: null },
      columns: across,
      spec: {
        width: Math.max(160, Math.floor(width / across) - 75), height: 220,
        layer: [
          { mark: { type: "line", strokeWidth: 1, opacity: 0.8, tooltip: false },
            encoding: { x, y: { field: "null", type: "quantitative", title: measure.toUpperCase() }, color: colour } },
          { mark: { type: "area", opacity: 0.18, tooltip: false },
            encoding: { x, y: { field: "low", type: "quantitative", title: measure.toUpperCase() }, y2: { field: "high" }, color: colour } },
          { mark: { type: "line", strokeWidth: 2 },
            encoding: { x, y, color: colour,
              strokeDash: { field: "state", type: "nominal", scale: Figures.dashes(states), title: null } } },
          { mark: { type: "point", filled: true, size: 45, opacity: 1 },
            encoding: { x, y, color: colour, shape: { field: "group", type: "nominal", scale: Figures.shapes(groups), title: null }, tooltip: [
              { field: "group", title: "languages" }, { field: "checkpoint" }, { field: "state" }, { field: "layer" },
              { field: "score", title: measure.toUpperCase(), format: ".2%" },
              ...(rows.some((row) => row.low !== null) ? [
                { field: "low", format: ".2%" }, { field: "high", format: ".2%" }, { field: "null", title: "of nothing", format: ".2%" }] : []) ] } },
        ],
      },
    };
  }

  async function panel(state, measure, width) {
    const curves = await chosen(state, measure);
    const name = measure.toUpperCase();
    if (!curves.length) return [h("h2", {}, name), h("p", {}, "Nothing is chosen that has this score.")];
    const drawn = curves.some((curve) => curve.low);
    const nothing = measure === "calign" ? "types are dealt anew to concepts of the same sizes" : "languages are shuffled";
    const told = areOwn(state) ? (drawn ? `Bands: 95 % intervals over concepts; thin lines: what is reached where ${nothing} (97.5 % of draws below).`
      : "The study drew no intervals.") : "Intervals and nulls are of the study’s own thresholds, and not shown for these.";
    const most = curves.map((curve) => {
      const top = curve[measure].reduce((best, value, i) => (value > curve[measure][best] ? i : best), 0);
      return `${curve.checkpoint}, ${curve.group}: most at layer ${curve.layers[top]}, ${percent(curve[measure][top])}`;
    });
    const of = (row, name) => (row[name] ? row[name][row.i] : NaN);
    const bands = drawn ? [["low", "low"], ["high", "high"], ["null", "reached by nothing"]] : [];
    const parts = measure === "calign" ? ["aligned_concepts", "concepts", "mutual_calign"] : ["overlapping_concepts", "concepts"];
    const rows = curves.flatMap((curve) => curve.layers.map((layer, i) => ({ ...curve, layer, i })));
    const shown = [
      { name: "checkpoint", value: (row) => row.checkpoint }, { name: "languages", value: (row) => row.group },
      { name: "state", value: (row) => row.state }, { name: "layer", value: (row) => row.layer, number: true },
      { name: measure, value: (row) => row[measure][row.i], show: (row) => percent(row[measure][row.i]), number: true },
      ...parts.map((part) => ({ name: part.replaceAll("_", " "), number: true, value: (row) => row[part][row.i],
        show: part.startsWith("mutual") ? (row) => percent(row[part][row.i]) : undefined })),
      ...bands.map(([part, name]) => ({ name, number: true, value: (row) => of(row, part), show: (row) => percent(of(row, part)) })),
    ];
    return [
      h("h2", {}, name),
      await Figures.figure(`${name} by layer. ${told}`, measure, `${name} by layer. ${most.join(". ")}`, spec(curves, measure, width)),
      h("details", { class: "numbers" }, h("summary", {}, `${name} in numbers`), table(`${name} by layer`, measure, shown, rows)),
    ];
  }

  async function results(state, width) {
    return (await Promise.all(["calign", "colap"].map((measure) => panel(state, measure, width)))).flat();
  }

  return { begin, rules, wrong, thresholds, controls, results };
})();
