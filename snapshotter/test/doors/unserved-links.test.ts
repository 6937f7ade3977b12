import { join } from 'node:path';
import { type Digest, digestOf } from '@sepia/base/digest';
import { CodedError } from '@sepia/base/errors';
import { LogLines } from '@sepia/test-support/log-lines';
import t from 'tap';
import { UNSERVED_MS } from '../../src/deadlines.ts';
import { ContentCache } from '../../src/doors/content-cache.ts';
import { UnservedLinks } from '../../src/doors/unserved-links.ts';

const [NAMED, FREE, WHOLE] = ['named', 'free', 'whole'].map((text) => digestOf(Buffer.from(text))) as [
  Digest,
  Digest,
  Digest,
];

async function world(dir: string) {
  const links = new ContentCache(join(dir, 'content'));
  const state = { isServing: true, nowMs: 0, isKnown: true };
  const named = async (): Promise<ReadonlySet<Digest>> => {
    if (!state.isKnown) throw new CodedError('PEER_HTTP', { message: 'containerd is away' });
    return new Set([NAMED]);
  };
  const log = new LogLines('warn');
  const unserved = new UnservedLinks(
    { links, named, log: log.logger, isServing: async () => state.isServing, nowMs: () => state.nowMs },
    { mount: '/run/lazy' },
  );
  await links.publish(NAMED, '/run/lazy/named');
  await links.publish(FREE, '/run/lazy/free');
  await links.publish(WHOLE, '/run/lazy-data/whole/image');
  const shown = async (): Promise<Set<string>> => new Set((await links.list()).map(({ diffId }) => diffId));
  return { state, unserved, shown, log };
}

const ALL = new Set([NAMED, FREE, WHOLE]);

t.test('where no daemon starts, links that no snapshot names go, once it is sure', async (t) => {
  const { state, unserved, shown, log } = await world(t.testdir());
  await unserved.look();
  state.isServing = false;
  for (const atMs of [1_000, UNSERVED_MS]) {
    state.nowMs = atMs;
    await unserved.look();
    t.same(await shown(), ALL);
  }
  state.nowMs = UNSERVED_MS + 1_000;
  await unserved.look();
  t.same(await shown(), new Set([NAMED, WHOLE]));
  await unserved.look();
  t.equal(log.matching(/no daemon serves/).length, 1);
});

t.test('a daemon that comes again in time changes nothing', async (t) => {
  const { state, unserved, shown } = await world(t.testdir());
  for (const [atMs, isServing] of [
    [0, false],
    [UNSERVED_MS - 1, true],
    [UNSERVED_MS, false],
    [2 * UNSERVED_MS - 1, false],
  ] as const) {
    Object.assign(state, { nowMs: atMs, isServing });
    await unserved.look();
    t.same(await shown(), ALL);
  }
});

t.test('while nobody knows what is in use, nothing goes', async (t) => {
  const { state, unserved, shown } = await world(t.testdir());
  Object.assign(state, { isServing: false, isKnown: false });
  await unserved.look();
  state.nowMs = UNSERVED_MS;
  await t.rejects(unserved.look(), { code: 'PEER_HTTP' });
  t.same(await shown(), ALL);
  state.isKnown = true;
  await unserved.look();
  t.same(await shown(), new Set([NAMED, WHOLE]));
});
