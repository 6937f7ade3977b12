import { digestOf } from '@sepia/base/digest';
import { silentLogger } from '@sepia/base/log';
import t from 'tap';
import { Deliveries } from '../../src/proofs/deliveries.ts';

const BYTES = Buffer.from('a blob');
const NAME = { upstream: 'hub', repository: 'lib/x', digest: digestOf(BYTES) } as never;

function deliveriesOf(body: () => AsyncGenerator<Uint8Array>, nowMs: () => number): Deliveries {
  return new Deliveries({
    members: { selfId: 'o1', leaderOf: () => 'o1' },
    upstreams: {
      firstByteMs: 60_000,
      client: () => ({ getBlob: async () => ({ body: { lent: body } }) }),
    },
    log: silentLogger(),
    nowMs,
  } as unknown as ConstructorParameters<typeof Deliveries>[0]);
}

t.test('an upstream that drips is not read without end', async (t) => {
  let clockMs = 0;
  let isEnded = false;
  async function* drip(): AsyncGenerator<Uint8Array> {
    try {
      for (;;) {
        yield BYTES;
        clockMs += 9_000;
      }
    } finally {
      isEnded = true;
    }
  }
  const deliveries = deliveriesOf(drip, () => clockMs);
  const seen = deliveries.require(NAME, 'blob', 'ask', new AbortController().signal);
  await t.rejects(seen, { code: 'TIMEOUT' });
  t.ok(isEnded);
  t.notOk(deliveries.has(NAME, []));
});

t.test('what it sends at once is seen', async (t) => {
  async function* whole(): AsyncGenerator<Uint8Array> {
    yield BYTES;
  }
  const deliveries = deliveriesOf(whole, () => 0);
  await deliveries.require(NAME, 'blob', 'ask', new AbortController().signal);
  t.ok(deliveries.has(NAME, []));
});
