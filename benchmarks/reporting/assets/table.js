// The interactive table: its columns, and Tabulator with what it lacks for the keyboard and for screen readers.
const hidden = new Map(); // title of a column -> whether the reader has switched it off or on
const chosen = new Set(); // ids of the rows whose curves are drawn
let grid = null;
let columns = [];

/** A column: its text, for the eye and for copies; and the fields with its numbers, for CSV. */
function column(field, title, text, more = {}) {
  return { field, title, text: text ?? ((line) => line[field] ?? EMPTY), csv: [field], shown: true, ...more };
}

/** The columns of one table, without those that would be empty. */
function columnsOf(table, rows) {
  const digits = digitsOf(choice.measure);
  const wide = window.innerWidth >= 1000;
  const bases = distinct(rows.map((line) => line.against).filter((label) => label !== null));
  const apart = bases.length === 1 ? `difference to ${bases[0]}` : "difference";
  const difference = (line) =>
    line.difference === null
      ? EMPTY
      : number(line.difference, digits, true) + interval(line.difference_low, line.difference_high, digits, true);
  const cell = (heading, computed) => (line) => line.cells[heading] ?? computed(line); // as the plain table has it
  const each = distinct(rows.flatMap((line) => Object.keys(line.row.each)));
  const all = [
    column("setting", "setting", null, { words: true, button: true }),
    ...(table.ranked ? [column("rank", "rank")] : []),
    column("title", "method", null, { words: true, shown: false }),
    column("category", "kind", null, { words: true, shown: false }),
    column("fusion", "fusion", null, { words: true, shown: distinct(rows.map((line) => line.fusion)).length > 1 }),
    column("mean", MEASURES[choice.measure], cell(DATA.accuracy, (line) => line.state || spread(line.mean, line.std, digits)), {
      csv: ["mean", "std", "state"],
    }),
    column("low", "95 % interval", (line) => interval(line.low, line.high, digits).trim() || EMPTY, {
      csv: ["low", "high"],
      shown: false,
    }),
    column("plot", "mean and interval", () => "", { csv: [], plot: true, shown: wide }),
    column("against", "compared with", null, { words: true, shown: bases.length > 1 }),
    column("difference", apart, cell(apart, difference), {
      csv: ["difference", "difference_low", "difference_high"],
    }),
    column("wins", "wins", (line) => (line.wins === null ? EMPTY : `${line.wins}/${line.pairs}`), { csv: ["wins", "pairs"] }),
    column("p_holm", "p (Holm)", cell("p (Holm)", () => EMPTY)),
    column("group", "group", (line) => line.group || EMPTY, { words: true }),
    column(
      "mean_rank",
      "mean rank",
      cell("mean rank", () => EMPTY),
      { csv: ["mean_rank", "mean_rank_low", "mean_rank_high"] },
    ),
    column("cost", "cost", cell("passes", (line) => (line.cost === null ? EMPTY : `${number(line.cost)}×`))),
    column("most", "modalities", (line) => modalities(line.most), { shown: false }),
    ...each.map((name) =>
      column(`each ${name}`, name, (line) => line.row.cells[name] ?? EMPTY, {
        csv: [`each ${name}`, `std ${name}`],
        shown: wide && name.endsWith("branch"),
      }),
    ),
    column("runs", "runs", null, { words: true, shown: false }),
    column("published", "published", cell("published", () => EMPTY)),
  ];
  return all.filter((one) => one.plot || one.field === "mean" || rows.some((line) => ![EMPTY, ""].includes(one.text(line))));
}

function modalities(most) {
  return most === null ? EMPTY : most === Infinity ? "2 or more" : most === 2 ? "2" : `2 to ${most}`;
}

/** The columns of the ranking over all data sets. */
function columnsAcross() {
  return [
    column("setting", "setting", null, { words: true, button: true }),
    column("mean_rank", "mean rank", (line) => number(line.mean_rank)),
    column("count", "data sets"),
    ...rankedData().map((data) =>
      column(`rank ${data}`, data, (line) => (line.of[data] ? `${line.of[data].rank} of ${line.of[data].count}` : EMPTY)),
    ),
    column("title", "method", null, { words: true, shown: false }),
    column("category", "kind", null, { words: true }),
    column("cost", "cost", (line) => (line.cost === null ? EMPTY : `${number(line.cost)}×`)),
    column("most", "modalities", (line) => modalities(line.most), { shown: false }),
  ];
}

const isHidden = (one) => hidden.get(one.title) ?? !one.shown;

/** Puts these rows into the table. Sorting stays as it is where the new table has the column. */
function fillTable(rows, made) {
  const before = grid?.getSorters().map(({ field, dir }) => ({ column: field, dir }));
  const sorting = before?.filter((one) => made.some(({ field }) => field === one.column));
  grid?.destroy();
  columns = made;
  const ends = scale(rows);
  const defined = made.map((one) => gridColumn(one, ends));
  if (choice.data !== ACROSS) defined.splice(1, 0, pickColumn()); // behind the name, which stays in sight
  grid = new Tabulator("#grid", {
    data: rows,
    columns: defined,
    initialSort: sorting?.length ? sorting : undefined,
    initialFilter: isShown,
    layout: "fitDataTable",
    renderVertical: "basic", // every row is there for screen readers and for the browser's own search
    maxHeight: "75vh",
    nestedFieldSeparator: false, // names of data sets and modalities may have points
    headerSortClickElement: "header",
    placeholder: element("p", { textContent: "No setting passes the filters." }),
    rowFormatter: (row) => row.getElement().classList.toggle("alike", Boolean(row.getData().alike)),
  });
  grid.on("tableBuilt", describeTable);
  grid.on("dataFiltered", (_, shown) => countRows(shown.length, rows.length));
}

