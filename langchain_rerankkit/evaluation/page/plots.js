// Drawing the figures, by Plotly, and choosing a question in one of them.

const FIGURES = { pareto: paretoFigure, bars: barsFigure, scatter: scatterFigure };
const CONFIG = {
  displaylogo: false,
  modeBarButtons: [["toImage"]],
  toImageButtonOptions: { filename: "plot", scale: 2 },
  doubleClick: false,
};

function layoutOf(figure, width, colours) {
  const axis = {
    gridcolor: colours.line,
    zeroline: false,
    fixedrange: true,
    linecolor: colours.line,
    ticks: "outside",
    tickcolor: colours.line,
  };
  return {
    margin: MARGIN,
    ...figure.layout,
    width,
    height: figure.height,
    dragmode: false,
    showlegend: false,
    hovermode: "closest",
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    font: { family: "system-ui, sans-serif", size: 12, color: colours.ink },
    hoverlabel: { bgcolor: colours.raised, bordercolor: colours.line, font: { color: colours.ink }, align: "left" },
    modebar: { bgcolor: "rgba(0,0,0,0)", color: colours.muted, activecolor: colours.ink },
    xaxis: { ...axis, ...figure.layout.xaxis },
    yaxis: { ...axis, ...figure.layout.yaxis },
  };
}

let paperWidth = null; // in pixels, while the page is printed

/** Draw a plot again: for another choice, width or colours. */
async function draw(id) {
  const host = byId(id),
    plot = host.querySelector(".plot");
  const width = paperWidth ?? host.clientWidth,
    colours = palette();
  const figure = await FIGURES[id](width, colours);
  host.querySelector(".sentence").textContent = figure.empty || figure.sentence.filter(Boolean).join(" ");
  host.querySelector("details").hidden = plot.hidden = Boolean(figure.empty);
  if (figure.empty) return;
  host
    .querySelector("details")
    .replaceChildren(
      element("summary", {}, "As a table"),
      element("div", { class: "scroll" }, tableOf(...figure.table)),
    );
  await window.Plotly.react(plot, figure.data, layoutOf(figure, width, colours), CONFIG);
  plot.setAttribute("aria-label", `${host.querySelector("h3").textContent}. ${figure.sentence[1]}`);
}

const drawAll = () => Promise.all(Object.keys(FIGURES).map(draw));

// --- choosing a question ---------------------------------------------------------------------------------------------

function pickBubble(at) {
  const { questions } = bubbles[at];
  pickQuestions(questions);
  byId("explorer").scrollIntoView();
  byId("list").focus({ preventScroll: true });
}

/** Arrow keys go from mark to mark; what it is, is said and shown as the pointer would show it. */
function stepThrough(plot, status) {
  let at = -1;
  plot.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (event.key === "Enter" && bubbles[at]) pickBubble(at);
    if (!step || !bubbles.length) return;
    event.preventDefault();
    at = Math.max(0, Math.min(bubbles.length - 1, at + step));
    const { x, y, questions } = bubbles[at];
    window.Plotly.Fx.hover(plot, [{ curveNumber: 0, pointNumber: at }]);
    status.textContent = `${at + 1} of ${bubbles.length}: ${count(questions.length, "question")}, ${decimal(x)} to ${decimal(y)}`;
  });
}

// --- start -----------------------------------------------------------------------------------------------------------

/** The library is several megabytes: it is unpacked when all else stands. */
async function startPlots() {
  const script = element("script");
  script.textContent = await unpack("plotly");
  document.head.append(script);
  for (const id of Object.keys(FIGURES)) {
    byId(id).append(
      element("div", { class: "plot", role: "group" }),
      element("figcaption", { class: "sentence muted" }),
      element("details"),
    );
  }
  await drawAll();
  const plot = byId("scatter").querySelector(".plot"),
    status = element("p", { class: "hidden", role: "status" });
  plot.after(status);
  if (others.length) {
    plot.tabIndex = 0;
    plot.setAttribute("role", "application");
    plot.on("plotly_click", ({ points }) => pickBubble(points[0].customdata));
    stepThrough(plot, status);
  }
  byId("plots-state").remove();
  let last = byId("plots").clientWidth;
  new ResizeObserver(() => {
    if (byId("plots").clientWidth !== last) drawAll();
    last = byId("plots").clientWidth;
  }).observe(byId("plots"));
  listeners.push((change) => ("metric" in change || "system" in change || "theme" in change) && drawAll());
}
