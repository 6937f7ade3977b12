/** Pushes, deletes, mounts, tag moves and collections at once, against processes: `npm run gc-rounds`. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { Up } from '@sepia/test-support/up';
import { collectRounds } from './rounds.ts';

const TEXTS = 20;
const { values } = parseArgs({
  options: {
    minutes: { type: 'string', default: '30' },
    seed: { type: 'string', default: String(Date.now() % 1_000_000) },
  },
});
const minutes = Number(values.minutes);
const seed = Number(values.seed);
if (!(minutes >= 0 && minutes <= 1_440)) throw new Error(`--minutes ${values.minutes} is not from 0 to 1440`);
if (!Number.isSafeInteger(seed) || seed < 0) throw new Error(`--seed ${values.seed} is not a whole number`);

const say = (text: string): void => void process.stdout.write(`${text}\n`);
const dir = mkdtempSync(join(tmpdir(), 'gc-rounds-'));
try {
  say(`seed ${seed}`);
  const shape = ['--origins', '7', '--trackers', '1', '--proxies', '3', '--agents', '0', '--restart'];
  await using up = await Up.start(join(dir, 'cluster'), [...shape, '--ports-from', '27000']);
  const untilMs = performance.now() + minutes * 60_000;
  const sum = await collectRounds(up, { end: { untilMs }, seed, log: say });
  for (const text of sum.texts.slice(0, TEXTS)) say(text);
  const { rounds, sweeps, putOff, links, blobs, lost, corrupt, kept } = sum;
  say(`${sweeps} collections took ${links} links and ${blobs} files, ${putOff} were put off; seed ${seed}`);
  say(`${rounds} rounds, lost ${lost}, corrupt ${corrupt}, kept ${kept}`);
  process.exitCode = lost + corrupt + kept === 0 && links > 0 && blobs > 0 ? 0 : 1;
} finally {
  rmSync(dir, { recursive: true, force: true });
}
