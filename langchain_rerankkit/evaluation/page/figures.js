// The figures: each is a function that returns traces and layout for Plotly, sentences that say the same, and a table.

/** Foreign text for Plotly, which reads tags, entities and formulas in labels. */
const label = (text, most = 60) => {
  const line = visible(text).replace(/\s+/g, " ").trim();
  const short = line.length > most ? `${line.slice(0, most - 1)}…` : line;
  return short.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/\$/g, "&#36;");
};
/** The same over several lines. */
function wrapped(text, width = 48, lines = 4) {
  const words = visible(text).split(/\s+/);
  const out = [""];
  for (const word of words) {
    if (out.at(-1) && out.at(-1).length + word.length >= width) out.push("");
    out.push(`${out.pop()} ${word}`.trim());
  }
  return (
    out
      .slice(0, lines)
      .map((line) => label(line, width))
      .join("<br>") + (out.length > lines ? " …" : "")
  );
}

/** Colours of the page as it is now, dark or light. */
function palette() {
  const probe = document.body.appendChild(element("span"));
  const names = ["ink", "muted", "line", "paper", "raised", "accent", "up", "down"];
  const colours = Object.fromEntries(
    names.map((name) => {
      probe.style.color = `var(--${name})`;
      return [name, getComputedStyle(probe).color];
    }),
  );
  probe.remove();
  return colours;
}

const names = () => head.systems.map((system) => system.name);
const emphasis = (place, colours) => (place === state.system ? colours.accent : colours.muted);
const MARGIN = { l: 74, r: 18, t: 16, b: 52 };
const nameLength = (width) => (width < 420 ? 18 : 34);

// --- quality and latency ----------------------------------------------------------------------------------------------

/** Milliseconds for a question: of all that was timed. */
const milliseconds = (system) =>
  system.retrieval === null && system.reranking === null ? null : (system.retrieval ?? 0) + (system.reranking ?? 0);

