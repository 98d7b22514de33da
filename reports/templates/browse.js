// The page: controls, the list of images, the image that is looked at, keys, and the address, which holds all of it.

const at = (id) => document.getElementById(id);
const images = new Images(JSON.parse(at("data").textContent));
const {data} = images;
const boxes = [...document.querySelectorAll("#systems input")];
const FIELDS = ["q", "in", "error", "metric", "from", "to", "sort"];  // controls, by the name that they have in the address
const START = Object.fromEntries(FIELDS.map((name) => [name, at(name).options?.[0].value ?? ""]));
const PRINTED = 40;  // images on paper
const labels = Object.fromEntries([...at("error").options].map((option) => [option.value, option.text]));
let shown = [];  // images that the choice leaves, in its order
let current = -1;  // the image that is looked at
let unknown = "";  // an image that an address named and that is not here

/** An element with attributes and children; text stays text. */
function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

const number = (value, digits = 1) => value.toLocaleString("en", {minimumFractionDigits: digits, maximumFractionDigits: digits});
const isCount = (metric) => metric === "errors" || metric === "words";
const chosen = () => boxes.flatMap((box, system) => (box.checked ? [system] : []));
const limit = (name) => (at(name).value === "" || Number.isNaN(at(name).valueAsNumber) ? null : at(name).valueAsNumber);

function choice() {
  return {systems: chosen(), query: at("q").value, where: at("in").value, error: at("error").value, metric: at("metric").value,
          from: limit("from"), to: limit("to"), sort: at("sort").value};
}

// ---- the address

function address() {
  const said = new URLSearchParams();
  if (current >= 0 && current !== shown[0]) said.set("image", data.ids[current]);
  for (const name of FIELDS) if (at(name).value !== START[name]) said.set(name, at(name).value);
  const systems = chosen();
  if (systems.length < boxes.length) said.set("systems", systems.map((system) => data.systems[system].id).join(","));
  if (!at("keys").checked) said.set("keys", "off");
  return said.size ? `#${String(said).replaceAll("%2C", ",")}` : "";
}

function readAddress() {
  const said = new URLSearchParams(location.hash.slice(1));
  for (const name of FIELDS) {
    at(name).value = said.get(name) ?? START[name];
    if (at(name).value === "" && START[name] !== "") at(name).value = START[name];  // a class or metric that is not here
  }
  const systems = said.get("systems")?.split(",");
  boxes.forEach((box, system) => { box.checked = !systems || systems.includes(data.systems[system].id); });
  at("keys").checked = said.get("keys") !== "off";
  const named = said.get("image");
  current = images.places.get(named) ?? -1;
  unknown = named !== null && current < 0 ? named : "";
  show();
}

let pending;
/** What stood for a moment is a step of the history: a key held down or a word being typed is one. */
function remember() {
  clearTimeout(pending);
  pending = setTimeout(() => {
    if (address() !== location.hash) history.pushState(null, "", address() || location.pathname + location.search);
  }, 250);
}

// ---- the list

const list = at("list"), rows = at("rows");
let drawn = new Map();  // the rows that are in the page, by image
const ROW = 4.25;  // rem, the height of a row: as in browse.css

const rowHeight = () => ROW * parseFloat(getComputedStyle(document.documentElement).fontSize);

function drawList() {
  const height = rowHeight();
  const first = Math.max(0, Math.floor(list.scrollTop / height) - 6);
  const last = Math.min(shown.length, Math.ceil((list.scrollTop + list.clientHeight) / height) + 6);
  const kept = new Map();
  for (let place = first; place < last; place++) kept.set(shown[place], drawn.get(shown[place]) ?? makeRow(shown[place], place));
  for (const [image, row] of drawn) if (!kept.has(image)) row.remove();
  for (const row of kept.values()) if (!row.isConnected) rows.append(row);
  drawn = kept;
  for (const [image, row] of drawn) row.setAttribute("aria-selected", image === current);
  if (drawn.has(current)) list.setAttribute("aria-activedescendant", `row-${current}`);
  else list.removeAttribute("aria-activedescendant");
}

