"use strict";
(() => {
  const data = JSON.parse(document.getElementById("items-data").textContent);
  const items = data.items;
  const PAGE = 50;
  const root = document.getElementById("browser");
  const part = (name) => root.querySelector(`[data-part="${name}"]`);
  const list = part("list"), detail = part("detail"), told = part("count"), controls = part("filters");
  const words = (name) => name.replaceAll("_", " ").replaceAll("f1", "F1");
  const marks = { right: "✓", wrong: "✗", unparsed: "?" };
  let found = [], page = 0, chosen = -1;

  const make = (tag, properties = {}, ...children) => {
    const { dataset, ...rest } = properties;
    const element = Object.assign(document.createElement(tag), rest);
    Object.assign(element.dataset, dataset || {});
    element.append(...children);
    return element;
  };
  const percent = (share) => `${(100 * share).toFixed(0)} %`;
  const title = (item) => item.withheld ? `Text of ${words(item.withheld)} withheld` : item.question || "no question";

  /* What can be chosen from. */
  const options = (select, values, all) => {
    select.append(make("option", { value: "", textContent: all }));
    for (const value of values) select.append(make("option", { value, textContent: words(value) }));
  };
  const field = (name) => controls.elements.namedItem(name);
  options(field("task"), [...new Set(items.map((item) => item.task))], "All tasks");
  options(field("attribute"), Object.keys(data.subgroups), "Everyone");
  field("attribute").closest("label").hidden = !Object.keys(data.subgroups).length;
  const offerValues = () => {
    const attribute = field("attribute").value;
    field("value").replaceChildren();
    options(field("value"), data.subgroups[attribute] || [], "Any value");
    field("value").closest("label").hidden = !attribute;
  };

  const matches = (item) => {
    const own = item.answers[0];
    const state = field("state").value;
    if (field("task").value && item.task !== field("task").value) return false;
    if (state === "changed" ? !item.changed : state && own.state !== state) return false;
    const attribute = field("attribute").value, value = field("value").value;
    if (attribute && (value ? item.groups[attribute] !== value : !(attribute in item.groups))) return false;
    const least = Number(field("least").value || 0) / 100, most = Number(field("most").value || 100) / 100;
    if (least > 0 || most < 1) {
      if (own.confidence === undefined || own.confidence < least || own.confidence > most) return false;
    }
    const wanted = field("words").value.trim().toLowerCase();
    if (!wanted) return true;
    const texts = [item.id, item.topic, item.question, item.reference, ...item.answers.map((one) => one.text)];
    return texts.some((text) => text !== undefined && text.toLowerCase().includes(wanted));
  };

  const sorted = (places) => {
    const order = field("order").value;
    if (!order) return places;
    const of = (place) => items[place].answers[0].confidence ?? (order === "least" ? 2 : -1);
    return places.sort((one, other) => order === "least" ? of(one) - of(other) : of(other) - of(one));
  };

  const filter = () => {
    found = sorted([...items.keys()].filter((place) => matches(items[place])));
    page = 0;
    chosen = -1;
    showList();
    if (found.length) choose(0, false); else detail.replaceChildren();
  };

  const showList = () => {
    const pages = Math.max(1, Math.ceil(found.length / PAGE));
    const first = page * PAGE;
    const shown = found.slice(first, first + PAGE);
    list.replaceChildren(...shown.map((place, offset) => {
      const item = items[place], own = item.answers[0];
      const button = make("button", {
        type: "button", className: "item", tabIndex: first + offset === chosen ? 0 : -1,
        dataset: { place: String(first + offset) },
      },
        make("span", { className: `mark ${own.state}`, textContent: marks[own.state], ariaHidden: "true" }),
        make("span", { className: "what" },
          make("span", { className: "asked", dir: "auto", textContent: title(item) }),
          make("span", { className: "said", dir: "auto" },
            make("span", { className: "hidden", textContent: `${own.state}: ` }),
            own.text === undefined ? own.state : own.text || "no answer", item.changed ? " · changed" : "")),
        make("span", { className: "sure", textContent: own.confidence === undefined ? "" : percent(own.confidence) }));
      return make("li", {}, button);
    }));
    told.textContent = `${found.length.toLocaleString("en")} of ${items.length.toLocaleString("en")} items`
      + (pages > 1 ? `, page ${page + 1} of ${pages}` : "");
    part("before").disabled = page === 0;
    part("after").disabled = page + 1 >= pages;
    mark();
  };

  const mark = () => {
    for (const button of list.querySelectorAll("button")) {
      const is = Number(button.dataset.place) === chosen;
      button.ariaCurrent = is ? "true" : null;
      button.tabIndex = is || (chosen < 0 && button === list.querySelector("button")) ? 0 : -1;
    }
  };

  const choose = (place, focus = true) => {
    if (!found.length) return;
    chosen = Math.min(Math.max(place, 0), found.length - 1);
    const wanted = Math.floor(chosen / PAGE);
    if (wanted !== page) { page = wanted; showList(); } else mark();
    showDetail(items[found[chosen]]);
    const button = list.querySelector(`[data-place="${chosen}"]`);
    if (focus && button) { button.focus({ preventScroll: true }); button.scrollIntoView({ block: "nearest" }); }
  };

  const bar = (share) => make("span", { className: "bar", ariaHidden: "true" },
    Object.assign(make("span"), { style: `width:${(100 * share).toFixed(1)}%` }));
  const entry = (name, ...values) => [make("dt", { textContent: name }), make("dd", { dir: "auto" }, ...values)];

  const showDetail = (item) => {
    const parts = [];
    for (const number of item.pictures) {
      parts.push(make("img", { src: data.pictures[number], alt: `Image shown with the question: ${title(item)}` }));
    }
    const body = [make("h4", { dir: "auto", textContent: title(item) })];
    if (item.withheld) {
      body.push(make("p", { className: "lead", textContent:
        `The card of ${words(item.withheld)} does not say that identifiers were removed: no text or picture of it is shown.` }));
    } else {
      body.push(make("p", { className: "reference" }, "Reference: ",
        make("span", { dir: "auto", textContent: item.reference })));
    }
    for (const [number, one] of item.answers.entries()) {
      const line = make("div", { className: "line" },
        make("span", { className: one.state === "unparsed" ? "unscored" : one.state, dir: "auto",
          textContent: `${marks[one.state]} ${one.text === undefined ? one.state : one.text || "no answer"}` }));
      if (one.confidence !== undefined) line.append(make("span", { textContent: percent(one.confidence) }));
      body.push(make("div", { className: number ? "said" : "said own" },
        make("span", { className: "who", textContent: words(one.arm) }), line));
    }
    if (item.options.length) {
      body.push(make("h5", { textContent: "Options and their probabilities" }));
      body.push(make("ul", { className: "options" }, ...item.options.map(([name, share]) => make("li", {
        className: name === item.reference ? "true" : "" },
        make("span", { dir: "auto", textContent: name === item.reference ? `${name} (reference)` : name }),
        make("span", { className: "number", textContent: percent(share) }), bar(share)))));
    }
    if (item.prompt) {
      body.push(make("h5", { textContent: "Prompt" }), make("pre", { tabIndex: 0, dir: "auto", textContent: item.prompt }));
    }
    const facts = [...entry("task", words(item.task))];
    if (item.topic) facts.push(...entry("topic", item.topic));
    for (const [name, value] of Object.entries(item.groups)) facts.push(...entry(words(name), value));
    if (item.id) facts.push(...entry("item", item.id));
    body.push(make("dl", {}, ...facts));
    detail.replaceChildren(...parts, make("div", { className: "text" }, ...body));
    detail.scrollTop = 0;
  };

  const turn = (by) => { page += by; showList(); choose(page * PAGE, true); };
  const isNarrow = () => matchMedia("(max-width: 699px)").matches;
  const open = () => { if (isNarrow()) { root.classList.add("opened"); part("back").focus(); root.scrollIntoView(); } };
  const close = () => { root.classList.remove("opened"); choose(chosen); };

  list.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (button) { choose(Number(button.dataset.place)); open(); }
  });
  list.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    const steps = { ArrowDown: 1, j: 1, ArrowUp: -1, k: -1, PageDown: PAGE, PageUp: -PAGE };
    if (event.key in steps) choose(chosen + steps[event.key]);
    else if (event.key === "Home") choose(0);
    else if (event.key === "End") choose(found.length - 1);
    else return;
    event.preventDefault();
  });
  root.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && root.classList.contains("opened")) close();
  });
  part("before").addEventListener("click", () => turn(-1));
  part("after").addEventListener("click", () => turn(1));
  part("back").addEventListener("click", close);
  part("previous").addEventListener("click", () => { choose(chosen - 1, false); });
  part("next").addEventListener("click", () => { choose(chosen + 1, false); });
  controls.addEventListener("submit", (event) => event.preventDefault());
  controls.addEventListener("input", (event) => { if (event.target.name === "attribute") offerValues(); filter(); });
  controls.addEventListener("reset", () => setTimeout(() => { offerValues(); filter(); }));
  offerValues();
  root.hidden = false;
  filter();
})();
