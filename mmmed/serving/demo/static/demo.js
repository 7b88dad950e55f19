// Questions and answers: streamed, with and without the pictures, with how sure the model is.

import { codeOfShown, drawHeat, listen, shownPictures } from "./pictures.js";
import { events, explain, post } from "./requests.js";

const byId = (id) => document.getElementById(id);
const room = byId("room");
const earlier = [];
let underWay = null;

function element(name, classes, text) {
  const made = document.createElement(name);
  if (classes) made.className = classes;
  if (text !== undefined) made.textContent = text;
  return made;
}

function laneOf(title) {
  const lane = element("div", "lane busy");
  const said = element("p", "said");
  lane.append(element("h3", "", title), said);
  return { lane, said };
}

function turnOf(question, pictures, withUnseen) {
  byId("log").querySelector(".empty")?.remove();
  const turn = element("article", "turn");
  turn.append(element("p", "asked", question));
  const lanes = element("div", "lanes");
  const seen = laneOf(pictures ? (pictures === 1 ? "With the picture" : `With the ${pictures} pictures`) : "Answer");
  lanes.append(seen.lane);
  const parts = { turn, lanes, seen };
  if (withUnseen) {
    parts.unseen = laneOf("Without");
    lanes.append(parts.unseen.lane);
  }
  turn.append(lanes);
  byId("log").append(turn);
  turn.scrollIntoView({ block: "nearest" });
  return parts;
}

function showPassages({ turn, lanes }, passages) {
  const list = element("ol", "passages");
  list.setAttribute("aria-label", "Passages");
  for (const { number, id, text } of passages) {
    const item = element("li");
    item.dataset.number = number;
    item.append(element("span", "", `[${number}] ${text} `), element("cite", "", `(${id})`));
    list.append(item);
  }
  turn.insertBefore(list, lanes);
}

function showEnd(parts, told) {
  const { lane, said } = parts[told.lane];
  lane.classList.remove("busy");
  if (told.decision !== "allow") {
    // What was shown before the rules spoke does not stand.
    said.textContent = told.words;
    said.classList.add("fault");
    return;
  }
  said.textContent = told.text || "(nothing)";
  if (told.cut) said.textContent += " …";
  if (told.unsure) {
    lane.insertBefore(element("p", "abstains", "Too unsure to answer"), said);
    const aside = element("details");
    aside.append(element("summary", "", "It would have said"), said);
    lane.append(aside);
  }
  const sure = element("p", "sure", `Confidence ${(100 * told.confidence).toFixed(0)} %`);
  sure.append(meterOf(told.confidence, "Confidence"));
  sure.title = told.options.length ? "probability of the chosen answer among those to choose from" : "mean probability of the words written";
  lane.append(sure);
  if (told.options.length) {
    const shares = element("ul", "shares");
    for (const { text, share } of told.options) {
      const item = element("li", "", `${text}: ${(100 * share).toFixed(1)} %`);
      item.append(meterOf(share, text));
      shares.append(item);
    }
    lane.append(shares);
  }
  for (const number of new Set([...told.text.matchAll(/\[(\d)\]/g)].map((found) => found[1]))) {
    parts.turn.querySelector(`.passages [data-number="${number}"]`)?.classList.add("used");
  }
}

function meterOf(value, words) {
  const meter = element("meter");
  Object.assign(meter, { min: 0, max: 1, value });
  meter.setAttribute("aria-label", words);
  return meter;
}

function compare({ turn, seen, unseen }, ended) {
  if (!unseen || !ended.seen || !ended.unseen) return;
  const same = ended.seen.text.trim().toLowerCase() === ended.unseen.text.trim().toLowerCase();
  const words = same
    ? "The answer is the same without the pictures: it does not show that they were looked at."
    : "Without the pictures the answer is another one.";
  turn.append(element("p", "difference", words));
}

