// Loading with manners: old data stay while new ones come, a card that fails says so and the others go on.
import { useEffect, useRef, useState } from "preact/hooks";
import { get, locked } from "./api";

export interface Loaded<T> {
  data: T | null;
  error: Error | null;
  loading: boolean;
  reload: () => void;
}

type Params = Record<string, string | number | null | undefined>;

/**
 * The answer to a GET. `key` says when it must be asked again; `params` are read at that moment (so that "the last 24
 * hours" move on). `every`: milliseconds between refreshes while the page is visible, 0 for none. `shape` makes of the
 * answer what is kept.
 */
export function useLoad<T, Raw = T>(
  path: string | null,
  params: () => Params,
  key: string,
  every = 0,
  shape: (raw: Raw, asked: Params) => T = (raw) => raw as unknown as T,
): Loaded<T> {
  const [state, setState] = useState<{ data: T | null; error: Error | null; loading: boolean }>({
    data: null,
    error: null,
    loading: true,
  });
  const [turn, setTurn] = useState(0);
  const fresh = useRef(params);
  fresh.current = params;

  useEffect(() => {
    if (path === null) return;
    const abort = new AbortController();
    setState((old) => ({ ...old, loading: true }));
    const asked = fresh.current();
    get<Raw>(path, asked, abort.signal)
      .then((raw) => setState({ data: shape(raw, asked), error: null, loading: false }))
      .catch((error: Error) => {
        if (error.name !== "AbortError") setState((old) => ({ data: old.data, error, loading: false }));
      });
    return () => abort.abort();
  }, [path, key, turn, locked.value]);

  useEffect(() => {
    if (!every) return;
    const timer = setInterval(() => {
      if (document.visibilityState === "visible") setTurn((n) => n + 1);
    }, every);
    return () => clearInterval(timer);
  }, [every]);

  return { ...state, reload: () => setTurn((n) => n + 1) };
}
