"use strict";
// Everything is drawn on one canvas, and of that only what is visible: a page of 50,000 calls stays as quick as one of 50.
const run = JSON.parse(document.getElementById("data").textContent);
const $ = (id) => document.getElementById(id);
const CLASSES = ["read", "write", "lifecycle", "wait", "register", "other"];
const KINDS = ["SYN", "SYN ACK", "ACK", "data", "RST"];
const FAILED = 1, WOULD_WAIT = 2, TIMED_OUT = 4, GUILTY = 8, END = 1, LOST = 2, AGAIN = 4;
const LABELS = 232, AXIS = 30, BAR = 10;

// ---- what happened, as one list in the order of the trace, and the packets beside it ----
const events = [], packets = [];
const connectionName = (number) => `#${number} ${run.connections[number][0]}`;
const plural = (number, noun) => `${number.toLocaleString("en")} ${noun}${number === 1 ? "" : "s"}`;
{
  let fault = 0, step = 0, told = [];
  const takeFaults = (before) => {
    while (fault < run.faults.length && run.faults[fault][1] < before) {
      const [at, after, text] = run.faults[fault++];
      events.push({ kind: "fault", t0: at, t1: at, text: run.texts[text], step: after, conn: -1, flags: 0 });
    }
  };
  for (const row of run.entries) {
    if (row.length === 3) {
      const [at, text, conn] = row;
      const note = { kind: "note", t0: at, t1: at, text: run.texts[text], step, conn: conn ?? -1, flags: 0 };
      note.told = /^(event|change)  ?/.test(note.text);
      if (note.told) told.push(note);
      events.push(note);
      continue;
    }
    const [type, number, thread, began, took, text, flags, about, bytes, timeout] = row;
    takeFaults(number);
    step = number;
    const on = about ?? -1;
    const call = {
      kind: "call", type, step, thread, t0: began, t1: began + took, text: run.texts[text], flags,
      conn: on < 0 ? -1 : on >> 1, side: on & 1, bytes: bytes ?? 0, timeout: timeout ?? -1, told,
    };
    for (const note of told) note.of = call;
    told = [];
    events.push(call);
  }
  takeFaults(Infinity);
  events.forEach((event, index) => { event.index = index; });
  for (const [sent, flight, about, type, position, bytes, flags] of run.packets) {
    const carried = type !== 3 ? KINDS[type] : [bytes ? `${plural(bytes, "byte")} from ${position}` : "", flags & END ? "FIN" : ""].filter(Boolean).join(" and ");
    packets.push({
      kind: "packet", t0: sent, t1: sent + flight, conn: about >> 1, side: about & 1, type, bytes, flags, index: -1,
      text: `${flags & AGAIN ? "again: " : ""}${carried}${flags & LOST ? ", lost" : ""}`,
    });
  }
}
const callCount = events.reduce((sum, event) => sum + (event.kind === "call"), 0);
const guilty = run.failure && (events.find((event) => event.flags & GUILTY) ||
  events.filter((event) => event.kind === "call" && event.step <= run.failure.step).pop());

// ---- lanes ----
const lanes = [], laneOfThread = [], laneOfConnection = [];
const addLane = (lane) => { lane.least = lane.height; lane.marks = []; lane.ticks = [[], []]; lane.widest = 0; lanes.push(lane); return lane; };
const world = addLane({ type: "world", label: "the world", detail: "faults and notes", height: 34 });
run.hosts.forEach(([address, kernel], host) => {
  const threads = run.threads.map((thread, number) => [thread, number]).filter(([thread]) => thread[1] === host);
  addLane({ type: "host", label: `host ${host}`, detail: `${address}  ${kernel}`, height: 22 });
  const several = new Set(threads.map(([thread]) => thread[2])).size > 1;
  for (const [[name, , process], number] of threads) {
    const detail = several ? `process ${process}` : `t${number}`;
    laneOfThread[number] = addLane({ type: "thread", label: name, detail, thread: number, height: 32 });
  }
});
if (run.connections.length) addLane({ type: "host", label: "connections", detail: "client on top", height: 22 });
run.connections.forEach(([name, , , , , sent, answered], number) => {
  const detail = `${size(sent)} \u2192   \u2190 ${size(answered)}`;
  laneOfConnection[number] = addLane({ type: "connection", label: `#${number}  ${name}`, detail, conn: number, height: 50 });
});
for (const event of events) {
  if (event.kind === "call") {
    event.lane = laneOfThread[event.thread];
    event.lane.marks.push(event);
    if (event.conn >= 0) laneOfConnection[event.conn].ticks[event.side].push(event);
  } else if (event.conn >= 0) {
    event.lane = laneOfConnection[event.conn];
    if (!event.text.startsWith("bytes up to")) event.lane.marks.push(event);
  } else if (event.told && event.of) {
    event.lane = laneOfThread[event.of.thread];
  } else {
    event.lane = world;
    world.marks.push(event);
  }
}
for (const packet of packets) {
  packet.lane = laneOfConnection[packet.conn];
  packet.lane.marks.push(packet);
}
for (const lane of lanes) lane.marks.sort((a, b) => a.t0 - b.t0);
for (const [thread, since, until, waiting] of run.asleep) {
  if (laneOfThread[thread]) laneOfThread[thread].asleep = { since, until, waiting };
}

