"use strict";
/** Figures: what Vega-Lite is asked to draw, in the colours of the page, with a button for each file format. */
const Figures = (() => {
  const { h, button, save, visible } = Page;
  const dark = matchMedia("(prefers-color-scheme: dark)");
  /** Okabe and Ito's colours, without the yellow that white swallows; black is what the page's text is. */
  const COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"];
  const LIGHTER = ["#4DA3DB", "#F28A3C", "#2FC79A", "#E3A3C8", "#F0BC4A", "#8CCBF0"];
  const colours = () => (dark.matches ? LIGHTER : COLOURS);
  /** Line of each state of a checkpoint, as in the paper's Figure 2. */
  const DASHES = { "base": [2, 2], "fine-tuned": [1, 0], "zero-shot": [6, 3], "untrained": [6, 2, 1, 2] };

  function config(width) {
    const ink = dark.matches ? "#e6e6e6" : "#1b1b1b";
    const faint = dark.matches ? "#444" : "#ddd";
    const font = getComputedStyle(document.body).fontFamily;
    return {
      background: dark.matches ? "#161616" : "#ffffff", font,
      axis: { labelColor: ink, titleColor: ink, gridColor: faint, domainColor: ink, tickColor: ink },
      legend: {
        labelColor: ink, titleColor: ink, labelLimit: 320, symbolStrokeColor: ink, symbolOpacity: 1, orient: "bottom",
        columns: Math.max(1, Math.min(4, Math.floor(width / 150))), layout: { bottom: { direction: "vertical" } },
      },
      header: { labelColor: ink, titleColor: ink }, title: { color: ink }, text: { color: ink },
      view: { stroke: null }, range: { category: colours() },
    };
  }

  /** Colours of some names: the first few of the palette, then again with the next ones. */
  const scale = (names) => ({ domain: names, range: names.map((_, i) => colours()[i % colours().length]) });

  const dashes = (states) => ({ domain: states, range: states.map((state) => DASHES[state]) });

  /**
   * A figure with a caption, download buttons, and a description for those who do not see it. `onselect` gets the
   * datum of a mark that is clicked.
   */
  async function figure(caption, file, description, spec, onselect) {
    const place = h("div");
    const made = h("figure", {}, h("div", { class: "plot" }, place), h("figcaption", {}, caption));
    const whole = {
      $schema: "https://vega.github.io/schema/vega-lite/v6.json", description: visible(description),
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

  return { figure, scale, dashes, colours, dark };
})();
