// A button at every secret that is shown once, which copies it. All works without: a click selects the whole.
"use strict";
for (const secret of navigator.clipboard ? document.querySelectorAll(".secret") : []) { // on https and localhost alone
  const button = document.createElement("button");
  button.type = "button";
  button.className = "small copy";
  button.textContent = "Copy";
  secret.after(button);
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(secret.textContent);
      button.textContent = "Copied";
    } catch {
      button.textContent = "Not copied: select it";
    }
    setTimeout(() => (button.textContent = "Copy"), 3000);
  });
}
