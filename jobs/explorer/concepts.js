"use strict";
/** Finding a concept, and what it is like. */
const Concepts = (() => {
  const { h, choice, table, word, link, percent, visible, status, pairs } = Page;
  let study = null;
  const begin = (given) => { study = given; };
  const most = 60;

  /** Choices of checkpoint, stack, selection and layer; names of the state with `other_` before them for the second. */
  function place(state, prefix = "", legend = "Concepts of") {
    const set = (name) => (value) => {
      const next = { checkpoint: state[`${prefix}checkpoint`], stack: state[`${prefix}stack`], [name]: value };
      const there = Clusters.layersOf(next.checkpoint, next.stack);
      const layer = name === "layer" ? value : state[`${prefix}layer`];
      const changes = { [prefix + name]: value, [`${prefix}layer`]: there.includes(layer) ? layer : there.at(-1) };
      State.change(prefix ? changes : { ...changes, concept: null });
    };
    const layers = Clusters.layersOf(state[`${prefix}checkpoint`], state[`${prefix}stack`]);
    return h("fieldset", { class: "place" }, h("legend", {}, legend),
      choice("Checkpoint", study.checkpoints.map((one) => one.name), state[`${prefix}checkpoint`], set("checkpoint"), `${prefix}checkpoint`),
      study.stacks.length > 1 ? choice("Stack", study.stacks, state[`${prefix}stack`], set("stack"), `${prefix}stack`) : null,
      choice("Text", Object.keys(study.selections), state[`${prefix}selection`], set("selection"), `${prefix}selection`),
      choice("Layer", layers, state[`${prefix}layer`], (value) => set("layer")(Number(value)), `${prefix}layer`));
  }

  /** Languages that the words of a selection can translate into. */
  function others(selection) {
    const [language, ...more] = Clusters.languagesOf(selection);
    return more.length ? [] : study.directions
      .filter(([source, target]) => source === language && Clusters.selectionOf(source, target) === selection)
      .map(([, target]) => target);
  }

  const towards = (state) => (others(state.selection).includes(state.target) ? state.target : others(state.selection)[0]);

  function controls(state) {
    const languages = Clusters.languagesOf(state.selection);
    const aims = others(state.selection);
    const sorts = ["size", "types", "purity", ...(aims.length ? ["alignment"] : []), ...(languages.length > 1 ? ["overlap"] : [])];
    return [
      place(state),
      h("label", { class: "field" }, "Word, label or number", h("input", {
        type: "search", name: "search", value: state.search, oninput: (e) => State.change({ search: e.target.value }, true),
      })),
      choice("Sort by", sorts, state.sort, (sort) => State.change({ sort })),
      aims.length > 1 ? choice("Aligned to", aims, towards(state), (target) => State.change({ target })) : null,
      languages.length > 1
        ? choice("With words in", [["", "any language"], ...languages], state.language, (language) => State.change({ language }))
        : null,
      Curves.thresholds(state, languages.length > 1 ? ["colap"] : ["calign"]),
    ];
  }

  const folded = (text) => text.normalize("NFKD").replace(/\p{M}/gu, "").toLowerCase();

  /** Whether a concept has a word that begins so, a label or tag that holds it, or this number. */
  function fits(one, forms, search) {
    if (!search) return true;
    const wanted = folded(search);
    return String(one.concept) === search.trim() || folded(one.label).includes(wanted)
      || (one.tag && folded(one.tag[2]).includes(wanted)) || one.words.some(([w]) => folded(forms[w]).startsWith(wanted));
  }

  /** Everything the list needs: concepts with their best partner (`aligned`) or whether they overlap. */
  async function listed(state) {
    const held = await Clusters.concepts(state.checkpoint, state.stack, state.selection, state.layer);
    const target = towards(state);
    const rules = Curves.rules(state);
    const languages = Clusters.languagesOf(state.selection);
    const best = new Map();
    let counts = null;
    if (target && study.alignment_stacks.includes(state.stack)) {
      [counts] = await Clusters.between(state.checkpoint, state.stack, languages[0], target);
      for (const one of held.concepts) {
        const [first] = Clusters.partners(counts, state.layer, one.concept, rules);
        if (first) best.set(one.concept, first);
      }
    }
    let over = null;
    let units = null;
    if (languages.length > 1) {
      const counts = await Clusters.mixed(state.checkpoint, state.stack, state.selection);
      const at = counts.layers.indexOf(state.layer);
      over = Scores.overlapping(counts, at, rules);
      units = (concept) => languages.map((name) => Scores.languages(counts, at, concept, rules.overlap_unit)[counts.languages.indexOf(name)]);
    }
    const rows = held.concepts.filter((one) => one.tokens).map((one) => {
      const partner = best.get(one.concept);
      const shares = [...one.mix].sort((a, b) => b - a);
      return {
        ...one, partner, aligned: Boolean(partner && partner.translated && partner.close && partner.large),
        share: partner ? partner.part / partner.source_size : 0, overlaps: over ? over[one.concept] : null,
        second: shares.length > 1 ? shares[1] / one.tokens : 0,
      };
    });
    return { held, counts, target, rules, languages, rows, units };
  }

  /** Other layers with concepts that fit what is searched for. */
  async function elsewhere(state) {
    if (!state.search) return null;
    const others = Clusters.layersOf(state.checkpoint, state.stack).filter((layer) => layer !== state.layer);
    const found = await Promise.all(others.map(async (layer) => {
      const held = await Clusters.concepts(state.checkpoint, state.stack, state.selection, layer);
      return [layer, held.concepts.filter((one) => one.tokens && fits(one, held.text.forms, state.search)).length];
    }));
    const told = found.filter(([, count]) => count).flatMap(([layer, count], i) => [
      i ? ", " : "", link({ layer, concept: null }, `layer ${layer}: ${count}`)]);
    return h("p", {}, "In other layers: ", told.length ? told : "none", ".");
  }

  const ORDER = {
    size: (a, b) => b.tokens - a.tokens, types: (a, b) => b.types - a.types, purity: (a, b) => b.purity - a.purity,
    alignment: (a, b) => b.aligned - a.aligned || b.share - a.share,
    overlap: (a, b) => b.overlaps - a.overlaps || b.second - a.second,
  };

  /** A bar of the languages of a concept, which says their shares. */
  function mixed(languages, mix) {
    const whole = mix.reduce((a, b) => a + b, 0);
    const told = languages.map((name, i) => `${name} ${percent(mix[i] / whole)}`).filter((_, i) => mix[i]).join(", ");
    return h("span", { class: "mix", role: "img", "aria-label": told, title: told }, mix.map((count, i) => h("span", {
      style: `flex-grow: ${count}; background: ${Figures.colours()[i % Figures.colours().length]}`,
    })));
  }

  async function results(state) {
    const list = await listed(state);
    const { held, languages, target } = list;
    const forms = held.text.forms;
    const column = languages.indexOf(state.language);
    const rows = list.rows
      .filter((one) => fits(one, forms, state.search))
      .filter((one) => column < 0 || one.mix[column] > 0)
      .sort((a, b) => (ORDER[state.sort] ?? ORDER.size)(a, b) || b.tokens - a.tokens || a.concept - b.concept);
    const top = (one, upTo) => one.words.slice(0, upTo).flatMap(([w]) => [word(forms[w]), " "]);
    const columns = [
      { name: "concept", value: (one) => one.concept, number: true,
        show: (one) => link({ concept: one.concept }, String(one.concept)) },
      { name: "words", value: (one) => one.words.map(([w]) => forms[w]).join(" "), show: (one) => top(one, 8) },
      { name: "tokens", value: (one) => one.tokens, number: true },
      { name: "types", value: (one) => one.types, number: true },
      ...(languages.length > 1 ? [
        { name: "languages", value: (one) => languages.map((name, i) => `${name} ${one.mix[i]}`).join(" "), show: (one) => mixed(languages, one.mix) },
        { name: "overlaps", value: (one) => (one.overlaps ? "yes" : "no") }] : []),
      ...(list.counts ? [
        { name: `aligned to ${target}`, value: (one) => (one.aligned ? "yes" : "no") },
        { name: "translated", value: (one) => one.share, show: (one) => percent(one.share), number: true }] : []),
      { name: "purity", value: (one) => one.purity, show: (one) => percent(one.purity), number: true },
      ...(rows.some((one) => one.label) ? [{ name: "label", value: (one) => one.label }] : []),
    ];
    const found = list.rows.find((one) => one.concept === state.concept);
    const detail = found ? [await described(state, list, found)] : [];
    return [
      ...detail,
      status(`${rows.length} of ${list.rows.length} concepts`), await elsewhere(state),
      table(`Concepts of ${state.selection}, layer ${state.layer} of ${state.checkpoint}`, "concepts", columns, rows),
    ];
  }

  /** Words sized by count, each a link that follows it through the layers; those of mixed text say their language. */
  function cloud(one, held, languages, limit = most) {
    const largest = one.words[0][1];
    const sized = one.words.slice(0, limit).map(([w, count]) => {
      const size = 0.8 + 1.2 * Math.sqrt(count / largest);
      const language = languages[held.text.form_language[w]];
      return [h("a", {
        href: State.href({ view: "follow", word: held.text.forms[w], word_language: language }), style: `font-size: ${size.toFixed(2)}em`,
        lang: language, title: `${count} times, ${language}`, class: `language-${held.text.form_language[w] % 6}`,
      }, word(held.text.forms[w]), languages.length > 1 ? h("small", {}, ` ${language}`) : null), " "];
    });
    const rest = one.words.length - limit;
    return h("p", { class: "cloud" }, sized, rest > 0 ? h("span", { class: "note" }, `and ${rest} more`) : null);
  }

  async function described(state, list, one) {
    const { held, languages } = list;
    const sentences = await Clusters.examples(held, one.concept, state.selection);
    const tag = one.tag ? `${percent(one.tag[0])} of its tokens share ${one.tag[1]} «${visible(one.tag[2])}»` : null;
    const shares = languages.map((name, i) => `${name} ${percent(one.mix[i] / one.tokens)}`).join(", ");
    return h("article", { class: "concept", id: "concept", tabindex: "-1", "aria-label": `Concept ${one.concept}` },
      h("h2", {}, `Concept ${one.concept}`, one.label ? [": ", word(one.label)] : null, " ",
        h("a", { href: State.href({ concept: null }), class: "close", "aria-label": "Close" }, "×")),
      h("p", {}, `${one.tokens} tokens, ${one.types} types. ${shares}. `, tag ? `${tag}. ` : null,
        link({ view: "follow", word: null }, "Follow it through the layers"), ", ", link({ view: "map" }, "see it on the map"), "."),
      languages.length > 1 ? mixed(languages, one.mix) : null,
      cloud(one, held, languages),
      h("h3", {}, "In sentences"),
      h("ul", { class: "sentences" }, sentences.map(sentence)),
      await partnersOf(state, list, one), overlapOf(list, one));
  }

  function sentence({ language, number, words, at }) {
    const marked = words.flatMap((text, i) => [
      i === at ? h("mark", {}, visible(text)) : visible(text), i + 1 < words.length ? " " : null]);
    return h("li", {}, h("span", { class: "note" }, `${language} ${number + 1} `), h("bdi", { dir: "auto", lang: language }, marked));
  }

  const verdict = (good, told) => h("span", { class: good ? "good" : "bad" }, `${good ? "✓" : "✗"} ${told}`);

  async function partnersOf(state, list, one) {
    if (!list.counts) return null;
    const { rules, target } = list;
    const selection = Clusters.selectionOf(target, list.languages[0]);
    const [, side] = Clusters.sides(state.stack);
    const theirs = await Clusters.concepts(state.checkpoint, side, selection, state.layer);
    const every = Clusters.partners(list.counts, state.layer, one.concept, rules);
    const whole = every.filter((pair) => pair.translated && pair.close && pair.large).length;
    const near = every.slice(0, whole + 5); // the aligned ones come first
    if (!near.length) {
      return [h("h3", {}, `Partners in ${target}`),
        h("p", {}, `No concept of ${target} holds translations of ${percent(study.floor)} of its ${study.metrics.align_unit}s.`)];
    }
    const rows = await Promise.all(near.map(async (pair) => {
      const other = theirs.concepts[pair.target];
      const words = await Clusters.matched(list.languages[0], target, one.words, other.words, rules);
      const sizes = [pair.source_size, pair.target_size];
      const gap = rules.size_rule === "both" ? 1 - Math.min(...sizes) / Math.max(...sizes, 1) : 1 - sizes[0] / Math.max(sizes[1], 1);
      return { ...pair, other, words, gap: Math.max(gap, 0) }; // by rule `source` a larger source has no gap
    }));
    const columns = [
      { name: "concept", value: (row) => row.target, number: true, show: (row) => link(
        { selection, stack: side, concept: row.target, target: list.languages[0] }, `${target} ${row.target}`) },
      { name: "words", value: (row) => row.other.words.map(([w]) => theirs.text.forms[w]).join(" "),
        show: (row) => row.other.words.slice(0, 8).flatMap(([w]) => [word(theirs.text.forms[w]), " "]) },
      { name: "aligned", value: (row) => (row.translated && row.close && row.large ? "yes" : "no") },
      { name: "translated", value: (row) => row.part / row.source_size, show: (row) => verdict(row.translated,
        `${row.part} of ${row.source_size}, ${percent(row.part / row.source_size)} (θ_A ${percent(rules.theta_align)})`) },
      { name: "size gap", value: (row) => row.gap, show: (row) => verdict(row.close,
        `${row.source_size} and ${row.target_size}, ${percent(row.gap)} (at most ${percent(rules.max_size_gap)})`) },
      { name: "types", value: (row) => row.types, show: (row) => verdict(row.large, `${row.types} (more than ${rules.min_types})`) },
      { name: "word pairs", value: (row) => row.words.map((pair) => pair.join(" – ")).join("; "),
        show: (row) => pairs(row.words) },
    ];
    return [h("h3", {}, `Partners in ${target}`), table(`Nearest concepts of ${target}`, "partners", columns, rows)];
  }

  function overlapOf(list, one) {
    if (list.languages.length < 2) return null;
    const { rules } = list;
    const units = list.units(one.concept);
    const whole = units.reduce((a, b) => a + b, 0);
    const shares = list.languages.map((name, i) => [verdict(
      Scores.passes(rules.comparison, units[i], rules.theta_overlap, whole),
      `${name} ${percent(units[i] / whole)} of its ${rules.overlap_unit}s (θ_O ${percent(rules.theta_overlap)})`), " "]);
    return h("p", { class: "overlap" }, one.overlaps ? "Overlaps: " : "Does not overlap: ", shares);
  }

  return { begin, place, others, towards, listed, controls, results, cloud };
})();
