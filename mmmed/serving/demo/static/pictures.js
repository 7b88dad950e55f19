// The pictures of the question: sent, shown through a window, in the order in which the model sees them.

import { explain, request } from "./requests.js";

const byId = (id) => document.getElementById(id);
const pictures = [];
let current = null;
let drawing = 0;
let glowing = null;

export function shownPictures() {
  // The oldest first: priors stand before what they are compared with.
  const ordered = [...pictures].sort((one, other) => (other.role === "prior") - (one.role === "prior"));
  return ordered.map(({ code, frame, center, span }) => ({ code, frame, center, width: span }));
}

export function codeOfShown() {
  return current?.code;
}

function address(picture) {
  const query = new URLSearchParams({ frame: picture.frame });
  if (picture.center !== null) {
    query.set("center", picture.center);
    query.set("width", picture.span);
  }
  return `/demo/pictures/${picture.code}?${query}`;
}

async function send(files) {
  const status = byId("sending");
  for (const file of files) {
    status.textContent = "Sending a picture …";
    status.classList.remove("fault");
    try {
      // The content alone is sent: names of files may be names of patients.
      const body = await file.arrayBuffer();
      const answer = await request("/demo/pictures", { method: "POST", body, headers: { "Content-Type": "application/octet-stream" } });
      const picture = { ...(await answer.json()), role: "current", frame: 0, center: null, span: null };
      pictures.push(picture);
      status.textContent = "";
      choose(picture);
    } catch (error) {
      status.textContent = explain(error);
      status.classList.add("fault");
    }
  }
  drawStrip();
}

function drawStrip() {
  byId("strip").replaceChildren(
    ...pictures.map((picture, number) => {
      const item = document.createElement("li");
      const button = document.createElement("button");
      button.type = "button";
      button.setAttribute("aria-pressed", String(picture === current));
      const image = document.createElement("img");
      image.src = picture.thumb ?? address(picture);
      image.alt = "";
      const words = document.createElement("span");
      words.textContent = `${number + 1}: ${picture.role}`;
      button.append(image, words);
      button.addEventListener("click", () => choose(picture));
      item.append(button);
      return item;
    }),
  );
}

function choose(picture) {
  current = picture;
  byId("viewer").hidden = !picture;
  clearHeat();
  if (!picture) return drawStrip();
  byId("role").value = picture.role;
  const frames = picture.frames.length;
  byId("frame-control").hidden = frames < 2;
  byId("frame").max = frames - 1;
  byId("frame").value = picture.frame;
  const kept = picture.frames_in_file > frames ? `, ${frames} of ${picture.frames_in_file} frames` : frames > 1 ? `, ${frames} frames` : "";
  byId("about").textContent = `${picture.kind}${picture.modality ? ` ${picture.modality}` : ""}, ${picture.width} × ${picture.height} pixels${kept}`;
  setWindow(picture);
  draw();
  drawStrip();
}

function setWindow(picture) {
  byId("window").hidden = !picture.range;
  if (!picture.range) return;
  const [low, high] = picture.range;
  const reach = Math.max(high - low, 1e-3);
  const choices = [["as in the file", null, null], ["whole range", (low + high) / 2, reach]];
  for (const preset of picture.presets) choices.push([preset.name, preset.center, preset.width]);
  picture.choices = choices;
  byId("preset").replaceChildren(
    ...choices.map(([name], number) => new Option(name, String(number))),
    new Option("by hand", "hand"),
  );
  const found = choices.findIndex(([, center, span]) => center === picture.center && span === picture.span);
  byId("preset").value = found < 0 ? "hand" : String(found);
  const step = reach > 50 ? 1 : reach / 200;
  Object.assign(byId("center"), { min: low, max: high, step });
  Object.assign(byId("width"), { min: step, max: reach * 1.5, step });
  const [center, width] = picture.center !== null ? [picture.center, picture.span] : picture.window ?? [(low + high) / 2, reach];
  byId("center").value = center;
  byId("width").value = width;
  tell();
}

function tell() {
  const short = (value) => Number(value).toLocaleString("en", { maximumFractionDigits: 2 });
  byId("center-value").textContent = short(byId("center").value);
  byId("width-value").textContent = short(byId("width").value);
  byId("frame-value").textContent = current ? String(current.frames[current.frame] + 1) : "";
}

function draw() {
  tell();
  // Sliders move faster than pictures come.
  clearTimeout(drawing);
  drawing = setTimeout(() => {
    const number = pictures.indexOf(current) + 1;
    byId("shown").src = address(current);
    byId("shown").alt = `Picture ${number}, ${current.role}`;
    if (!current.thumb) current.thumb = address(current);
  }, 120);
}

function byHand() {
  byId("preset").value = "hand";
  current.center = Number(byId("center").value);
  current.span = Number(byId("width").value);
  clearHeat();
  draw();
}

// A loss of log-likelihood that does not glow fully, or noise would where nothing matters.
const FAINT = 0.05;

export function drawHeat(drops) {
  // What weakens the answer when it is hidden glows; what does not stays dark.
  glowing = drops;
  const canvas = byId("heat");
  const image = byId("shown");
  const grid = drops.length;
  const most = Math.max(...drops.flat(), FAINT);
  Object.assign(canvas, { width: image.clientWidth, height: image.clientHeight });
  canvas.style.width = `${image.clientWidth}px`;
  canvas.style.height = `${image.clientHeight}px`;
  const context = canvas.getContext("2d");
  context.clearRect(0, 0, canvas.width, canvas.height);
  drops.forEach((row, y) =>
    row.forEach((drop, x) => {
      context.fillStyle = `rgba(255, 120, 0, ${Math.max(0, drop / most)})`;
      const left = Math.round((x * canvas.width) / grid);
      const top = Math.round((y * canvas.height) / grid);
      context.fillRect(left, top, Math.ceil(canvas.width / grid), Math.ceil(canvas.height / grid));
    }),
  );
  canvas.hidden = false;
}

export function clearHeat() {
  glowing = null;
  byId("heat").hidden = true;
}

export function listen() {
  const drop = byId("drop");
  byId("files").addEventListener("change", (event) => {
    send([...event.target.files]);
    event.target.value = "";
  });
  for (const name of ["dragover", "dragleave", "drop"]) {
    drop.addEventListener(name, (event) => {
      event.preventDefault();
      drop.classList.toggle("over", name === "dragover");
      if (name === "drop") send([...event.dataTransfer.files]);
    });
  }
  byId("role").addEventListener("change", (event) => {
    current.role = event.target.value;
    drawStrip();
  });
  byId("frame").addEventListener("input", (event) => {
    current.frame = Number(event.target.value);
    clearHeat();
    draw();
  });
  byId("preset").addEventListener("change", (event) => {
    if (event.target.value === "hand") return byHand();
    [, current.center, current.span] = current.choices[Number(event.target.value)];
    setWindow(current);
    clearHeat();
    draw();
  });
  byId("center").addEventListener("input", byHand);
  byId("width").addEventListener("input", byHand);
  byId("remove").addEventListener("click", async () => {
    const gone = current;
    pictures.splice(pictures.indexOf(gone), 1);
    choose(pictures[0] ?? null);
    byId(pictures.length ? "remove" : "files").focus();
    await request(`/demo/pictures/${gone.code}`, { method: "DELETE" }).catch(() => {});
  });
  window.addEventListener("resize", () => glowing && drawHeat(glowing));
}
