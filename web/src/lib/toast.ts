// One line that says what just happened, and goes away by itself.
import { signal } from "@preact/signals";

export const message = signal<{ text: string; tone: string; at: number } | null>(null);
let timer: ReturnType<typeof setTimeout> | undefined;

export function toast(text: string, tone = "ok") {
  message.value = { text, tone, at: Date.now() };
  clearTimeout(timer);
  timer = setTimeout(() => (message.value = null), tone === "bad" ? 8_000 : 3_000);
}

/** Runs something and says how it went wrong, if it does. */
export async function attempt<T>(what: () => Promise<T>): Promise<T | null> {
  try {
    return await what();
  } catch (error) {
    toast((error as Error).message, "bad");
    return null;
  }
}
