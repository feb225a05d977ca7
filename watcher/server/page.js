// Asks for the page anew while somebody looks at it, and puts what has changed in its place.
"use strict";

const said = document.getElementById("said");
const every = 1000 * Number(document.body.dataset.every);

function shown(parent) {
  return [...parent.children].filter((each) => each.tagName !== "SCRIPT");
}

// What a reader has opened stays open, and where the keyboard is stays there.
function renewed(old, fresh) {
  for (const each of fresh.querySelectorAll("details[id]")) {
    const before = old.querySelector(`#${each.id}`);
    if (before) each.open = before.open;
  }
  const focus = old.contains(document.activeElement) && document.activeElement.getAttribute("href");
  old.replaceWith(fresh);
  if (focus) fresh.querySelector(`a[href="${CSS.escape(focus)}"]`)?.focus();
}

async function renew() {
  const answer = await fetch(location.href, { headers: { "If-None-Match": `"${document.body.dataset.mark}"` } });
  const text = await answer.text();
  if (answer.status === 304) return;
  if (!answer.ok) throw new Error(String(answer.status));
  const fresh = new DOMParser().parseFromString(text, "text/html");
  const before = document.getElementById("answer").textContent;
  const main = document.querySelector("main");
  const [old, next] = [shown(main), shown(fresh.querySelector("main"))];
  if (old.length === next.length) {
    old.forEach((each, place) => {
      if (each.outerHTML !== next[place].outerHTML) renewed(each, document.importNode(next[place], true));
    });
  } else {
    renewed(main, document.importNode(fresh.querySelector("main"), true));
  }
  document.title = fresh.title;
  document.body.dataset.mark = fresh.body.dataset.mark;
  const now = document.getElementById("answer").textContent;
  if (now !== before) said.textContent = `Now: ${now}`;
}

let lost = false;
setInterval(async () => {
  if (document.hidden) return;
  try {
    await renew();
    if (lost) said.textContent = "Up to date again.";
    lost = false;
  } catch {
    if (!lost) said.textContent = `Not up to date: watcher has not answered since ${new Date().toLocaleTimeString()}.`;
    lost = true;
  }
}, every);
