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
  /** What changed, for those who hear the page: it stays where it is, so that it is read out. */
  const said = h("p", { class: "heard", role: "status" });
  let study = null;
  let drawing = 0;
  let waiting = null;
  let opened = null;

  function beginning() {
    const checkpoint = (study.checkpoints.findLast((one) => one.tuned_on.length) ?? study.checkpoints.at(-1)).name;
    const base = study.checkpoints.find((one) => !one.tuned_on.length && !one.untrained) ?? study.checkpoints[0];
    const [source, target] = study.directions[0];
    const stack = study.stacks[0];
    const some = (measure, most) => [...new Set(study.curves[measure].map((curve) => curve.group))].slice(0, most).join(",");
    return {
      view: "curves", checkpoint, stack, selection: study.concepts_of[`${source}→${target}`], target,
      other_checkpoint: checkpoint, other_stack: stack,
      other_selection: study.concepts_of[`${target}→${source}`], beside: base.name === checkpoint ? "" : base.name,
      checkpoints: study.checkpoints.slice(0, 4).map((one) => one.name).join(","), groups: some("calign", 4),
      sets: some("colap", 4), search: "", sort: "size", language: "", word_language: "", colour: "languages", ...study.metrics,
    };
  }

  const layersOf = (checkpoint, stack) => study.layers[checkpoint]?.[stack.split("-")[0]] ?? [];

  /** The state with layers, where the address names none: the last. */
  function current() {
    const state = State.read();
    return {
      ...state, layer: state.layer ?? layersOf(state.checkpoint, state.stack).at(-1),
      other_layer: state.other_layer ?? layersOf(state.other_checkpoint, state.other_stack).at(-1),
    };
  }

  /** What the address names and the study lacks, with what it has. */
  function unknown(state) {
    const names = study.checkpoints.map((one) => one.name);
    const view = { view: Object.keys(VIEWS) };
    const shown = {
      stack: study.stacks, checkpoint: names, selection: Object.keys(study.selections),
      layer: layersOf(state.checkpoint, state.stack), beside: ["", ...names],
    };
    const second = {
      other_stack: study.stacks, other_checkpoint: names, other_selection: Object.keys(study.selections),
      other_layer: layersOf(state.other_checkpoint, state.other_stack),
    };
    const known = {
      ...view, ...(state.view === "curves" ? { stack: study.alignment_stacks } : shown),
      ...(state.view === "compare" ? second : {}),
    };
    return Object.entries(known).find(([name, values]) => !values.includes(state[name])) ?? Curves.wrong(state);
  }

  /** Draw what is shown anew, one drawing at a time: of changes that come meanwhile, the last. */
  async function results() {
    waiting = ++drawing;
    if (place.getAttribute("aria-busy")) return;
    place.setAttribute("aria-busy", "true");
    while (waiting !== null) {
      const mine = waiting;
      const state = current();
      let made;
      try {
        made = await VIEWS[state.view][1].results(state, Math.max(260, main.clientWidth - 8));
      } catch (error) {
        console.error(error);
        made = [h("p", { role: "alert" }, error.message)];
      }
      if (waiting === mine) waiting = null;
      if (current().view === state.view) keeping(() => place.replaceChildren(...made.flat(Infinity).filter(Boolean)), state);
    }
    place.removeAttribute("aria-busy");
    isDrawn();
  }

  /** Tell whoever looks which address is drawn: its change is told later than it shows. */
  function isDrawn() {
    document.documentElement.dataset.drawn = location.hash || "#";
  }

  /** How an element is found again after drawing: by its name, or by what it is and says. */
  function finder(element) {
    if (!element || !main.contains(element)) return () => null;
    if (element.name) return () => main.querySelector(`[name="${CSS.escape(element.name)}"]`);
    const [tag, text] = [element.tagName, element.textContent];
    return () => [...main.querySelectorAll(tag)].find((one) => one.textContent === text);
  }

  /** Replace a part of the page, and keep what was open in it, and the focus where it was. */
  function keeping(replace, state) {
    const open = new Map([...main.querySelectorAll("details")].map((one) => [one.querySelector("summary").textContent, one.open]));
    const again = finder(document.activeElement);
    replace();
    for (const one of main.querySelectorAll("details")) {
      one.open = open.get(one.querySelector("summary").textContent) ?? one.open;
    }
    const article = main.querySelector("article.concept");
    const which = article && `${state.selection}/${state.layer}/${state.concept}`;
    if (article && opened !== null && which !== opened) article.focus();
    else if (document.activeElement === document.body) again()?.focus();
    opened = which ?? "";
    said.textContent = main.querySelector(".status")?.textContent ?? "";
  }

  function navigation(state) {
    const nav = Object.entries(VIEWS).map(([view, [name]]) => h("a", {
      href: State.href({ view, ...(view === "curves" ? {} : { stack: state.stack.split("-")[0] }) }),
      "aria-current": view === state.view ? "page" : null,
    }, name));
    document.getElementById("views").replaceChildren(...nav);
  }

  function draw() {
    const state = current();
    navigation(state);
    const wrong = unknown(state);
    if (wrong) {
      const [name, values] = wrong;
      main.replaceChildren(h("p", { role: "alert" }, `The link names ${name} ${Page.visible(state[name])}; this study has `
        + `${values.filter((value) => value !== "").join(", ")}. `, h("a", { href: "#" }, "Show its curves")));
      isDrawn();
      return;
    }
    const controls = h("form", { class: "controls", "aria-label": "What is shown", onsubmit: (e) => e.preventDefault() },
      VIEWS[state.view][1].controls(state));
    keeping(() => main.replaceChildren(controls, said, place), state);
    results();
  }

  async function start() {
    try {
      study = await Data.load("study");
    } catch (error) {
      main.replaceChildren(h("p", { role: "alert" }, error.message));
      return;
    }
    document.title = `${study.name} – Colign explorer`;
    document.getElementById("study").textContent = study.name;
    for (const part of [Clusters, Curves, Concepts, Compare, Follow]) part.begin(study);
    State.begin(beginning());
    addEventListener("hashchange", draw);
    addEventListener("adjusted", () => {
      navigation(current());
      results();
    });
    Figures.dark.addEventListener("change", draw);
    let width = main.clientWidth;
    addEventListener("resize", () => {
      if (main.clientWidth !== width) results();
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
    draw();
  }

  globalThis.colign = { receive: Data.receive, scores: Scores };
  start();
})();
