import { CodedError } from '@sepia/base/errors';
import { VirtualTime } from '@sepia/test-support/virtual-time';
import t, { type Test } from 'tap';
import { type Ask, askHolders } from '../../src/bodies/ask-holders.ts';
import { SourceOrder } from '../../src/bodies/core/source-order.ts';

const never = new AbortController().signal;
const PROGRESS_MS = 10_000;
const THINKS_MS = 60_000;

function onVirtualTime(t: Test): VirtualTime {
  const time = new VirtualTime().install();
  t.teardown(() => time.uninstall());
  return time;
}

/** Asks members of which the first is fetching what is asked for, so that it is waited for. */
async function asked(ids: readonly string[], ask: Ask<string>): Promise<string> {
  const holders = { ids, areWhole: false };
  const deps = {
    order: new SourceOrder(holders),
    isThere: () => false,
    find: () => Promise.resolve(holders),
    isDefinite: () => false,
    progressMs: PROGRESS_MS,
    newsMs: () => 0,
    failure: () => undefined,
  };
  return await askHolders(deps, never, ask);
}

async function silent(ms: number): Promise<never> {
  return await new Promise((_, reject) =>
    setTimeout(() => reject(new CodedError('PEER_HTTP', { message: 'no answer' })), ms),
  );
}

t.test('who takes over from a member that was waited for long has time of its own', async (t) => {
  const time = onVirtualTime(t);
  let tries = 0;
  const ask = async () => (++tries < 5 ? await silent(tries === 1 ? THINKS_MS : 1_000) : 'bytes');
  t.equal(await time.settle(asked(['origin-1'], ask)), 'bytes');
});

t.test('one that lives and never answers is not asked for ever', async (t) => {
  for (const ids of [['origin-1'], ['origin-1', 'origin-2'], ['origin-1', 'origin-2', 'origin-3']]) {
    const time = onVirtualTime(t);
    let tries = 0;
    const ask = async () => {
      tries += 1;
      return await silent(THINKS_MS);
    };
    await t.rejects(time.settle(asked(ids, ask)), { code: 'NO_PEERS' });
    t.equal(tries, Math.max(2, ids.length), 'each once, and one alone once more');
    time.uninstall();
  }
});

t.test('refusals, however many, are not waited for longer than progress may take', async (t) => {
  const time = onVirtualTime(t);
  await t.rejects(time.settle(asked(['origin-1', 'origin-2'], async () => await silent(5))), {
    code: 'NO_PEERS',
  });
  t.ok(time.elapsedMs > PROGRESS_MS && time.elapsedMs < PROGRESS_MS + 1_000, `${time.elapsedMs}`);
});

t.test('a piece that all holders have looked for in vain is not waited for', async (t) => {
  const time = onVirtualTime(t);
  const nowhere = new CodedError('NO_PEERS', { message: 'nobody has a right copy', detail: { piece: 3 } });
  const tries: string[] = [];
  const ask = async (id: string): Promise<never> => {
    tries.push(id);
    throw nowhere;
  };
  await t.rejects(time.settle(asked(['origin-1', 'origin-2'], ask)), nowhere);
  t.same(tries, ['origin-1', 'origin-2', 'origin-1', 'origin-2'], 'each twice: one may have come back');
});

t.test('while one of them only does not answer, it is waited for', async (t) => {
  const time = onVirtualTime(t);
  const nowhere = new CodedError('NO_PEERS', { detail: { piece: 3 } });
  let rounds = 0;
  const ask = async (id: string): Promise<string> => {
    if (id === 'origin-1') throw nowhere;
    rounds += 1;
    return rounds < 4 ? await silent(5) : 'bytes';
  };
  t.equal(await time.settle(asked(['origin-1', 'origin-2'], ask)), 'bytes');
});

t.test(
  'what a member that failed left under way ends; what the one that answered gave goes on',
  async (t) => {
    const signals = new Map<string, AbortSignal>();
    const ask: Ask<string> = async (id, signal) => {
      signals.set(id, signal);
      if (id === 'origin-1') throw new CodedError('PEER_HTTP', { message: 'it is waited for no longer' });
      return 'bytes';
    };
    t.equal(await asked(['origin-1', 'origin-2'], ask), 'bytes');
    t.ok(signals.get('origin-1')?.aborted);
    t.notOk(signals.get('origin-2')?.aborted);
  },
);
