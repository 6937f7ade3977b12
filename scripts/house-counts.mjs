// Counts what the plan of the house counts, at any commit that has either layout: node scripts/house-counts.mjs [FOLDER]
// Needs nothing but Node; figures as JSON. "Rooms" are the folders that files lie in, without a trailing core/.
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { dirname, join, posix, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { runChild } from './child.mjs';
import { findNode, isRunningNodeFit, noNodeText } from './node24.mjs';

// What counts functions is TypeScript, which Node 24 alone reads as it is.
if (!isRunningNodeFit()) process.exit(await again());
const { functionsOf } = await import('../test/functions.ts');

const root = resolve(process.argv[2] ?? '.');
const paths = execFileSync('git', ['ls-files', '*.ts'], { cwd: root, encoding: 'utf8' }).trim().split('\n');
const files = new Map(
  paths
    .filter(
      (path) => /(?:^|\/)src\//.test(path) && !/^(?:test|bench)\//.test(path) && !path.endsWith('.d.ts'),
    )
    .map((path) => [path, readFileSync(join(root, path), 'utf8')]),
);

/** Things of which there shall be one, by what a copy of each looks like. */
const COPIES = {
  'interface BlobName': /\binterface BlobName\b/,
  'upstream=&repository= written out': /URLSearchParams\(\{\s*upstream(?:: [\w.]+)?,\s*repository/,
  'function shardKey': /\bfunction shardKey\b/,
  'key of a link written out': /upstream\}\\n\$\{[\w.]*repository\}\\n\$\{[\w.]*digest\}`/,
  "files that name an internal path ('/v1/…')": /['"`]\/v1\//,
  'waits that double, written out':
    /[mM]s\w* \* 2 \*\*|_MS \* 2 \*\*|\b(\w*Ms) = Math\.min\([^)]*\b\1 \* 2\)/,
  'least recently used by hand': /\.keys\(\)\.next\(\)\.value/,
  'loops of passes and rests': /while \((?:await pause\(|!\w*\.?signal\.aborted)|\basync #\w*[fF]orever\b/,
  'messages checked against a schema, by hand': /\.issues\b|\{ issues \}/,
  'slots and who waits for them':
    /const \[first\] = this\.#(?:wait|lane)\w*;|\(\(\) => void\)\[\] = \[\]|\.shift\(\)\?\.\(\)/,
  'timeouts by constant (_MS = …), outside tables of deadlines': /^(?:export )?const \w+_MS = /m,
};

const lines = [...files.values()].map((text) => text.split('\n').length - 1).sort((a, b) => a - b);
const functions = [...files]
  .flatMap(([path, text]) => functionsOf(path, text))
  .sort((a, b) => b.lines - a.lines);
const rooms = roomGraph();
const perFolder = countBy([...files.keys()].map((path) => dirname(path)));

console.log(
  JSON.stringify(
    {
      commit: execFileSync('git', ['log', '-1', '--format=%h %cs'], { cwd: root, encoding: 'utf8' }).trim(),
      files: files.size,
      lines: lines.reduce((sum, one) => sum + one, 0),
      medianFile: lines[lines.length >> 1],
      largestFile: lines.at(-1),
      fullestFolders: [...perFolder].sort((a, b) => b[1] - a[1]).slice(0, 3),
      functions: functions.length,
      medianFunction: functions[functions.length >> 1]?.lines,
      longestFunctions: functions.slice(0, 5).map((one) => `${one.lines} ${one.path}:${one.at} ${one.name}`),
      rooms: rooms.size,
      arrowsBetweenRooms: [...rooms.values()].reduce((sum, to) => sum + to.size, 0),
      circlesOfRooms: circles(rooms),
      originFileArrows: fileArrows('origin/src/'),
      originRoomArrows: [...rooms]
        .filter(([from]) => from.startsWith('origin/'))
        .reduce((sum, [, to]) => sum + [...to].filter((one) => one.startsWith('origin/')).length, 0),
      copies: Object.fromEntries(
        Object.entries(COPIES).map(([what, copy]) => [
          what,
          [...files].filter(([path, text]) => copy.test(text) && !isDeadlines(path)).length,
        ]),
      ),
      timeoutConstants: {
        inTables: timeoutConstants((path) => isDeadlines(path)),
        elsewhere: timeoutConstants((path) => !isDeadlines(path)),
      },
    },
    null,
    2,
  ),
);

/** Runs this script under the Node that is fit. */
async function again() {
  const node = findNode();
  if (node !== undefined)
    return await runChild(node, [fileURLToPath(import.meta.url), ...process.argv.slice(2)]);
  process.stderr.write(`${noNodeText()}\n`);
  return 2;
}

/** Specs of a file's imports, types included. */
function importsOf(text) {
  return [...text.matchAll(/^\s*(?:import|export)\s[^'"`;]*?from\s+['"]([^'"]+)['"]/gm)].map(
    ([, spec]) => spec,
  );
}

function targetOf(from, spec) {
  if (spec.startsWith('.')) return posix.normalize(posix.join(posix.dirname(from), spec));
  const [, name, rest] = /^@sepia\/([\w-]+)(?:\/(.+))?$/.exec(spec) ?? [];
  if (name === undefined) return undefined;
  return [`shared/${name}/src/${rest}.ts`, `${name}/src/${rest ?? 'index'}.ts`].find((path) =>
    files.has(path),
  );
}

/** A table of how long a workspace waits, of which its rooms take what they need. */
function isDeadlines(path) {
  return /\/src\/deadlines(?:\/[\w-]+)?\.ts$/.test(path);
}

function timeoutConstants(isOf) {
  return [...files]
    .filter(([path]) => isOf(path))
    .reduce((sum, [, text]) => sum + (text.match(/^(?:export )?const \w+_MS = /gm)?.length ?? 0), 0);
}

function roomOf(path) {
  if (isDeadlines(path)) return path.replace(/\/src(\/deadlines)[/.].*$/, '$1');
  return dirname(path)
    .replace(/\/core$/, '')
    .replace('/src', '');
}

/** Room → rooms that its files import. */
function roomGraph() {
  const graph = new Map();
  for (const [path, text] of files) {
    const room = roomOf(path);
    const to = graph.get(room) ?? new Set();
    graph.set(room, to);
    for (const spec of importsOf(text)) {
      const target = targetOf(path, spec);
      if (target !== undefined && files.has(target) && roomOf(target) !== room) to.add(roomOf(target));
    }
  }
  return graph;
}

/** Imports between files below a folder. */
function fileArrows(folder) {
  let arrows = 0;
  for (const [path, text] of files) {
    if (!path.startsWith(folder)) continue;
    arrows += importsOf(text).filter((spec) => targetOf(path, spec)?.startsWith(folder)).length;
  }
  return arrows;
}

/** Strongly connected rooms, as lists (Tarjan). */
function circles(graph) {
  const indexes = new Map();
  const lows = new Map();
  const stack = [];
  const found = [];
  const visit = (node) => {
    indexes.set(node, indexes.size);
    lows.set(node, indexes.get(node));
    stack.push(node);
    for (const next of graph.get(node) ?? []) {
      if (!indexes.has(next)) visit(next);
      if (stack.includes(next)) lows.set(node, Math.min(lows.get(node), lows.get(next)));
    }
    if (lows.get(node) !== indexes.get(node)) return;
    const component = stack.splice(stack.indexOf(node));
    if (component.length > 1) found.push(component.sort());
  };
  for (const node of graph.keys()) if (!indexes.has(node)) visit(node);
  return found;
}

function countBy(values) {
  const counts = new Map();
  for (const value of values) counts.set(value, (counts.get(value) ?? 0) + 1);
  return counts;
}
