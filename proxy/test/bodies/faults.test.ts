import { silentLogger } from '@sepia/base/log';
import { parseRepositoryName } from '@sepia/base/names/repository';
import { Health, UNTIL_IT_ANSWERS } from '@sepia/cluster/core/health';
import { createApp } from '@sepia/http/app';
import { createGate } from '@sepia/http/gate';
import { PIECE_BYTES } from '@sepia/metainfo/tree';
import { Chance } from '@sepia/swarm/core/random';
import { seededBytes } from '@sepia/test-support/upstream/fake-upstream';
import { severalParts, twoRanges, virtualGet } from '@sepia/test-support/virtual-get';
import { VirtualTime } from '@sepia/test-support/virtual-time';
import t from 'tap';
import { Origins } from '../../src/cluster/origins.ts';
import { readBlob } from '../../src/registry/blobs.ts';
import { type Truth, truthOf } from '../support/answers.ts';
import { FaultyOrigins, type Weather } from '../support/faulty-origins.ts';

const RUNS = Number(process.env['SEPIA_FAULT_RUNS'] ?? 70);
/** Runs in which the one origin that had a blob stalled again and again. */
const STALLED = [313, 677, 1041, 1104];
/** Every so many runs ask for two ranges at once. */
const SEVERAL_EVERY = 5;
const MIB = PIECE_BYTES;
/** "How a body ends": without progress for so long, a client that has no byte gets 503, and one that has some is cut, in ms. */
const PROGRESS_MS = 10_000;
const STALL_MS = 30_000;
/** The shortest timer of the virtual clock is longer than nothing, in ms. */
const STEP_MS = 10;
/** A source that says nothing is given up after 4 s; whether others are left is looked at soon after that, in ms. */
const GIVE_UP_MS = 5_000;
/** Runs in which all sources die. */
const DEATHS = 40;

const TRUTHS = [300_000, MIB, 2 * MIB + 77_777, 5 * MIB + 1].map((size) =>
  truthOf(Buffer.from(seededBytes(size, `faults-${size}`))),
);

interface Outcome {
  readonly status: number;
  readonly complete: boolean;
  readonly right: boolean;
  /** For how long the origins had given nothing when it ended. */
  readonly silentMs: number;
  /** For how long the client had got nothing when it ended. */
  readonly waitedMs: number;
}

/** One body of a proxy whose origins have this weather. */
async function run(truth: Truth, weather: Weather, seed: number): Promise<Outcome> {
  const time = new VirtualTime().install();
  try {
    const chance = new Chance(seed);
    const faulty = new FaultyOrigins(truth, weather, chance);
    const origins = new Origins({
      cluster: faulty.cluster,
      client: faulty,
      health: new Health(Date.now, UNTIL_IT_ANSWERS),
    });
    const handler = readBlob({ origins, log: silentLogger(), takesDeletes: () => true, stallMs: STALL_MS });
    const app = createApp({ log: silentLogger(), gate: createGate({ open: { '/*': 'anyone' } }) });
    const { digest, bytes } = truth;
    app.use(async (ctx) => {
      const target = { upstream: 'local', repository: parseRepositoryName('app') };
      await handler(ctx, target as never, { type: 'blob', name: target.repository, digest } as never);
    });
    const from = chance.below(bytes.length);
    const to = Math.min(bytes.length - 1, from + chance.below(2 * MIB));
    const [range, expected] = (
      [
        [undefined, bytes],
        [`bytes=${from}-`, bytes.subarray(from)],
        [`bytes=${from}-${to}`, bytes.subarray(from, to + 1)],
        [`bytes=-${bytes.length - from}`, bytes.subarray(from)],
      ] as const
    )[chance.below(4)]!;
    const several = twoRanges(bytes.length);
    const isSeveral = seed % SEVERAL_EVERY === 0;
    const asked = isSeveral ? several.header : range;
    const slow = chance.next() < 0.3;
    let tookMs = Date.now();
    const answer = await time.settle(
      virtualGet(app.callback(), '/', {
        headers: asked === undefined ? {} : { range: asked },
        takesMs: () => {
          const takesMs = slow && chance.next() < 0.1 ? chance.below(1_500) : undefined;
          tookMs = Date.now() + (takesMs ?? 0);
          return takesMs;
        },
      }),
    );
    return {
      status: answer.status,
      complete: answer.complete && answer.status < 300,
      right: answer.body.equals(isSeveral ? severalParts(answer, bytes, several.ranges) : expected),
      silentMs: faulty.silentMs,
      waitedMs: Date.now() - tookMs,
    };
  } finally {
    time.uninstall();
  }
}

