import { CodedError } from '@sepia/base/errors';
import { silentLogger } from '@sepia/base/log';
import { createApp } from '@sepia/http/app';
import type { InternalRequest } from '@sepia/http/client';
import { createGate } from '@sepia/http/gate';
import { PIECE_BYTES } from '@sepia/metainfo/tree';
import { Chance } from '@sepia/swarm/core/random';
import { seededBytes } from '@sepia/test-support/upstream/fake-upstream';
import { virtualGet } from '@sepia/test-support/virtual-get';
import { VirtualTime } from '@sepia/test-support/virtual-time';
import t from 'tap';
import type { Members } from '../../../origin/src/cluster/members.ts';
import { relay } from '../../../origin/src/http/relay.ts';
import { truthOf } from '../../../proxy/test/support/answers.ts';
import { FaultyOrigins } from '../../../proxy/test/support/faulty-origins.ts';

const RUNS = Number(process.env['SEPIA_FAULT_RUNS'] ?? 25);
const HEAD_EVERY = 4;
const TRUTHS = [300_000, 2 * PIECE_BYTES + 77_777].map((size) =>
  truthOf(Buffer.from(seededBytes(size, `relay-${size}`))),
);

/** One body or HEAD that an origin passes on from another: who gets it checks the bytes, the relay must not change them. */
async function run(seed: number) {
  const time = new VirtualTime().install();
  try {
    const chance = new Chance(seed);
    const truth = TRUTHS[seed % TRUTHS.length]!;
    const { bytes, digest } = truth;
    const fetchRate = chance.next() < 0.3 ? PIECE_BYTES : undefined;
    const faulty = new FaultyOrigins(truth, { timing: true, wrong: false, fetchRate }, chance);
    const holder = faulty.cluster.origins(digest).owners[0]!;
    const members = {
      attended: async (_id: string, ask: (signal: AbortSignal) => unknown, signal: AbortSignal) =>
        await ask(signal),
      raw: async (id: string, call: Omit<InternalRequest, 'url' | 'to'>) =>
        await faulty.raw({ ...call, url: faulty.cluster.member(id).urls[0]!, to: id }),
    } as unknown as Members;
    const app = createApp({ log: silentLogger(), gate: createGate({ open: { '/*': 'anyone' } }) });
    app.use(async (ctx) => {
      const gone = new AbortController();
      ctx.res.once('close', () => gone.abort(new CodedError('TIMEOUT', { message: 'client is gone' })));
      await relay(ctx, members, holder, gone.signal);
    });
    const from = chance.below(bytes.length);
    const isHead = seed % HEAD_EVERY === 0;
    const range = !isHead && chance.next() < 0.5 ? `bytes=${from}-` : undefined;
    const slow = chance.next() < 0.3;
    const answer = await time.settle(
      virtualGet(app.callback(), `/v1/blobs/${digest}?upstream=local&repository=app`, {
        method: isHead ? 'HEAD' : 'GET',
        headers: range === undefined ? {} : { range },
        takesMs: () => (slow && chance.next() < 0.1 ? chance.below(1_500) : undefined),
      }),
    );
    const length = answer.headers['content-length'];
    const right = isHead
      ? length === undefined || Number(length) === bytes.length
      : answer.body.equals(bytes.subarray(range === undefined ? 0 : from));
    return { complete: answer.complete && answer.status < 300, status: answer.status, right };
  } finally {
    time.uninstall();
  }
}

t.test('a relay of an origin completes no body that its source did not', async (t) => {
  const wrong: string[] = [];
  const count = { right: 0, cut: 0, refused: 0 };
  for (let seed = 1; seed <= RUNS; seed++) {
    const { complete, status, right } = await run(seed);
    if (status === 500 || (complete && !right)) wrong.push(`seed ${seed}, status ${status}`);
    else if (complete) count.right += 1;
    else if (status < 300) count.cut += 1;
    else count.refused += 1;
  }
  t.comment(JSON.stringify(count));
  t.same(wrong, [], `wrong bytes completed in ${RUNS} runs`);
  t.ok(count.right > 0 && count.cut > 0 && count.refused > 0, JSON.stringify(count));
});
