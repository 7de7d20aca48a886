// A button at every password that shows what was typed, and a word when Caps Lock is on. All works without.
"use strict";
for (const input of document.querySelectorAll("input[type=password]")) {
  const name = document.querySelector(`label[for="${input.id}"]`).textContent;
  const frame = document.createElement("div");
  const button = document.createElement("button");
  const caps = document.createElement("p");
  frame.className = "shown";
  button.type = "button";
  button.setAttribute("aria-controls", input.id);
  caps.className = "hint";
  caps.setAttribute("role", "status");

  const show = (shown) => {
    input.type = shown ? "text" : "password";
    button.textContent = shown ? "Hide" : "Show";
    button.setAttribute("aria-label", `${button.textContent}: ${name}`);
  };
  const focused = document.activeElement === input;
  input.before(frame);
  frame.append(input, button);
  frame.after(caps);
  if (focused) input.focus(); // which moving it has ended
  show(false);
  button.addEventListener("click", () => show(input.type === "password"));
  input.form.addEventListener("submit", () => show(false)); // a shown one would be offered again as a text
  for (const kind of ["keydown", "keyup"]) {
    input.addEventListener(kind, (event) => {
      caps.textContent = event.getModifierState?.("CapsLock") ? "Caps Lock is on." : "";
    });
  }
  input.addEventListener("blur", () => (caps.textContent = ""));
}