/**
 * Honest sources end a body as the table says: whole, or given up after the silence that it names, and no later. What was sent
 * and not verified before its source failed is no progress.
 */
function isAsPromised({ complete, right, status, silentMs, waitedMs }: Outcome): boolean {
  if (complete) return right;
  // A last piece that is hashed before it leaves has been read in part: then its client waits as long as one that has bytes.
  if (status === 503) return silentMs >= PROGRESS_MS && silentMs <= STALL_MS + GIVE_UP_MS;
  return status < 300 && Math.max(silentMs, waitedMs) >= STALL_MS && waitedMs <= STALL_MS + STEP_MS;
}

const WEATHERS: readonly Weather[] = [
  { timing: false, wrong: false, fetchRate: undefined },
  { timing: true, wrong: false, fetchRate: undefined },
  { timing: true, wrong: true, fetchRate: undefined },
  { timing: false, wrong: false, fetchRate: 1_048_576 },
  { timing: false, wrong: false, fetchRate: 900_000 },
  { timing: true, wrong: false, fetchRate: 1_048_576 },
  { timing: true, wrong: true, fetchRate: 700_000 },
];

function caseOf(seed: number): { readonly truth: Truth; readonly weather: Weather } {
  return { truth: TRUTHS[(seed * 7) % TRUTHS.length]!, weather: WEATHERS[seed % WEATHERS.length]! };
}

t.test('no body is completed with wrong bytes, whatever its sources do', async (t) => {
  const wrong: string[] = [];
  const count = { right: 0, cut: 0, refused: 0 };
  for (let seed = 1; seed <= RUNS; seed++) {
    const { truth, weather } = caseOf(seed);
    const outcome = await run(truth, weather, seed).catch((cause: unknown) => {
      throw new Error(`seed ${seed}`, { cause });
    });
    if (outcome.status === 500) wrong.push(`seed ${seed}: a bug`);
    else if (outcome.complete && !outcome.right) wrong.push(`seed ${seed} ${JSON.stringify(weather)}`);
    else if (outcome.complete) count.right += 1;
    else if (outcome.status < 300) count.cut += 1;
    else count.refused += 1;
    if (!weather.wrong) t.ok(isAsPromised(outcome), `seed ${seed}, honest: ${JSON.stringify(outcome)}`);
  }
  t.comment(JSON.stringify(count));
  t.same(wrong, [], `wrong bytes completed in ${RUNS} runs`);
});

t.test('the only source of a blob is asked anew as long as a body may wait', async (t) => {
  for (const seed of STALLED) {
    const { truth, weather } = caseOf(seed);
    const outcome = await run(truth, weather, seed);
    t.ok(isAsPromised(outcome), `seed ${seed}: ${JSON.stringify(outcome)}`);
  }
});

t.test(
  'sources that die on the way: what the client waits for ends in time, before its first byte and behind it',
  async (t) => {
    const count = { right: 0, cut: 0, refused: 0 };
    for (let seed = 1; seed <= DEATHS; seed++) {
      const livesMs = 300 + ((seed * 977) % 5_000);
      const weather = { timing: seed % 2 === 0, wrong: false, fetchRate: MIB, livesMs };
      const outcome = await run(TRUTHS[1 + (seed % 3)]!, weather, seed);
      t.ok(isAsPromised(outcome), `seed ${seed}: ${JSON.stringify({ weather, outcome })}`);
      if (outcome.complete) count.right += 1;
      else if (outcome.status < 300) count.cut += 1;
      else count.refused += 1;
    }
    t.ok(count.cut > 0 && count.refused > 0, JSON.stringify(count));
  },
);