function paretoFigure(width, colours) {
  const metric = head.metrics[state.metric];
  const points = head.systems
    .map((system, place) => ({ place, name: system.name, x: milliseconds(system), y: system.scores[state.metric] }))
    .filter((point) => point.x !== null && point.y !== null);
  const front = paretoFront(points);
  const untimed = head.systems.filter((system) => milliseconds(system) === null).map((system) => system.name);
  const partly = head.systems.filter(
    (system) => system.isReranker && system.retrieval === null && system.reranking !== null,
  ).length;
  const xs = points.map((point) => point.x);
  const log = Math.min(...xs) > 0 && Math.max(...xs) > 10 * Math.min(...xs);
  const level = head.systems[baseline].scores[state.metric];
  const scale = log ? Math.log10 : (x) => x;
  const range = padded(xs.map(scale), log ? 0.35 : 0.25, log ? -Infinity : 0);
  const heights = [...points.map((point) => point.y), level ?? points[0]?.y ?? 0];
  const ys = padded(heights, 0.2, Math.min(...heights) < 0 ? -Infinity : 0);
  const box = { width: width - MARGIN.l - MARGIN.r, height: 340 - MARGIN.t - MARGIN.b };
  const at = points.map((point) => [
    ((scale(point.x) - range[0]) / (range[1] - range[0])) * box.width,
    (1 - (point.y - ys[0]) / (ys[1] - ys[0])) * box.height,
  ]);
  return {
    height: 340,
    data: [
      {
        x: front.map((point) => point.x),
        y: front.map((point) => point.y),
        mode: "lines",
        line: { shape: "hv", color: colours.line, width: 3 },
        hoverinfo: "skip",
      },
      {
        x: xs,
        y: points.map((point) => point.y),
        mode: "markers+text",
        text: points.map((point) => label(point.name, nameLength(width))),
        textposition: places(
          points.map((point) => label(point.name, nameLength(width))),
          at,
          front.map((point) => at[points.indexOf(point)]),
          box,
        ),
        customdata: points.map((point) => label(point.name)),
        hovertemplate: `%{customdata}<br>${label(metric)} %{y:.3f}<br>%{x:.1f} ms<extra></extra>`,
        textfont: { color: colours.ink, size: 12 },
        cliponaxis: false,
        marker: {
          size: 11,
          color: points.map((point) => (front.includes(point) ? emphasis(point.place, colours) : colours.paper)),
          line: { width: 2, color: points.map((point) => emphasis(point.place, colours)) },
        },
      },
    ],
    layout: {
      xaxis: {
        title: { text: partly ? "median ms for a question, as far as timed" : "median ms for a question" },
        type: log ? "log" : "linear",
        range,
        ...(log && logTicks(range)),
      },
      yaxis: { title: { text: label(metric), standoff: 10 }, range: ys },
      shapes:
        level === null
          ? []
          : [
              {
                type: "line",
                xref: "paper",
                x0: 0,
                x1: 1,
                y0: level,
                y1: level,
                line: { dash: "dot", width: 1, color: colours.muted },
              },
            ],
    },
    empty: points.length === 0 && "No system was timed.",
    sentence: [
      "Higher is better, further left is faster.",
      front.length
        ? `On the front, marked by the line and filled points: ${front.map((point) => visible(point.name)).join("; ")}.`
        : "",
      "The dotted line is the baseline's score.",
      untimed.length ? `Without times, and so not shown: ${untimed.map(visible).join("; ")}.` : "",
      partly ? "Some first stages are ready-made runs: only the reranking was timed." : "",
    ],
    table: [
      "Quality and latency",
      ["system", metric, "retrieval ms", "reranking ms", "on the front"],
      head.systems.map((system, place) => [
        foreign(system.name),
        decimal(system.scores[state.metric]),
        system.retrieval?.toFixed(1) ?? "–",
        system.reranking?.toFixed(1) ?? "–",
        front.some((point) => point.place === place) ? "yes" : "no",
      ]),
    ],
  };
}

/** Points that no other beats in both, fastest first. */
function paretoFront(points) {
  let best = -Infinity;
  return [...points]
    .sort((a, b) => a.x - b.x || b.y - a.y)
    .filter((point) => point.y > best && ((best = point.y), true));
}

function padded(values, share, floor = -Infinity) {
  if (!values.length) return [0, 1];
  const low = Math.min(...values),
    high = Math.max(...values);
  const room = Math.max((high - low) * share, Math.abs(high) * 0.05, 0.01);
  return [Math.max(low - room, floor), high + room];
}

/** 1, 2, 5 of each power of ten, or the powers alone where there are many. */
function logTicks([low, high]) {
  const powers = Array.from({ length: Math.ceil(high) - Math.floor(low) + 1 }, (_, at) => 10 ** (Math.floor(low) + at));
  const values = powers.flatMap((power) => (high - low > 2.5 ? [power] : [power, 2 * power, 5 * power]));
  return {
    tickvals: values,
    ticktext: values.map((value) => value.toLocaleString("en", { maximumFractionDigits: 3 })),
  };
}