function tools({ turn }, ended, pictures) {
  if (!ended?.answer) return;
  const row = element("div", "tools");
  const told = element("span", "hint");
  told.setAttribute("role", "status");
  if (pictures.length) {
    const map = element("button", "quiet", "Where does it look?");
    map.type = "button";
    map.addEventListener("click", () => carryOut(map, told, "Hiding one square after the other …", () => explainMap(ended, pictures)));
    row.append(map);
  }
  if (room.dataset.draft) {
    const draft = element("button", "quiet", "Make a draft for sign-off");
    draft.type = "button";
    draft.addEventListener("click", () => carryOut(draft, told, "Handing in …", () => handIn(ended, row)));
    row.append(draft);
  }
  row.append(told);
  turn.append(row);
}

async function carryOut(button, told, words, work) {
  button.disabled = true;
  told.textContent = words;
  try {
    told.textContent = await work();
  } catch (error) {
    told.textContent = explain(error);
  }
  button.disabled = false;
}

async function explainMap(ended, pictures) {
  const place = pictures.findIndex((one) => one.code === codeOfShown());
  if (place < 0) return "Show a picture of this question first.";
  const { drops } = await (await post("/demo/map", { answer: ended.answer, place })).json();
  drawHeat(drops);
  byId("viewer").scrollIntoView({ block: "nearest" });
  const most = Math.max(...drops.flat());
  const share = 100 * (1 - Math.exp(-most));
  if (share < 1) return "No square matters: hiding any of them makes no word of the answer 1 % less likely.";
  const row = drops.findIndex((one) => one.includes(most));
  return `Row ${row + 1}, column ${drops[row].indexOf(most) + 1} of ${drops.length} matters most: hidden, a word of the answer is ${Math.round(share)} % less likely.`;
}

async function handIn(ended, row) {
  const { path } = await (await post("/demo/drafts", { answer: ended.answer })).json();
  const link = element("a", "", "Open the draft");
  link.href = path;
  row.append(link);
  return "Handed in.";
}

async function ask(event) {
  event.preventDefault();
  const question = byId("question").value.trim();
  if (!question || underWay) return;
  const pictures = shownPictures();
  const unseen = byId("unseen").checked && pictures.length > 0;
  const options = byId("options").value.split(",").map((one) => one.trim()).filter(Boolean);
  const parts = turnOf(question, pictures.length, unseen);
  const ended = {};
  underWay = new AbortController();
  byId("send").disabled = true;
  byId("stop").hidden = false;
  byId("log").setAttribute("aria-busy", "true");
  try {
    const content = {
      question, pictures, options, unseen,
      passages: byId("passages")?.checked ?? false,
      earlier: byId("remember").checked ? earlier.slice(-8) : [],
    };
    for await (const told of events(await post("/demo/ask", content, underWay.signal))) {
      if (told.name === "passages") showPassages(parts, told.passages);
      if (told.name === "text") parts[told.lane].said.textContent += told.text;
      if (told.name === "fault") fail(parts[told.lane], told.detail);
      if (told.name === "ended") {
        ended[told.lane] = told;
        showEnd(parts, told);
      }
    }
    for (const one of [parts.seen, parts.unseen]) if (one?.lane.classList.contains("busy")) fail(one, "The answer broke off.");
    if (ended.seen?.decision === "allow") earlier.push({ question, answer: ended.seen.text });
    compare(parts, ended);
    tools(parts, ended.seen, pictures);
    byId("question").value = "";
  } catch (error) {
    const words = error.name === "AbortError" ? "Stopped." : explain(error);
    for (const one of [parts.seen, parts.unseen]) if (one?.lane.classList.contains("busy")) fail(one, words);
  }
  underWay = null;
  byId("send").disabled = false;
  byId("stop").hidden = true;
  byId("log").removeAttribute("aria-busy");
  byId("question").focus();
}

function fail({ lane, said }, words) {
  lane.classList.remove("busy");
  said.textContent = `${said.textContent} ${words}`.trim();
  said.classList.add("fault");
}

listen();
byId("ask").addEventListener("submit", ask);
byId("stop").addEventListener("click", () => underWay?.abort());
byId("question").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) ask(event);
});
