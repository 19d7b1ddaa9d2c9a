// Who looks at this page, and what the engine can do. Loaded once, again after signing in.
import { signal } from "@preact/signals";
import { get, locked, send } from "./api";
import { spread } from "./colors";
import type { Session } from "./types";

export const session = signal<Session | null>(null);
export const sessionError = signal<Error | null>(null);

export async function loadSession() {
  try {
    const fresh = await get<Session>("/v1/dashboard/session");
    spread([...fresh.seen, ...fresh.models.filter((name) => name.includes("/"))]);
    session.value = fresh;
    sessionError.value = null;
    locked.value = session.value.keys_required && !session.value.signed_in;
  } catch (error) {
    sessionError.value = error as Error;
  }
}

export async function signIn(key: string) {
  await send("POST", "/v1/dashboard/login", { key });
  await loadSession();
}

export async function signOut() {
  await send("POST", "/v1/dashboard/logout");
  session.value = null;
  await loadSession();
}

export const may = (scope: string) => Boolean(session.value?.scopes.includes(scope) || session.value?.scopes.includes("admin"));