/** A side of each point where its label covers no point, no other label and best not the front, where there is one. */
function places(labels, points, front, box) {
  const pen = document.createElement("canvas").getContext("2d");
  pen.font = "12px system-ui, sans-serif";
  const sides = {
    "top center": [-0.5, -1.6],
    "bottom center": [-0.5, 0.6],
    "middle right": [0, -0.5],
    "middle left": [-1, -0.5],
    "top right": [0, -1.4],
    "top left": [-1, -1.4],
    "bottom right": [0, 0.4],
    "bottom left": [-1, 0.4],
  };
  const taken = points.map(([x, y]) => [x - 8, y - 8, x + 8, y + 8]);
  const line = front.slice(1).flatMap(([x, y], at) => [
    [front[at][0], front[at][1] - 2, x, front[at][1] + 2],
    [x - 2, y, x + 2, front[at][1]],
  ]);
  const overlap = (a, b) => a[0] < b[2] && b[0] < a[2] && a[1] < b[3] && b[1] < a[3];
  return labels.map((text, at) => {
    const width = pen.measureText(text).width + 4,
      [x, y] = points[at];
    const boxes = Object.entries(sides).map(([side, [dx, dy]]) => {
      const left = x + dx * width + (dx === 0 ? 9 : dx === -1 ? -9 : 0),
        top = y + dy * 15;
      return [side, [left, top, left + width, top + 15]];
    });
    const free = ([, area]) =>
      area[0] > -4 &&
      area[2] < box.width + 16 &&
      area[1] > -14 &&
      area[3] < box.height &&
      !taken.some((other, which) => which !== at && overlap(area, other));
    const clear = (entry) => free(entry) && !line.some((other) => overlap(entry[1], other));
    const [side, area] = boxes.find(clear) ?? boxes.find(free) ?? boxes[0];
    taken.push(area);
    return side;
  });
}

// --- scores and their intervals ---------------------------------------------------------------------------------------

function barsFigure(width, colours) {
  const metric = head.metrics[state.metric];
  const of = (key) => head.systems.map((system) => system[key][state.metric]);
  const scores = of("scores"),
    ends = of("intervals"),
    ceilings = of("ceiling");
  const at = scores.map((_, place) => place);
  const distance = (place, end) => (ends[place][end] === null ? 0 : Math.abs(ends[place][end] - scores[place]));
  return {
    height: 76 + 34 * scores.length,
    data: [
      {
        type: "bar",
        orientation: "h",
        x: scores,
        y: at,
        width: 0.62,
        customdata: at.map((place) => [
          label(head.systems[place].name),
          decimal(ends[place][0]),
          decimal(ends[place][1]),
        ]),
        hovertemplate: "%{customdata[0]}<br>%{x:.3f}, interval %{customdata[1]} to %{customdata[2]}<extra></extra>",
        marker: { color: at.map((place) => emphasis(place, colours)) },
        error_x: {
          type: "data",
          symmetric: false,
          array: at.map((p) => distance(p, 1)),
          arrayminus: at.map((p) => distance(p, 0)),
          color: colours.ink,
          thickness: 1.5,
          width: 5,
        },
      },
      {
        mode: "markers",
        x: ceilings,
        y: at,
        marker: { symbol: "line-ns-open", size: 20, line: { width: 2 }, color: colours.down },
        hovertemplate: "best order of the candidates %{x:.3f}<extra></extra>",
      },
    ],
    layout: {
      margin: { ...MARGIN, l: 10 },
      xaxis: { title: { text: label(metric) }, rangemode: "tozero" },
      yaxis: {
        automargin: true,
        autorange: "reversed",
        tickvals: at,
        ticktext: names().map((name, place) => `${label(name, nameLength(width))}  <b>${decimal(scores[place])}</b> `),
        showgrid: false,
        ticklen: 0,
      },
    },
    sentence: [
      "Means over questions; the whiskers are 95 % bootstrap intervals.",
      ceilings.some((value) => value !== null)
        ? "The upright stroke is the ceiling: the best possible order of the same candidates."
        : "",
      "Whiskers of two systems may overlap although one is better question by question: the comparison above is paired.",
    ],
    table: [
      metric,
      ["system", "mean", "from", "to", "ceiling"],
      at.map((p) => [
        foreign(head.systems[p].name),
        decimal(scores[p]),
        decimal(ends[p][0]),
        decimal(ends[p][1]),
        decimal(ceilings[p]),
      ]),
    ],
  };
}

// --- question by question ---------------------------------------------------------------------------------------------

const MOST_BUBBLES = 800; // SVG stays light
let bubbles = []; // those drawn now, largest gain first

