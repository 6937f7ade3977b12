import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { AGENT } from '../../src/api/agent.ts';
import {
  ORIGIN_BLOBS,
  ORIGIN_FLOORS,
  ORIGIN_GC,
  ORIGIN_NAMES,
  ORIGIN_RECORDS,
  ORIGIN_SYNC,
  ORIGIN_WRITE_BACK,
} from '../../src/api/origin.ts';
import { PROXY } from '../../src/api/proxy.ts';
import { ORIGIN_RING } from '../../src/api/ring.ts';
import type { Route } from '../../src/api/route.ts';
import { TRACKER } from '../../src/api/tracker.ts';

const PAGE = readFileSync(join(import.meta.dirname, '../../../../docs/internal-api.md'), 'utf8');
const SECTIONS: Readonly<Record<string, readonly Route[]>> = {
  Origin: [
    ORIGIN_BLOBS,
    ORIGIN_NAMES,
    ORIGIN_RECORDS,
    ORIGIN_SYNC,
    ORIGIN_FLOORS,
    ORIGIN_RING,
    ORIGIN_WRITE_BACK,
    ORIGIN_GC,
  ].flatMap((table) => Object.values<Route>(table)),
  Tracker: Object.values(TRACKER),
  Proxy: Object.values(PROXY),
  Agent: Object.values(AGENT),
};

for (const [role, routes] of Object.entries(SECTIONS)) {
  t.test(`docs/internal-api.md lists the calls of ${role} as the tables have them`, async (t) => {
    const section = PAGE.split(/^## /m).find((one) => one.startsWith(`${role}\n`)) ?? '';
    const rows = section.match(/^\| `[A-Z]+ .*$/gm) ?? [];
    const beginnings = rows.map((row) => /^(?:\|(?:[^|\\]|\\.)*){3}\|/.exec(row)?.[0]);
    t.same(beginnings, routes.map(rowOf), 'call, callers and body of each row, in order');
    for (const row of rows) t.match(row, /\| [^|].{10,} \|$/, 'what it does');
    t.equal(section.match(/^\|(?:.*\n\|)+/gm)?.length, 1, 'one table, that no text cuts in two');
  });
}

function rowOf({ method, path, query, callers, body }: Route): string {
  const call = `${method} ${path.replace(/:(\w+)/g, '<$1>')}${queryOf(query)}`;
  return `| \`${call}\` | ${callers.length === 0 ? '–' : callers.join(', ')} | ${bodyOf(body)} |`;
}

/** `U&R` for the name of a repository, `[&key=]` for what may be left out. */
function queryOf(query: readonly string[]): string {
  const isNamed = query[0] === 'upstream' && query[1] === 'repository';
  const keys = (isNamed ? query.slice(2) : query).map((key, index) => {
    const mark = !isNamed && index === 0 ? '?' : '&';
    const name = key.replace(/[?*]$/, '');
    if (key.endsWith('?')) return `[${mark}${name}=]`;
    return key.endsWith('*') ? `[${mark}${name}=…]` : `${mark}${name}=`;
  });
  return `${isNamed ? '?U&R' : ''}${keys.join('')}`;
}

function bodyOf({ kind, maxBytes }: Route['body']): string {
  if (kind === 'none') return '–';
  if (kind === 'stream') return 'stream';
  const size = maxBytes < 1024 * 1024 ? `${maxBytes / 1024} KiB` : `${maxBytes / 1024 / 1024} MiB`;
  return `${kind === 'json' ? 'JSON' : 'bytes'} ≤ ${size}`;
}
