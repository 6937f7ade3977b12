// The page of a proxy: polls `state` and draws it. No markup is ever made from data: text goes in by textContent.

const POLL_MS = 700;
const TIMEOUT_MS = 4_000;
const ROW_PX = 14;
const ROW_GAP_PX = 3;
const NAME_PX = 150;
const FIGURE_PX = 170;
const FULL = 15;

const byId = (id) => document.getElementById(id);
const MAX_KEPT = 5_000;
const swarmCards = new Map();
/** Bytes per blob and peer as last seen, so that the totals outlive the swarms. */
const taken = new Map();
let last;

async function poll() {
  const startedMs = performance.now();
  try {
    const answer = await fetch('state', { cache: 'no-store', signal: AbortSignal.timeout(TIMEOUT_MS) });
    if (!answer.ok) throw new Error(`the proxy answered ${answer.status}`);
    last = await answer.json();
    show(last);
  } catch (error) {
    say(`No answer from the proxy (${error.message}); trying again`, true);
  }
  if (document.hidden) await new Promise((resolve) => document.addEventListener('visibilitychange', resolve, { once: true }));
  setTimeout(poll, Math.max(100, POLL_MS - (performance.now() - startedMs)));
}

function say(text, isBad) {
  const line = byId('summary');
  line.textContent = text;
  line.classList.toggle('bad', isBad);
}

function show(state) {
  const up = state.members.filter((member) => member.up).length;
  const isBad = up < state.members.length;
  say(`${up} of ${state.members.length} members up · cluster version ${state.clusterVersion}`, isBad);
  const { upstreamBytes, nodes } = state.totals;
  const { peerBytes, originBytes } = takenSoFar(state.swarms);
  byId('peer-bytes').textContent = bytes(peerBytes);
  byId('origin-bytes').textContent = bytes(originBytes);
  byId('upstream-bytes').textContent = bytes(upstreamBytes);
  byId('node-count').textContent = String(nodes);
  const total = peerBytes + originBytes;
  byId('share-peer').style.width = `${total === 0 ? 0 : (100 * peerBytes) / total}%`;
  byId('share-origin').style.width = `${total === 0 ? 0 : (100 * originBytes) / total}%`;
  showSwarms(state.swarms);
  byId('write-back-part').hidden = state.writeBack.length === 0;
  byId('write-back').replaceChildren(...state.writeBack.map(writeBackRow));
  byId('backends-part').hidden = state.backends.length === 0;
  byId('backends').replaceChildren(...state.backends.map(backendRow));
  byId('members').replaceChildren(...state.members.map(memberRow));
}

function takenSoFar(swarms) {
  for (const swarm of swarms) {
    for (const peer of swarm.peers) {
      const key = `${swarm.digest} ${peer.id}`;
      taken.delete(key);
      taken.set(key, peer);
      if (taken.size > MAX_KEPT) taken.delete(taken.keys().next().value);
    }
  }
  const sum = { peerBytes: 0, originBytes: 0 };
  for (const peer of taken.values()) {
    sum.peerBytes += peer.peerBytes;
    sum.originBytes += peer.originBytes;
  }
  return sum;
}

function showSwarms(swarms) {
  const isQuiet = swarms.every((swarm) => swarm.endedSeconds !== undefined);
  byId('no-swarms').hidden = !isQuiet;
  const seen = new Set(swarms.map((swarm) => swarm.digest));
  for (const [digest, card] of swarmCards) {
    if (seen.has(digest)) continue;
    card.root.remove();
    swarmCards.delete(digest);
  }
  for (const swarm of swarms) {
    const card = swarmCards.get(swarm.digest) ?? newCard(swarm);
    // In the order in which they are told: what runs first.
    byId('swarms').append(card.root);
    const isOver = swarm.endedSeconds !== undefined;
    card.root.classList.toggle('over', isOver);
    card.state.textContent = isOver ? `${swarm.progress === 1 ? 'all have it' : 'ended'}, ${duration(swarm.endedSeconds)} ago` : swarm.state;
    card.facts.textContent = `${bytes(swarm.sizeBytes)} · ${count(swarm.pieces, 'piece')} · ${count(swarm.peers.length + swarm.morePeers, 'peer')}${swarm.morePeers > 0 ? ` (${swarm.morePeers} not shown)` : ''}`;
    card.percent.textContent = percent(swarm.progress);
    card.fill.style.width = percent(swarm.progress);
    draw(card.canvas, swarm);
  }
}

function newCard(swarm) {
  const root = element('article', 'swarm');
  const head = element('div', 'head');
  const name = element('code');
  name.textContent = `${swarm.digest}…`;
  const card = { root, state: element('span', 'tag'), facts: element('span', 'quiet'), percent: element('span', 'percent'), fill: element('i'), canvas: element('canvas') };
  const bar = element('div', 'bar');
  bar.append(card.fill);
  card.canvas.setAttribute('role', 'img');
  head.append(name, card.state, card.facts, card.percent);
  root.append(head, bar, card.canvas);
  swarmCards.set(swarm.digest, card);
  return card;
}

