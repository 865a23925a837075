// What is chosen: the metric, the system, the question, dark or light; and the address that keeps it.

function startChoice() {
  byId("baseline").textContent = visible(head.baseline);
  const fill = (select, texts, places) =>
    select.append(...places.map((at) => element("option", { value: at }, visible(texts[at]))));
  fill(
    byId("metric"),
    head.metrics,
    head.metrics.map((_, at) => at),
  );
  fill(
    byId("system"),
    head.systems.map((system) => system.name),
    others.length ? others : [baseline],
  );
  for (const name of ["metric", "system"])
    byId(name).addEventListener("change", ({ target }) => choose({ [name]: Number(target.value) }));
  const show = () => {
    byId("metric").value = state.metric;
    byId("system").value = state.system;
  };
  listeners.push(show);
  show();
  byId("choice").addEventListener("submit", (event) => event.preventDefault());
}

// --- the address ------------------------------------------------------------------------------------------------------

function readAddress() {
  const wanted = new URLSearchParams(location.hash.slice(1));
  // An address holds no lone surrogates.
  const place = (texts, name) => texts.findIndex((text) => text.toWellFormed() === wanted.get(name));
  const change = {};
  const metric = place(head.metrics, "metric"),
    question = place(list.ids, "question");
  const system = place(
    head.systems.map(({ name }) => name),
    "system",
  );
  if (metric >= 0 && metric !== state.metric) change.metric = metric;
  if (system >= 0 && system !== state.system && system !== baseline) change.system = system;
  if (question >= 0 && question !== state.question) change.question = question;
  if (Object.keys(change).length) choose(change);
  return change;
}

let later = 0;
function writeAddress() {
  clearTimeout(later); // browsers refuse many changes in a row
  later = setTimeout(() => {
    const parts = { metric: head.metrics[state.metric], system: head.systems[state.system].name };
    if (state.question !== null) parts.question = list.ids[state.question];
    location.replace(`#${new URLSearchParams(parts)}`);
  }, 250);
}

// --- dark and light, paper --------------------------------------------------------------------------------------------

function startTheme() {
  const root = document.documentElement,
    system = matchMedia("(prefers-color-scheme: dark)");
  // Choosing a theme, also for paper, has the plots drawn again.
  byId("theme").addEventListener("click", () => {
    const dark = root.dataset.theme ? root.dataset.theme === "dark" : system.matches;
    root.dataset.theme = dark ? "light" : "dark";
    choose({ theme: root.dataset.theme });
  });
  system.addEventListener("change", () => choose({ theme: null }));
  let before;
  addEventListener("beforeprint", () => {
    before = root.dataset.theme;
    root.dataset.theme = "light";
    paperWidth = 660; // narrower than a sheet of A4 or Letter
    choose({ theme: "light" });
  });
  addEventListener("afterprint", () => {
    if (before) root.dataset.theme = before;
    else delete root.dataset.theme;
    paperWidth = null;
    choose({ theme: before });
  });
}

// --- start ------------------------------------------------------------------------------------------------------------

addEventListener("keydown", (event) => {
  if (event.key !== "/" || event.target.closest("input, select, textarea, dialog")) return;
  event.preventDefault();
  byId("search").focus();
});

async function start() {
  startTables();
  startChoice();
  startTheme();
  await startExplorer();
  const linked = readAddress();
  addEventListener("hashchange", readAddress);
  listeners.push((change) => "theme" in change || writeAddress());
  if (linked.question === undefined) choose({ question: list.shown[0] ?? null });
  if (linked.question !== undefined) byId("explorer").scrollIntoView();
  document.documentElement.dataset.ready = "explorer";
  await new Promise((resolve) => (window.requestIdleCallback ?? setTimeout)(resolve, { timeout: 500 }));
  await startPlots();
  document.documentElement.dataset.ready = "all";
}

start().catch((error) => {
  byId("plots-state").textContent =
    `The plots and the questions cannot be shown: ${error.message}. A browser of 2024 or later can.`;
  throw error;
});
