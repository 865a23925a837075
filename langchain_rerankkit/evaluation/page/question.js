// One question: its gold documents, each system's ranking with lines from one to the next, and a document's text.

const ROW = 46; // height of a document in a ranking, in pixels
const HEADING = 44; // of a system's name above it
const RULE = 26; // of a line of text between documents
const BRIDGE = 56; // width between two rankings, which lines cross
const FEW = 10; // places shown at first

/** Every system side by side, and more than the first places. */
const view = { all: false, more: false };

/** Where a system has each document: its first place, as the metrics count. */
function placesOf(rankings, system) {
  const found = new Map();
  rankings.top[system].forEach(
    ([number, score], at) => found.has(number) || found.set(number, { place: at + 1, score }),
  );
  rankings.far[system].forEach(([number, score, place]) => found.set(number, { place, score }));
  return found;
}

async function renderQuestion() {
  const at = state.question,
    article = byId("question");
  if (at === null) {
    article.replaceChildren(
      element("p", { class: "muted" }, "Choose a question to see how each system ranks its documents."),
    );
    return;
  }
  const size = head.perChunk.rankings;
  const rankings = (await chunk(`rankings-${Math.floor(at / size)}`))[at % size];
  const grades = new Map(rankings.grades);
  const found = head.systems.map((_, system) => placesOf(rankings, system));
  const documents = await documentsOf(rankings.documents);
  if (at !== state.question) return; // chosen anew meanwhile
  const one = { at, rankings, grades, found, documents };
  article.replaceChildren(
    element("h3", { id: "question-title", "data-question": at }, foreign(list.texts[at])),
    element("p", { class: "muted" }, "id ", foreign(list.ids[at]), ` · ${head.metrics[state.metric]}: `, changeOf(at)),
    goldOf(one),
    viewOf(one),
    rankingsOf(one),
  );
}

/** Every gold document and where each system has it. */
function goldOf(one) {
  const gold = [...one.grades].filter(([, grade]) => grade > 0).sort((a, b) => b[1] - a[1]);
  if (!gold.length) return element("p", {}, "No gold document: this question does not count, or counts as 0.");
  const systems = columnsShown();
  const rows = gold.map(([number, grade]) => [
    documentButton(one, number),
    `★ ${grade}`,
    ...systems.map((system) =>
      one.at in list.failures[system] ? "failed" : (one.found[system].get(number)?.place ?? "not returned"),
    ),
  ]);
  const table = tableOf(
    "Gold documents, and their places",
    ["document", "grade", ...systems.map((system) => foreign(head.systems[system].name))],
    rows,
  );
  const box = element("div", { class: "scroll" }, table);
  if (rows.length <= 8) return box;
  return element("details", {}, element("summary", {}, `Gold documents: ${rows.length}`), box);
}

const columnsShown = () => (view.all ? [baseline, ...others] : [...new Set([baseline, state.system])]);

/** What is shown of the rankings. */
function viewOf(one) {
  const depth = head.depth,
    buttons = [];
  const toggle = (key, text) => {
    const button = element("button", { type: "button", id: `view-${key}`, "aria-pressed": String(view[key]) }, text);
    button.addEventListener("click", () => {
      view[key] = !view[key];
      renderQuestion().then(() => byId(button.id)?.focus());
    });
    buttons.push(button);
  };
  if (others.length > 1) toggle("all", "all systems");
  if (depth > FEW && Math.max(...one.rankings.length) > FEW) toggle("more", `top ${depth}`);
  return element(
    "p",
    { class: "controls" },
    ...buttons,
    element("span", { class: "muted" }, " ★ gold · lines follow each document · press a document for its text"),
  );
}

