// What the page does: polls pictures, follows one stream of messages, draws the chart and zones, and sends changes.

const POLL_MS = 2000;
const BUCKET_S = 5; // as the history stores scores
const HOURS = 3;

const find = (selector, within = document) => within.querySelector(selector);
const cards = new Map([...document.querySelectorAll(".camera")].map((card) => [card.dataset.name, card]));
const cameras = new Map();
const chosen = { name: null, chart: null, drawn: null };

async function ask(path, method = "GET", body = undefined) {
  const answer = await fetch(`/api/${path}`, {
    method,
    headers: body === undefined ? {} : { "Content-Type": "application/json" },
    body: body === undefined ? undefined : JSON.stringify(body),
  });
  const facts = await answer.json();
  if (!answer.ok) throw new Error(typeof facts.detail === "string" ? facts.detail : "that value is not taken");
  return facts;
}

function tell(error) {
  const place = find("#message");
  place.textContent = error ? error.message : "";
  place.hidden = !error;
}

const tried = (work) => async (event) => {
  event?.preventDefault?.();
  try {
    tell(null);
    await work(event);
  } catch (error) {
    tell(error);
  }
};

// cameras

const path = (name, more = "") => `cameras/${encodeURIComponent(name)}${more}`;

function said(camera) {
  if (!camera.is_enabled) return "off";
  if (!camera.is_up) return "no frames";
  return camera.note || `${camera.fps.toFixed(1)} fps`;
}

function showCamera(camera) {
  const card = cards.get(camera.name);
  if (!card) return;
  find(".state", card).textContent = said(camera);
  find("meter", card).value = camera.score === null ? 0 : camera.score / camera.threshold;
  card.classList.toggle("down", !camera.is_up);
  if (camera.name === chosen.name) showState(camera);
}

function showState(camera) {
  const score = camera.score === null ? "no score yet" : `score ${camera.score.toPrecision(3)}`;
  const lag = `${camera.lag_s.toFixed(1)} s behind, ${camera.drops} frames dropped`;
  find("#chosen p.state").textContent = `${said(camera)}, ${score}, ${lag}`;
}

async function loadCameras() {
  for (const camera of await ask("cameras")) {
    cameras.set(camera.name, camera);
    showCamera(camera);
  }
}

// one picture after the other, so that few of the browser's connections are taken
async function pollPictures() {
  for (const [name, card] of cards) {
    if (document.hidden || name === chosen.name) continue;
    try {
      const answer = await fetch(`/api/${path(name, "/picture")}`);
      if (!answer.ok) continue;
      const image = find("img", card);
      const before = image.src;
      image.src = URL.createObjectURL(await answer.blob());
      if (before.startsWith("blob:")) URL.revokeObjectURL(before);
    } catch {
      break; // the stream tells that the watch is away
    }
  }
  setTimeout(pollPictures, POLL_MS);
}

async function choose(name) {
  const camera = cameras.get(name);
  chosen.name = name;
  chosen.drawn = null;
  for (const [other, card] of cards) card.setAttribute("aria-pressed", String(other === name));
  find("#chosen").hidden = false;
  find("#chosen h2").textContent = name;
  const image = find("#chosen .view img");
  image.alt = `Live picture of ${name}`;
  image.src = `/api/${path(name, "/stream")}`;
  find("#enabled").checked = camera.is_enabled;
  find("#threshold input").value = Number(camera.threshold.toPrecision(6));
  showState(camera);
  showZones(camera);
  await drawChart(name);
}

async function change(facts) {
  const camera = await ask(path(chosen.name), "PATCH", facts);
  cameras.set(camera.name, camera);
  showCamera(camera);
  showZones(camera);
}

// zones

const points = (polygon) => polygon.map(([x, y]) => `${x},${y}`).join(" ");

function shape(kind, polygon, isMask) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", kind);
  made.setAttribute("points", points(polygon));
  if (isMask) made.classList.add("mask");
  return made;
}

function showZones(camera) {
  const list = find("#zones ul");
  list.replaceChildren(
    ...camera.zones.map((zone, place) => {
      const row = document.createElement("li");
      const remove = document.createElement("button");
      remove.type = "button";
      remove.textContent = "Remove";
      remove.setAttribute("aria-label", `Remove ${zone.name}`);
      remove.onclick = tried(() => change({ zones: camera.zones.filter((_, other) => other !== place) }));
      row.append(`${zone.name}${zone.is_ignored ? " (mask)" : ""}`, remove);
      return row;
    }),
  );
  const drawn = chosen.drawn;
  find("#chosen svg").replaceChildren(
    ...camera.zones.map((zone) => shape("polygon", zone.points, zone.is_ignored)),
    ...(drawn ? [shape("polyline", drawn.points, drawn.isMask)] : []),
  );
  find("#chosen .view").classList.toggle("drawing", drawn !== null);
  find("#zone-done").hidden = !drawn || drawn.points.length < 3;
  find("#zone-hint").textContent = drawn
    ? "Click the corners in the picture, then Done. Escape leaves it."
    : "A mask is left out; with zones, only they count.";
}

function draw(isMask) {
  chosen.drawn = { isMask, points: [] };
  showZones(cameras.get(chosen.name));
}

function addCorner(event) {
  if (!chosen.drawn) return;
  const box = find("#chosen svg").getBoundingClientRect();
  const share = (at, from, length) => Math.min(1, Math.max(0, Number(((at - from) / length).toFixed(4))));
  chosen.drawn.points.push([share(event.clientX, box.left, box.width), share(event.clientY, box.top, box.height)]);
  showZones(cameras.get(chosen.name));
}

