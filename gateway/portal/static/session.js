// Tells in time that the session ends, and goes on with it when asked to. The tabs of a browser share its session, and what is known of it.
"use strict";
const SHARED = "tahoe-session";
const LONGEST = 2 ** 31 - 1; // of a timer
const told = document.querySelector("#session-end");
const [idle, left, notice] = ["idle", "left", "notice"].map((name) => told.dataset[name] * 1000);
const end = Date.now() + left;
let timer, before;

const known = () => JSON.parse(localStorage.getItem(SHARED)) ?? { seen: 0, end };

const show = (when) => {
  const hides = told.contains(document.activeElement);
  for (const one of told.children) one.hidden = one.dataset.when !== when;
  if (hides) before?.focus();
};

const look = () => {
  const { seen, end } = known();
  const rest = Math.min(seen + idle, end) - Date.now();
  if (rest <= 0) show("over");
  else if (rest <= notice) show(end < seen + idle ? "last" : "idle");
  else show("");
  clearTimeout(timer);
  if (rest > 0) timer = setTimeout(look, Math.min(rest > notice ? rest - notice : rest, LONGEST));
};

const used = (end) => {
  localStorage.setItem(SHARED, JSON.stringify({ seen: Date.now(), end }));
  look();
};

told.addEventListener("focusin", (event) => {
  if (!told.contains(event.relatedTarget)) before = event.relatedTarget;
});
told.querySelector("button").addEventListener("click", async () => {
  const answer = await fetch("/account", { method: "HEAD", redirect: "manual" }); // any page: to ask for one is to use it
  if (answer.ok) used(known().end);
  else if (answer.type === "opaqueredirect") show("over");
});
addEventListener("storage", (event) => event.key === SHARED && look());
document.addEventListener("visibilitychange", look); // a machine that slept has not counted
used(end);