/** Rankings side by side with lines between. */
function rankingsOf(one) {
  const systems = columnsShown(),
    limit = view.more ? head.depth : FEW;
  const first = systems.map((system) => new Set(one.rankings.top[system].slice(0, limit).map(([number]) => number)));
  const gold = [...one.grades].filter(([, grade]) => grade > 0).map(([number]) => number);
  const columns = systems.map((system, at) => {
    // Besides its own first documents: gold, and what its neighbours have among theirs.
    const besides = new Set(
      [...gold, ...(first[at - 1] ?? []), ...(first[at + 1] ?? [])].filter((number) => !first[at].has(number)),
    );
    return columnOf(one, system, limit, [...besides]);
  });
  const parts = columns.flatMap((column, at) =>
    at ? [bridgeOf(one, columns[at - 1], column), column.node] : [column.node],
  );
  const grid = element("div", { class: "rankings" }, ...parts);
  for (const [name, value] of Object.entries({ row: ROW, heading: HEADING, rule: RULE, bridge: BRIDGE }))
    grid.style.setProperty(`--${name}`, `${value}px`);
  for (const event of ["pointerover", "focusin"])
    grid.addEventListener(event, ({ target }) => light(grid, target.closest("[data-document]")));
  for (const event of ["pointerleave", "focusout"]) grid.addEventListener(event, () => light(grid, null));
  return element("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Rankings side by side" }, grid);
}

/** A document is made out in every column at once. */
function light(grid, target) {
  for (const node of grid.querySelectorAll(".lit")) node.classList.remove("lit");
  if (target)
    for (const node of grid.querySelectorAll(`[data-document="${target.dataset.document}"]`)) node.classList.add("lit");
}

/** A ranking, and the height at which each of its documents stands first. */
function columnOf(one, system, limit, besides) {
  const heights = new Map(),
    found = one.found[system];
  let y = HEADING;
  const rows = (entries) =>
    element(
      "ol",
      {},
      ...entries.map(([number, score, place]) => {
        if (!heights.has(number)) heights.set(number, { y: y + ROW / 2, place: place ?? Infinity });
        y += ROW;
        return element("li", { class: place === null ? "missing" : null }, rowOf(one, system, number, score, place));
      }),
    );
  const rule = (text) => {
    y += RULE;
    return element("p", { class: "rule muted" }, text);
  };
  const node = element("section", { class: "ranking" }, element("h4", {}, foreign(head.systems[system].name)));
  const label = node.firstChild;
  label.id = `ranking-${system}`;
  node.setAttribute("aria-labelledby", label.id);
  const failure = list.failures[system][one.at];
  if (failure !== undefined)
    node.append(element("p", { class: "failure" }, element("b", {}, "failed: "), foreign(failure)));
  else {
    const length = one.rankings.length[system];
    if (length)
      node.append(rows(one.rankings.top[system].slice(0, limit).map(([number, score], at) => [number, score, at + 1])));
    const far = besides
      .filter((number) => found.has(number))
      .map((number) => [number, found.get(number).score, found.get(number).place]);
    if (far.length) node.append(rule(`further down, of ${length}`), rows(far.sort((a, b) => a[2] - b[2])));
    const missing = besides.filter((number) => !found.has(number)).map((number) => [number, null, null]);
    if (missing.length) node.append(rule(length ? "not returned" : "nothing returned"), rows(missing));
  }
  return { node, heights };
}

const SEEN = { "aria-hidden": "true" }; // told in words instead

/** A document in a ranking: a button that shows its text. Without a place it was not returned. */
function rowOf(one, system, number, score, place) {
  const { id, text } = one.documents[number],
    grade = one.grades.get(number);
  const again = place !== null && one.found[system].get(number).place !== place;
  const move = place === null || again ? null : moveOf(one, system, number, place);
  const told = [
    place === null ? "not returned" : `place ${place}`,
    `document ${visible(id)}`,
    grade > 0 && `gold, grade ${grade}`,
    grade <= 0 && "judged not relevant",
    again && "again",
    move?.told,
    score !== null && `score ${score}`,
  ];
  const button = element(
    "button",
    { type: "button", class: `row${grade > 0 ? " gold" : ""}`, "data-document": number },
    element("span", { class: "hidden" }, told.filter(Boolean).join(", ")),
    element("span", { class: "place", ...SEEN }, place === null ? "–" : String(place)),
    element(
      "span",
      { class: "name", ...SEEN },
      grade > 0 && element("span", { class: "star" }, `★ ${grade} `),
      foreign(id),
    ),
    element(
      "span",
      { class: "badges", ...SEEN },
      again && "again",
      move !== null && element("span", { class: move.kind }, move.seen),
    ),
    element("span", { class: "snippet", ...SEEN }, foreign(text ?? "")),
    element("span", { class: "score", ...SEEN }, score === null ? "" : String(Number(score.toPrecision(3)))),
  );
  button.addEventListener("click", () => showDocument(one, number));
  return button;
}

