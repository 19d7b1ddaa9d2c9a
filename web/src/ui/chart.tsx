// Time series and bars by uPlot: themed, resized with their card, with a readout that follows the pointer, and a table
// of the same numbers for those who cannot see the picture.
import { useEffect, useMemo, useRef } from "preact/hooks";
import uPlot from "uplot";
import { cssVar } from "../lib/colors";
import { clock, shortClock } from "../lib/format";
import { shade } from "../lib/theme";

export interface Series {
  name: string;
  values: Array<number | null>;
  color: string; // a CSS colour
  fill?: boolean;
  dash?: number[];
}

interface Props {
  label: string;
  times: number[]; // milliseconds, the beginning of each bucket
  series: Series[];
  format: (value: number | null) => string;
  /** the labels of the axis, where they need one look for all */
  labels?: (values: Array<number | null>) => string[];
  kind?: "lines" | "bars";
  stacked?: boolean;
  height?: number;
  brush?: (since: number, until: number) => void;
  axis?: boolean;
  legend?: boolean;
  log?: boolean;
}

const STEPS = [1, 5, 10, 30, 60, 180, 360, 720, 1440, 2880, 10_080].map((minutes) => minutes * 60_000);

/** Places for labels at round local times, at most `most` of them. */
export function ticks(first: number, last: number, most: number): number[] {
  const step = STEPS.find((s) => (last - first) / s <= most) ?? STEPS[STEPS.length - 1];
  const zone = new Date(first).getTimezoneOffset() * 60_000;
  const out: number[] = [];
  for (let t = Math.ceil((first - zone) / step) * step + zone; t <= last; t += step) out.push(t);
  return out;
}

/** 1, 2, 5, 10 and so on between two values, thinned out where there are many decades. */
function decades(low: number, high: number): number[] {
  const steps = high / low > 300 ? [1] : high / low > 30 ? [1, 3] : [1, 2, 5];
  const out: number[] = [];
  for (let power = 10 ** Math.floor(Math.log10(low)); power <= high; power *= 10) {
    for (const step of steps) if (step * power >= low && step * power <= high) out.push(step * power);
  }
  return out;
}

/** Running sums, so that the second series stands on the first. */
function stack(series: Series[]): Array<Array<number | null>> {
  const sum = new Array<number>(series[0]?.values.length ?? 0).fill(0);
  return series.map((one) => one.values.map((value, i) => (sum[i] += value ?? 0)));
}

function readout(plot: uPlot, box: HTMLElement, times: number[], series: Series[], format: Props["format"]) {
  const at = plot.cursor.idx;
  if (at === null || at === undefined || (plot.cursor.left ?? -1) < 0) {
    box.hidden = true;
    return;
  }
  box.hidden = false;
  box.replaceChildren();
  const head = document.createElement("b");
  head.textContent = clock(times[at]).slice(0, 16);
  box.append(head);
  for (const one of series) {
    const value = one.values[at];
    if (value === null || value === undefined || (series.length > 4 && value === 0)) continue;
    const line = document.createElement("div");
    const dot = document.createElement("i");
    dot.style.background = one.color;
    const name = document.createElement("span");
    name.textContent = one.name;
    const text = document.createElement("em");
    text.textContent = format(value);
    line.append(dot, name, text);
    box.append(line);
  }
  const left = plot.cursor.left ?? 0;
  const width = plot.over.clientWidth;
  box.style.transform = `translate(${left > width / 2 ? left - box.offsetWidth - 12 : left + 12}px, 4px)`;
}

