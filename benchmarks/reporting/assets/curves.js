// Curves over the epochs: mean over the runs, with a band of one standard deviation.
// Okabe and Ito's palette, told apart by colour-blind eyes; dashes say the same once more.
const COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00"];
const DASHES = [[], [8, 4], [2, 3], [10, 3, 2, 3]];
const MOST = 12; // curves that colours and dashes tell apart
const WITH_BANDS = 6; // the bands of more would hide each other
const plots = new Map(); // the element a plot is in -> the plot

/** The name of a curve as people say it. */
function curveTitle(name) {
  const [split, metric, modality] = name.split(/\/([^/]+)\/?(.*)/s);
  const words = {
    accuracy: "accuracy (%)",
    loss: "loss",
    discrepancy_ratio: "discrepancy ratio",
    coefficient: "coefficient",
  };
  if (metric === "accuracy" && modality) return `${split}: accuracy of the ${modality} branch (%)`;
  return `${split}: ${words[metric] ?? metric}${modality && modality !== "fused" ? `, ${modality}` : ""}`;
}

const hasCurve = (row, name) => Boolean(row.curves && Object.hasOwn(row.curves, name));

/** Draws a curve of these rows into an element. Each entry has a label and a row. */
function plotCurves(place, name, entries) {
  plots.get(place)?.destroy();
  plots.delete(place);
  place.replaceChildren();
  const drawn = entries.filter(({ row }) => hasCurve(row, name)).slice(0, MOST);
  if (!drawn.length) {
    place.append(element("p", { textContent: "None of the chosen settings has this curve." }));
    return;
  }
  const bands = drawn.length <= WITH_BANDS;
  const series = [{ label: "epoch" }];
  const filled = [];
  const joined = uPlot.join(drawn.map(({ row }) => lines(row, name, bands)));
  drawn.forEach(({ label, row }, i) => {
    const stroke = COLOURS[i % COLOURS.length];
    const dash = DASHES[Math.floor(i / COLOURS.length) % DASHES.length];
    const value = (_, x) => (x == null ? EMPTY : String(x));
    series.push({ label, stroke, dash, width: 2, value, spanGaps: true, points: { show: false } });
    if (bands && row.curves[name][1].length) {
      const edge = { width: 0, class: "edge", spanGaps: true, points: { show: false } };
      filled.push({ series: [series.length, series.length + 1], fill: `${stroke}2e` });
      series.push({ ...edge, label: "above" }, { ...edge, label: "below" });
    }
  });
  const style = getComputedStyle(document.body);
  const [ink, line] = ["--ink", "--line"].map((name) => style.getPropertyValue(name).trim());
  const axis = { stroke: ink, grid: { stroke: line, width: 1 }, ticks: { stroke: line, width: 1 } };
  const options = {
    ...size(place),
    scales: { x: { time: false } },
    axes: [
      { ...axis, label: "epoch", incrs: [1, 2, 5, 10, 20, 50, 100] },
      { ...axis, label: curveTitle(name), size: 64 },
    ],
    series,
    bands: filled,
    legend: { live: true },
  };
  const plot = new uPlot(options, joined, place);
  plots.set(place, plot);
  const canvas = plot.root.querySelector("canvas");
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", inWords(name, drawn));
}

/** [epochs, means] of one row; with bands also means plus and minus a standard deviation. */
function lines(row, name, bands) {
  const [means, stds] = row.curves[name];
  if (!bands || !stds.length) return [row.epochs, means];
  const edge = (sign) => means.map((x, i) => (x === null || stds[i] === null ? null : x + sign * stds[i]));
  return [row.epochs, means, edge(1), edge(-1)];
}

/** What the picture shows, for who cannot see it. */
function inWords(name, drawn) {
  const ends = drawn.map(({ label, row }) => {
    const means = row.curves[name][0];
    return `${label} from ${means[0] ?? "nothing"} to ${means.at(-1) ?? "nothing"}`;
  });
  return `${curveTitle(name)} over the epochs: ${ends.join("; ")}`;
}

function size(place) {
  const width = Math.max(260, Math.min(place.clientWidth || 600, 1000));
  return { width, height: Math.round(Math.min(360, 120 + width * 0.35)) };
}

const curveNames = (rows) => distinct(rows.flatMap((row) => Object.keys(row.curves ?? {})));

/** The chosen rows of the table, below it. */
function drawCurves() {
  const panel = document.getElementById("curves");
  const table = tableOf(choice.table);
  panel.hidden = choice.data === ACROSS || !table?.rows.some((row) => row.curves);
  if (panel.hidden) return;
  const entries = [...chosen].map((id) => ({ label: table.rows[id].label, row: table.rows[id] }));
  const which = document.getElementById("curve");
  fillSelect(which, curveNames(table.rows).map((name) => [name, curveTitle(name)]), which.value || "test/accuracy");
  document.getElementById("curve-count").textContent =
    entries.length > MOST ? `${entries.length} settings are chosen; the first ${MOST} are drawn.` : "";
  plotCurves(document.getElementById("plot"), which.value, entries);
}

/** The best and what it is compared with, before the reader chooses. */
function chooseFirst(rows) {
  chosen.clear();
  const trained = rows.filter((line) => line.row.curves);
  const best = trained.reduce((a, b) => (a && (a.rank ?? Infinity) <= (b.rank ?? Infinity) ? a : b), null);
  if (!best) return;
  chosen.add(best.id);
  const base = trained.find((line) => line.setting === best.against);
  if (base) chosen.add(base.id);
}

function redrawCurves() {
  for (const [place, plot] of plots) {
    if (place.isConnected && place.clientWidth) plot.setSize(size(place));
  }
}