/** How far a document moved from the baseline: as seen, and in words; null where nothing can be said. */
function moveOf(one, system, number, place) {
  if (system === baseline || one.at in list.failures[baseline]) return null;
  const before = one.found[baseline].get(number);
  if (before === undefined) return { kind: "up", seen: "new", told: "not in the baseline" };
  const move = before.place - place,
    kind = direction(move);
  if (move === 0) return { kind, seen: "=", told: "as in the baseline" };
  return { kind, seen: `${arrow(move)} ${Math.abs(move)}`, told: `${kind} ${Math.abs(move)} from the baseline` };
}

/** Lines from each document's place in one ranking to its place in the next. */
function bridgeOf(one, left, right) {
  const space = "http://www.w3.org/2000/svg";
  const svg = document.createElementNS(space, "svg");
  svg.setAttribute("aria-hidden", "true"); // what the lines show, the documents' labels say
  let bottom = 0;
  for (const [number, from] of left.heights) {
    const to = right.heights.get(number);
    if (!to) continue;
    const path = document.createElementNS(space, "path");
    const kind =
      one.grades.get(number) > 0 ? "gold" : from.place === to.place ? "same" : direction(from.place - to.place);
    path.setAttribute("class", Math.max(from.place, to.place) === Infinity ? `${kind} missing` : kind);
    path.setAttribute("d", `M0 ${from.y} C${BRIDGE / 2} ${from.y} ${BRIDGE / 2} ${to.y} ${BRIDGE} ${to.y}`);
    path.dataset.document = number;
    svg.append(path);
    bottom = Math.max(bottom, from.y, to.y);
  }
  svg.setAttribute("width", BRIDGE);
  svg.setAttribute("height", bottom + ROW / 2);
  return svg;
}

// --- one document ----------------------------------------------------------------------------------------------------

function documentButton(one, number) {
  const button = element("button", { type: "button", class: "link" }, foreign(one.documents[number].id));
  button.addEventListener("click", () => showDocument(one, number));
  return button;
}

function showDocument(one, number) {
  const { id, text } = one.documents[number],
    grade = one.grades.get(number),
    reason = one.rankings.grades.find(([judged]) => judged === number)?.[2],
    dialog = byId("document");
  const close = element("button", { type: "button" }, "Close");
  close.addEventListener("click", () => dialog.close());
  const cut = text !== null && [...text].length > head.cut;
  const body =
    text === null
      ? "The report holds no text of this document."
      : visible(cut ? [...text].slice(0, head.cut).join("") : text);
  const places = head.systems.map((system, at) => {
    const found = one.found[at].get(number);
    const far = one.at in list.failures[at] ? "failed" : found ? String(found.place) : "–";
    return [foreign(system.name), far, found?.score == null ? "–" : String(found.score)];
  });
  dialog.replaceChildren(
    element(
      "article",
      {},
      element("h3", { id: "document-title" }, foreign(id)),
      element(
        "p",
        {},
        grade === undefined ? "Not judged." : grade > 0 ? `★ Gold, grade ${grade}.` : "Judged not relevant.",
      ),
      reason === undefined ? null : element("p", { dir: "auto" }, "The judge's reason: ", foreign(reason)),
      element("p", { class: "text", dir: "auto", tabindex: 0 }, body),
      cut ? element("p", { class: "muted" }, `… cut to ${count(head.cut, "character")}.`) : null,
      tableOf("Places and scores", ["system", "place", "score"], places),
      close,
    ),
  );
  dialog.showModal();
  close.focus();
}
