// The page's data, what the reader has chosen of it, and the rows that this shows.
const DATA = JSON.parse(document.getElementById("data").textContent);
const MEASURES = {
  accuracy: "accuracy (%)",
  macro_f1: "macro-F1 (%)",
  mAP: "mAP (%)",
  ece: "calibration error (%)",
  loss: "loss",
};
const SELECTIONS = { val_best: "best on validation", last: "last", test_best: "best on test" };
const EMPTY = "\u2013";
const ACROSS = "*"; // the choice of all data sets, in one ranking
const OWN = "own"; // the rule of prediction that each row names

// Empty: no restriction. `data` is a data set or ACROSS, `table` the id of a table.
const choice = {
  data: "",
  table: "",
  fusion: "",
  settings: "",
  measure: "accuracy",
  selection: "val_best",
  rule: OWN,
  category: "",
  cost: "",
  modalities: "",
  name: "",
  alike: false,
};

const tableOf = (id) => DATA.tables.find((table) => table.id === id);
const distinct = (values) => [...new Set(values)];
const rankedData = () => distinct(DATA.tables.filter((table) => table.ranked).map((table) => table.data));
const isDeclared = (view) => view.measure === "accuracy" && view.selection === "val_best" && view.rule === OWN;

/** The view of a table that is chosen; undefined where it has no such numbers. */
function viewOf(table) {
  const same = (view) => ["measure", "selection", "rule"].every((part) => view[part] === choice[part]);
  return table.views.find(same);
}

/** Whether a row has the chosen fusion, and default or tuned settings as chosen. */
function isAsked(row) {
  const settings = row.tuned ? "tuned" : "default";
  return (!choice.fusion || row.fusion === choice.fusion) && (!choice.settings || settings === choice.settings);
}

/** What is known of a row's method, as the columns and filters of every table need it. */
function aboutMethod(row) {
  const method = DATA.methods[row.method] ?? { title: "" };
  return {
    method: row.method,
    title: method.title,
    category: method.category ?? null,
    cost: row.passes ?? method.cost ?? null, // as counted while the runs ran, else of one step
    most: method.category ? (method.most ?? Infinity) : null,
  };
}

/** The rows of one table in the chosen view, as plain objects with a value for each column. */
function rowsOf(table) {
  const view = viewOf(table);
  const rows = table.rows.map((row, i) => {
    const numbers = Object.fromEntries(DATA.parts.map((part, k) => [part, view?.rows[i]?.[k] ?? null]));
    const line = { id: i, setting: row.label, row, table, state: row.state, ...aboutMethod(row), ...numbers };
    for (const [name, [mean, std]] of Object.entries(row.each)) {
      Object.assign(line, { [`each ${name}`]: mean, [`std ${name}`]: std });
    }
    Object.assign(line, { fusion: row.fusion, against: row.against, runs: row.runs, cells: {} });
    if (!view || isDeclared(view)) {
      const { p_holm, group, mean_rank, mean_rank_low, mean_rank_high, published, cells } = row;
      Object.assign(line, { p_holm, group, mean_rank, mean_rank_low, mean_rank_high, published, cells });
    }
    return line;
  });
  const best = ranks(rows.map((line) => line.mean), DATA.lowerIsBetter.includes(choice.measure));
  rows.forEach((line, i) => (line.rank = best[i]));
  return rows.filter((line) => isAsked(line.row) && (choice.rule === OWN || line.row.rule === OWN));
}

/** One row per setting with its ranks on all data sets, each among the rows of its own table that are asked for. */
function rowsAcross() {
  const found = new Map();
  for (const table of DATA.tables.filter((one) => one.ranked && viewOf(one))) {
    const view = viewOf(table);
    const asked = table.rows
      .map((row, i) => ({ row, mean: view.rows[i]?.[0] ?? null }))
      .filter(({ row, mean }) => mean !== null && isAsked(row));
    const places = ranks(asked.map(({ mean }) => mean), DATA.lowerIsBetter.includes(choice.measure));
    asked.forEach(({ row }, i) => {
      if (!found.has(row.base)) {
        found.set(row.base, { id: found.size, setting: row.base, row, table, state: "", ...aboutMethod(row), of: Object.create(null) });
      }
      found.get(row.base).of[table.data] ??= { rank: places[i], count: asked.length };
    });
  }
  const rows = [...found.values()];
  for (const line of rows) {
    const places = Object.values(line.of);
    line.count = places.length;
    line.mean_rank = places.reduce((sum, place) => sum + place.rank, 0) / line.count;
    for (const [data, place] of Object.entries(line.of)) line[`rank ${data}`] = place.rank;
  }
  return rows.sort((a, b) => a.mean_rank - b.mean_rank || b.count - a.count);
}

/** Each number's rank, 1 for the best; ties share a rank, and what has no number has none. */
function ranks(numbers, lowerIsBetter) {
  const better = (a, b) => (lowerIsBetter ? a < b : a > b);
  return numbers.map((x) => (x === null ? null : 1 + numbers.filter((y) => y !== null && better(y, x)).length));
}

/** Whether a row passes the filters of method, cost, modalities and name. */
function isShown(line) {
  if (choice.category && line.category !== choice.category) return false;
  if (choice.cost && !(line.cost !== null && line.cost <= Number(choice.cost))) return false;
  if (choice.modalities && !(line.most !== null && line.most >= Number(choice.modalities))) return false;
  if (choice.alike && !line.alike) return false;
  const words = `${line.setting} ${line.title} ${line.method}`.toLowerCase();
  return words.includes(choice.name.trim().toLowerCase());
}

/** Marks the rows that share a letter with the best: those that cannot be told apart from it. */
function markAlike(rows) {
  const best = rows.find((line) => line.rank === 1 && line.group);
  const letters = best ? best.group.split(" ") : [];
  for (const line of rows) line.alike = letters.some((letter) => line.group?.split(" ").includes(letter));
}

// ---- numbers as text

/** Halves go to the even digit, as in the tables that Python writes; toFixed takes them up. */
function fixed(x, digits) {
  const halves = x * 2 ** (digits + 1); // only such numbers are exactly in the middle
  const isHalf = Number.isInteger(halves) && halves % 2 === 1;
  const down = Math.floor(x * 10 ** digits);
  return isHalf && down % 2 === 0 ? (down / 10 ** digits).toFixed(digits) : x.toFixed(digits);
}

function number(x, digits = 1, sign = false) {
  if (x === null || x === undefined) return EMPTY;
  const text = fixed(Math.abs(x), digits);
  const minus = x < 0 && Number(text) !== 0;
  return `${minus ? "\u2212" : sign ? "+" : ""}${text}`;
}

const digitsOf = (measure) => (measure === "loss" ? 3 : 1);

function spread(mean, std, digits = 1) {
  return mean === null || mean === undefined ? EMPTY : `${number(mean, digits)}${std === null ? "" : ` ± ${number(std, digits)}`}`;
}

function interval(low, high, digits = 1, sign = false) {
  return low === null || low === undefined ? "" : ` [${number(low, digits, sign)}, ${number(high, digits, sign)}]`;
}

/** An element with properties and children; texts stay texts. */
function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}
