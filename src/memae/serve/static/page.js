// The page of memae serve: a file is dropped, scored by the service that sent this page, and shown.
const SHOWN = 200; // samples at a time
const COLUMNS = 6; // of a row, largest error first
const EXPLAINED = 500; // lines of a CSV file up to which every row tells its columns
const LONGEST = 24; // characters of a text
const TYPES = { csv: "text/csv", json: "application/json" };
// inferno, from half the threshold of a map to twice it
const COLOURS = [[101, 21, 110], [187, 55, 84], [237, 105, 37], [252, 181, 25], [252, 255, 164]];
const CLEAR = 0.5, STRONGEST = 2, OPACITY = 0.8;

const byId = (id) => document.getElementById(id);
const make = (tag, text, named = {}) => Object.assign(document.createElement(tag), { textContent: text ?? "" }, named);
const short = (value) => (typeof value === "number" ? number(value) : cut(value ?? "missing"));
const number = (value) => (Math.abs(value) < 1e-4 || Math.abs(value) >= 1e7 ? String(Number(value.toPrecision(3)))
  : value.toLocaleString("en", { maximumSignificantDigits: 4 }));
const cut = (text) => (text.length > LONGEST ? `${text.slice(0, LONGEST - 1)}…` : text);

let token = "";
let again = null; // what to do once there is a token

async function ask(path, options = {}) {
  const headers = { ...options.headers, ...(token ? { Authorization: `Bearer ${token}` } : {}) };
  const answer = await fetch(path, { ...options, headers });
  const body = await answer.json().catch(() => ({}));
  if (answer.status === 401) {
    byId("access").hidden = false;
    byId("token").focus();
    throw new Error(token ? "The server knows no such token." : "The server asks for its token.");
  }
  if (!answer.ok) throw new Error(body.error ?? `${answer.status} ${answer.statusText}`);
  return body;
}

function say(text, isError = false) {
  byId("status").textContent = text;
  byId("status").classList.toggle("error", isError);
}

async function attempt(action) {
  again = action;
  try {
    await action();
  } catch (error) {
    const unreachable = error instanceof TypeError;
    say(unreachable ? "The service does not answer; check that it runs." : error.message, true);
  }
}

// models

let models = [];

async function listModels() {
  ({ models } = await ask("v1/models"));
  byId("access").hidden = true;
  byId("model").replaceChildren(...models.map((model) => make("option", model.name)));
  tellModel();
  say("");
}

function tellModel() {
  const model = models[byId("model").selectedIndex];
  byId("facts").textContent = model ? `kind: ${model.kind}, threshold ${short(model.threshold)}` : "";
}

// a request

function request(files) {
  const ending = files[0].name.split(".").pop().toLowerCase();
  if (files.length === 1 && TYPES[ending]) {
    return files[0].text().then((text) => {
      const lines = text.split("\n").length;
      return { body: text, headers: { "Content-Type": TYPES[ending] }, explain: lines > EXPLAINED ? "anomalies" : "all" };
    });
  }
  const form = new FormData();
  for (const file of files) form.append("images", file);
  return Promise.resolve({ body: form, headers: {}, explain: "all" });
}

async function score(files) {
  const name = byId("model").value;
  if (!files.length || !name) return;
  say(`Scoring ${files.length === 1 ? files[0].name : `${files.length} files`} …`);
  byId("result").hidden = true;
  const { body, headers, explain } = await request(files);
  const path = `v1/models/${encodeURIComponent(name)}/score?explain=${explain}`;
  show(await ask(path, { method: "POST", body, headers }), files);
  say("");
}

// an answer

async function show(answer, files) {
  const { samples } = answer;
  const flagged = samples.filter((sample) => sample.is_anomaly).length;
  const noun = flagged === 1 ? "is an anomaly" : "are anomalies";
  byId("summary").textContent = `${flagged} of ${samples.length.toLocaleString()} ${noun}`;
  const hasMaps = samples.some((sample) => sample.map);
  byId("mapped").hidden = byId("legend").hidden = !hasMaps;
  const ranked = samples.map((sample, place) => ({ sample, file: files.length === samples.length ? files[place] : null }));
  ranked.sort((a, b) => b.sample.score - a.sample.score);
  byId("samples").replaceChildren(...ranked.slice(0, SHOWN).map(({ sample, file }) => entry(sample, file, answer)));
  byId("more").hidden = ranked.length <= SHOWN;
  byId("more").textContent = `These are the ${SHOWN} highest scores of ${samples.length.toLocaleString()}.`;
  byId("result").hidden = false;
  byId("summary").focus();
  filter();
}

function filter() {
  for (const item of byId("samples").children) {
    item.hidden = byId("flagged").checked && !item.classList.contains("anomaly");
  }
  byId("samples").classList.toggle("unmapped", !byId("map").checked);
}