// ---- time: as it passed, folded, or one place for each moment ----
const moments = (() => {
  const all = new Float64Array(2 * (events.length + packets.length) + 2);
  let count = 0;
  for (const event of events) { all[count++] = event.t0; all[count++] = event.t1; }
  for (const packet of packets) { all[count++] = packet.t0; all[count++] = packet.t1; }
  if (run.failure) all[count++] = run.failure.at;
  all[count++] = 0;
  const sorted = all.subarray(0, count).sort();
  const unique = new Float64Array(count);
  let kept = 0;
  for (let i = 0; i < count; i++) if (i === 0 || sorted[i] !== sorted[i - 1]) unique[kept++] = sorted[i];
  return unique.slice(0, kept);
})();
const places = new Float64Array(moments.length);
let axis = "folded", foldedFrom = Infinity, total = 1;
function layOut() {
  const gaps = new Float64Array(Math.max(0, moments.length - 1));
  for (let i = 0; i < gaps.length; i++) gaps[i] = moments[i + 1] - moments[i];
  const usual = Math.max(50, gaps.length ? Float64Array.from(gaps).sort()[gaps.length >> 1] : 1);
  foldedFrom = axis === "folded" ? usual * 40 : Infinity;
  for (let i = 0; i < gaps.length; i++) {
    const gap = gaps[i];
    let room = gap;
    if (axis === "even") room = 1;
    // Short spans as they are, long ones by their order of magnitude.
    else if (axis === "folded") room = gap <= usual ? Math.max(gap, usual * 0.4) : usual * (1 + 0.55 * Math.log10(gap / usual));
    places[i + 1] = places[i] + room;
  }
  total = Math.max(places[places.length - 1], 1e-9);
  for (const event of events) { event.x0 = placeOf(event.t0); event.x1 = placeOf(event.t1); }
  for (const packet of packets) { packet.x0 = placeOf(packet.t0); packet.x1 = placeOf(packet.t1); }
  for (const lane of lanes) {
    lane.widest = lane.marks.reduce((most, mark) => Math.max(most, mark.x1 - mark.x0), 0);
    if (lane.asleep) lane.asleep.x0 = placeOf(lane.asleep.since);
    if (lane.conn !== undefined) {
      const [, , , began, ended] = run.connections[lane.conn];
      lane.x0 = placeOf(began);
      lane.x1 = ended === null ? total : placeOf(ended);
    }
  }
}
function search(array, value) {
  let low = 0, high = array.length - 1;
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (array[middle] <= value) low = middle; else high = middle - 1;
  }
  return low;
}
function placeOf(time) {
  const i = search(moments, time), next = Math.min(i + 1, moments.length - 1);
  if (next === i) return places[i];
  const part = (time - moments[i]) / (moments[next] - moments[i]);
  return places[i] + Math.min(1, Math.max(0, part)) * (places[next] - places[i]);
}
function timeAt(place) {
  const i = search(places, place), next = Math.min(i + 1, places.length - 1);
  if (next === i) return moments[i];
  return moments[i] + (place - places[i]) / (places[next] - places[i]) * (moments[next] - moments[i]);
}

// ---- words ----
function size(bytes) {
  return bytes < 10_000 ? `${bytes} B` : bytes < 10_000_000 ? `${(bytes / 1000).toFixed(0)} kB` : `${(bytes / 1e6).toFixed(1)} MB`;
}
function span(ns) {
  if (ns < 1000) return `${Math.round(ns)} ns`;
  for (const [unit, name] of [[1e3, "\u00b5s"], [1e6, "ms"], [1e9, "s"]]) {
    if (ns < unit * 1000 || name === "s") {
      const value = ns / unit;
      return `${value < 10 ? +value.toFixed(2) : value < 100 ? +value.toFixed(1) : Math.round(value)} ${name}`;
    }
  }
  return "";
}
/// A time as the story and the trace tell it: on the run's clock, which may begin anywhere.
const origin = BigInt(run.origin_ns);
function clock(since, digits = 9) {
  const ns = origin + BigInt(Math.floor(since)), whole = ns / 1_000_000_000n, part = String(ns % 1_000_000_000n).padStart(9, "0").slice(0, digits);
  return digits === 0 ? `${whole} s` : `${whole}.${part.replace(/(\d{3})(?=\d)/g, "$1\u2009")} s`;
}
const nameOf = (event) => event.kind === "call" ? run.threads[event.thread][0]
  : event.kind === "packet" ? ["client side", "server side"][event.side] : event.kind === "fault" ? "a fault" : event.of ? run.threads[event.of.thread][0] : "the world";

