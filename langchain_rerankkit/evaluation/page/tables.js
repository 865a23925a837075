// Tables that sort by any column. A body moves as a whole: rows that belong together stay together.

function makeSortable(table) {
  const headings = [...table.tHead.rows[0].cells];
  headings.forEach((heading, column) => {
    const button = element("button", { type: "button" }, ...heading.childNodes);
    heading.replaceChildren(button);
    button.addEventListener("click", () => {
      // Numbers start with the largest, names with A; a second click turns that round.
      const numbers = !heading.classList.contains("text");
      const now = heading.getAttribute("aria-sort");
      const descending = now ? now === "ascending" : numbers;
      for (const other of headings) other.removeAttribute("aria-sort");
      heading.setAttribute("aria-sort", descending ? "descending" : "ascending");
      sortBodies(table, column, numbers, descending);
    });
  });
}

function sortBodies(table, column, numbers, descending) {
  const keyOf = (row) => {
    const text = row.cells[column].textContent;
    return numbers ? Number.parseFloat(text.replace(/[,<\s]/g, "")) : text;
  };
  const compare = (a, b) => {
    if (!numbers) return (descending ? -1 : 1) * a.localeCompare(b);
    if (Number.isNaN(a) || Number.isNaN(b)) return Number.isNaN(a) - Number.isNaN(b); // what has no number goes last
    return descending ? b - a : a - b;
  };
  const sorted = (rows) =>
    rows
      .map((row) => [keyOf(row.rows ? row.rows[0] : row), row])
      .sort(([a], [b]) => compare(a, b))
      .map(([, row]) => row);
  // Bodies of one metric are sorted inside; bodies of a system move.
  if (table.tBodies[0]?.dataset.metric) for (const body of table.tBodies) body.append(...sorted([...body.rows]));
  else table.append(...sorted([...table.tBodies]));
}

/** Of the comparison, what the chosen metric says, or everything. */
function showMetric() {
  const every = byId("every-metric")?.checked;
  for (const part of document.querySelectorAll("#comparison [data-metric]")) {
    part.hidden = !every && Number(part.dataset.metric) !== state.metric;
  }
}

function startTables() {
  document.querySelectorAll("table.sortable").forEach(makeSortable);
  byId("every-metric")?.addEventListener("change", showMetric);
  listeners.push((change) => "metric" in change && showMetric());
  showMetric();
}
