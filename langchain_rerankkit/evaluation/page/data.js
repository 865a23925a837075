// What the page holds, and how it gets into elements. Data is hostile: it becomes text nodes and nothing else.

const byId = (id) => document.getElementById(id);
const head = JSON.parse(byId("head").textContent);
const baseline = head.systems.findIndex((system) => system.name === head.baseline);
const others = head.systems.map((_, place) => place).filter((place) => place !== baseline);

/** What is chosen: places in head.metrics and head.systems, and the place of a question. Changed by choose() alone.
    nDCG first where it is there: it tells more questions apart than hits do. */
const state = {
  metric: Math.max(
    0,
    head.metrics.findIndex((name) => /^ndcg/i.test(name)),
  ),
  system: others[0] ?? baseline,
  question: null,
};
const listeners = [];
function choose(change) {
  Object.assign(state, change);
  for (const listener of listeners) listener(change);
}

const chunks = new Map();
/** A chunk of data, unpacked at first use. */
function chunk(name) {
  if (!chunks.has(name)) chunks.set(name, unpack(name).then(JSON.parse));
  return chunks.get(name);
}

const parsed = new Promise((resolve) => addEventListener("DOMContentLoaded", resolve));

/** The text in an element that holds base64 of gzip; the element goes, since it is not needed twice. */
async function unpack(id) {
  if (!byId(id)) await parsed; // most of the data stands behind this script
  const element = byId(id);
  const binary = atob(element.textContent);
  element.remove();
  const bytes = new Uint8Array(binary.length);
  for (let at = 0; at < binary.length; at++) bytes[at] = binary.charCodeAt(at);
  return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).text();
}

/** Id and text of each of these documents. */
async function documentsOf(numbers) {
  const size = head.perChunk.documents;
  const wanted = [...new Set(numbers.map((number) => Math.floor(number / size)))];
  const parts = new Map(await Promise.all(wanted.map(async (at) => [at, await chunk(`documents-${at}`)])));
  return numbers.map((number) => {
    const part = parts.get(Math.floor(number / size));
    return { id: part.ids[number % size], text: part.texts[number % size] };
  });
}

// --- elements ---------------------------------------------------------------------------------------------------------

/** An element with attributes and children; strings become text. Null and false are left out of both. */
function element(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== null && value !== false) node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.filter((child) => child !== null && child !== false));
  return node;
}

/** Control characters as pictures of them. */
const visible = (text) =>
  text.replace(/[\u0000-\u0008\u000b-\u001f\u007f]/g, (c) =>
    String.fromCharCode(c === "\u007f" ? 0x2421 : 0x2400 + c.charCodeAt(0)),
  );

/** Foreign text, kept from turning around what stands beside it. */
const foreign = (text) => element("bdi", { dir: "auto" }, visible(text));

/** A table of plain cells; the first of each row is its heading. */
function tableOf(caption, header, rows) {
  const heading = header.map((name, at) => element("th", { scope: "col", class: at ? null : "text" }, name));
  const body = rows.map(([first, ...rest]) =>
    element(
      "tr",
      {},
      element("th", { scope: "row", class: "text" }, first),
      ...rest.map((cell) => element("td", {}, cell)),
    ),
  );
  return element(
    "table",
    {},
    element("caption", {}, caption),
    element("thead", {}, element("tr", {}, ...heading)),
    element("tbody", {}, ...body),
  );
}

const count = (number, word) => `${number.toLocaleString("en")} ${word}${number === 1 ? "" : "s"}`;
const decimal = (value) => (value === null ? "–" : value.toFixed(3));
const signed = (value) => (value > 0 ? "+" : value < 0 ? "−" : "±") + Math.abs(value).toFixed(3);
const arrow = (value) => (value > 0 ? "▲" : value < 0 ? "▼" : "=");
const direction = (value) => (value > 0 ? "up" : value < 0 ? "down" : "same");

// --- changes ----------------------------------------------------------------------------------------------------------

/** Score less the baseline's; NaN where the question does not count. Rounded, as sums in another order differ a little. */
async function changesOf(metric, system) {
  const scores = await chunk(`scores-${metric}`);
  return Float64Array.from(scores[system], (score, at) => {
    const before = scores[baseline][at];
    return score === null || before === null ? NaN : Math.round((score - before) * 1e9) / 1e9;
  });
}
