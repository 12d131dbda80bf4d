// Asks for the token, once; afterwards the browser has a cookie that scripts cannot read.
import type { JSX } from "preact";
import { useState } from "preact/hooks";
import { send, words } from "../api.ts";
import { Text } from "../widgets/text.tsx";

export function Login() {
  const [trouble, setTrouble] = useState<string | null>(null);
  const [busy, setBusy] = useState(false);
  const submit = async (event: JSX.TargetedSubmitEvent<HTMLFormElement>) => {
    event.preventDefault();
    const field = (event.currentTarget).elements.namedItem("token") as HTMLInputElement;
    setBusy(true);
    try {
      await send("POST", "/v1/session", { token: field.value });
      location.reload();
    } catch (error) {
      setTrouble(words(error));
      setBusy(false);
      field.focus();
      field.select();
    }
  };
  return (
    <main class="login" id="main">
      <form class="card" onSubmit={submit}>
        <h1><img src="/page/icon.svg" alt="" width="28" height="28" /> eyewitness</h1>
        <p>This service wants to know who you are.</p>
        <label for="token">Token</label>
        <input id="token" name="token" type="password" autocomplete="current-password" required autofocus aria-invalid={trouble ? true : undefined} aria-describedby="login-trouble" />
        <p id="login-trouble" class="trouble" role="alert">{trouble && <Text of={trouble} />}</p>
        <button class="primary" disabled={busy}>Open</button>
        <p class="quiet">It stands under <code>http.token</code> or <code>[http.users]</code> in the configuration of the service. Whoever runs the service has it.</p>
      </form>
    </main>
  );
}
