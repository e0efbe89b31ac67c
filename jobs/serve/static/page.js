// Marks, keys and the box that is drawn. Pages work without it, but for what changes something.
"use strict";

const said = document.getElementById("said");
const classes = document.getElementById("class");
const tell = (text) => { said.textContent = text; };

async function ask(address, options) {
  const answer = await fetch(address, options);
  const told = await answer.json().catch(() => ({ error: `answered ${answer.status}` }));
  if (!answer.ok) throw new Error(told.error);
  return told;
}

// One after the other, in the order of the keys: undo is of the mark before it, training with it.
let last = Promise.resolve(), waiting = 0;

function post(address, content, onlyAfterSuccess = false) {
  const send = () => ask(address, {
    method: "POST",
    headers: { "content-type": "application/json", "x-spp": "1" },
    body: JSON.stringify(content),
  });
  const mine = last.then(send, (error) => { if (onlyAfterSuccess) throw error; return send(); });
  const done = () => {
    waiting -= 1;
    if (last === mine) last = Promise.resolve(); // whoever comes now has seen how it ended
  };
  waiting += 1;
  last = mine;
  mine.then(done, done);
  return mine;
}

async function go(address) {
  await last.catch(() => {});
  location.href = address;
}

// What was not sent yet would be lost: the browser asks whether to leave.
window.addEventListener("beforeunload", (event) => { if (waiting) event.preventDefault(); });

function failed(error) {
  tell(error instanceof TypeError ? "the server does not answer: nothing was kept" : error.message);
}

// --- the class that is taught --------------------------------------------------------------------

function choose(key) {
  document.cookie = `spp_class=${encodeURIComponent(key)}; path=/; max-age=31536000; samesite=strict`;
}

async function begin() {
  const name = window.prompt("What is the class called?");
  if (!name || !name.trim()) { classes.value = classes.dataset.chosen; return; }
  try {
    choose((await post("/classes", { name })).key);
    location.reload();
  } catch (error) { failed(error); classes.value = classes.dataset.chosen; }
}

classes.addEventListener("change", () => {
  if (classes.value === "+") { begin(); return; }
  choose(classes.value);
  location.reload();
});

const who = document.getElementById("who");
who.addEventListener("change", () => {
  document.cookie = `spp_who=${encodeURIComponent(who.value.trim())}; path=/; max-age=31536000; samesite=strict`;
});

// --- yes and no ----------------------------------------------------------------------------------

// Boxes as they are kept, in float32, however they are written.
const isSame = (text, box) => text.split(",").every((edge, k) => Math.fround(edge) === Math.fround(box[k]));

function paint(image, box, verdict) {
  for (const hit of document.querySelectorAll(".hit")) {
    if (hit.dataset.image !== image || !hit.dataset.box || !isSame(hit.dataset.box, box)) continue;
    hit.classList.remove("yes", "no");
    if (verdict) hit.classList.add(verdict);
  }
}

async function mark(hit, verdict) {
  const key = classes.dataset.chosen;
  if (!key) { tell("choose a class first, or begin a new one"); classes.focus(); return; }
  if (!hit.dataset.box) { tell("there is no box yet"); return; }
  const { image, from } = hit.dataset, box = hit.dataset.box.split(",").map(Number);
  try {
    const told = await post("/mark", { key, image_id: image, box, verdict, from });
    paint(image, box, verdict);
    tell(`${verdict}: ${told.yes} yes, ${told.no} no`);
  } catch (error) { failed(error); }
}

async function undo() {
  const key = classes.dataset.chosen;
  if (!key) return;
  try {
    const told = await post("/undo", { key }, true);
    for (const taken of told.taken) paint(...taken);
    tell(`taken back; ${told.yes} yes, ${told.no} no`);
  } catch (error) { failed(error); }
}

async function retrain() {
  const key = classes.dataset.chosen;
  if (!key) { tell("choose a class first"); return; }
  try {
    await post("/train", { key });
    for (;;) {
      const told = await ask(`/training?key=${encodeURIComponent(key)}`);
      tell(told.text);
      if (told.state === "failed" || told.state === "none") return; // none: the server is another one
      if (told.state === "done") break;
      await new Promise((resolve) => setTimeout(resolve, 400));
    }
    await go(`/class?key=${encodeURIComponent(key)}`);
  } catch (error) { failed(error); }
}

document.addEventListener("click", (event) => {
  const hit = event.target.closest(".hit");
  if (hit && event.target.matches("button.yes")) mark(hit, "yes");
  if (hit && event.target.matches("button.no")) mark(hit, "no");
  if (event.target.matches("[data-does=retrain]")) retrain();
  if (event.target.matches("[data-does=undo]")) undo();
});

// --- keys ----------------------------------------------------------------------------------------

const hits = () => [...document.querySelectorAll(".hits .hit")];

function move(by) {
  const all = hits();
  if (!all.length) return;
  const now = all.indexOf(document.activeElement);
  const to = all[Math.min(all.length - 1, Math.max(0, now < 0 ? 0 : now + by))];
  to.focus();
  to.scrollIntoView({ block: "nearest" });
}

