// The shown rows and columns as LaTeX, Markdown or CSV, in the order in which they stand.
const LATEX = {
  "\\": "\\textbackslash{}",
  "~": "\\textasciitilde{}",
  "^": "\\textasciicircum{}",
  "<": "\\textless{}",
  ">": "\\textgreater{}",
  "|": "\\textbar{}",
  '"': "''",
  "±": "$\\pm$",
  "×": "$\\times$",
  "–": "--",
  "\u2212": "$-$",
  "[": "{[}", // or a row that begins with one is taken for the option of the \\ before it
  "]": "{]}",
};
const FORMATS = { LaTeX: asLatex, Markdown: asMarkdown, CSV: asCsv };

const shownColumns = () => columns.filter((one) => !isHidden(one));
const shownRows = () => grid.getRows("active").map((row) => row.getData());
const oneLine = (text) => String(text).split(/\s+/).filter(Boolean).join(" ");

function escapeLatex(text) {
  return [...oneLine(text)].map((c) => LATEX[c] ?? ("&%$#_{}".includes(c) ? `\\${c}` : c)).join("");
}

function escapeMarkdown(text) {
  const plain = oneLine(text).replace(/[\\`*{}[\]<>|~#&!]/g, "\\$&");
  return plain.replace(/(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])/g, "\\_");
}

/** Headings and rows of what a reader sees. */
function cellsShown() {
  const shown = shownColumns().filter((one) => !one.plot);
  return { shown, rows: shownRows().map((line) => shown.map((one) => one.text(line))) };
}

function asLatex() {
  const { shown, rows } = cellsShown();
  const lines = [shown.map((one) => one.title), ...rows].map((row) => `${row.map(escapeLatex).join(" & ")} \\\\`);
  return [
    `% ${oneLine(document.getElementById("shown").textContent)}; needs \\usepackage{booktabs}`,
    `\\begin{tabular}{${shown.map((one) => (one.words ? "l" : "r")).join("")}}`,
    "\\toprule",
    lines[0],
    "\\midrule",
    ...lines.slice(1),
    "\\bottomrule",
    "\\end{tabular}",
    "",
  ].join("\n");
}

function asMarkdown() {
  const { shown, rows } = cellsShown();
  const line = (row) => `| ${row.map(escapeMarkdown).join(" | ")} |`;
  const rule = `|${shown.map((one) => (one.words ? ":--" : "--:")).join("|")}|`;
  return [line(shown.map((one) => one.title)), rule, ...rows.map(line), ""].join("\n");
}

/** Numbers as they are, not rounded: mean, standard deviation and ends in columns of their own. */
function asCsv() {
  const fields = shownColumns().flatMap((one) => one.csv);
  return `${[fields, ...shownRows().map((line) => fields.map((field) => line[field]))]
    .map((row) => row.map(csvCell).join(","))
    .join("\n")}\n`;
}

/** A text that a spreadsheet would take for a formula begins with an apostrophe. */
function csvCell(value) {
  if (value === null || value === undefined) return "";
  if (typeof value === "number") return String(value);
  const text = /^[=+\-@\t\r]/.test(value) ? `'${value}` : String(value);
  return /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

/** To the clipboard; where the browser refuses, into a field from which it can be copied. */
async function copyAs(format) {
  const text = FORMATS[format]();
  const said = document.getElementById("copied");
  const field = document.getElementById("copy-text");
  field.hidden = true;
  try {
    await navigator.clipboard.writeText(text);
    said.textContent = `${shownRows().length} settings are on the clipboard as ${format}.`;
  } catch {
    said.textContent = `The browser keeps the clipboard closed: copy the ${format} from this field.`;
    Object.assign(field, { value: text, hidden: false });
    field.focus();
    field.select();
  }
}

/** The table as it is shown, for the printer: the interactive one scrolls, and paper does not. */
function prepareToPrint() {
  const { shown, rows } = cellsShown();
  const head = element("tr", {}, ...shown.map((one) => element("th", { scope: "col", textContent: one.title })));
  const body = rows.map((row) => element("tr", {}, ...row.map((text) => element("td", { textContent: text }))));
  const title = element("h2", { textContent: document.getElementById("shown").textContent });
  const table = element("table", {}, element("thead", {}, head), element("tbody", {}, ...body));
  document.getElementById("print").replaceChildren(title, table);
}