function options(props: Props, width: number, box: HTMLElement): uPlot.Options {
  const { times, series, format, kind = "lines", stacked, height = 180, brush, axis = true, log = false } = props;
  const span = times.length ? times[times.length - 1] - times[0] : 1;
  const step = times.length > 1 ? times[1] - times[0] : 1;
  const ink = cssVar("--ink-3");
  const line = { stroke: cssVar("--line"), width: 1 };
  const paths = kind === "bars" ? uPlot.paths.bars!({ size: [0.82, 60], align: 1, radius: stacked ? 0 : 0.12 }) : undefined;
  const drawn = stacked ? [...series].reverse() : series;
  return {
    width,
    height,
    padding: axis ? [8, 24, 0, 0] : [2, 0, 2, 0],
    legend: { show: false },
    cursor: {
      show: true,
      points: { show: kind === "lines" },
      drag: { x: Boolean(brush), y: false, setScale: false },
      y: false,
    },
    scales: {
      // a bar of the last bucket needs room to its right
      x: { time: false, range: (_, min, max) => [min, kind === "bars" ? max + step : max] },
      y: log
        ? { distr: 3, range: (_, min, max) => [Math.max(min || 1, 1) * 0.8, (max || 10) * 1.25] }
        : { range: (_, min, max) => [Math.min(0, min ?? 0), (max || 1) * 1.08] },
    },
    axes: [
      {
        show: axis,
        stroke: ink,
        grid: { show: false },
        ticks: { show: false },
        size: 26,
        font: "11px system-ui, sans-serif",
        splits: (plot, _, first, last) => ticks(first, last, Math.max(2, Math.floor(plot.width / 90))),
        values: (_, at) => at.map((t) => shortClock(t, span)),
      },
      {
        show: axis,
        stroke: ink,
        grid: line,
        ticks: { show: false },
        size: 58,
        font: "11px system-ui, sans-serif",
        splits: log ? (_, __, low, high) => decades(low, high) : undefined,
        // uPlot would leave the labels between the powers of ten away
        filter: (_, at) => at,
        values: (_, at) => (props.labels ? props.labels(at) : at.map((v) => (v === null ? "" : format(v)))),
      },
    ],
    series: [
      {},
      ...drawn.map((one) => ({
        stroke: one.color,
        width: kind === "bars" ? 0 : 1.75,
        fill: kind === "bars" ? one.color : one.fill ? `${one.color}22` : undefined,
        dash: one.dash,
        points: { show: false },
        spanGaps: true,
        paths,
      })),
    ],
    hooks: {
      setCursor: [(plot) => readout(plot, box, times, series, format)],
      setSelect: [
        (plot) => {
          if (!brush || plot.select.width < 4) return;
          const since = plot.posToVal(plot.select.left, "x");
          const until = plot.posToVal(plot.select.left + plot.select.width, "x");
          plot.setSelect({ left: 0, width: 0, top: 0, height: 0 }, false);
          brush(since, until);
        },
      ],
    },
  };
}

export function Chart(props: Props) {
  const { label, times, series, format, stacked, height = 180, legend = series.length > 1 } = props;
  const holder = useRef<HTMLDivElement>(null);
  const box = useRef<HTMLDivElement>(null);
  const mode = shade.value;
  const data = useMemo(() => {
    const drawn = stacked ? stack(series).reverse() : series.map((one) => one.values);
    return [times, ...drawn] as uPlot.AlignedData;
  }, [times, series, stacked]);

  useEffect(() => {
    const target = holder.current!;
    const width = () => Math.max(60, target.clientWidth);
    const plot = new uPlot(options(props, width(), box.current!), data, target);
    plot.over.append(box.current!);
    const watch = new ResizeObserver(() => {
      if (Math.abs(plot.width - width()) > 1) plot.setSize({ width: width(), height });
    });
    watch.observe(target);
    return () => {
      watch.disconnect();
      // the readout belongs to Preact: it goes back before uPlot removes its own parts
      target.parentElement?.append(box.current ?? "");
      plot.destroy();
    };
  }, [data, mode, height, props.brush !== undefined]);

  return (
    <figure class="chart">
      <div ref={holder} style={{ height: `${height}px` }} aria-hidden="true" />
      <div ref={box} class="readout" hidden />
      {legend && (
        <ul class="legend">
          {series.map((one) => (
            <li key={one.name}>
              <i style={{ background: one.color }} aria-hidden="true" />
              {one.name}
            </li>
          ))}
        </ul>
      )}
      <figcaption class="sr">
        {label}: {summary(times, series, format)}
      </figcaption>
    </figure>
  );
}

/** What a listener needs of a picture: the range of each series and where it ends. */
function summary(times: number[], series: Series[], format: Props["format"]): string {
  if (!times.length) return "no data";
  return series
    .map((one) => {
      const known = one.values.filter((v): v is number => v !== null);
      if (!known.length) return `${one.name}: no data`;
      return `${one.name}: from ${format(Math.min(...known))} to ${format(Math.max(...known))}, last ${format(known[known.length - 1])}`;
    })
    .join("; ");
}

/** A line without axes, as tall as a line of text. */
export function Spark({ values, color }: { values: Array<number | null>; color: string }) {
  const known = values.map((v) => v ?? 0);
  const top = Math.max(...known, 1e-12);
  const step = 100 / Math.max(1, known.length - 1);
  const points = known.map((v, i) => `${(i * step).toFixed(1)},${(23 - (v / top) * 21).toFixed(1)}`);
  return (
    <svg class="spark" viewBox="0 0 100 24" preserveAspectRatio="none" aria-hidden="true">
      <polygon points={`0,24 ${points.join(" ")} 100,24`} style={{ fill: color }} />
      <polyline points={points.join(" ")} style={{ stroke: color }} />
    </svg>
  );
}