// ---- the picture ----
const canvas = $("picture"), pen = canvas.getContext("2d");
let width = 0, height = 0, left = 0, scale = 1, scroll = 0, shown = lanes, contentHeight = 0;
let chosen = null, hovered = null, filtering = false, pending = false, colours = {};
function readColours() {
  const style = getComputedStyle(document.documentElement);
  for (const name of ["back", "panel", "ink", "soft", "faint", "line", "band", ...CLASSES, "bad", "fault", "note", "timer", "client", "server", "fold", "fold-ink", "pick"]) {
    colours[name] = style.getPropertyValue(`--${name}`).trim();
  }
}
const plot = () => Math.max(50, width - LABELS - BAR);
const toX = (place) => LABELS + (place - left) * scale;
const toPlace = (x) => left + (x - LABELS) / scale;
function clamp() {
  scale = Math.min(Math.max(scale, plot() / (total * 1.04)), plot() / (total / Math.max(moments.length, 4)) * 60);
  const visible = plot() / scale, margin = visible * 0.02;
  left = Math.min(Math.max(left, -margin), Math.max(-margin, total - visible + margin));
  scroll = Math.min(Math.max(scroll, 0), Math.max(0, contentHeight - (height - AXIS)));
}
function redraw() {
  if (pending) return;
  pending = true;
  requestAnimationFrame(() => { pending = false; clamp(); draw(); });
}
function resize() {
  const box = canvas.parentElement.getBoundingClientRect(), ratio = window.devicePixelRatio || 1;
  const keep = width ? plot() / scale : 0;
  width = box.width; height = box.height;
  canvas.width = Math.round(width * ratio); canvas.height = Math.round(height * ratio);
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  if (keep) scale = plot() / keep;
  placeLanes();
  redraw();
}
function placeLanes() {
  const only = Number($("connection").value);
  for (const lane of lanes) lane.height = lane.least;
  shown = lanes.filter((lane) => {
    if (lane.type === "thread") return only < 0 || lane.marks.some((mark) => !mark.dim);
    if (lane.type !== "connection") return true;
    if (only >= 0) return lane.conn === only;
    return !filtering || lane.marks.some((mark) => !mark.dim) || lane.ticks.some((side) => side.some((tick) => !tick.dim));
  });
  contentHeight = 0;
  // A host without anyone on it needs no title.
  shown = shown.filter((lane, index) => lane.type !== "host" || (shown[index + 1] && shown[index + 1].type !== "host"));
  // Where there is room to spare, lanes are tall.
  const grows = (lane) => lane.type === "thread" || lane.type === "connection";
  const least = shown.reduce((sum, lane) => sum + lane.height, 8), able = shown.reduce((sum, lane) => sum + (grows(lane) ? lane.height : 0), 0);
  const factor = able ? Math.min(2.4, Math.max(1, 1 + (height - AXIS - least) / able)) : 1;
  for (const lane of shown) {
    if (grows(lane)) lane.height = Math.floor(lane.height * (lane.type === "thread" ? Math.min(factor, 1.6) : factor));
    lane.y = contentHeight;
    contentHeight += lane.height;
  }
  contentHeight += 8;
}
const SANS = getComputedStyle(document.body).fontFamily, MONO = getComputedStyle(document.documentElement).getPropertyValue("--mono");
function write(text, x, y, colour, font, align = "left") {
  pen.font = font; pen.fillStyle = colour; pen.textAlign = align; pen.fillText(text, x, y);
}
function clipped(text, room, font) {
  pen.font = font;
  const letters = Math.floor(room / pen.measureText("0").width);
  return letters < 2 ? "" : text.length <= letters ? text : `${text.slice(0, letters - 1)}\u2026`;
}
function draw() {
  pen.textBaseline = "middle";
  pen.fillStyle = colours.back; pen.fillRect(0, 0, width, height);
  pen.save();
  pen.beginPath(); pen.rect(0, AXIS, width - BAR, height - AXIS); pen.clip();
  for (const lane of shown) {
    const y = lane.y - scroll + AXIS;
    if (y > height || y + lane.height < AXIS) continue;
    if (lane.type === "host") { pen.fillStyle = colours.band; pen.fillRect(0, y, width, lane.height); }
  }
  pen.restore();
  drawFolds();
  pen.save();
  pen.beginPath(); pen.rect(LABELS, AXIS, width - LABELS - BAR, height - AXIS); pen.clip();
  for (const lane of shown) {
    const y = lane.y - scroll + AXIS;
    if (y > height || y + lane.height < AXIS) continue;
    pen.strokeStyle = colours.line; pen.lineWidth = 1;
    pen.beginPath(); pen.moveTo(LABELS, Math.round(y + lane.height) - 0.5); pen.lineTo(width, Math.round(y + lane.height) - 0.5); pen.stroke();
    if (lane.type === "thread") drawThread(lane, y);
    else if (lane.type === "connection") drawConnection(lane, y);
    else if (lane.type === "world") drawWorld(lane, y);
  }
  drawFailure();
  drawDeadline();
  pen.restore();
  drawAxis();
  drawLabels();
  drawBar();
}
function firstVisible(marks, place) {
  let low = 0, high = marks.length;
  while (low < high) { const middle = (low + high) >> 1; if (marks[middle].x0 < place) low = middle + 1; else high = middle; }
  return low;
}
function drawThread(lane, y) {
  const from = toPlace(LABELS) - lane.widest, to = toPlace(width);
  const line = y + lane.height / 2;
  const last = new Array(2 * CLASSES.length).fill(-10);
  if (lane.asleep) drawSleep(lane, y);
  for (let i = firstVisible(lane.marks, from); i < lane.marks.length; i++) {
    const mark = lane.marks[i];
    if (mark.x0 > to) break;
    const x0 = toX(mark.x0), x1 = toX(mark.x1);
    if (x1 < LABELS - 2) continue;
    const special = mark.flags & (FAILED | GUILTY) || mark === chosen || mark === hovered;
    // Of what falls into one column of pixels, one mark is enough.
    const alike = mark.type + (mark.dim ? CLASSES.length : 0);
    if (!special && x1 - last[alike] < 0.8) continue;
    last[alike] = Math.max(last[alike], x1);
    pen.globalAlpha = mark.dim ? 0.1 : 1;
    if (mark.type === 3) {
      pen.fillStyle = colours.wait;
      pen.fillRect(x0, line - 4, Math.max(1, x1 - x0), 8);
      if (mark.flags & TIMED_OUT) triangle(x1, line, colours.timer);
      if (x1 - x0 > 90) {
        const words = `${mark.flags & TIMED_OUT ? "timed out after" : "waited"} ${span(mark.t1 - mark.t0)}`;
        const label = clipped(words, Math.min(x1, width) - Math.max(x0, LABELS) - 12, `10px ${MONO}`);
        write(label, Math.max(x0, LABELS) + 5, line, colours.soft, `10px ${MONO}`);
      }
    } else {
      const wide = Math.max(1.2, x1 - x0 - (x1 - x0 > 4 ? 1 : 0)), tall = (mark.type === 5 ? 8 : mark.type === 4 ? 14 : 22) * lane.height / lane.least;
      pen.fillStyle = colours[CLASSES[mark.type]];
      if (mark.flags & WOULD_WAIT && wide > 4) {
        pen.globalAlpha *= 0.35;
        pen.fillRect(x0, line - tall / 2, wide, tall);
        pen.globalAlpha = mark.dim ? 0.1 : 1;
      } else pen.fillRect(x0, line - tall / 2, wide, tall);
      if (mark.flags & FAILED) { pen.fillStyle = colours.bad; pen.fillRect(x0, line + tall / 2 - 3, Math.max(2.5, wide), 3); }
      if (wide > 26 && mark.type !== 5) {
        const label = clipped(brief(mark), wide - 6, `10.5px ${MONO}`);
        write(label, x0 + 4, line + 0.5, mark.flags & WOULD_WAIT || mark.type === 4 ? colours.ink : colours.panel, `10.5px ${MONO}`);
      }
    }
    const reach = 13 * lane.height / lane.least;
    if (mark.flags & GUILTY) ring(x0, line - reach, Math.max(3, x1 - x0), 2 * reach, colours.bad, 2);
    if (mark === chosen || mark === hovered) ring(x0, line - reach, Math.max(3, x1 - x0), 2 * reach, mark === chosen ? colours.pick : colours.soft, 1.5);
  }
  pen.globalAlpha = 1;
}
/// The name of a call, and what came of it.
function brief(call) {
  const name = call.text.slice(0, call.text.indexOf("(")), result = call.text.slice(call.text.lastIndexOf(" ") + 1);
  return result === "0" && call.type !== 0 ? name : `${name} ${result}`;
}
function drawSleep(lane, y) {
  const x0 = Math.max(toX(lane.asleep.x0), LABELS), x1 = Math.min(toX(total), width), line = y + lane.height / 2;
  if (x1 <= x0 || !run.failure) return;
  pen.strokeStyle = lane.asleep.waiting ? colours.bad : colours.faint;
  pen.lineWidth = 1; pen.setLineDash([4, 3]); pen.strokeRect(x0, line - 6.5, x1 - x0, 13); pen.setLineDash([]);
  const until = lane.asleep.until === null ? "without end" : `until ${clock(lane.asleep.until, 3)}`;
  const text = `asleep ${until}${lane.asleep.waiting ? `, with ${lane.asleep.waiting}` : ""}`;
  const room = clipped(text, x1 - x0 - 10, `10px ${MONO}`);
  if (room) write(room, x0 + 6, line + 0.5, pen.strokeStyle, `10px ${MONO}`);
}
function triangle(x, y, colour) {
  pen.fillStyle = colour;
  pen.beginPath(); pen.moveTo(x - 6, y - 6); pen.lineTo(x, y); pen.lineTo(x - 6, y + 6); pen.closePath(); pen.fill();
}
function ring(x, y, wide, tall, colour, thick) {
  pen.strokeStyle = colour; pen.lineWidth = thick; pen.strokeRect(x - 1.5, y, wide + 3, tall);
}
function diamond(x, y, reach, colour) {
  pen.fillStyle = colour;
  pen.beginPath(); pen.moveTo(x, y - reach); pen.lineTo(x + reach, y); pen.lineTo(x, y + reach); pen.lineTo(x - reach, y); pen.closePath(); pen.fill();
}
function drawWorld(lane, y) {
  const line = y + lane.height / 2, to = toPlace(width) + 10 / scale;
  let lastFault = -10, lastNote = -10, free = -Infinity;
  for (let i = firstVisible(lane.marks, toPlace(LABELS) - 300 / scale); i < lane.marks.length; i++) {
    const mark = lane.marks[i];
    if (mark.x0 > to) break;
    const x = toX(mark.x0), fault = mark.kind === "fault", special = mark === chosen || mark === hovered;
    if (!special && (mark.dim || !filtering) && (fault ? x - lastFault : x - lastNote) < 1.2) continue;
    pen.globalAlpha = mark.dim ? 0.12 : 1;
    if (fault) { diamond(x, line, 5, colours.fault); lastFault = x; }
    else { pen.fillStyle = colours.note; pen.fillRect(x - 0.75, line - 8, 1.5, 16); lastNote = x; }
    if (special) ring(x - 4, line - 8, 8, 16, mark === chosen ? colours.pick : colours.soft, 1.5);
    const next = lane.marks[i + 1], room = (next ? toX(next.x0) : width) - x - 16;
    if (x > free && room > 40) {
      const label = clipped(mark.text, Math.min(room, 420), `10.5px ${SANS}`);
      write(label, x + 8, line, fault ? colours.fault : colours.soft, `10.5px ${SANS}`);
      free = x + 8 + pen.measureText(label).width;
    }
  }
  pen.globalAlpha = 1;
}
function drawConnection(lane, y) {
  const above = y + 10, below = y + lane.height - 10;
  const a = Math.max(toX(lane.x0), LABELS), b = Math.min(toX(lane.x1), width);
  if (b > a) {
    pen.fillStyle = colours.band; pen.fillRect(a, above, b - a, below - above);
    pen.fillStyle = colours.line; pen.fillRect(a, above - 0.5, b - a, 1); pen.fillRect(a, below - 0.5, b - a, 1);
  }
  const from = toPlace(LABELS) - lane.widest - 30 / scale, to = toPlace(width);
  const lastStart = [-10, -10], lastEnd = [-10, -10];
  for (let i = firstVisible(lane.marks, from); i < lane.marks.length; i++) {
    const mark = lane.marks[i];
    if (mark.x0 > to) break;
    const x0 = toX(mark.x0), x1 = toX(mark.x1), special = mark === chosen || mark === hovered;
    if (x1 < LABELS - 20) continue;
    pen.globalAlpha = mark.dim ? 0.1 : 1;
    if (mark.kind !== "packet") {
      diamond(x0, y + lane.height / 2, special ? 6 : 4, mark.kind === "fault" ? colours.fault : colours.note);
      continue;
    }
    const odd = mark.flags & (LOST | AGAIN) || mark.type === 4;
    if (!special && !odd && Math.abs(x0 - lastStart[mark.side]) < 0.8 && Math.abs(x1 - lastEnd[mark.side]) < 0.8) continue;
    lastStart[mark.side] = x0; lastEnd[mark.side] = x1;
    const [y0, y1] = mark.side ? [below, above] : [above, below];
    const colour = mark.flags & LOST || mark.type === 4 ? colours.bad : mark.type === 2 ? colours.faint : mark.side ? colours.server : colours.client;
    pen.strokeStyle = colour;
    pen.lineWidth = (special ? 1.5 : 0) + (mark.bytes ? Math.min(4, 1.2 + Math.log10(mark.bytes) * 0.6) : 1);
    const lost = mark.flags & LOST, reach = lost ? 0.55 : 1;
    if (mark.type === 2 || lost) pen.setLineDash([3, 3]);
    pen.beginPath(); pen.moveTo(x0, y0); pen.lineTo(x0 + (x1 - x0) * reach, y0 + (y1 - y0) * reach); pen.stroke();
    pen.setLineDash([]);
    if (lost) cross(x0 + (x1 - x0) * reach, y0 + (y1 - y0) * reach);
    else if (x1 - x0 > 3 || special) { pen.fillStyle = colour; pen.beginPath(); pen.arc(x1, y1, special ? 3.5 : 2.2, 0, 7); pen.fill(); }
    if (special) ring((x0 + x1) / 2 - 4, y + lane.height / 2 - 4, 8, 8, mark === chosen ? colours.pick : colours.soft, 1.5);
    if (x1 - x0 > 34 && mark.type !== 2) {
      const label = mark.type === 3 ? (mark.bytes ? size(mark.bytes) : "") + (mark.flags & END ? `${mark.bytes ? " " : ""}FIN` : "") : KINDS[mark.type];
      const part = 0.35 + 0.15 * (i % 3), middle = x0 + (x1 - x0) * part, level = y0 + (y1 - y0) * part, room = `10px ${MONO}`;
      pen.font = room;
      const wide = pen.measureText(label).width + 6;
      pen.globalAlpha *= 0.85; pen.fillStyle = colours.band; pen.fillRect(middle - wide / 2, level - 6, wide, 12); pen.globalAlpha = mark.dim ? 0.1 : 1;
      write(label, middle, level, colour, room, "center");
    }
  }
  for (const side of [0, 1]) {
    const line = side ? below : above;
    let last = -10;
    for (let i = firstVisible(lane.ticks[side], from); i < lane.ticks[side].length; i++) {
      const tick = lane.ticks[side][i];
      if (tick.x0 > to) break;
      const x = toX(tick.x0), special = tick === chosen || tick === hovered || tick.flags & (FAILED | GUILTY);
      if (!special && x - last < 1) continue;
      last = x;
      pen.globalAlpha = tick.dim ? 0.1 : tick.flags & WOULD_WAIT ? 0.4 : 1;
      pen.fillStyle = tick.flags & (FAILED | GUILTY) ? colours.bad : colours[CLASSES[tick.type]];
      pen.fillRect(x, line - (side ? 1 : 7), Math.max(1.5, Math.min(toX(tick.x1) - x, 6)), 8);
    }
  }
  pen.globalAlpha = 1;
}
function cross(x, y) {
  pen.strokeStyle = colours.bad; pen.lineWidth = 2;
  pen.beginPath(); pen.moveTo(x - 4, y - 4); pen.lineTo(x + 4, y + 4); pen.moveTo(x + 4, y - 4); pen.lineTo(x - 4, y + 4); pen.stroke();
}
function drawFolds() {
  if (axis !== "folded") return;
  pen.save();
  pen.beginPath(); pen.rect(LABELS, 0, width - LABELS - BAR, height); pen.clip();
  pen.fillStyle = colours.fold;
  for (let i = search(places, toPlace(LABELS)); i + 1 < places.length; i++) {
    const x0 = toX(places[i]), x1 = toX(places[i + 1]);
    if (x0 > width) break;
    if (moments[i + 1] - moments[i] < foldedFrom || x1 - x0 < 22) continue;
    pen.fillStyle = colours.fold; pen.fillRect(x0, AXIS, x1 - x0, height);
    const label = span(moments[i + 1] - moments[i]);
    pen.font = `10px ${SANS}`;
    const room = pen.measureText(label).width;
    if (x1 - x0 > room + 6) {
      write(label, (x0 + x1) / 2, AXIS - 6, colours["fold-ink"], `10px ${SANS}`, "center");
      pen.strokeStyle = colours["fold-ink"]; pen.lineWidth = 1; pen.setLineDash([2, 3]);
      pen.beginPath(); pen.moveTo(x0 + 1, AXIS - 0.5); pen.lineTo(x1 - 1, AXIS - 0.5); pen.stroke(); pen.setLineDash([]);
    }
  }
  pen.restore();
}
function drawAxis() {
  write("virtual time", 16, AXIS / 2, colours.faint, `11px ${SANS}`);
  pen.strokeStyle = colours.line; pen.lineWidth = 1;
  pen.beginPath(); pen.moveTo(0, AXIS - 0.5); pen.lineTo(width, AXIS - 0.5); pen.stroke();
  pen.save();
  pen.beginPath(); pen.rect(LABELS, 0, width - LABELS, AXIS); pen.clip();
  let free = LABELS;
  const labels = [];
  for (let x = LABELS + 4; x < width - 40; x += 20) {
    if (x < free) continue;
    let place = toPlace(x);
    if (place < 0 || place > total) continue;
    // On a moment at which something happens, if there is one near.
    const near = Math.min(search(places, place) + 1, places.length - 1);
    if (axis !== "linear" && toX(places[near]) - x < 60) place = places[near];
    labels.push([toX(place), timeAt(place)]);
    free = toX(place) + (origin > 10n ** 12n ? 170 : 128);
  }
  const failing = run.failure ? toX(placeOf(run.failure.at)) : -1e9, badge = 64;
  labels.forEach(([x, time], index) => {
    if (x > failing - 118 && x < Math.max(failing, Math.min(failing, width - BAR - badge)) + badge + 6) return;
    const apart = Math.min(index ? time - labels[index - 1][1] : Infinity, index + 1 < labels.length ? labels[index + 1][1] - time : Infinity);
    const digits = Number.isFinite(apart) && apart > 0 ? Math.min(9, Math.max(1, Math.ceil((10 - Math.log10(apart)) / 3) * 3)) : 9;
    write(clock(time, digits), x + 3, 9, colours.soft, `10.5px ${SANS}`);
    pen.fillStyle = colours.faint; pen.fillRect(x, 4, 1, 11);
  });
  if (run.failure) {
    const x = toX(placeOf(run.failure.at)), text = `step ${run.failure.step}`;
    pen.font = `600 11px ${SANS}`;
    const wide = pen.measureText(text).width + 12, start = Math.min(x, width - BAR - wide);
    if (x >= LABELS && x <= width) {
      pen.fillStyle = colours.bad; pen.fillRect(start, 1, wide, 16);
      write(text, start + 6, 9.5, colours.panel, `600 11px ${SANS}`);
    }
  }
  pen.restore();
}
function drawFailure() {
  if (!run.failure) return;
  const x = toX(placeOf(run.failure.at));
  pen.fillStyle = colours.bad; pen.globalAlpha = 0.75; pen.fillRect(x - 0.75, 0, 1.5, height); pen.globalAlpha = 1;
}
/// The timeout of the wait that is pointed at: when its timer would have gone off.
function drawDeadline() {
  const mark = hovered || chosen;
  if (!mark || mark.kind !== "call" || mark.type !== 3 || mark.timeout < 0 || !shown.includes(mark.lane)) return;
  const x0 = toX(mark.x1), x1 = toX(placeOf(mark.t0 + mark.timeout)), line = mark.lane.y - scroll + AXIS + mark.lane.height / 2;
  pen.strokeStyle = colours.timer; pen.lineWidth = 1; pen.setLineDash([2, 3]);
  pen.beginPath(); pen.moveTo(x0, line); pen.lineTo(x1, line); pen.stroke(); pen.setLineDash([]);
  diamond(x1, line, 4, colours.timer);
}
function drawLabels() {
  pen.save();
  pen.beginPath(); pen.rect(0, AXIS, LABELS, height - AXIS); pen.clip();
  pen.fillStyle = colours.panel; pen.fillRect(0, AXIS, LABELS, height);
  for (const lane of shown) {
    const y = lane.y - scroll + AXIS, middle = y + lane.height / 2;
    if (y > height || y + lane.height < AXIS) continue;
    pen.fillStyle = colours.line; pen.fillRect(0, Math.round(y + lane.height) - 1, LABELS, 1);
    if (lane.type === "host") {
      pen.fillStyle = colours.band; pen.fillRect(0, y, LABELS, lane.height - 1);
      write(lane.label, 16, middle, colours.ink, `600 11px ${SANS}`);
      write(lane.detail, LABELS - 10, middle, colours.soft, `10.5px ${SANS}`, "right");
    } else if (lane.type === "connection") {
      write(clipped(lane.label, LABELS - 24, `10.5px ${MONO}`), 16, middle - 8, colours.ink, `10.5px ${MONO}`);
      write(lane.detail, 16, middle + 8, colours.soft, `10.5px ${SANS}`);
    } else {
      write(lane.label, lane.type === "world" ? 16 : 26, middle, lane === guilty?.lane ? colours.bad : colours.ink, `${lane === guilty?.lane ? "600 " : ""}12px ${SANS}`);
      write(lane.detail, LABELS - 10, middle, colours.faint, `10.5px ${SANS}`, "right");
    }
  }
  pen.restore();
  pen.fillStyle = colours.line; pen.fillRect(LABELS - 1, AXIS, 1, height);
}
function drawBar() {
  const room = height - AXIS;
  if (contentHeight <= room) return;
  const tall = Math.max(24, room * room / contentHeight), y = AXIS + scroll / (contentHeight - room) * (room - tall);
  pen.fillStyle = colours.faint; pen.globalAlpha = 0.6; pen.fillRect(width - BAR + 2, y, BAR - 4, tall); pen.globalAlpha = 1;
}

