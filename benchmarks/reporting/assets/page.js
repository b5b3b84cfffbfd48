// The controls above the table, and what happens when one of them changes.

/** Options as [value, text] pairs; the value that was chosen stays, where it is still there. */
function fillSelect(select, options, value = select.value) {
  select.replaceChildren(...options.map(([key, text]) => element("option", { value: key, textContent: text })));
  select.value = options.some(([key]) => key === value) ? value : (options[0]?.[0] ?? "");
}

function labelled(text, control) {
  return element("label", {}, element("span", { textContent: text }), control);
}

function select(id, text) {
  const made = element("select", { id });
  made.addEventListener("change", () => {
    choice[id] = made.value;
    update(id);
  });
  return labelled(text, made);
}

const SELECTS = {
  data: "Data set",
  table: "Table",
  fusion: "Fusion",
  settings: "Settings",
  measure: "Metric",
  selection: "Epoch",
  rule: "Prediction by",
};
const FILTERS = { category: "Kind of method", cost: "Cost at most", modalities: "Balances at least" };

/** The tables that fit what is chosen of data, fusion and settings. */
function tablesAsked() {
  const fits = (table) => choice.data === table.data && table.rows.some(isAsked);
  return DATA.tables.filter(fits);
}

/** The options of every control, from what the page has; a choice that is no option any more goes to the first. */
function fillControls() {
  const put = (id, options) => {
    const control = document.getElementById(id);
    fillSelect(control, options, choice[id]);
    choice[id] = control.value;
    control.closest("label").hidden = options.length < 2;
  };
  const named = (values, all) => [...(all && values.length > 1 ? [["", all]] : []), ...values.map((x) => [x, x])];
  const data = distinct(DATA.tables.map((table) => table.data));
  put("data", [...(rankedData().length > 1 ? [[ACROSS, "all: mean rank"]] : []), ...data.map((x) => [x, x])]);
  const across = choice.data === ACROSS;
  const here = across ? DATA.tables.filter((table) => table.ranked) : DATA.tables.filter((t) => t.data === choice.data);
  const rows = here.flatMap((table) => table.rows);
  put("fusion", named(distinct(rows.map((row) => row.fusion).filter(Boolean)), "all"));
  const tuned = rows.some((row) => row.tuned);
  const both = across ? [] : [["", "default and tuned"]];
  put("settings", tuned ? [...both, ["default", "default"], ["tuned", "tuned"]] : [["", "default"]]);
  put("table", across ? [] : tablesAsked().map((table) => [table.id, `${table.title} (${table.suite})`]));
  const views = (across ? here : [tableOf(choice.table)]).flatMap((table) => table?.views ?? []);
  const kept = (...parts) => views.filter((view) => parts.every((part) => view[part] === choice[part]));
  const found = (part, of) => (of.length ? distinct(of.map((view) => view[part])) : [choice[part]]);
  put("rule", found("rule", views).map((x) => [x, x === OWN ? "the method's own rule" : x]));
  put("selection", found("selection", kept("rule")).map((x) => [x, SELECTIONS[x]]));
  put("measure", found("measure", kept("rule", "selection")).map((x) => [x, MEASURES[x]]));
  put("category", named(distinct(rows.map((row) => aboutMethod(row).category).filter(Boolean)), "all"));
  const costs = distinct(rows.map((row) => aboutMethod(row).cost).filter((x) => x !== null && x > 0));
  const steps = [1, 1.5, 2, 3, 5, 10, 20, 50].filter((x) => costs.some((cost) => cost > x));
  put("cost", [["", "any"], ...steps.map((x) => [String(x), `${x}× joint training`])]);
  put("modalities", [["", "any number"], ["3", "3 modalities"]]);
}

/** Fills the page again after a choice. Filters of rows leave the table as it is and hide rows. */
function update(changed) {
  if (changed in FILTERS || changed === "name" || changed === "alike") {
    grid.setFilter(isShown);
    return;
  }
  const before = choice.table;
  fillControls();
  const across = choice.data === ACROSS;
  const table = tableOf(choice.table);
  const rows = across ? rowsAcross() : table ? rowsOf(table) : [];
  markAlike(rows);
  if (before !== choice.table || changed === "start") chooseFirst(across ? [] : rows);
  describeChoice(table, rows);
  const made = across ? columnsAcross() : table ? columnsOf(table, rows) : [];
  fillTable(rows, made);
  fillColumns(made);
  drawCurves();
}

