// The page of an accelerator: is told of conversions as they change and draws them. No markup is ever made from data: text goes in by textContent.

const EVENTS = '/api/v1/conversions/events';
const AGAIN_MS = 5_000;
const DRAW_EVERY_MS = 250;
const TIMEOUT_MS = 20_000;
const MAX_LAYERS = 12;

const byId = (id) => document.getElementById(id);

/** Jobs by id, as they were told last. */
const jobs = new Map();
let lack = 'Connecting…';
let drawing;

function follow() {
  const events = new EventSource(EVENTS);
  // Each connection is told everything again.
  events.addEventListener('open', () => jobs.clear());
  events.addEventListener('job', ({ data }) => {
    const job = JSON.parse(data);
    jobs.set(job.id, job);
    drawSoon();
  });
  events.addEventListener('gone', ({ data }) => {
    jobs.delete(JSON.parse(data).id);
    drawSoon();
  });
  events.addEventListener('current', () => {
    lack = undefined;
    drawSoon();
  });
  events.addEventListener('lack', ({ data }) => {
    lack = `The queue does not answer: ${JSON.parse(data).message}`;
    drawSoon();
  });
  events.addEventListener('error', async () => {
    lack ??= 'The accelerator does not answer; trying again…';
    if (events.readyState === EventSource.CLOSED) {
      lack = await reason();
      setTimeout(follow, AGAIN_MS);
    }
    drawSoon();
  });
}

/** Why there is no stream: its own answer does not reach a script. */
async function reason() {
  try {
    const answer = await fetch('/api/v1/conversions', { method: 'HEAD', cache: 'no-store', signal: AbortSignal.timeout(TIMEOUT_MS) });
    if (answer.status === 401 || answer.status === 403)
      return 'No list: it is for members only; set api.read to anyone in the config of this accelerator';
    return `No events: the accelerator answered ${answer.status}; trying again…`;
  } catch (error) {
    return `No events: ${error.message}; trying again…`;
  }
}

function drawSoon() {
  drawing ??= setTimeout(() => {
    drawing = undefined;
    show([...jobs.values()]);
  }, DRAW_EVERY_MS);
}

function say(text, isBad) {
  const line = byId('summary');
  line.textContent = text;
  line.classList.toggle('bad', isBad);
}

function show(jobs) {
  const of = (status) => jobs.filter((job) => job.status === status).length;
  say(lack ?? `${of('PROCESSING')} open · ${of('COMPLETED')} done · ${of('FAILED')} failed`, lack !== undefined);
  byId('none').hidden = jobs.length > 0 || lack !== undefined;
  const newest = [...jobs].sort((one, other) => (one.created < other.created ? 1 : -1));
  byId('jobs').replaceChildren(...newest.map(jobRow));
}

function jobRow(job) {
  const row = element('tr');
  row.id = `job-${job.id}`;
  const name = element('td');
  const link = element('a', undefined, job.source);
  link.href = `#job-${encodeURIComponent(job.id)}`;
  name.append(link, element('div', 'quiet', `since ${job.created}`));
  row.append(
    name,
    element('td', undefined, job.rule),
    stateCell(job),
    element('td', 'num', job.source_size > 0 ? bytes(job.source_size) : '–'),
    element('td', 'num', afterText(job)),
    resultCell(job),
  );
  return row;
}

function stateCell(job) {
  const cell = element('td');
  const tone = job.status === 'FAILED' ? 'bad' : job.status === 'COMPLETED' ? 'good' : undefined;
  cell.append(element('span', tone, job.tries > 0 ? `${job.state}, try ${job.tries + 1}` : job.state));
  if (job.state !== 'running') return cell;
  const layers = job.progress?.layers ?? [];
  for (const layer of layers.slice(0, MAX_LAYERS)) {
    const bar = element('progress');
    bar.max = 1;
    bar.value = layer.share;
    bar.title = [layer.phase, layer.digest, ...(layer.platforms ?? [])].join(' ');
    cell.append(bar);
  }
  if (layers.length > MAX_LAYERS) cell.append(element('div', 'quiet', `and ${layers.length - MAX_LAYERS} layers`));
  return cell;
}

function resultCell(job) {
  const cell = element('td');
  if (job.target !== undefined) cell.append(element('code', undefined, job.target));
  if (job.reason !== '') cell.append(element('div', 'quiet', job.reason));
  for (const lost of job.lost ?? []) cell.append(element('div', 'bad', `not attached to it: ${lost}`));
  return cell;
}

function afterText({ source_size: before, target_size: after }) {
  if (!(after > 0)) return '–';
  return before > 0 ? `${bytes(after)} (${Math.round((100 * after) / before)}%)` : bytes(after);
}

function element(name, className, text) {
  const made = document.createElement(name);
  if (className !== undefined) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

function bytes(count) {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  const power = count < 1 ? 0 : Math.min(units.length - 1, Math.floor(Math.log2(count) / 10));
  const value = count / 1024 ** power;
  return `${value >= 100 || power === 0 ? Math.round(value) : value.toFixed(1)} ${units[power]}`;
}

follow();
