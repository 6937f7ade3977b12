/** Rounds of kill -9 of a node's lazy daemon, its holder and its agent, with a read in flight: `npm run lazy-rounds`. */
import { createHash } from 'node:crypto';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { type Output, run } from '@sepia/test-support/testbed';
import { until } from '@sepia/test-support/until';
import { type HeldLayer, mountHeldLayer, whyNoMount } from './clients/support/held-layer.ts';

const KINDS = ['daemon', 'agent', 'both', 'holder', 'holder and daemon'] as const;
type Kind = (typeof KINDS)[number];
/** Rounds on one layer: its files are in memory, each larger than what is read at once. */
const AT_ONCE = 25;
const WAIT_MS = 60_000;

const { values } = parseArgs({ options: { rounds: { type: 'string', default: '100' } } });
const rounds = Number(values.rounds);
if (!Number.isSafeInteger(rounds) || rounds < 1 || rounds > 10_000)
  throw new Error(`--rounds ${values.rounds} is not from 1 to 10000`);
const lack = whyNoMount();
if (lack !== undefined) throw new Error(lack);

const counts = { right: 0, wrong: 0, eio: 0, other: 0 };
for (let from = 0; from < rounds; from += AT_ONCE) await playSome(from, Math.min(rounds, from + AT_ONCE));
const { right, wrong, eio, other } = counts;
process.stdout.write(
  `${rounds} rounds: ${right} right, ${wrong} with wrong bytes, ${eio} EIO, ${other} other failures\n`,
);
process.exitCode = right === rounds ? 0 : 1;

async function playSome(from: number, to: number): Promise<void> {
  const ends: (() => unknown)[] = [];
  try {
    const layer = await mountHeldLayer({ teardown: (end) => void ends.push(end) }, to - from, {
      readDeadline: '60s',
    });
    for (let round = from; round < to; round++) {
      const kind = KINDS[round % KINDS.length]!;
      const startedMs = performance.now();
      const outcome = outcomeOf(await readOver(layer, round - from, kind), layer.files[round - from]!);
      counts[outcome] += 1;
      const tookMs = Math.round(performance.now() - startedMs);
      process.stdout.write(`round ${round + 1}: ${kind} killed, ${outcome} after ${tookMs} ms\n`);
    }
  } finally {
    for (const end of ends.reverse()) await end();
  }
}

/** Reads a file that nobody has read; what is named is killed while the read waits for the agent. */
async function readOver({ agent, daemon, tree }: HeldLayer, index: number, kind: Kind): Promise<Output> {
  const before = await daemon.pid();
  const { holder } = daemon;
  agent.isHolding = true;
  const reading = run('sha256sum', [join(tree, `file-${index}`)]);
  await until(() => agent.held > 0, 'a read waits for the agent', WAIT_MS);
  if (kind.startsWith('holder')) process.kill(holder, 'SIGKILL');
  const isDaemonKilled = kind === 'daemon' || kind === 'both' || kind === 'holder and daemon';
  if (isDaemonKilled) process.kill(before, 'SIGKILL');
  if (kind === 'agent' || kind === 'both') {
    await agent.kill();
    agent.isHolding = true;
    await agent.begin();
  }
  if (isDaemonKilled) await until(async () => (await daemon.pid()) !== before, 'the next daemon', WAIT_MS);
  if (kind.startsWith('holder')) await until(() => daemon.holder !== holder, 'the next holder', WAIT_MS);
  agent.release();
  return await reading;
}

function outcomeOf({ code, stdout, stderr }: Output, content: Buffer): keyof typeof counts {
  if (code === 0)
    return stdout.startsWith(createHash('sha256').update(content).digest('hex')) ? 'right' : 'wrong';
  return stderr.includes('Input/output error') ? 'eio' : 'other';
}