/** Questions with the same two scores, as one bubble; scores are rounded more while there would be too many. */
function bubblesOf(before, after) {
  for (let steps = 1000; ; steps /= 2) {
    const groups = new Map();
    before.forEach((x, question) => {
      const y = after[question];
      if (x === null || y === null) return;
      // A gain or loss stays one, however coarse the steps.
      const key = [Math.round(x * steps), Math.round(y * steps), Math.sign(Math.round((y - x) * 1e9))].join();
      if (!groups.has(key)) groups.set(key, { x: 0, y: 0, questions: [] });
      const group = groups.get(key);
      group.x += x;
      group.y += y;
      group.questions.push(question);
    });
    if (groups.size > MOST_BUBBLES && steps > 8) continue;
    const mean = ({ x, y, questions }) => ({ x: x / questions.length, y: y / questions.length, questions });
    return [...groups.values()].map(mean).sort((a, b) => b.y - b.x - (a.y - a.x));
  }
}

async function scatterFigure(width, colours) {
  if (!others.length) return { empty: "There is one system, so nothing to hold it against." };
  const [scores, { texts }] = [await chunk(`scores-${state.metric}`), await chunk("questions")];
  const changes = await changesOf(state.metric, state.system);
  const metric = head.metrics[state.metric],
    ours = head.systems[state.system].name,
    theirs = head.systems[baseline].name;
  bubbles = bubblesOf(scores[baseline], scores[state.system]);
  const sides = bubbles.map(({ x, y }) => direction(Math.round((y - x) * 1e9)));
  const [up, same, down] = [1, 0, -1].map((sign) => changes.filter((change) => Math.sign(change) === sign).length);
  const top = Math.max(1, ...bubbles.flatMap(({ x, y }) => [x, y]));
  const axis = { range: [-0.05 * top, 1.05 * top] };
  return {
    height: Math.max(320, Math.min(560, width)),
    data: [
      {
        mode: "markers",
        x: bubbles.map((b) => b.x),
        y: bubbles.map((b) => b.y),
        customdata: bubbles.map((_, at) => at),
        cliponaxis: false,
        text: bubbles.map((b) =>
          b.questions.length === 1 ? wrapped(texts[b.questions[0]]) : count(b.questions.length, "question"),
        ),
        hovertemplate: "%{text}<br>%{x:.3f} → %{y:.3f}<extra></extra>",
        marker: {
          size: bubbles.map((b) => Math.min(46, 6 + 3 * Math.sqrt(b.questions.length))),
          opacity: 0.72,
          line: { width: 1, color: colours.paper },
          color: sides.map((side) => ({ up: colours.up, same: colours.muted, down: colours.down })[side]),
          symbol: sides.map((side) => ({ up: "triangle-up", same: "circle", down: "triangle-down" })[side]),
        },
      },
    ],
    layout: {
      xaxis: { title: { text: label(theirs, nameLength(width)) }, ...axis },
      yaxis: { title: { text: label(ours, nameLength(width)), standoff: 10 }, ...axis },
      shapes: [
        { type: "line", x0: 0, y0: 0, x1: top, y1: top, layer: "below", line: { color: colours.line, width: 2 } },
      ],
    },
    sentence: [
      `Each mark holds the questions with these two scores by ${metric}; larger marks hold more.`,
      `Above the line ${visible(ours)} is better: ${count(up, "question")}; below it worse: ${count(down, "question")}; on it the same: ${count(same, "question")}.`,
      "Click a mark, or step through them with the arrow keys and press Enter, to see its questions below.",
    ],
    table: [
      `${metric} of ${visible(ours)} against ${visible(theirs)}`,
      ["questions", "number", "share"],
      [
        ["better ▲", up],
        ["the same", same],
        ["worse ▼", down],
      ].map(([name, number]) => [
        name,
        String(number),
        `${((100 * number) / Math.max(1, up + same + down)).toFixed(1)} %`,
      ]),
    ],
  };
}
