// Passkeys: made on the security page or to join, used to sign in, in the second step, to confirm and to consent. All else works without a script.
"use strict";

const send = async (path, body) => {
  const answer = await fetch(path, {
    method: "POST",
    headers: { "Content-Type": "application/json", Accept: "application/json" },
    body: JSON.stringify(body),
  });
  const found = await answer.json().catch(() => ({}));
  if (!answer.ok) throw Object.assign(new Error(found.detail || "This did not work. Try again."), { told: true, code: found.code });
  return found;
};

const link = document.querySelector("[data-passkey=join]")?.dataset.link; // the page may stand at a provider's way back

const ways = {
  login: {
    options: "/auth/passkey/options",
    answer: "/auth/passkey",
    more: (part) => ({ next: part.dataset.next }),
  },
  second: {
    options: "/auth/mfa/passkey/options",
    answer: "/auth/mfa/passkey",
    more: () => ({ trust: document.querySelector("#trust-passkey")?.checked || document.querySelector("#trust")?.checked || false }),
  },
  confirm: {
    options: "/account/confirm/passkey/options",
    answer: "/account/confirm/passkey",
    more: (part) => ({ next: part.dataset.next }),
  },
  connect: { options: "/auth/connect/passkey/options", answer: "/auth/connect/passkey", more: () => ({}) },
  join: {
    options: `${link}/passkey/options`,
    answer: `${link}/passkey`,
    more: () => ({ name: document.querySelector("#name").value }),
  },
  make: {
    options: "/account/passkeys/options",
    answer: "/account/passkeys",
    more: (part) => ({ name: part.querySelector("input").value }),
  },
};

const makes = (kind) => kind === "make" || kind === "join";

let waiting = null; // what the browser offers in the address field; a button takes its place

const ask = async (part, kind, mediation) => {
  const way = ways[kind];
  const options = await send(way.options, {});
  const home = options.rp?.id ?? options.rpId;
  if (location.hostname !== home) throw Object.assign(new Error(), { home });
  waiting?.abort();
  waiting = new AbortController();
  const credential =
    makes(kind)
      ? await navigator.credentials.create({ publicKey: PublicKeyCredential.parseCreationOptionsFromJSON(options), signal: waiting.signal })
      : await navigator.credentials.get({ publicKey: PublicKeyCredential.parseRequestOptionsFromJSON(options), mediation, signal: waiting.signal });
  const found = await send(way.answer, { credential: credential.toJSON(), ...way.more(part) });
  location.assign(found.location);
};

const supported = "PublicKeyCredential" in window && "parseRequestOptionsFromJSON" in PublicKeyCredential;
for (const part of supported ? document.querySelectorAll("[data-passkey]") : []) {
  const kind = part.dataset.passkey;
  const line = part.querySelector("[role=alert]");
  const tell = (error) => {
    if (error.name === "AbortError") return;
    if (error.code === "fresh_login_required") {
      location.assign("/account/confirm?next=/account/security");
      return;
    }
    line.textContent = error.told
      ? error.message
      : error.home
        ? `Passkeys belong to ${error.home}. Open this page there.`
        : error.name === "InvalidStateError"
          ? "This device has a passkey for you already."
          : makes(kind)
            ? "No passkey was made. Try again."
            : "No passkey was used. Try again, or go on in another way.";
    line.hidden = false;
  };
  part.hidden = false;
  part.querySelector("button").addEventListener("click", () => {
    line.hidden = true;
    if (kind === "join" && !document.querySelector("#name").reportValidity()) return;
    ask(part, kind).catch(tell);
  });
  if (kind === "login") {
    PublicKeyCredential.isConditionalMediationAvailable?.().then((can) => {
      if (can) ask(part, kind, "conditional").catch((error) => error.told && tell(error));
    });
  }
}
