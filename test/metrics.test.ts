import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { FILES, isSource, ROOT } from './sources.ts';

/** The schema and tables of PostgreSQL, which are named alike. */
const NO_METRICS = new Set(['sepia_records', 'sepia_schema']);
/** Gauges whose names are put together from these ends. */
const ENDS = { sepia_origin_write_back_: ['waiting', 'dead', 'oldest_seconds'] };

/** Names of metrics that sources write out; `<role>` where that is put in. */
function namesInSources(): string[] {
  const found = new Set<string>();
  for (const { text } of FILES.filter(({ path }) => isSource(path)))
    for (const [, name] of text.matchAll(/['"`](sepia_[a-z0-9_]*(?:\$\{\w+\}[a-z0-9_]*)?)['"`]/g)) {
      const ends = Object.entries(ENDS).find(([begin]) => name!.startsWith(`${begin}$`));
      if (ends !== undefined) for (const end of ends[1]) found.add(`${ends[0]}${end}`);
      else if (!NO_METRICS.has(name!)) found.add(name!.replace(/\$\{\w+\}/, '<role>'));
    }
  return [...found].toSorted();
}

t.test('docs/metrics.md lists every metric once, and says of each what the source says', async (t) => {
  const page = readFileSync(join(ROOT, 'docs/metrics.md'), 'utf8');
  const rows = [...page.matchAll(/^\| `(sepia_[^`]+)` \| (\w+) \| [^|]* \| (.+) \|$/gm)];
  t.ok(rows.length > 70, 'there are rows');
  t.same(rows.map((row) => row[1]!).toSorted(), namesInSources());
  const sources = FILES.filter(({ path }) => isSource(path))
    .map(({ text }) => text.replaceAll("\\'", "'"))
    .join('\n');
  for (const [, name, kind, meaning] of rows) {
    t.match(kind, /^(?:counter|gauge|histogram)$/, name);
    t.equal(kind === 'counter', name!.endsWith('_total'), `${name}: a counter ends in _total`);
    t.ok(sources.includes(meaning!), `${name}: ${meaning}`);
  }
});