async function finishZone() {
  const { isMask, points: corners } = chosen.drawn;
  const zone = { name: find("#zone-name").value || "zone", points: corners, is_ignored: isMask };
  await change({ zones: [...cameras.get(chosen.name).zones, zone] });
  chosen.drawn = null;
  showZones(cameras.get(chosen.name));
}

// the chart

async function drawChart(name) {
  const found = await ask(path(name, `/scores?hours=${HOURS}`));
  if (name !== chosen.name) return;
  const place = find("#chart");
  const colour = resolved;
  const axis = { stroke: colour("--dim"), grid: { stroke: colour("--line"), width: 1 } };
  chosen.chart?.destroy();
  const options = {
    width: place.clientWidth,
    height: 220,
    scales: { y: { range: (chart, low, high) => [0, Math.max(high, Number.MIN_VALUE) * 1.1] } },
    series: [
      {},
      { label: "score", stroke: colour("--accent"), width: 1.5 },
      { label: "threshold", stroke: colour("--alarm"), dash: [6, 4], width: 1.5 },
    ],
    axes: [axis, { ...axis, size: 60 }],
  };
  chosen.data = [found.at, found.score, found.threshold];
  chosen.chart = new window.uPlot(options, chosen.data, place);
}

function resolved(variable) {
  const probe = document.createElement("span");
  probe.style.color = `var(${variable})`;
  document.body.append(probe);
  const found = getComputedStyle(probe).color;
  probe.remove();
  return found;
}

function addScore(message) {
  if (message.source !== chosen.name || !chosen.chart) return;
  const [at, score, threshold] = chosen.data;
  const bucket = Math.floor(message.at / BUCKET_S) * BUCKET_S;
  if (at.length && at.at(-1) >= bucket) {
    score[score.length - 1] = Math.max(score.at(-1), message.score);
    threshold[threshold.length - 1] = message.threshold;
  } else {
    at.push(bucket), score.push(message.score), threshold.push(message.threshold);
  }
  while (at[0] < bucket - HOURS * 3600) at.shift(), score.shift(), threshold.shift();
  chosen.chart.setData(chosen.data);
}

// events

const time = (at) => new Date(at * 1000).toLocaleString([], { dateStyle: "medium", timeStyle: "medium" });

function eventCard(event) {
  const card = find("#event").content.cloneNode(true).firstElementChild;
  const address = `/api/events/${encodeURIComponent(event.id)}`;
  for (const kind of ["still", "rebuilt"]) {
    if (event[kind]) find(`.${kind} img`, card).src = `${address}/${kind}`;
    else find(`.${kind}`, card).remove();
  }
  if (event.clip) find(".clip", card).src = `${address}/clip`;
  else find(".clip", card).remove();
  const end = event.ended_at === null ? "goes on" : `${(event.ended_at - event.started_at).toFixed(1)} s, ${event.ended_by}`;
  const peak = `peak ${event.peak_score.toPrecision(3)} at a threshold of ${event.threshold.toPrecision(3)}`;
  find(".what", card).textContent = `${event.source}, ${time(event.started_at)}, ${end}; ${peak}`;
  card.classList.toggle("open", event.ended_at === null);
  const normal = find(".normal", card);
  normal.checked = event.is_normal;
  normal.onchange = tried(() => ask(`events/${encodeURIComponent(event.id)}/normal`, "PUT", { is_normal: normal.checked }));
  return card;
}

async function search() {
  const asked = new URLSearchParams();
  for (const [key, value] of new FormData(find("#search"))) {
    if (value) asked.set(key, key === "source" ? value : new Date(value).getTime() / 1000);
  }
  const found = await ask(`events?${asked}`);
  const none = document.createElement("li");
  none.textContent = "No events.";
  find("#found").replaceChildren(...(found.length ? found.map(eventCard) : [none]));
}

// the stream

function follow() {
  const stream = new EventSource("/api/stream");
  const place = find("#connection");
  let soon;
  const on = (kind, act) => stream.addEventListener(kind, (event) => act(JSON.parse(event.data)));
  stream.onopen = tried(async () => {
    place.textContent = "connected";
    place.classList.remove("lost");
    await loadCameras();
  });
  stream.onerror = () => {
    place.textContent = "the watch does not answer";
    place.classList.add("lost");
  };
  on("status", (message) => update(message.source, message));
  on("score", (message) => {
    update(message.source, { score: message.score, threshold: message.threshold });
    addScore(message);
  });
  on("event", (message) => {
    cards.get(message.source)?.classList.toggle("alarm", message.type !== "end");
    clearTimeout(soon);
    soon = setTimeout(tried(search), 1000); // when the history has it
  });
}

function update(name, facts) {
  const camera = cameras.get(name);
  if (!camera) return;
  for (const key of Object.keys(camera)) if (key in facts) camera[key] = facts[key];
  showCamera(camera);
}

for (const [name, card] of cards) card.onclick = tried(() => choose(name));
find("#enabled").onchange = tried((event) => change({ is_enabled: event.target.checked }));
find("#threshold").onsubmit = tried(() => change({ threshold: Number(find("#threshold input").value) }));
for (const button of document.querySelectorAll("[data-draw]")) button.onclick = () => draw(button.dataset.draw === "mask");
find("#chosen svg").onclick = addCorner;
find("#zone-done").onclick = tried(finishZone);
find("#search").onsubmit = tried(search);
document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape" || !chosen.drawn) return;
  chosen.drawn = null;
  showZones(cameras.get(chosen.name));
});
new ResizeObserver(() => {
  if (chosen.chart) chosen.chart.setSize({ width: find("#chart").clientWidth, height: 220 });
}).observe(find("#chart"));
matchMedia("(prefers-color-scheme: dark)").onchange = tried(() => chosen.name && drawChart(chosen.name));

tried(async () => {
  await loadCameras();
  follow();
  pollPictures();
  await search();
})();