function perRow() {
  const all = hits();
  return Math.max(1, all.filter((each) => each.offsetTop === all[0].offsetTop).length);
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target.matches("input, select, textarea")) return;
  const hit = document.activeElement.closest(".hit") || document.getElementById("box");
  const does = {
    "/": () => document.getElementById("q").focus(),
    ArrowRight: () => move(1),
    ArrowLeft: () => move(-1),
    ArrowDown: () => move(perRow()),
    ArrowUp: () => move(-perRow()),
    y: () => hit && mark(hit, "yes"),
    n: () => hit && mark(hit, "no"),
    u: undo,
    r: retrain,
    w: () => document.getElementById("all-windows")?.click(),
    s: () => hit && hit.dataset.box && near(hit.dataset.image, hit.dataset.box),
    Enter: () => hit && hit.matches(".hits .hit") && go(hit.querySelector("a").href),
  }[event.key];
  if (!does || (event.key.startsWith("Arrow") && !hits().length)) return;
  if (event.key === "Enter" && event.target.matches("a, button")) return;
  event.preventDefault();
  does();
});

function near(image, box) {
  go(`/near?id=${encodeURIComponent(image)}&box=${box}`);
}

// --- one image: a box by drawing, or by clicking on windows ---------------------------------------

const figure = document.getElementById("image");
if (figure) {
  const width = Number(figure.dataset.width), height = Number(figure.dataset.height);
  const chosen = document.getElementById("chosen"), line = document.getElementById("box");
  const link = document.getElementById("near"), svg = figure.querySelector("svg");
  let held = null, start = null, at = null, under = [];

  const show = (box, text) => {
    line.dataset.box = box.join(",");
    line.classList.remove("yes", "no");
    chosen.removeAttribute("hidden");
    const [x, y, right, bottom] = box;
    for (const [name, value] of Object.entries({ x, y, width: right - x, height: bottom - y })) {
      chosen.setAttribute(name, value);
    }
    line.querySelector("output").textContent = `${text} ${box.map((edge) => Math.round(edge)).join(", ")}`;
    link.href = `/near?id=${encodeURIComponent(figure.dataset.id)}&box=${line.dataset.box}`;
    link.hidden = false;
    for (const button of line.querySelectorAll("button")) button.disabled = false;
  };

  const place = (event) => {
    const all = svg.getBoundingClientRect();
    const inside = (value, most) => Math.min(most, Math.max(0, value));
    return [inside((event.clientX - all.left) / all.width * width, width),
      inside((event.clientY - all.top) / all.height * height, height)];
  };

  const area = (box) => (box[2] - box[0]) * (box[3] - box[1]);

  const windows = () => held ??= ask(`/windows?id=${encodeURIComponent(figure.dataset.id)}`)
    .catch((error) => { held = null; throw error; });

  async function pick([x, y]) {
    const here = (await windows()).map((each) => each.box)
      .filter((box) => box[0] <= x && x < box[2] && box[1] <= y && y < box[3])
      .sort((one, other) => area(one) - area(other));
    if (!here.length) { tell("no window covers this"); return; }
    const again = at && Math.hypot(at[0] - x, at[1] - y) < 4 * width / svg.clientWidth;
    at = [x, y];
    under = again ? [...under.slice(1), under[0]] : here;
    show(under[0], "window");
  }

  svg.addEventListener("pointerdown", (event) => {
    start = place(event);
    svg.setPointerCapture(event.pointerId);
    event.preventDefault();
  });
  const drawn = (event) => {
    const [x, y] = place(event);
    return [Math.min(start[0], x), Math.min(start[1], y), Math.max(start[0], x), Math.max(start[1], y)];
  };
  const isBox = (box) => Math.min(box[2] - box[0], box[3] - box[1]) * svg.clientWidth / width > 5;
  svg.addEventListener("pointermove", (event) => {
    if (start && isBox(drawn(event))) show(drawn(event), "drawn");
  });
  svg.addEventListener("pointerup", (event) => {
    if (!start) return;
    const box = drawn(event);
    start = null;
    if (isBox(box)) show(box.map((edge) => Math.round(edge * 100) / 100), "drawn");
    else pick(place(event)).catch(failed);
  });
  for (const button of document.querySelectorAll("button.take")) {
    button.addEventListener("click", () => show(button.dataset.box.split(",").map(Number), button.textContent.trim()));
  }

  // All windows, as far as they can be told apart.
  const button = document.getElementById("all-windows"), many = document.getElementById("how-many");
  const lines = document.getElementById("windows");

  const rectOf = ({ box: [x, y, right, bottom] }) => {
    const rect = document.createElementNS(lines.namespaceURI, "rect");
    for (const [name, value] of Object.entries({ x, y, width: right - x, height: bottom - y, class: "window" })) {
      rect.setAttribute(name, value);
    }
    return rect;
  };

  async function draw() {
    const all = await windows(), most = Number(figure.dataset.most), drawn = lines.childElementCount > 0;
    lines.replaceChildren(...drawn ? [] : all.slice(0, most).map(rectOf));
    button.setAttribute("aria-pressed", !drawn);
    const first = all.length > most ? `the first ${most} of ` : "";
    many.textContent = drawn ? "" : `${first}${all.length.toLocaleString("en")} windows`;
  }
  button.addEventListener("click", () => draw().catch(failed));

  const given = new URLSearchParams(location.search).get("box");
  if (given) show(given.split(",").map(Number), "window");
}
