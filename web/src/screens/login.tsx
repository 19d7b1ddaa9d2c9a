// Signing in with a key of the engine. The key is sent once and kept nowhere on this page: a cookie takes its place.
import { useState } from "preact/hooks";
import { signIn } from "../lib/session";
import { Field } from "../ui/basics";
import { Icon } from "../ui/icons";

export function Login() {
  const [key, setKey] = useState("");
  const [problem, setProblem] = useState<string | null>(null);
  const submit = async () => {
    try {
      await signIn(key);
    } catch (error) {
      setProblem((error as Error).message);
    }
    setKey("");
  };
  return (
    <main class="login">
      <form
        class="card"
        onSubmit={(e) => {
          e.preventDefault();
          void submit();
        }}
      >
        <h1>
          <Icon name="key" size={20} /> Sign in
        </h1>
        <p>This engine asks for a key. One that may read traces shows everything; changes need an admin key.</p>
        <Field label="Key">
          <input type="password" autocomplete="current-password" required value={key} onInput={(e) => setKey(e.currentTarget.value)} />
        </Field>
        {problem && (
          <p class="bad-text" role="alert">
            {problem}
          </p>
        )}
        <button type="submit" class="primary">
          Sign in
        </button>
      </form>
    </main>
  );
}
