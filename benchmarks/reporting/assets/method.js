// One method in full: opened from its row, closed by Escape or by its button.

function openMethod(line) {
  const dialog = document.getElementById("method");
  const method = DATA.methods[line.method] ?? { title: line.setting };
  const close = element("button", { type: "button", className: "close", textContent: "Close" });
  close.addEventListener("click", () => dialog.close());
  const title = element("h2", { id: "method-title", textContent: line.setting });
  const parts = [element("header", {}, title, close)];
  const name = method.title && method.title !== line.setting ? `${method.title} (${line.method}). ` : "";
  parts.push(element("p", { textContent: `${name}${method.idea ?? ""}` }));
  if (line.state) parts.push(element("p", { className: "alarm", textContent: line.state }));
  if (method.facts) parts.push(definitions(method.facts));
  if (method.steps) parts.push(folded("Steps", element("pre", { textContent: method.steps })));
  if (Object.keys(method.options ?? {}).length) parts.push(folded("Options and defaults", definitions(method.options)));
  if (method.differences?.length) parts.push(folded("Differences of paper, released code and ours", list(method.differences)));
  if (method.references?.length) parts.push(folded("References", list(method.references)));
  parts.push(element("h3", { textContent: "Results" }), results(line));
  const curves = methodCurves(line);
  parts.push(...curves.parts);
  if (line.row.made?.runs) {
    parts.push(element("h3", { textContent: "Provenance" }));
    parts.push(definitions({ "this row": line.row.label, settings: line.row.settings, ...line.row.made }));
  }
  dialog.replaceChildren(...parts);
  dialog.showModal();
  dialog.scrollTop = 0;
  curves.draw();
}

/** Headings with one line, or several, each. */
function definitions(entries) {
  const made = element("dl");
  for (const [heading, lines] of Object.entries(entries)) {
    made.append(element("dt", { textContent: heading }));
    for (const text of [lines].flat()) made.append(element("dd", { textContent: text }));
  }
  return made;
}

function list(texts) {
  return element("ul", {}, ...texts.map((text) => element("li", { textContent: text })));
}

function folded(title, content) {
  return element("details", {}, element("summary", { textContent: title }), content);
}

/** The rows that belong to the method, in all tables of the page. */
function rowsOfMethod(line) {
  const same = (row) => (line.method ? row.method === line.method : row.label === line.setting);
  return DATA.tables.flatMap((table) => table.rows.map((row, i) => ({ table, row, i })).filter(({ row }) => same(row)));
}

/** Every result of the method: a line for each of its rows, a column for each view that one of them has. */
function results(line) {
  const found = rowsOfMethod(line);
  const keyOf = (view) => `${view.measure}\n${view.selection}\n${view.rule}`;
  const views = new Map(found.flatMap(({ table }) => table.views).map((view) => [keyOf(view), view]));
  const heading = (view) =>
    [MEASURES[view.measure], view.rule === OWN ? "" : `by ${view.rule}`, view.selection === "val_best" ? "" : `epoch: ${SELECTIONS[view.selection]}`]
      .filter(Boolean)
      .join(", ");
  const heads = ["data", "table", "setting", "runs", ...[...views.values()].map(heading)];
  const rows = found.map(({ table, row, i }) => {
    const numbers = [...views.keys()].map((key) => {
      const view = table.views.find((one) => keyOf(one) === key);
      const [mean, std, low, high] = view?.rows[i] ?? [null, null, null, null];
      const digits = view ? digitsOf(view.measure) : 1;
      return spread(mean, std, digits) + interval(low, high, digits);
    });
    return [table.data, table.title, row.state ? `${row.label} (${row.state})` : row.label, row.runs, ...numbers];
  });
  const head = element("tr", {}, ...heads.map((text) => element("th", { scope: "col", textContent: text })));
  const body = rows.map((row) => element("tr", {}, ...row.map((text) => element("td", { textContent: text }))));
  const table = element("table", {}, element("thead", {}, head), element("tbody", {}, ...body));
  const wide = element("div", { className: "wide", tabIndex: 0 }, table);
  wide.setAttribute("role", "region");
  wide.setAttribute("aria-label", "Every result of this method");
  return wide;
}

/** The method's row with the chosen ones of its table. */
function methodCurves(line) {
  if (!line.row.curves) return { parts: [], draw: () => {} };
  const select = element("select");
  const names = curveNames([line.row]);
  fillSelect(select, names.map((name) => [name, curveTitle(name)]), document.getElementById("curve").value);
  const place = element("div", { className: "plot" });
  const others = [...chosen].filter((id) => line.table.id === choice.table && line.table.rows[id] !== line.row);
  const rows = [line.row, ...others.map((id) => line.table.rows[id])];
  const draw = () => plotCurves(place, select.value, rows.map((row) => ({ label: row.label, row })));
  select.addEventListener("change", draw);
  const label = element("label", {}, "Curve ", select);
  const title = element("h3", { textContent: `Course of training on ${line.table.data}` });
  return { parts: [title, label, place], draw };
}
