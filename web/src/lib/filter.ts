// The filter of the traces: the text of the query bar and the time, as the address says them.
import { bounds, range } from "./time";
import { param, params, set } from "./url";

export const query = () => param("q");
export const setQuery = (q: string) => set({ q: q.trim() || null, open: null });

/** The filter as the engine takes it. */
export const filter = () => ({ q: query(), ...bounds() });
export const filterKey = () => `${query()} ${range.value} ${params.value.get("since")} ${params.value.get("until")}`;