function makeRow(image, place) {
  const {systems, sort, metric} = choice(), measured = sort ? sort.slice(sort.indexOf("-") + 1) : metric;
  const one = systems.length === 1;
  const value = measured === "disagreement" ? number(images.disagreementOf(systems, image), 2)
    : number(images.meanOf(measured, systems, image), one && isCount(measured) ? 0 : 1);
  const text = one ? images.textOf(systems[0], image) || "(no words)" : data.references[image][0];
  const row = make("div", {role: "option", id: `row-${image}`, "aria-setsize": shown.length, "aria-posinset": place + 1, class: "row"},
    make("span", {class: "text"}, text),
    make("span", {class: "small quiet measure"}, `${systems.length > 1 && measured !== "disagreement" ? "mean " : ""}${measured} ${systems.length ? value : "none"} · ${data.ids[image]}`));
  if (data.pictures[image]) row.prepend(make("img", {src: data.pictures[image], alt: "", decoding: "async"}));
  row.style.top = `${place * ROW}rem`;
  row.addEventListener("click", () => look(image));
  return row;
}

function layOutList() {
  rows.style.height = `${shown.length * ROW}rem`;
  rows.replaceChildren();
  drawn = new Map();
  scrollToCurrent();
  drawList();
}

function scrollToCurrent() {
  const place = shown.indexOf(current);
  if (place < 0) return;
  const height = rowHeight(), top = place * height;
  if (top < list.scrollTop) list.scrollTop = top;
  else if (top + height > list.scrollTop + list.clientHeight) list.scrollTop = top + height - list.clientHeight;
}

// ---- one image

function picture(image) {
  const address = data.pictures[image];
  if (!address) return [];
  const shownPicture = make("img", {src: address, alt: `Image ${data.ids[image]}`, class: address.startsWith("data:") ? "drawn" : "photo"});
  shownPicture.addEventListener("error", () => shownPicture.replaceWith(make("p", {class: "small quiet"}, `No picture at ${address}`)));
  return [shownPicture];
}

function references(image) {
  return make("ul", {class: "references"}, ...data.references[image].map((text) => make("li", {}, text)));
}

/** A caption with the words of its errors marked, each where it first stands as whole words. */
function markedCaption(text, errors) {
  const found = [];
  for (const {word} of errors) {
    const place = word ? ` ${text.toLowerCase()} `.indexOf(` ${word.toLowerCase()} `) : -1;
    if (place >= 0 && found.every(([start, end]) => place + word.length <= start || place >= end)) found.push([place, place + word.length]);
  }
  found.sort((a, b) => a[0] - b[0]);
  const parts = [];
  let done = 0;
  for (const [start, end] of found) {
    parts.push(text.slice(done, start), make("mark", {}, text.slice(start, end)));
    done = end;
  }
  return [...parts, text.slice(done)];
}

function table(image, systems) {
  const heads = ["System", "Caption and its errors", ...data.metrics];
  const body = systems.map((system) => {
    const {name, note} = data.systems[system];
    // The word of a caption that is too general is all of it.
    const errors = images.errorsOf(system, image).map((error) => (error.kind === "too-general" ? {...error, word: ""} : error));
    const text = images.textOf(system, image);
    const said = make("td", {class: "said"}, make("span", {class: "words"}, ...(text ? markedCaption(text, errors) : ["(no words)"])));
    if (errors.length) {
      said.append(make("ul", {class: "errors"}, ...errors.map(({kind, word, instead}) =>
        make("li", {}, make("b", {}, labels[kind]), word ? `: ${word}` : "", instead && instead !== word ? ` (references: ${instead})` : ""))));
    }
    return make("tr", {}, make("th", {scope: "row"}, name, ...(note ? [make("span", {class: "note"}, note)] : [])), said,
      ...data.metrics.map((metric) => make("td", {class: "n", "data-label": metric}, number(images.values[metric][system][image]))));
  });
  return make("table", {class: "captions"}, make("caption", {}, systems.length === 1 ? "What the system says"
    : `What ${systems.length} systems say, disagreement ${number(images.disagreementOf(systems, image), 2)}`),
    make("thead", {}, make("tr", {}, ...heads.map((text, k) => make("th", {scope: "col", ...(k > 1 ? {class: "n"} : {})}, text)))),
    make("tbody", {}, ...body));
}

function drawImage() {
  const place = shown.indexOf(current), systems = chosen();
  at("image").hidden = current < 0;
  if (current < 0) return;
  at("image-title").textContent = data.ids[current];
  at("place").textContent = place < 0 ? "not among the images found" : `${(place + 1).toLocaleString("en")} of ${shown.length.toLocaleString("en")}`;
  at("previous").setAttribute("aria-disabled", place === 0 || shown.length === 0);
  at("next").setAttribute("aria-disabled", place === shown.length - 1 || shown.length === 0);
  at("about").replaceChildren(...picture(current), make("div", {}, make("h3", {}, "References"), references(current)));
  at("said").replaceChildren(systems.length ? table(current, systems) : make("p", {class: "quiet"}, "No system is chosen."));
}

