// Gives Node the sources of this process without their types, from a folder. Plain JS, as it runs before any of them.
import { hash } from 'node:crypto';
import { mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { registerHooks, stripTypeScriptTypes } from 'node:module';
import { join } from 'node:path';
import { ROOT } from './node24.mjs';

const CACHE = process.env['NODE_COMPILE_CACHE'] ?? join(ROOT, 'node_modules', '.cache', 'sepia');
const FOLDER = join(CACHE, `sources-${process.version}`);
const HASH_CHARS = 64;

/**
 * Node's own cache of sources and of their code stays in memory, some 8 MiB in a member, and so do 10 MiB of what takes types
 * out where it had to. What it takes for a start is the same CPU time.
 */
export function takeSourcesWithoutTypes() {
  registerHooks({
    load(url, context, nextLoad) {
      if (!url.startsWith('file:') || !url.endsWith('.ts')) return nextLoad(url, context);
      return {
        format: 'module',
        source: withoutTypes(readFileSync(new URL(url), 'utf8')),
        shortCircuit: true,
      };
    },
  });
}

/** Takes the types out of a source, for every process that loads it later. @throws where that cannot be kept */
export function keepWithoutTypes(path) {
  const source = readFileSync(path, 'utf8');
  withoutTypes(source);
  if (keptIn(placeOf(source)) === undefined) throw new Error(`${path} is not kept without its types`);
}

function placeOf(source) {
  return join(FOLDER, hash('sha256', source));
}

function withoutTypes(source) {
  const file = placeOf(source);
  const kept = keptIn(file);
  if (kept !== undefined) return kept;
  const text = stripped(source);
  keep(file, text);
  return text;
}

/** A file begins with the hash of the rest: a crash may have left any part of it. */
function keptIn(file) {
  let found;
  try {
    found = readFileSync(file, 'utf8');
  } catch {
    return undefined;
  }
  const text = found.slice(HASH_CHARS);
  return hash('sha256', text) === found.slice(0, HASH_CHARS) ? text : undefined;
}

/** What cannot be written is made again by the next process. */
function keep(file, text) {
  const temporary = `${file}.${process.pid}`;
  try {
    mkdirSync(FOLDER, { recursive: true });
    writeFileSync(temporary, hash('sha256', text) + text);
    renameSync(temporary, file);
  } catch {
    // A folder that is not ours, a full disk.
    remove(temporary);
  }
}

function remove(file) {
  try {
    rmSync(file, { force: true });
  } catch {
    // Nor can it be looked at there.
  }
}

/** Without Node's line about a function that may change: its version is fixed with the package. */
function stripped(source) {
  const { emitWarning } = process;
  process.emitWarning = () => undefined;
  try {
    return stripTypeScriptTypes(source);
  } finally {
    process.emitWarning = emitWarning;
  }
}
