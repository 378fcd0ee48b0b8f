"use strict";
/** Figures: what Vega-Lite is asked to draw, in the colours of the page, with a button for each file format. */
const Figures = (() => {
  const { h, button, save } = Page;
  const dark = matchMedia("(prefers-color-scheme: dark)");
  /** A colour of the page, as explorer.css has it for light and dark. */
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
  const colours = () => [0, 1, 2, 3, 4, 5].map((i) => colour(`language-${i}`));
  const SHAPES = ["circle", "square", "triangle-up", "diamond", "cross", "triangle-down", "triangle-right", "triangle-left"];
  /** Line of each state of a checkpoint, as in the paper's Figure 2. */
  const DASHES = { "base": [2, 2], "fine-tuned": [1, 0], "zero-shot": [6, 3], "untrained": [6, 2, 1, 2] };

  function config(width) {
    const ink = colour("ink");
    const faint = colour("grid");
    const font = getComputedStyle(document.body).fontFamily;
    return {
      background: colour("paper"), font,
      axis: { labelColor: ink, titleColor: ink, gridColor: faint, domainColor: ink, tickColor: ink },
      legend: {
        labelColor: ink, titleColor: ink, labelLimit: 320, symbolStrokeColor: ink, symbolOpacity: 1, orient: "bottom",
        columns: Math.max(1, Math.min(4, Math.floor(width / 150))), layout: { bottom: { direction: "vertical" } },
      },
      header: { labelColor: ink, titleColor: ink }, title: { color: ink }, text: { color: ink },
      view: { stroke: null }, range: { category: colours() },
    };
  }

  /** Colours of some names: of more than the palette has, the first come again. */
  const scale = (names) => ({ domain: names, range: names.map((_, i) => colours()[i % colours().length]) });

  /** Shapes of some names, so that colours need not be told apart, or come again. */
  const shapes = (names) => ({ domain: names, range: names.map((_, i) => SHAPES[(i + Math.floor(i / 6)) % SHAPES.length]) });

  const dashes = (states) => ({ domain: states, range: states.map((state) => DASHES[state]) });

  /**
   * A figure with a caption, download buttons, and a description for those who do not see it, both as Page shows
   * text. `onselect` gets the datum of a mark that is clicked.
   */
  async function figure(caption, file, description, spec, onselect) {
    const place = h("div");
    const made = h("figure", {}, h("div", { class: "plot" }, place), h("figcaption", {}, caption));
    const whole = {
      $schema: "https://vega.github.io/schema/vega-lite/v6.json", description,
      autosize: { type: "pad", resize: true }, ...spec,
    };
    const { view } = await vegaEmbed(place, whole, {
      mode: "vega-lite", actions: false, renderer: "svg", config: config(innerWidth),
      tooltip: { theme: dark.matches ? "dark" : "light" },
    });
    if (onselect) view.addEventListener("click", (_, item) => item && item.datum && onselect(item.datum));
    const png = async () => {
      const canvas = await view.toCanvas(2);
      canvas.toBlob((blob) => save(`${file}.png`, "image/png", blob));
    };
    made.append(
      button("SVG", async () => save(`${file}.svg`, "image/svg+xml", await view.toSVG())), " ", button("PNG", png));
    return made;
  }

  return { figure, scale, shapes, dashes, colours, dark };
})();