function look(image) {
  if (image === undefined || image === current) return;
  current = image;
  unknown = "";
  scrollToCurrent();
  drawList();
  drawImage();
  say();
  remember();
}

function step(by) {
  const place = shown.indexOf(current);
  look(shown[place < 0 ? 0 : Math.min(shown.length - 1, Math.max(0, place + by))]);
}

// ---- what a change of the controls does

function say() {
  const total = images.count.toLocaleString("en"), systems = chosen().length;
  const found = shown.length === images.count ? `All ${total} images` : `${shown.length.toLocaleString("en")} of ${total} images`;
  at("status").textContent = found + (unknown ? `. No image of this page is called ${unknown}` : "");
  at("none").hidden = shown.length > 0;
  at("systems-count").textContent = systems === boxes.length ? `all ${systems}` : `${systems} of ${boxes.length}`;
}

/** Find the images again and draw all; without an image to look at, or with one that `changes` threw out, the first. */
function show(changes = false) {
  shown = images.select(choice());
  if (current < 0 || (changes && !shown.includes(current))) current = shown[0] ?? -1;
  const [low, high] = images.rangeOf(at("metric").value);
  at("from").placeholder = Math.floor(low);
  at("to").placeholder = Math.ceil(high);
  list.scrollTop = 0;
  layOutList();
  drawImage();
  say();
}

function changed() {
  unknown = "";
  show(true);
  remember();
}

function reset() {
  for (const name of FIELDS) at(name).value = START[name];
  for (const box of boxes) box.checked = true;
  changed();
}

function check(every) {
  for (const box of boxes) box.checked = every;
  changed();
}

at("controls").addEventListener("input", changed);
at("q").addEventListener("keydown", (event) => { if (event.key === "Enter") list.focus(); });
at("all").addEventListener("click", () => check(true));
at("no-system").addEventListener("click", () => check(false));
at("previous").addEventListener("click", () => step(-1));
at("next").addEventListener("click", () => step(1));
for (const button of document.querySelectorAll(".reset")) button.addEventListener("click", reset);
at("open-help").addEventListener("click", () => at("help").showModal());
at("close-help").addEventListener("click", () => at("help").close());
at("keys").addEventListener("change", remember);
document.querySelector(".skip").addEventListener("click", (event) => {  // its own fragment would take the place of the choice's
  event.preventDefault();
  at("content").focus();
});
let waiting = 0;
list.addEventListener("scroll", () => { waiting ||= requestAnimationFrame(() => { waiting = 0; drawList(); }); });
addEventListener("resize", drawList);
addEventListener("popstate", () => { clearTimeout(pending); readAddress(); });

// ---- keys

const IN_LIST = {ArrowDown: 1, ArrowUp: -1, PageDown: 8, PageUp: -8, Home: -Infinity, End: Infinity};
const ANYWHERE = {j: 1, k: -1, ArrowRight: 1, ArrowLeft: -1};

addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || at("help").open) return;
  const typing = event.target.matches("input:not([type=checkbox]), select, textarea");
  const inList = event.target === list && event.key in IN_LIST;
  if (typing || (!inList && !at("keys").checked)) return;
  if (inList) step(IN_LIST[event.key]);
  else if (event.key in ANYWHERE) step(ANYWHERE[event.key]);
  else if (event.key === "/") at("q").focus();
  else if (event.key === "?") at("help").showModal();
  else return;
  event.preventDefault();
});

// ---- paper

addEventListener("beforeprint", () => {
  const systems = chosen();
  at("paper").replaceChildren(
    make("p", {}, `${at("status").textContent}${shown.length > PRINTED ? `, the first ${PRINTED} of them` : ""}. ${address()}`),
    ...shown.slice(0, PRINTED).map((image) => make("article", {},
      make("h2", {}, data.ids[image]), make("div", {class: "about"}, ...picture(image), references(image)), table(image, systems))));
});
addEventListener("afterprint", () => at("paper").replaceChildren());

at("browse").hidden = false;
if (matchMedia("(max-width: 60rem)").matches) at("more").open = false;
readAddress();
// The first search and the first order by disagreement would otherwise wait for this.
const whenIdle = window.requestIdleCallback ?? setTimeout;
whenIdle(() => {
  images.prepare();
  whenIdle(() => images.disagreement(boxes.map((_, system) => system)));
});