/** Peers × pieces: a row per peer, a column per piece (or several), as bright as it is full. */
function draw(canvas, swarm) {
  const scale = window.devicePixelRatio || 1;
  const width = canvas.parentElement.clientWidth - 36;
  const height = Math.max(1, swarm.peers.length) * (ROW_PX + ROW_GAP_PX);
  canvas.style.height = `${height}px`;
  canvas.width = Math.max(1, Math.round(width * scale));
  canvas.height = Math.round(height * scale);
  canvas.setAttribute('aria-label', swarm.peers.map((peer) => `${peer.id}: ${peer.have} of ${swarm.pieces} pieces`).join('; '));
  const style = getComputedStyle(document.documentElement);
  const colour = (name) => style.getPropertyValue(name).trim();
  const pen = canvas.getContext('2d');
  pen.scale(scale, scale);
  pen.font = '12px system-ui, sans-serif';
  pen.textBaseline = 'middle';
  for (const [row, peer] of swarm.peers.entries()) drawRow(pen, row, peer, swarm, width, colour);
}

function drawRow(pen, row, peer, swarm, width, colour) {
  const top = row * (ROW_PX + ROW_GAP_PX);
  const isOrigin = peer.role === 'origin';
  pen.fillStyle = isOrigin ? colour('--origin') : colour('--ink');
  pen.fillText(shorten(pen, peer.id, NAME_PX - 12), 0, top + ROW_PX / 2);
  const room = Math.max(40, width - NAME_PX - FIGURE_PX);
  const columns = Math.max(1, peer.cells.length);
  const step = room / columns;
  const gap = step > 4 ? 1 : 0;
  pen.fillStyle = colour('--empty');
  pen.fillRect(NAME_PX, top, room, ROW_PX);
  pen.fillStyle = isOrigin ? colour('--origin') : colour('--peer');
  for (let column = 0; column < peer.cells.length; column++) {
    const fullness = Number.parseInt(peer.cells[column], 16) / FULL;
    if (!(fullness > 0)) continue;
    pen.globalAlpha = 0.25 + 0.75 * fullness;
    pen.fillRect(NAME_PX + column * step, top, Math.max(1, step - gap), ROW_PX);
  }
  const share = peer.peerBytes + peer.originBytes;
  if (peer.cells.length === 0) {
    // Only a number is known: a plain bar, no grid that would claim to know which pieces; where they came from, if that is known.
    pen.globalAlpha = peer.have === swarm.pieces ? 1 : 0.45;
    const length = (room * peer.have) / swarm.pieces;
    const fromPeers = isOrigin || share === 0 ? length : (length * peer.peerBytes) / share;
    pen.fillRect(NAME_PX, top, fromPeers, ROW_PX);
    pen.fillStyle = colour('--origin');
    pen.fillRect(NAME_PX + fromPeers, top, length - fromPeers, ROW_PX);
  }
  pen.globalAlpha = 1;
  pen.fillStyle = colour('--quiet');
  const from = isOrigin || share === 0 ? '' : `  ${percent(peer.peerBytes / share)} from peers`;
  pen.fillText(`${percent(peer.have / swarm.pieces)}${from}`, NAME_PX + room + 12, top + ROW_PX / 2);
}

function shorten(pen, text, room) {
  if (pen.measureText(text).width <= room) return text;
  let end = text.length;
  while (end > 1 && pen.measureText(`${text.slice(0, end)}…`).width > room) end -= 1;
  return `${text.slice(0, end)}…`;
}

function memberRow(member) {
  const row = element('tr');
  const state = cell(member.up ? 'up' : 'down', member.up ? 'up' : 'down');
  row.append(
    cell(member.id),
    cell(member.role),
    state,
    cell(member.version ?? '–'),
    cell(member.uptimeSeconds === undefined ? '–' : duration(member.uptimeSeconds)),
    cell(member.zone ?? '–'),
    cell(member.blobs === undefined ? '–' : String(member.blobs), 'num'),
    cell(member.usedBytes === undefined ? '–' : bytes(member.usedBytes), 'num'),
  );
  return row;
}

function writeBackRow({ upstream, waiting, oldestSeconds, dead }) {
  const row = element('tr');
  row.append(
    cell(upstream),
    cell(String(waiting), 'num'),
    cell(waiting === 0 ? '–' : duration(oldestSeconds)),
    cell(String(dead), dead === 0 ? 'num' : 'num down'),
  );
  return row;
}

function backendRow({ upstream, kind, place, waiting, waitingBytes, oldestSeconds, problem }) {
  const row = element('tr');
  row.append(
    cell(upstream),
    cell(kind),
    cell(place),
    cell(waiting === undefined ? 'read only' : String(waiting), 'num'),
    cell(waiting === undefined ? '–' : bytes(waitingBytes), 'num'),
    cell(waiting ? duration(oldestSeconds) : '–'),
    cell(problem ?? '–', problem === undefined ? undefined : 'down'),
  );
  return row;
}

function cell(text, className) {
  const made = element('td', className);
  made.textContent = text;
  return made;
}

function element(name, className) {
  const made = document.createElement(name);
  if (className !== undefined) made.className = className;
  return made;
}

function count(number, noun) {
  return `${number} ${noun}${number === 1 ? '' : 's'}`;
}

function percent(share) {
  return `${Math.floor(Math.min(1, Math.max(0, share)) * 100)}%`;
}

function bytes(count) {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  const power = count < 1 ? 0 : Math.min(units.length - 1, Math.floor(Math.log2(count) / 10));
  const value = count / 1024 ** power;
  return `${value >= 100 || power === 0 ? Math.round(value) : value.toFixed(1)} ${units[power]}`;
}

function duration(seconds) {
  if (seconds < 90) return `${Math.round(seconds)} s`;
  if (seconds < 5_400) return `${Math.round(seconds / 60)} min`;
  return seconds < 172_800 ? `${Math.round(seconds / 3_600)} h` : `${Math.round(seconds / 86_400)} days`;
}

window.addEventListener('resize', () => last !== undefined && showSwarms(last.swarms));
await poll();
