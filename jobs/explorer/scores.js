"use strict";
/**
 * CALIGN and COLAP from stored counts: the arithmetic of engine/calign.py, engine/colap.py and
 * engine/kernels/fractions.py, to which a test compares it on random counts.
 */
const Scores = (() => {
  const SCALE = 1e9;
  const SAFE = Math.floor(Number.MAX_SAFE_INTEGER / SCALE);

  /** Whether part is at least (or more than) a fraction of whole, exact for fractions of up to nine decimals. */
  function passes(comparison, part, fraction, whole) {
    const scaled = Math.round(fraction * SCALE);
    let left = part * SCALE;
    let right = scaled * whole;
    if (part > SAFE || whole > SAFE) {
      left = BigInt(part) * BigInt(SCALE);
      right = BigInt(scaled) * BigInt(whole);
    }
    return comparison === "at_least" ? left >= right : left > right;
  }

  /** What the rules say of one stored pair of concepts of a layer. */
  function judge(counts, layer, index, rules) {
    const one = layer * counts.k + counts.source[index];
    const other = layer * counts.k + counts.target[index];
    const part = counts.units[index * counts.ranks + rules.n_best - 1];
    const [source, target] = [counts.source_size[one], counts.target_size[other]];
    const gap = 1 - rules.max_size_gap;
    const close = rules.size_rule === "both"
      ? passes(rules.comparison, Math.min(source, target), gap, Math.max(source, target))
      : passes(rules.comparison, source, gap, target) && target > 0;
    const types = rules.min_types_of === "both"
      ? Math.min(counts.source_types[one], counts.target_types[other]) : counts.source_types[one];
    return {
      source: counts.source[index], target: counts.target[index], part, source_size: source, target_size: target, types,
      translated: passes(rules.comparison, part, rules.theta_align, source), close, large: types > rules.min_types,
    };
  }

  /** Stored pairs of a layer that are aligned (engine.calign.aligned). */
  function aligned(counts, layer, rules) {
    const found = [];
    for (let i = counts.start[layer]; i < counts.start[layer + 1]; i++) {
      const one = judge(counts, layer, i, rules);
      if (one.translated && one.close && one.large) found.push(one);
    }
    return found;
  }

  /**
   * CALIGN of a layer towards one or several targets together, with its parts (engine.calign.score of the union).
   * `towards` holds the counts of each target, `back` those of the other directions.
   */
  function calign(towards, back, layer, rules) {
    const sources = new Set();
    const mutual = new Set();
    const hubs = new Map();
    towards.forEach((counts, place) => {
      const reverse = new Set(aligned(back[place], layer, rules).map((one) => one.target * counts.k + one.source));
      for (const { source, target } of aligned(counts, layer, rules)) {
        sources.add(source);
        if (reverse.has(source * counts.k + target)) mutual.add(source);
        const hub = `${place}/${target}`;
        hubs.set(hub, (hubs.get(hub) ?? 0) + 1);
      }
    });
    const types = towards[0].source_types.subarray(layer * towards[0].k, (layer + 1) * towards[0].k);
    const considered = types.filter((count) => count > rules.min_types).length;
    const whole = rules.denominator === "all" ? types.filter((count) => count > 0).length : considered;
    const largest = Math.max(0, ...hubs.values());
    return {
      calign: sources.size / Math.max(whole, 1), aligned_concepts: sources.size, concepts: whole,
      considered_concepts: considered, matched_targets: hubs.size, largest_hub: largest,
      hub_share: sources.size ? largest / sources.size : NaN,
      mutual_concepts: mutual.size, mutual_calign: mutual.size / Math.max(whole, 1),
    };
  }

  /** Units of each language in a concept of mixed text. */
  function languages(counts, layer, concept, unit) {
    const at = (layer * counts.k + concept) * counts.languages.length;
    return counts.languages.map((_, i) => counts[unit][at + i]);
  }

  /** Concepts of mixed text that overlap, as booleans (engine.colap.overlapping). */
  function overlapping(counts, layer, rules) {
    const wanted = rules.min_languages === "all" ? counts.languages.length : rules.min_languages;
    return Array.from({ length: counts.k }, (_, concept) => {
      const of = languages(counts, layer, concept, rules.overlap_unit);
      const size = of.reduce((sum, count) => sum + count, 0);
      const enough = of.filter((count) => passes(rules.comparison, count, rules.theta_overlap, size)).length;
      return size > 0 && enough >= wanted;
    });
  }

  /** COLAP of a layer with its parts (engine.colap.score). */
  function colap(counts, layer, rules) {
    let concepts = 0;
    for (let concept = 0; concept < counts.k; concept++) {
      concepts += languages(counts, layer, concept, rules.overlap_unit).some((count) => count > 0);
    }
    const found = overlapping(counts, layer, rules).filter(Boolean).length;
    return { colap: found / Math.max(concepts, 1), overlapping_concepts: found, concepts };
  }

  return { passes, judge, aligned, calign, languages, overlapping, colap };
})();
