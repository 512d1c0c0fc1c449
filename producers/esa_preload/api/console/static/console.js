// What htmx and uPlot are told. Every page does without: htmx renews its live part, this draws the chart.
"use strict";

const byId = (id) => document.getElementById(id);

// Live parts

let pressed = false;
let open = [];

document.addEventListener("pointerdown", () => { pressed = true; });
for (const end of ["pointerup", "pointercancel"]) {
  document.addEventListener(end, () => { pressed = false; });
}

/** A button that is pressed, and text that is marked, must not be taken away. */
const isInUse = () => pressed || !document.getSelection().isCollapsed;

const setStale = (isStale) => { byId("stale").hidden = !isStale; };

document.addEventListener("htmx:beforeRequest", (event) => {
  if (document.hidden) event.preventDefault();
});

document.addEventListener("htmx:beforeSwap", (event) => {
  if (isInUse()) event.detail.shouldSwap = false;
  open = [...document.querySelectorAll("#live details[open]")].map((each) => each.id);
});

document.addEventListener("htmx:afterSettle", () => {
  for (const id of open) byId(id)?.setAttribute("open", "");
  setStale(false);
  say();
  draw();
});

for (const failure of ["htmx:responseError", "htmx:sendError", "htmx:timeout"]) {
  document.addEventListener(failure, () => setStale(true));
}

/** Tell a screen reader what has changed, and nothing when it is the same again. */
function say() {
  const said = byId("live")?.dataset.said;
  const region = byId("said");
  if (said && region.textContent !== said) region.textContent = said;
}

// All of a list

for (const all of document.querySelectorAll("input[data-all]")) {
  all.closest("[hidden]")?.removeAttribute("hidden");
  all.addEventListener("change", () => {
    for (const each of document.getElementsByName(all.dataset.all)) each.checked = all.checked;
  });
}

// The chart

let chart = null;

function draw() {
  const holder = byId("chart");
  const traffic = byId("traffic");
  if (!holder || !traffic || !window.uPlot) return;
  const data = JSON.parse(traffic.dataset.points);
  holder.setAttribute("aria-label", traffic.textContent);
  if (chart) chart.setData(data);
  else chart = new uPlot(look(holder), data, holder);
}

function look(holder) {
  const colour = (name) => getComputedStyle(holder).getPropertyValue(name).trim();
  const axis = { stroke: colour("--soft"), grid: { stroke: colour("--line"), width: 1 }, ticks: { show: false } };
  const perSecond = (_, value) => (value == null ? "–" : `${value.toFixed(1)}/s`);
  const line = (label, name, more) =>
    ({ label, stroke: colour(name), width: 2, points: { show: false }, value: perSecond, ...more });
  return {
    width: holder.clientWidth,
    height: 200,
    cursor: { y: false },
    legend: { markers: { width: 3 } },
    scales: { y: { range: (_, low, high) => [0, Math.max(1, high * 1.1)] } },
    tzDate: (at) => uPlot.tzDate(new Date(at * 1000), "Etc/UTC"),
    axes: [{ ...axis, size: 32, values: "{HH}:{mm}" }, { ...axis, size: 48 }],
    series: [
      { label: "UTC", value: "{HH}:{mm}:{ss}" },
      line("Calls", "--link", { fill: colour("--still-back") }),
      line("Throttled", "--bad", { dash: [6, 3] }),
    ],
  };
}

function redraw() {
  chart?.destroy();
  chart = null;
  draw();
}

addEventListener("resize", () => chart?.setSize({ width: byId("chart").clientWidth, height: 200 }));
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
draw();
