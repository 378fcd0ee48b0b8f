"use strict";
/** The shell: views, the link of what is shown, and drawing again when it changes. */
(() => {
  const { h } = Page;
  const VIEWS = {
    curves: ["Curves", Curves], concepts: ["Concepts", Concepts], compare: ["Compare", Compare], follow: ["Follow", Follow],
    map: ["Map", ConceptMap],
  };
  const main = document.getElementById("view");
  const place = h("div", { class: "results" });
  let drawing = 0;

  function beginning(study) {
    const checkpoint = (study.checkpoints.findLast((one) => one.tuned_on.length) ?? study.checkpoints.at(-1)).name;
    const base = study.checkpoints.find((one) => !one.tuned_on.length && !one.untrained) ?? study.checkpoints[0];
    const [source, target] = study.directions[0];
    const stack = study.stacks[0];
    const layer = study.layers[checkpoint][stack].at(-1);
    const some = (measure, most) => [...new Set(study.curves[measure].map((curve) => curve.group))].slice(0, most).join(",");
    return {
      view: "curves", checkpoint, stack, layer, selection: study.concepts_of[`${source}→${target}`], target,
      other_checkpoint: checkpoint, other_stack: stack, other_layer: layer,
      other_selection: study.concepts_of[`${target}→${source}`], beside: base.name === checkpoint ? "" : base.name,
      checkpoints: study.checkpoints.slice(0, 4).map((one) => one.name).join(","), groups: some("calign", 4),
      sets: some("colap", 4), search: "", sort: "size", language: "", word_language: "", colour: "languages", ...study.metrics,
    };
  }

  /** What the address names and the study lacks. */
  function unknown(study, state) {
    const names = study.checkpoints.map((one) => one.name);
    const known = {
      view: Object.keys(VIEWS), checkpoint: names, other_checkpoint: names, beside: ["", ...names],
      stack: state.view === "curves" ? study.alignment_stacks : study.stacks, other_stack: study.stacks,
      selection: Object.keys(study.selections), other_selection: Object.keys(study.selections),
      layer: study.layers[state.checkpoint]?.[state.stack.split("-")[0]], other_layer: study.layers[state.other_checkpoint]?.[state.other_stack],
    };
    return Object.entries(known).find(([name, values]) => values && !values.includes(state[name]));
  }

  async function results(state) {
    const mine = ++drawing;
    place.setAttribute("aria-busy", "true");
    let made;
    try {
      const width = Math.max(260, main.clientWidth - 8);
      made = await VIEWS[state.view][1].results(state, width);
    } catch (error) {
      console.error(error);
      made = [h("p", { role: "alert" }, error.message)];
    }
    if (mine !== drawing) return;
    place.replaceChildren(...made.flat(Infinity).filter(Boolean));
    place.removeAttribute("aria-busy");
    document.documentElement.dataset.drawn = String(mine);
  }

  function draw(study) {
    const state = State.read();
    const nav = Object.entries(VIEWS).map(([view, [name]]) => h("a", {
      href: State.href({ view, ...(view === "curves" ? {} : { stack: state.stack.split("-")[0] }) }),
      "aria-current": view === state.view ? "page" : null,
    }, name));
    document.getElementById("views").replaceChildren(...nav);
    const wrong = unknown(study, state);
    if (wrong) {
      const [name, values] = wrong;
      main.replaceChildren(h("p", { role: "alert" }, `The link names ${name} ${Page.visible(state[name])}; this study has `
        + `${values.filter(Boolean).join(", ")}. `, h("a", { href: "#" }, "Show its curves")));
      return;
    }
    const focused = document.activeElement;
    const again = focused && focused.name ? `[name="${CSS.escape(focused.name)}"]` : null;
    const controls = h("form", { class: "controls", "aria-label": "What is shown", onsubmit: (e) => e.preventDefault() },
      VIEWS[state.view][1].controls(state));
    main.replaceChildren(controls, place);
    if (again) controls.querySelector(again)?.focus();
    results(state);
  }

  async function start() {
    let study;
    try {
      study = await Data.load("study");
    } catch (error) {
      main.replaceChildren(h("p", { role: "alert" }, error.message));
      return;
    }
    document.title = `${study.name} – Colign explorer`;
    document.getElementById("study").textContent = study.name;
    for (const part of [Clusters, Curves, Concepts, Compare, Follow]) part.begin(study);
    State.begin(beginning(study));
    addEventListener("hashchange", () => draw(study));
    addEventListener("adjusted", () => results(State.read()));
    Figures.dark.addEventListener("change", () => draw(study));
    let width = main.clientWidth;
    addEventListener("resize", () => {
      if (main.clientWidth !== width) results(State.read());
      width = main.clientWidth;
    });
    const copy = document.getElementById("copy");
    copy.addEventListener("click", async () => {
      try {
        await navigator.clipboard.writeText(location.href);
        copy.textContent = "Copied";
      } catch {
        prompt("The link of this view", location.href); // a page from disk may not be let at the clipboard
      }
      setTimeout(() => { copy.textContent = "Copy link"; }, 2000);
    });
    const skip = document.getElementById("skip");
    skip.addEventListener("click", (event) => {
      event.preventDefault(); // the part of the address behind # is the state
      main.focus();
    });
    draw(study);
  }

  globalThis.colign = { receive: Data.receive, scores: Scores };
  start();
})();
