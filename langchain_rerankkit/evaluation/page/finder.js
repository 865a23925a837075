// Finding a question: a list that is searched, filtered and ordered; only what is in sight becomes elements.

const OPTION = 54; // height of a question in the list, in pixels

/** Questions by their place in the dataset: what is known of each, and which are shown now, in which order. */
const list = {
  ids: [],
  texts: [],
  haystack: [], // what a search looks at
  failures: [], // reasons, by system and question
  changes: [], // for the chosen metric and system
  scores: [], // for the chosen metric, by system
  shown: [],
  picked: null, // questions of a mark in the plot
  filter: "all",
};

const FILTERS = {
  all: ["all", () => true],
  helped: ["helped", (at) => list.changes[at] > 0],
  hurt: ["hurt", (at) => list.changes[at] < 0],
  failed: ["failed", (at) => at in list.failures[state.system] || at in list.failures[baseline]],
  picked: ["picked in the plot", (at) => list.picked !== null && list.picked.has(at)],
};

const last = (value) => (Number.isNaN(value) || value === null ? Infinity : value);
const ORDERS = {
  gain: (a, b) => last(-list.changes[a]) - last(-list.changes[b]),
  loss: (a, b) => last(list.changes[a]) - last(list.changes[b]),
  low: (a, b) => last(list.scores[state.system][a]) - last(list.scores[state.system][b]),
  dataset: () => 0,
};

/** Changes and counts for the chosen metric and system. */
async function measure() {
  const { metric, system } = state;
  const [changes, scores] = [await changesOf(metric, system), await chunk(`scores-${metric}`)];
  if (metric !== state.metric || system !== state.system) return; // chosen anew meanwhile
  Object.assign(list, { changes, scores });
  for (const [name, [, test]] of Object.entries(FILTERS)) {
    const number = list.ids.reduce((sum, _, at) => sum + test(at), 0);
    byId(`count-${name}`).textContent = number.toLocaleString("en");
  }
  byId("filter-picked").parentElement.hidden = list.picked === null;
  find();
}

/** The list by search, filter and order. */
function find() {
  const words = byId("search").value.toLowerCase().split(/\s+/).filter(Boolean);
  const test = FILTERS[list.filter][1];
  list.shown = [];
  for (let at = 0; at < list.ids.length; at++) {
    if (test(at) && words.every((word) => list.haystack[at].includes(word))) list.shown.push(at);
  }
  // Infinity less itself is not a number; those two are in order as they are.
  list.shown.sort((a, b) => ORDERS[byId("order").value](a, b) || a - b);
  byId("found").textContent = `${list.shown.length.toLocaleString("en")} of ${count(list.ids.length, "question")}`;
  byId("list").scrollTop = 0;
  byId("rows").style.height = `${list.shown.length * OPTION}px`;
  renderList();
}

/** Only the questions in sight are elements. */
function renderList() {
  const box = byId("list");
  const first = Math.max(0, Math.floor(box.scrollTop / OPTION) - 4);
  const end = Math.min(list.shown.length, Math.ceil((box.scrollTop + box.clientHeight) / OPTION) + 4);
  byId("rows").replaceChildren(...list.shown.slice(first, end).map((at, from) => optionOf(at, first + from)));
  const chosen = byId(`option-${state.question}`);
  if (chosen) box.setAttribute("aria-activedescendant", chosen.id);
  else box.removeAttribute("aria-activedescendant");
}

function optionOf(at, place) {
  const option = element(
    "div",
    {
      id: `option-${at}`,
      class: "option",
      role: "option",
      "data-question": at,
      "aria-selected": String(at === state.question),
      "aria-posinset": place + 1,
      "aria-setsize": list.shown.length,
    },
    element("span", { class: "title" }, foreign(list.texts[at])),
    changeOf(at),
  );
  option.style.top = `${place * OPTION}px`;
  return option;
}

/** What became of a question, in a line. */
function changeOf(at) {
  const change = list.changes[at];
  const [before, after] = [list.scores[baseline][at], list.scores[state.system][at]];
  const failed =
    at in list.failures[state.system] ? " · failed" : at in list.failures[baseline] ? " · baseline failed" : "";
  if (Number.isNaN(change)) return element("span", { class: "change muted" }, `not counted${failed}`);
  if (state.system === baseline) return element("span", { class: "change muted" }, decimal(after) + failed);
  return element(
    "span",
    { class: `change ${direction(change)}` },
    element("b", {}, `${arrow(change)} ${signed(change)}`),
    ` ${decimal(before)} → ${decimal(after)}${failed}`,
  );
}

/** Arrow keys and the like: the place in the list to go to. */
const MOVES = {
  ArrowDown: (place) => place + 1,
  ArrowUp: (place) => place - 1,
  Home: () => 0,
  End: () => list.shown.length - 1,
  PageDown: (place) => place + 8,
  PageUp: (place) => place - 8,
};

function moveInList(event) {
  const move = MOVES[event.key];
  if (!move || !list.shown.length || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  const place = Math.max(0, Math.min(list.shown.length - 1, move(list.shown.indexOf(state.question))));
  choose({ question: list.shown[place] });
}

function scrollToChosen() {
  const place = list.shown.indexOf(state.question),
    box = byId("list");
  if (place < 0) return;
  const top = place * OPTION;
  if (top < box.scrollTop) box.scrollTop = top;
  if (top + OPTION > box.scrollTop + box.clientHeight) box.scrollTop = top + OPTION - box.clientHeight;
}

/** Show the questions of a mark in the plot, and choose the first. */
function pickQuestions(questions) {
  list.picked = new Set(questions);
  list.filter = "picked";
  byId("filter-picked").checked = true;
  byId("search").value = "";
  measure();
  choose({ question: questions[0] });
}

// --- start -----------------------------------------------------------------------------------------------------------

async function startExplorer() {
  const { ids, texts, failures } = await chunk("questions");
  Object.assign(list, { ids, texts, failures, haystack: texts.map((text, at) => `${text}\n${ids[at]}`.toLowerCase()) });
  for (const [name, [text]] of Object.entries(FILTERS)) {
    const input = element("input", {
      type: "radio",
      name: "filter",
      value: name,
      id: `filter-${name}`,
      checked: name === list.filter,
    });
    input.addEventListener("change", () => {
      list.filter = name;
      find();
    });
    byId("filters").append(
      element("label", {}, input, `${text} `, element("span", { id: `count-${name}`, class: "muted" })),
    );
  }
  const box = byId("list");
  byId("search").addEventListener("input", find);
  byId("order").addEventListener("change", find);
  box.addEventListener("keydown", moveInList);
  byId("search").addEventListener("keydown", (event) => {
    if (event.key === "Enter" && list.shown.length) choose({ question: list.shown[0] });
    if (event.key === "ArrowDown" || event.key === "Enter") {
      event.preventDefault();
      box.focus();
    }
  });
  box.addEventListener("click", (event) => {
    const option = event.target.closest(".option");
    if (option) choose({ question: Number(option.dataset.question) });
  });
  let due = 0;
  const renderSoon = () => (due ||= requestAnimationFrame(() => ((due = 0), renderList())));
  box.addEventListener("scroll", renderSoon, { passive: true });
  new ResizeObserver(renderSoon).observe(box);
  listeners.push(async (change) => {
    if ("metric" in change || "system" in change) await measure();
    if ("question" in change) scrollToChosen();
    renderList();
    if (!("theme" in change)) renderQuestion();
  });
  await measure();
}