// ---- pointing, moving, zooming ----
function laneAt(y) {
  const at = y - AXIS + scroll;
  return y < AXIS ? null : shown.find((lane) => at >= lane.y && at < lane.y + lane.height) || null;
}
function markAt(x, y) {
  const lane = laneAt(y);
  if (!lane || x < LABELS || x > width - BAR) return null;
  let best = null, nearest = 7;
  const look = (mark, distance) => { if (distance < nearest && !(mark.dim && filtering)) { nearest = distance; best = mark; } };
  const from = toPlace(x) - lane.widest - 12 / scale, to = toPlace(x) + 12 / scale, top = lane.y - scroll + AXIS;
  const around = (marks, distance) => {
    for (let i = firstVisible(marks, from); i < marks.length && marks[i].x0 <= to; i++) look(marks[i], distance(marks[i]));
  };
  const outside = (mark) => Math.max(toX(mark.x0) - x, x - toX(mark.x1), 0);
  if (lane.type === "connection") {
    for (const side of [0, 1]) {
      const line = side ? lane.height - 7 : 7;
      if (Math.abs(y - top - line) < 8) around(lane.ticks[side], (mark) => Math.abs(toX(mark.x0) + 1 - x) + 0.1);
    }
    if (best) return best;
    around(lane.marks, (mark) => {
      if (mark.kind !== "packet") return Math.hypot(toX(mark.x0) - x, y - top - lane.height / 2);
      const x0 = toX(mark.x0), x1 = toX(mark.x1), tall = lane.height - 20;
      const part = Math.min(1, Math.max(0, (mark.side ? lane.height - 10 - (y - top) : y - top - 10) / tall));
      const across = Math.abs(x0 + (x1 - x0) * part - x);
      return across * tall / Math.hypot(tall, x1 - x0);
    });
    return best;
  }
  // Waits are wide: what is small and near comes first.
  around(lane.marks, (mark) => outside(mark) + (mark.type === 3 ? 0.5 : 0));
  return best;
}
function tell(mark, x, y) {
  const tip = $("tip");
  if (!mark) { tip.hidden = true; return; }
  tip.replaceChildren();
  const add = (tag, text, kind) => { const line = document.createElement(tag); line.textContent = text; if (kind) line.className = kind; tip.append(line); };
  add("b", mark.text);
  if (mark.flags & GUILTY && mark.kind === "call") add("div", `the failing step: ${run.failure.oracle}`, "bad");
  const where = mark.kind === "call" ? `step ${mark.step}, ${nameOf(mark)} (t${mark.thread}) on host ${run.threads[mark.thread][1]}` : mark.kind === "packet" ? `a packet of the ${nameOf(mark)}` : nameOf(mark);
  add("div", where);
  if (mark.t1 > mark.t0) add("div", `${clock(mark.t0)} to ${clock(mark.t1)}: ${span(mark.t1 - mark.t0)}`);
  else add("div", clock(mark.t0));
  if (mark.conn >= 0) add("div", connectionName(mark.conn));
  if (mark.timeout >= 0) add("div", mark.flags & TIMED_OUT ? `slept until its timeout of ${span(mark.timeout)}` : `its timeout was ${span(mark.timeout)}`);
  if (mark.told) for (const note of Array.isArray(mark.told) ? mark.told.slice(0, 6) : []) add("div", note.text);
  if (mark.told?.length > 6) add("div", `and ${mark.told.length - 6} more`);
  tip.hidden = false;
  const box = tip.getBoundingClientRect();
  tip.style.left = `${Math.max(4, Math.min(x + 14, width - box.width - 6))}px`;
  tip.style.top = `${y + 18 + box.height > height ? Math.max(2, y - box.height - 10) : y + 18}px`;
}
function zoom(factor, x) {
  const place = toPlace(x);
  scale *= factor;
  clamp();
  left = place - (x - LABELS) / scale;
  redraw();
}
function centre(mark) {
  const visible = plot() / scale, middle = (mark.x0 + mark.x1) / 2;
  // A call that would be a hair's breadth gets room.
  const wide = 22 / Math.max((mark.x1 - mark.x0) * scale, total / moments.length * scale, 0.01);
  if (wide > 1.2) scale *= Math.min(wide, 1e5);
  clamp();
  const now = plot() / scale;
  if (now !== visible || mark.x1 < left || mark.x0 > left + now * 0.95) left = middle - now * 0.6;
  show(mark.lane);
  redraw();
}
function show(lane) {
  if (!shown.includes(lane)) return;
  const y = lane.y - scroll;
  if (y < 0 || y + lane.height > height - AXIS) scroll = lane.y - (height - AXIS) / 3;
}
function choose(mark, move) {
  chosen = mark;
  if (mark && move) centre(mark);
  if (mark) showLine(mark.index >= 0 ? mark.index : firstAfter(mark.t0));
  redraw();
}
function firstAfter(time) {
  const found = events.findIndex((event) => event.t1 >= time);
  return found < 0 ? events.length - 1 : found;
}
function fit() { left = -total * 0.02; scale = plot() / (total * 1.04); scroll = 0; redraw(); }
function toFailure() { if (guilty) choose(guilty, true); }
let drag = null;
canvas.addEventListener("pointerdown", (press) => {
  drag = { x: press.offsetX, y: press.offsetY, left, scroll, moved: false, bar: press.offsetX > width - BAR };
  canvas.setPointerCapture(press.pointerId);
});
canvas.addEventListener("pointermove", (move) => {
  const { offsetX: x, offsetY: y } = move;
  if (drag) {
    drag.moved ||= Math.hypot(x - drag.x, y - drag.y) > 4;
    if (drag.bar) scroll = drag.scroll + (y - drag.y) * contentHeight / (height - AXIS);
    else if (drag.moved) { left = drag.left - (x - drag.x) / scale; scroll = drag.scroll - (y - drag.y); }
    if (drag.moved) { hovered = null; tell(null); canvas.style.cursor = "grabbing"; redraw(); }
    return;
  }
  const mark = markAt(x, y), lane = laneAt(y);
  canvas.style.cursor = mark || (x < LABELS && lane && lane.type !== "host" && lane.type !== "world") ? "pointer" : "default";
  tell(mark, x, y);
  if (mark !== hovered) { hovered = mark; redraw(); }
});
canvas.addEventListener("pointerup", (press) => {
  const clicked = drag && !drag.moved && !drag.bar;
  drag = null;
  if (!clicked) return;
  const lane = laneAt(press.offsetY);
  if (press.offsetX < LABELS && lane) {
    if (lane.type === "connection") { $("connection").value = Number($("connection").value) === lane.conn ? -1 : lane.conn; onlyConnection(); }
    if (lane.type === "thread") { $("filter").value = $("filter").value === `"${lane.label}"` ? "" : `"${lane.label}"`; filter(); }
    return;
  }
  choose(markAt(press.offsetX, press.offsetY), false);
});
canvas.addEventListener("pointercancel", () => { drag = null; });
canvas.addEventListener("pointerleave", () => { hovered = null; tell(null); redraw(); });
canvas.addEventListener("wheel", (turn) => {
  turn.preventDefault();
  const lines = turn.deltaMode === 1 ? 16 : 1;
  if (turn.offsetX < LABELS || turn.offsetX > width - BAR) scroll += turn.deltaY * lines;
  else if (turn.shiftKey || Math.abs(turn.deltaX) > Math.abs(turn.deltaY)) left += (turn.deltaX || turn.deltaY) * lines / scale;
  else { zoom(Math.exp(-turn.deltaY * lines * 0.0016), turn.offsetX); return; }
  redraw();
}, { passive: false });
function step(by) {
  const marks = (chosen ? chosen.lane : guilty ? guilty.lane : world).marks.filter((mark) => !mark.dim || !filtering);
  if (!marks.length) return;
  const at = chosen ? marks.indexOf(chosen) : -1;
  choose(marks[Math.min(Math.max(at + by, 0), marks.length - 1)], true);
}
window.addEventListener("keydown", (key) => {
  const writing = /^(INPUT|SELECT)$/.test(document.activeElement.tagName);
  if (key.key === "Escape") { $("filter").value = ""; $("connection").value = -1; $("help").hidden = true; chosen = null; filter(); canvas.focus(); return; }
  if (writing || key.ctrlKey || key.metaKey || key.altKey) return;
  const middle = LABELS + plot() / 2, inLines = document.activeElement === $("lines");
  const actions = {
    "+": () => zoom(1.5, middle), "=": () => zoom(1.5, middle), "-": () => zoom(1 / 1.5, middle), "0": fit,
    ArrowLeft: () => { left -= plot() / scale * 0.15; redraw(); }, ArrowRight: () => { left += plot() / scale * 0.15; redraw(); },
    ArrowUp: () => { scroll -= 50; redraw(); }, ArrowDown: () => { scroll += 50; redraw(); },
    n: () => step(1), p: () => step(-1), f: toFailure, "?": toggleHelp, "/": () => $("filter").focus(),
  };
  const action = actions[key.key];
  if (!action || (inLines && key.key.startsWith("Arrow"))) return;
  key.preventDefault();
  action();
});

