"use strict";
// One cursor over all charts: the moment under the pointer, and each line's value there.
const charts = JSON.parse(document.getElementById("data").textContent);
const figures = [...document.querySelectorAll("figure")];
const nearest = (times, at) => {
  let low = 0, high = times.length - 1;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (times[middle] < at) low = middle + 1; else high = middle;
  }
  return low > 0 && at - times[low - 1] < times[low] - at ? low - 1 : low;
};
const scales = { ns: [1000, [" ns", " µs", " ms", " s"]], bytes: [1024, [" B", " KiB", " MiB", " GiB", " TiB"]],
  count: [1000, ["", "k", "M", "G", "T"]], rate: [1000, ["/s", "k/s", "M/s", "G/s"]],
  "byte-rate": [1024, [" B/s", " KiB/s", " MiB/s", " GiB/s"]] };
const text = (value, unit) => {
  if (value === null || value === undefined) return "-";
  if (unit === "count" && Math.abs(value) < 10000 && Number.isInteger(value)) return String(value);
  const [base, suffixes] = scales[unit];
  let index = 0;
  while (Math.abs(value) >= base * 0.9995 && index + 1 < suffixes.length) { value /= base; index += 1; }
  return Number(value.toPrecision(3)).toString() + suffixes[index];
};
const clock = (s) => {
  const whole = Math.round(s), two = (n) => String(n).padStart(2, "0");
  if (whole < 60) return whole + " s";
  if (whole < 3600) return Math.floor(whole / 60) + ":" + two(whole % 60);
  return Math.floor(whole / 3600) + ":" + two(Math.floor(whole / 60) % 60) + ":" + two(whole % 60);
};
const show = (at) => figures.forEach((figure, index) => {
  const { at_s, unit, lines } = charts[index];
  const svg = figure.querySelector("svg"), cursor = figure.querySelector(".cursor");
  const left = Number(svg.dataset.left), right = Number(svg.dataset.right), seconds = Number(svg.dataset.seconds);
  const place = at === null || at_s.length === 0 ? null : nearest(at_s, at);
  const x = place === null ? -9 : left + Math.min(1, at_s[place] / seconds) * (right - left);
  cursor.setAttribute("x1", x);
  cursor.setAttribute("x2", x);
  figure.querySelectorAll(".legend b").forEach((slot, line) => {
    slot.textContent = place === null ? "" : " " + text(lines[line][place], unit);
  });
  figure.querySelector(".at").textContent = place === null ? "" : clock(at_s[place]);
});
figures.forEach((figure) => {
  const svg = figure.querySelector("svg");
  svg.addEventListener("pointermove", (event) => {
    const box = svg.getBoundingClientRect();
    const x = (event.clientX - box.left) / box.width * svg.viewBox.baseVal.width;
    const left = Number(svg.dataset.left), right = Number(svg.dataset.right);
    show(Math.max(0, Math.min(1, (x - left) / (right - left))) * Number(svg.dataset.seconds));
  });
  svg.addEventListener("pointerleave", () => show(null));
});