function entry(sample, file, answer) {
  const item = make("li", "", { className: sample.is_anomaly ? "anomaly" : "" });
  const name = typeof sample.key === "number" ? `row ${sample.key}` : sample.key;
  const title = make("h3");
  title.append(make("span", name), make("b", sample.is_anomaly ? "anomaly" : "normal"));
  const numbers = make("p", "", { className: "numbers" });
  const times = `${short(sample.score / answer.threshold)} × threshold`;
  numbers.append(...[`score ${short(sample.score)}`, times, `p ${short(sample.p_value)}`].map((text) => make("span", text)));
  item.append(title, numbers);
  if (file && sample.map) picture(file, sample, answer.map_threshold).then((made) => item.append(made));
  if (sample.columns) item.append(table(sample));
  return item;
}

function table(sample) {
  const shown = sample.columns.slice(0, COLUMNS);
  const made = make("table");
  const left = sample.columns.length - shown.length;
  made.append(make("caption", left ? `the ${shown.length} largest errors of ${sample.columns.length} columns` : "errors by column"));
  const head = made.createTHead().insertRow();
  for (const text of ["column", "seen", "expected", "share"]) head.append(make("th", text, { scope: "col" }));
  const body = made.createTBody();
  const total = sample.columns.reduce((sum, one) => sum + one.error, 0) || 1;
  for (const one of shown) {
    const row = body.insertRow();
    row.append(make("th", one.column, { scope: "row" }), make("td", short(one.seen)), make("td", short(one.expected)));
    const share = make("td", "", { className: "share" });
    const bar = make("span");
    bar.style.width = `${100 * one.error / (shown[0].error || 1)}%`;
    share.append(make("div", `${(100 * one.error / total).toFixed(0)} %`), bar);
    row.append(share);
  }
  return made;
}

// a picture with its anomaly map

async function picture(file, sample, threshold) {
  const made = make("div", "", { className: "picture" });
  const image = await createImageBitmap(file).catch(() => null);
  const [height, width] = image ? [image.height, image.width] : [sample.map.length, sample.map[0].length];
  const canvas = make("canvas", "", { height, width });
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", `${sample.key} with its anomaly map`);
  if (image) canvas.getContext("2d").drawImage(image, 0, 0);
  made.classList.toggle("small", width < 128);
  made.append(canvas, coloured(sample.map, threshold));
  for (const region of image ? (sample.regions ?? []) : []) made.append(box(region, height, width));
  if (!image) made.append(make("p", "This browser does not show files of this kind; the map stands alone."));
  return made;
}

function coloured(map, threshold) {
  const canvas = make("canvas", "", { height: map.length, width: map[0].length });
  const drawn = canvas.getContext("2d");
  const pixels = drawn.createImageData(canvas.width, canvas.height);
  map.flat().forEach((value, place) => {
    const level = Math.min(Math.max((value / threshold - CLEAR) / (STRONGEST - CLEAR), 0), 1);
    pixels.data.set([...colour(level), 255 * OPACITY * Math.sqrt(level)], 4 * place);
  });
  drawn.putImageData(pixels, 0, 0);
  return canvas;
}

function colour(level) {
  const at = level * (COLOURS.length - 1), below = Math.min(Math.floor(at), COLOURS.length - 2);
  return COLOURS[below].map((value, channel) => value + (at - below) * (COLOURS[below + 1][channel] - value));
}

function box(region, height, width) {
  const made = make("div", "", { className: "box", title: `score ${short(region.score)}` });
  const share = (value, whole) => `${100 * value / whole}%`;
  made.style.left = share(region.left, width);
  made.style.top = share(region.top, height);
  made.style.width = share(region.right - region.left, width);
  made.style.height = share(region.bottom - region.top, height);
  return made;
}

// what a person does

let last = [];
const take = (files) => {
  last = [...files];
  attempt(() => score(last));
};
byId("files").addEventListener("change", () => {
  take(byId("files").files);
  byId("files").value = ""; // so that the same file can be taken again
});
byId("model").addEventListener("change", () => {
  tellModel();
  if (last.length) take(last);
});
byId("access").addEventListener("submit", (event) => {
  event.preventDefault();
  token = byId("token").value.trim();
  attempt(models.length ? again : listModels);
});
for (const id of ["flagged", "map"]) byId(id).addEventListener("change", filter);
for (const [kind, over] of [["dragenter", true], ["dragover", true], ["dragleave", false], ["drop", false]]) {
  document.addEventListener(kind, (event) => {
    event.preventDefault();
    byId("drop").classList.toggle("over", over);
    if (kind === "drop") take(event.dataTransfer.files);
  });
}

attempt(listModels);