// ---- filter ----
function filter() {
  const only = Number($("connection").value), asked = $("filter").value.trim().toLowerCase();
  const words = (asked.match(/"[^"]*"|\S+/g) || []).map((word) => word.replaceAll('"', "")).filter(Boolean);
  filtering = words.length > 0 || only >= 0;
  let found = 0;
  const test = (mark) => {
    if (only >= 0 && mark.conn !== only) return false;
    if (!words.length) return true;
    const text = `${mark.text} ${nameOf(mark)} ${mark.conn >= 0 ? connectionName(mark.conn) : ""} ${mark.kind}`.toLowerCase();
    return words.every((word) => text.includes(word));
  };
  for (const mark of events) { mark.dim = filtering && !test(mark); found += !mark.dim; }
  for (const mark of packets) { mark.dim = filtering && !test(mark); found += !mark.dim; }
  $("found").textContent = filtering ? `${found.toLocaleString("en")} of ${plural(events.length + packets.length, "event")}` : "";
  placeLanes();
  redraw();
  showLines();
}
let delay = 0;
$("filter").addEventListener("input", () => { clearTimeout(delay); delay = setTimeout(filter, events.length > 5000 ? 150 : 0); });
$("filter").addEventListener("keydown", (key) => {
  if (key.key !== "Enter") return;
  const after = chosen ? chosen.index : -1;
  const next = events.find((event) => event.index > after && !event.dim) || events.find((event) => !event.dim);
  if (next) choose(next, true);
});
/// A connection that is chosen fills the picture; none is the way back.
function onlyConnection() {
  filter();
  const only = Number($("connection").value);
  if (only < 0) { fit(); return; }
  let first = total, last = 0;
  for (const marks of [laneOfConnection[only].marks, ...laneOfConnection[only].ticks]) {
    for (const mark of marks) { first = Math.min(first, mark.x0); last = Math.max(last, mark.x1); }
  }
  if (last < first) return;
  scale = plot() / Math.max((last - first) * 1.08, total / moments.length * 8);
  clamp();
  left = (first + last) / 2 - plot() / scale / 2;
  scroll = laneOfConnection[only].y - (height - AXIS) / 2;
  redraw();
}
$("connection").addEventListener("change", onlyConnection);

// ---- the lines below: only those that are visible exist ----
const ROW = 18, list = $("lines"), sheet = document.createElement("div");
sheet.style.cssText = "position:relative;min-width:max-content";
list.append(sheet);
// A run's clock may begin anywhere, as may the length of its times.
list.style.setProperty("--when", `${clock(moments[moments.length - 1] ?? 0).length}ch`);
let rows = events;
function showLines() {
  rows = filtering ? events.filter((event) => !event.dim) : events;
  sheet.style.height = `${rows.length * ROW}px`;
  fillLines();
}
function fillLines() {
  const first = Math.max(0, Math.floor(list.scrollTop / ROW) - 5), last = Math.min(rows.length, first + Math.ceil(list.clientHeight / ROW) + 10);
  const made = [];
  for (let i = first; i < last; i++) {
    const event = rows[i], line = document.createElement("p");
    line.style.cssText = `position:absolute;left:0;min-width:100%;height:${ROW}px;top:${i * ROW}px`;
    line.className = `${event.kind}${event === chosen || (chosen && chosen.kind === "packet" && chosen.near === event) ? " chosen" : ""}${event.flags & GUILTY ? " guilty" : ""}`;
    for (const [kind, text] of [["step", event.kind === "call" ? event.step : ""], ["when", clock(event.t1)], ["who", nameOf(event)], ["what", event.text]]) {
      const part = document.createElement("span");
      part.className = kind === "what" && event.flags & FAILED ? "what bad" : kind;
      part.textContent = text;
      line.append(part);
    }
    line.addEventListener("click", () => choose(event.of || event, true));
    made.push(line);
  }
  sheet.replaceChildren(...made);
}
function showLine(index) {
  let at = rows === events ? index : rows.findIndex((event) => event.index >= index);
  if (at < 0) at = rows.length - 1;
  const top = at * ROW;
  if (top < list.scrollTop || top > list.scrollTop + list.clientHeight - 2 * ROW) list.scrollTop = top - list.clientHeight * 0.6;
  fillLines();
}
list.addEventListener("scroll", fillLines);

// ---- the words around it ----
function toggleHelp() { $("help").hidden = !$("help").hidden; $("keys").setAttribute("aria-expanded", String(!$("help").hidden)); }
function begin() {
  const failure = run.failure;
  $("badge").textContent = failure ? `FAILED ${failure.oracle}` : "passed";
  $("badge").classList.toggle("failed", Boolean(failure));
  $("title").textContent = `${run.workload} on ${run.kernel}, ${run.weather} weather`;
  $("facts").textContent = [plural(callCount, "call"), plural(run.hosts.length, "host"), plural(run.connections.length, "connection"),
    plural(run.faults.length, "fault"), `${span(run.virtual_ns)} of virtual time`, run.replay, `build ${run.build}`].join("  \u00b7  ");
  if (failure) $("wrong").textContent = `step ${failure.step}, ${clock(failure.at)}: ${failure.details}`;
  $("storybox").hidden = !run.story.length;
  const steps = new Map(events.filter((event) => event.kind === "call").map((event) => [event.step, event]));
  run.story.forEach((text, index) => {
    const line = document.createElement("li"), at = /^step (\d+)/.exec(text);
    line.textContent = text;
    if (/<--$/.test(text) || (failure && index === run.story.length - 1)) line.className = "guilty";
    if (at) {
      line.dataset.step = at[1];
      line.tabIndex = 0;
      const go = () => choose(steps.get(Math.min(Number(at[1]), run.steps)) || guilty, true);
      line.addEventListener("click", go);
      line.addEventListener("keydown", (key) => { if (key.key === "Enter") go(); });
    }
    $("story").append(line);
  });
  $("connection").append(new Option("all", -1), ...run.connections.map((_, number) => new Option(connectionName(number), number)));
  $("goto").hidden = !failure;
  const legend = [["read", "reads"], ["write", "writes"], ["lifecycle", "opens, accepts, closes"], ["wait", "waits"], ["register", "registers"], ["timer", "a timeout that passed"],
    ["fault", "a fault"], ["note", "a note"], ["client", "packets of the client"], ["server", "packets of the server"], ["bad", "an error, a loss, a reset"]];
  for (const [colour, text] of legend) {
    const line = document.createElement("li"), patch = document.createElement("i");
    patch.style.background = `var(--${colour})`;
    line.append(patch, text);
    $("legend").append(line);
  }
  const press = (name) => document.querySelectorAll("[data-axis]").forEach((button) => button.setAttribute("aria-pressed", String(button.dataset.axis === name)));
  document.querySelectorAll("[data-axis]").forEach((button) => button.addEventListener("click", () => {
    const middle = timeAt(toPlace(LABELS + plot() / 2)), part = plot() / scale / total;
    axis = button.dataset.axis;
    press(axis);
    layOut();
    scale = plot() / (total * part);
    left = placeOf(middle) - total * part / 2;
    redraw();
  }));
  press(axis);
  $("in").addEventListener("click", () => zoom(1.5, LABELS + plot() / 2));
  $("out").addEventListener("click", () => zoom(1 / 1.5, LABELS + plot() / 2));
  $("all").addEventListener("click", fit);
  $("goto").addEventListener("click", toFailure);
  $("keys").addEventListener("click", toggleHelp);
  $("storybox").addEventListener("toggle", resize);
  readColours();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { readColours(); redraw(); });
  layOut();
  filter();
  resize();
  fit();
  if (guilty) {
    // A long run opens at its end, a short one as a whole.
    const many = 160;
    if (events.length > 2 * many) {
      const first = events[Math.max(0, guilty.index - many)], visible = Math.max(guilty.x1 - first.x0, total / moments.length * 40);
      scale = plot() / (visible * 1.25);
      left = guilty.x1 - visible * 1.15;
    }
    clamp();
    show(guilty.lane);
    choose(guilty, false);
  }
  new ResizeObserver(resize).observe(canvas.parentElement);
}
begin();