function gridColumn(one, ends) {
  const text = (cell) => {
    const line = cell.getData();
    const words = one.text(line);
    if (one.field === "mean" && line.state) return element("em", { className: "alarm", textContent: words, title: words });
    if (one.plot) return plotOf(line, ends);
    if (!one.button) return document.createTextNode(words);
    const open = element("button", { type: "button", className: "open", textContent: words, title: words });
    open.addEventListener("click", () => openMethod(line));
    return open;
  };
  const up = one.words || ["rank", "mean_rank", "cost", "p_holm", "most"].includes(one.field) || one.field.startsWith("rank ");
  return {
    field: one.field,
    title: "",
    titleFormatter: () => document.createTextNode(one.title), // never as HTML: names of modalities are in titles
    formatter: text,
    visible: !isHidden(one),
    frozen: one.button,
    hozAlign: one.words ? "left" : "right",
    headerHozAlign: one.words ? "left" : "right",
    headerSort: !one.plot,
    headerSortStartingDir: up || DATA.lowerIsBetter.includes(choice.measure) ? "asc" : "desc",
    sorter: one.words ? "string" : "number",
    sorterParams: { alignEmptyValues: "bottom" },
    maxWidth: one.button ? (window.innerWidth < 600 ? 150 : 320) : one.field === "mean" ? 340 : undefined,
    cssClass: one.button ? "setting" : undefined,
  };
}

/** A box for each row whose curves are to be drawn. */
function pickColumn() {
  return {
    title: "",
    titleFormatter: () => document.createTextNode("curve"),
    headerSort: false,
    hozAlign: "center",
    formatter: (cell) => {
      const line = cell.getData();
      const box = element("input", { type: "checkbox", checked: chosen.has(line.id), disabled: !line.row.epochs });
      box.setAttribute("aria-label", `draw the curves of ${line.setting}`);
      box.addEventListener("change", () => {
        if (box.checked) chosen.add(line.id);
        else chosen.delete(line.id);
        drawCurves();
      });
      return box;
    },
  };
}

/**
 * The least and the greatest number that the plots of intervals show; null where there is none. The worst sixth of the
 * settings is beyond the edge, since one that failed to train would press all others together.
 */
function scale(rows) {
  const numbers = rows.filter((line) => line.mean !== null);
  if (!numbers.length) return null;
  const lower = DATA.lowerIsBetter.includes(choice.measure);
  const ends = numbers.map((line) => (lower ? (line.high ?? line.mean) : (line.low ?? line.mean)));
  const worst = ends.sort((a, b) => (lower ? b - a : a - b))[Math.floor(ends.length / 6)];
  const best = numbers.map((line) => (lower ? (line.low ?? line.mean) : (line.high ?? line.mean)));
  return lower ? [Math.min(...best), worst] : [worst, Math.max(...best)];
}

/** Mean and interval as a dot on a line; a dot at the edge that is not filled stands for one beyond it. */
function plotOf(line, ends) {
  if (ends === null || line.mean === null) return document.createTextNode(EMPTY);
  const place = (x) => 5 + 130 * Math.min(1, Math.max(0, (x - ends[0]) / (ends[1] - ends[0] || 1)));
  const drawing = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  for (const [name, value] of Object.entries({ width: 140, height: 14, class: "plot", "aria-hidden": "true" })) {
    drawing.setAttribute(name, value);
  }
  const add = (tag, values) => {
    const part = document.createElementNS("http://www.w3.org/2000/svg", tag);
    Object.entries(values).forEach(([name, value]) => part.setAttribute(name, value));
    drawing.append(part);
  };
  if (line.low !== null) add("line", { x1: place(line.low), x2: place(line.high), y1: 7, y2: 7 });
  const beyond = line.mean < ends[0] || line.mean > ends[1];
  add("circle", { cx: place(line.mean), cy: 7, r: 3.5, class: beyond ? "beyond" : "within" });
  return drawing;
}

/** A table, not a grid to edit: roles, and headings that the keyboard can sort by. */
function describeTable() {
  const root = document.getElementById("grid");
  root.setAttribute("role", "table");
  root.setAttribute("aria-label", document.getElementById("shown").textContent);
  for (const one of grid.getColumns()) {
    const heading = one.getElement();
    const { headerSort, field, headerSortStartingDir: first } = one.getDefinition();
    for (const cell of one.getCells()) cell.getElement().setAttribute("role", "cell");
    if (!headerSort) {
      heading.removeAttribute("aria-sort");
      continue;
    }
    heading.tabIndex = 0;
    heading.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" && event.key !== " ") return;
      event.preventDefault();
      const now = grid.getSorters().find((sorter) => sorter.field === field)?.dir;
      grid.setSort(field, now ? (now === "asc" ? "desc" : "asc") : first);
    });
  }
}

function countRows(shown, all) {
  document.getElementById("count").textContent = `${shown} of ${all} settings`;
}
