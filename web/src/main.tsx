// The frame around the screens: navigation, theme, palette, keyboard. Everything else stands in screens/.
import { Component, render, type ComponentChildren } from "preact";
import { useState } from "preact/hooks";
import { locked } from "./lib/api";
import { useKeys } from "./lib/keys";
import { loadSession, session, sessionError, signOut } from "./lib/session";
import { setTheme, theme } from "./lib/theme";
import { message } from "./lib/toast";
import { stepRange } from "./lib/time";
import { go, item, link, onLink, screen } from "./lib/url";
import { Datasets } from "./screens/datasets";
import { Login } from "./screens/login";
import { Overview } from "./screens/overview";
import { Playground } from "./screens/playground";
import { RoutingScreen } from "./screens/routing";
import { SpendScreen } from "./screens/spend";
import { System } from "./screens/system";
import { TracePage } from "./screens/trace";
import { Traces } from "./screens/traces";
import { Failed, Screen } from "./ui/basics";
import { Icon } from "./ui/icons";
import { Help, Palette } from "./ui/palette";

const SCREENS: Array<[string, string, string, string]> = [
  ["overview", "Overview", "/", "o"],
  ["traces", "Traces", "/traces", "t"],
  ["routing", "Routing", "/routing", "r"],
  ["playground", "Playground", "/playground", "p"],
  ["spend", "Spend & keys", "/spend", "s"],
  ["datasets", "Datasets", "/datasets", "d"],
  ["system", "System", "/system", "y"],
];

/** What a bug in one screen may take away: that screen, and nothing else. */
class Guard extends Component<{ children: ComponentChildren; name: string }, { error: Error | null }> {
  state = { error: null as Error | null };
  static getDerivedStateFromError(error: Error) {
    return { error };
  }
  render() {
    return this.state.error ? <Failed error={this.state.error} again={() => this.setState({ error: null })} /> : this.props.children;
  }
}

function Page() {
  switch (screen.value) {
    case "overview":
      return <Overview />;
    case "traces":
      return item.value ? <TracePage key={item.value} id={item.value} /> : <Traces />;
    case "routing":
      return <RoutingScreen />;
    case "playground":
      return <Playground />;
    case "spend":
      return <SpendScreen />;
    case "datasets":
      return <Datasets />;
    case "system":
      return <System />;
    default:
      return (
        <Screen title="Nothing here">
          <p>
            There is no such page. <a href="/">Overview</a>
          </p>
        </Screen>
      );
  }
}

const THEMES = { system: ["auto", "dark"], dark: ["moon", "light"], light: ["sun", "system"] } as const;

function Navigation({ palette, help }: { palette: () => void; help: () => void }) {
  const [icon, following] = THEMES[theme.value];
  return (
    <nav class="nav" aria-label="Screens">
      <a class="brand" href={link("/")}>
        <svg viewBox="0 0 24 24" width="22" height="22" aria-hidden="true">
          <path class="brand-line" d="M3 18L9 7l4 7 3-5 5 9" />
        </svg>
        <span>OpenTracy</span>
      </a>
      <ul>
        {SCREENS.map(([id, name, path]) => (
          <li key={id}>
            <a href={link(path)} aria-current={screen.value === id ? "page" : undefined}>
              <Icon name={id} />
              <span>{name}</span>
            </a>
          </li>
        ))}
      </ul>
      <div class="nav-foot">
        <button type="button" onClick={palette}>
          <Icon name="search" />
          <span>Go to</span> <kbd>Ctrl K</kbd>
        </button>
        <button type="button" onClick={() => setTheme(following)} aria-label={`Theme: ${theme.value}. Change to ${following}`}>
          <Icon name={icon} />
          <span>{theme.value}</span>
        </button>
        <button type="button" onClick={help}>
          <Icon name="help" />
          <span>Keys</span>
        </button>
        {session.value?.keys_required && session.value.signed_in && (
          <button type="button" onClick={() => void signOut()}>
            <Icon name="key" />
            <span class="cut">Sign out {session.value.key_id}</span>
          </button>
        )}
      </div>
    </nav>
  );
}

function App() {
  const [dialog, setDialog] = useState<"palette" | "help" | null>(null);
  useKeys({
    "mod+k": () => setDialog("palette"),
    "?": () => setDialog("help"),
    ...Object.fromEntries(SCREENS.map(([, , path, key]) => [`g ${key}`, () => go(link(path))])),
    "[": () => stepRange(-1),
    "]": () => stepRange(1),
  });

  if (locked.value) return <Login />;
  if (!session.value) {
    return <main class="login">{sessionError.value ? <Failed error={sessionError.value} again={() => void loadSession()} /> : null}</main>;
  }
  return (
    <div class="frame" onClick={onLink}>
      <a class="skip" href="#main">
        Skip to the content
      </a>
      <Navigation palette={() => setDialog("palette")} help={() => setDialog("help")} />
      <main id="main" tabIndex={-1}>
        <Guard key={screen.value + item.value} name={screen.value}>
          <Page />
        </Guard>
      </main>
      <datalist id="models">
        {session.value.models.map((m) => (
          <option key={m} value={m} />
        ))}
      </datalist>
      {dialog === "palette" && <Palette close={() => setDialog(null)} />}
      {dialog === "help" && <Help close={() => setDialog(null)} />}
      <div class="toasts" role="status">
        {message.value && <p class={`toast ${message.value.tone}`}>{message.value.text}</p>}
      </div>
    </div>
  );
}

void loadSession(); // an effect would wait for the first frame
render(<App />, document.getElementById("app")!);