/** The heading, the warning where a choice flatters, and the plain section with figures and notes. */
function describeChoice(table, rows) {
  const across = choice.data === ACROSS;
  const view = [MEASURES[choice.measure], `epoch: ${SELECTIONS[choice.selection]}`];
  if (choice.rule !== OWN) view.push(`predicted by ${choice.rule}`);
  const title = across ? "Mean rank over the data sets" : (table?.title ?? "No table");
  document.getElementById("shown").textContent = `${title}: ${view.join(", ")}`;
  const flatters = choice.selection === "test_best";
  document.getElementById("warning").textContent = flatters
    ? "This epoch was chosen on the test set itself, which flatters: for comparison with papers that do so, no more."
    : "";
  const ranked = "A rank is among the settings of its own table; the mean is over the data sets that a setting has.";
  const other = "Tests, groups and mean ranks are of accuracy at the epoch best on validation, and not shown here.";
  document.getElementById("remark").textContent = across ? ranked : isDeclared(choice) ? "" : other;
  for (const section of document.querySelectorAll("section.table")) section.hidden = section.id !== choice.table;
  const alike = document.getElementById("alike");
  alike.closest("label").hidden = !rows.some((line) => line.alike);
  if (alike.closest("label").hidden) alike.checked = choice.alike = false;
}

/** A box for each column. */
function fillColumns(made) {
  const boxes = made.map((one) => {
    const box = element("input", { type: "checkbox", checked: !isHidden(one), disabled: Boolean(one.button) });
    box.addEventListener("change", () => {
      hidden.set(one.title, !box.checked);
      const shown = grid.getColumn(one.field);
      if (box.checked) shown.show();
      else shown.hide();
    });
    return element("label", {}, box, ` ${one.title}`);
  });
  document.getElementById("columns").replaceChildren(...boxes);
}

function controls() {
  const name = element("input", { id: "name", type: "search", placeholder: "part of a name" });
  name.addEventListener("input", () => {
    choice.name = name.value;
    update("name");
  });
  const alike = element("input", { id: "alike", type: "checkbox" });
  alike.addEventListener("change", () => {
    choice.alike = alike.checked;
    update("alike");
  });
  const copies = Object.keys(FORMATS).map((format) => {
    const button = element("button", { type: "button", id: `copy-${format}`, textContent: `Copy ${format}` });
    button.addEventListener("click", () => copyAs(format));
    return button;
  });
  const curve = element("select", { id: "curve" });
  curve.addEventListener("change", drawCurves);
  const field = element("textarea", { id: "copy-text", hidden: true, readOnly: true, rows: 8 });
  field.setAttribute("aria-label", "The table as text");
  const status = (id) => {
    const made = element("p", { id });
    made.setAttribute("role", "status");
    return made;
  };
  const filters = [labelled("Name", name), ...Object.entries(FILTERS).map(([id, text]) => select(id, text))];
  return [
    element("form", { className: "controls" }, ...Object.entries(SELECTS).map(([id, text]) => select(id, text)), ...filters),
    element("label", { className: "alike-only" }, alike, " only settings that cannot be told apart from the best"),
    element("h2", { id: "shown" }),
    element("p", { id: "warning", className: "warning" }),
    element("p", { id: "remark", className: "remark" }),
    element("div", { className: "tools" }, status("count"), ...copies),
    element("details", { className: "columns" }, element("summary", { textContent: "Columns" }), element("div", { id: "columns" })),
    status("copied"),
    field,
    element("div", { id: "grid" }),
    element(
      "section",
      { id: "curves" },
      element("h3", { textContent: "Course of training of the settings marked under \u201ccurve\u201d" }),
      labelled("Curve", curve),
      element("p", { id: "curve-count" }),
      element("div", { id: "plot", className: "plot" }),
    ),
  ];
}

const explorer = document.getElementById("explorer");
explorer.append(...controls());
explorer.querySelector("form").addEventListener("submit", (event) => event.preventDefault());
explorer.hidden = false;
document.documentElement.classList.add("interactive"); // from here on the plain tables are hidden
const linked = tableOf(location.hash.slice(1)); // a table that the page's address names
if (linked) Object.assign(choice, { data: linked.data, table: linked.id });
update("start");
window.addEventListener("resize", redrawCurves);
window.addEventListener("beforeprint", prepareToPrint);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawCurves);
