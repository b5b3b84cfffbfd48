// What the page uses of its two libraries, as the globals Tabulator and uPlot.
import {
  FilterModule,
  FormatModule,
  FrozenColumnsModule,
  ResizeTableModule,
  SortModule,
  Tabulator,
} from "tabulator-tables";
import uPlot from "uplot";

Tabulator.registerModule([FilterModule, FormatModule, FrozenColumnsModule, ResizeTableModule, SortModule]);
Object.assign(window, { Tabulator, uPlot });
