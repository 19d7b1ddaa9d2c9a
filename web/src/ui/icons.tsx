// Line icons drawn here, so that nothing is fetched. Always beside a text or with an aria-label on their button.
const PATHS: Record<string, string> = {
  overview: "M3 13h4v8H3zM10 3h4v18h-4zM17 8h4v13h-4z",
  traces: "M4 6h16M4 12h10M4 18h13",
  routing: "M5 5v4a4 4 0 0 0 4 4h6a4 4 0 0 1 4 4v2M5 5l-2.5 2.5M5 5l2.5 2.5M19 19l-2.5-2.5M19 19l2.5-2.5",
  playground: "M4 5h7v14H4zM13 5h7v14h-7z",
  spend: "M12 3v18M17 7.5C17 5.6 14.8 5 12 5S7 6 7 8.2c0 4.6 10 2.4 10 7.3 0 2.3-2.2 3.5-5 3.5s-5-1-5-3",
  datasets: "M4 6c0-1.7 3.6-3 8-3s8 1.3 8 3-3.6 3-8 3-8-1.3-8-3zM4 6v12c0 1.7 3.6 3 8 3s8-1.3 8-3V6M4 12c0 1.7 3.6 3 8 3s8-1.3 8-3",
  system: "M4 7h10M18 7h2M4 17h2M10 17h10M14 4v6M8 14v6",
  search: "M10.5 4a6.5 6.5 0 1 1 0 13 6.5 6.5 0 0 1 0-13zM15.5 15.5L21 21",
  close: "M6 6l12 12M18 6L6 18",
  sun: "M12 8a4 4 0 1 1 0 8 4 4 0 0 1 0-8zM12 2v3M12 19v3M2 12h3M19 12h3M5 5l2 2M17 17l2 2M5 19l2-2M17 7l2-2",
  moon: "M20 14.5A8.5 8.5 0 1 1 9.5 4 7 7 0 0 0 20 14.5z",
  auto: "M12 3a9 9 0 1 0 0 18zM12 3a9 9 0 0 1 0 18",
  check: "M4 12.5l5 5L20 6.5",
  warn: "M12 4L2.5 20h19zM12 10v4M12 17v.5",
  cross: "M7 7l10 10M17 7L7 17",
  live: "M12 10a2 2 0 1 1 0 4 2 2 0 0 1 0-4zM7.5 7.5a6.4 6.4 0 0 0 0 9M16.5 7.5a6.4 6.4 0 0 1 0 9M4.5 4.5a10.6 10.6 0 0 0 0 15M19.5 4.5a10.6 10.6 0 0 1 0 15",
  download: "M12 4v11M7 11l5 5 5-5M4 20h16",
  copy: "M9 9h11v11H9zM5 15H4V4h11v1",
  play: "M7 4l13 8-13 8z",
  plus: "M12 5v14M5 12h14",
  left: "M15 5l-7 7 7 7",
  right: "M9 5l7 7-7 7",
  filter: "M4 5h16l-6 8v6l-4-2v-4z",
  columns: "M4 5h16v14H4zM10 5v14M15 5v14",
  refresh: "M20 11a8 8 0 1 0-2 6M20 5v6h-6",
  key: "M8 12a4 4 0 1 1 0 .1zM12 12h9M18 12v4M15 12v3",
  help: "M9 9a3 3 0 1 1 4.5 2.6c-1 .6-1.5 1.2-1.5 2.4M12 18v.5",
  menu: "M4 7h16M4 12h16M4 17h16",
  dots: "M5 12h.5M12 12h.5M19 12h.5",
};

export function Icon({ name, size = 16 }: { name: string; size?: number }) {
  return (
    <svg class="icon" width={size} height={size} viewBox="0 0 24 24" aria-hidden="true" focusable="false">
      <path d={PATHS[name] ?? PATHS.dots} />
    </svg>
  );
}
