// Shows how good a password is while it is typed. The server judges; without this script it judges on sending.
"use strict";
for (const field of document.querySelectorAll("[data-strength]")) {
  const input = field.querySelector("input");
  const line = field.querySelector(".strength");
  const meter = line.querySelector("meter");
  const words = line.querySelector("span");
  let timer = 0;
  let asked = 0;
  const ask = async () => {
    const number = ++asked;
    try {
      const answer = await fetch("/auth/strength", {
        method: "POST",
        headers: { "Content-Type": "application/json" },
        body: JSON.stringify({ password: input.value }),
      });
      if (!answer.ok || number !== asked) return;
      const found = await answer.json();
      meter.value = found.score;
      words.textContent = found.fault || found.word[0].toUpperCase() + found.word.slice(1) + ".";
      line.hidden = !input.value;
    } catch {
      line.hidden = true;
    }
  };
  input.addEventListener("input", () => {
    clearTimeout(timer);
    line.hidden = line.hidden || !input.value;
    if (input.value) timer = setTimeout(ask, 300);
  });
}
