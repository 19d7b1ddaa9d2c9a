// The range picker of a screen.
import { clock } from "../lib/format";
import { fixed, RANGES, range, setRange } from "../lib/time";
import { set } from "../lib/url";
import { Icon } from "./icons";

export function RangePicker() {
  return (
    <div class="range" role="group" aria-label="Time range">
      {fixed.value && (
        <span class="chip accent num">
          {clock(fixed.value.since).slice(5, 16)} – {clock(fixed.value.until).slice(5, 16)}
          <button type="button" aria-label="Back to the running range" onClick={() => set({ since: null, until: null })}>
            <Icon name="close" size={12} />
          </button>
        </span>
      )}
      <div class="segments">
        {RANGES.map((name) => (
          <button type="button" key={name} aria-pressed={!fixed.value && range.value === name} onClick={() => setRange(name)}>
            {name}
          </button>
        ))}
      </div>
    </div>
  );
}
