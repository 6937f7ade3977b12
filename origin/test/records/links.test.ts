import { digestOf } from '@sepia/base/digest';
import { CodedError, isCoded } from '@sepia/base/errors';
import type { BlobName } from '@sepia/base/names/blob-name';
import { parseRepositoryName } from '@sepia/base/names/repository';
import { isDecisive } from '@sepia/cluster/core/answers';
import t from 'tap';
import { LINK_TOUCH_MS } from '../../src/deadlines/own.ts';
import { type LinkEntry, Links } from '../../src/records/links.ts';
import { ClockedLink } from '../support/clocked-links.ts';
import { everyOrder, type Step } from '../support/orders.ts';

const NAME: BlobName = {
  upstream: 'hub',
  repository: parseRepositoryName('team/app'),
  digest: digestOf(Buffer.from('a blob')),
};
const never = new AbortController().signal;

/** Links before owners of which too few answer just now, and a registry that has every blob; `writes` counts those of links. */
function bench(takesDeletes: boolean) {
  const writes: unknown[] = [];
  const set = {
    read: async () => {
      throw new CodedError('QUORUM_LOST');
    },
    write: async (...write: unknown[]) => void writes.push(write),
  };
  const client = { headBlob: async () => ({ sizeBytes: 6 }) };
  const upstreams = { client: () => client, takesDeletes: () => takesDeletes };
  const links = new Links({ set, upstreams, nowMs: () => 0, dateMs: () => 0 } as never);
  return { links, writes };
}

t.test('while nobody knows whether a link was deleted, no registry brings it back', async (t) => {
  const { links, writes } = bench(true);
  await t.rejects(links.require(NAME, never), { code: 'QUORUM_LOST' });
  t.same(writes, []);
});

t.test('where nothing is deleted the registry is believed while too few origins answer', async (t) => {
  const { links, writes } = bench(false);
  t.match(await links.require(NAME, never), { ...NAME, sizeBytes: 6 });
  t.equal(writes.length, 1);
});

t.test('a registry that says nothing until our own deadline is down, as one that says so', async (t) => {
  const set = { read: async () => undefined };
  const client = {
    headBlob: () =>
      Promise.reject(new DOMException('The operation was aborted due to timeout', 'TimeoutError')),
  };
  const upstreams = { client: () => client, takesDeletes: () => false };
  const links = new Links({ set, upstreams, nowMs: () => 0, dateMs: () => 0 } as never);
  const error = await links.require(NAME, never).catch((thrown: unknown) => thrown);
  t.match(error, { code: 'BACKEND_DOWN', message: /hub did not answer in time/ });
  t.ok(isDecisive(error), 'no other origin is asked, to wait as long');
});

const ENTRY: LinkEntry = { ...NAME, sizeBytes: 6 };

/** How often `beside` left what was deleted linked, of all orders with a push and then a delete of it. */
async function resurrected(beside: (links: Links, step: Step) => Promise<void>, atMs = 1): Promise<number> {
  let found = 0;
  await everyOrder(async (actor) => {
    const link = new ClockedLink({ atMs, value: { sizeBytes: 6 } });
    const client = (step: Step) => ({
      headBlob: async () => {
        await step();
        return { sizeBytes: 6 };
      },
    });
    await Promise.all([
      actor('delete', async (step) => {
        const links = link.links(step);
        await links.write([ENTRY]);
        await links.delete(NAME, [NAME.digest]);
      }),
      actor('beside', async (step) => {
        const links = link.links(step, { client: () => client(step) });
        await beside(links, step);
      }),
    ]);
    if (link.isLinked) found += 1;
  });
  return found;
}

t.test('who is told of a link touches none that is deleted meanwhile', async (t) => {
  const touch = async (links: Links): Promise<void> => await links.touch(NAME, true);
  t.equal(await resurrected(touch), 0, 'condemned');
  const believed = async (links: Links): Promise<void> => {
    await links.find(NAME);
    await links.touch(NAME, false);
  };
  t.equal(await resurrected(believed, -LINK_TOUCH_MS), 0, 'old, and believed from before');
});

t.test('a registry that is asked for a link shows none that is deleted meanwhile', async (t) => {
  const require = async (links: Links): Promise<void> => {
    await links.require(NAME, never).catch((error: unknown) => {
      if (!isCoded(error, 'BLOB_UNKNOWN')) throw error;
    });
  };
  t.equal(await resurrected(require), 0, 'a blob');
  const pull = async (links: Links, step: Step): Promise<void> => {
    const seenMs = links.seenMs();
    if ((await links.find(NAME, { fresh: true })) === undefined) return;
    await step();
    await links.writeSeen([ENTRY], seenMs);
  };
  t.equal(await resurrected(pull), 0, 'a manifest');
});

t.test('what a registry shows after a delete is linked', async (t) => {
  const link = new ClockedLink({ atMs: 1 });
  const links = link.links(async () => undefined);
  await links.writeSeen([ENTRY], links.seenMs());
  t.ok(link.isLinked);
});

t.test('a link that a push made is one also after a manifest linked the blob again', async (t) => {
  const record = { key: [NAME.digest], atMs: 1, value: { sizeBytes: 6, pushed: true } };
  const set = { read: async () => record, write: async () => undefined };
  const upstreams = { client: () => ({}), takesDeletes: () => true };
  const links = new Links({ set, upstreams, nowMs: () => 0, dateMs: () => 0 } as never);
  for (const entry of [{ ...ENTRY, pushed: true }, ENTRY]) {
    await links.write([entry]);
    t.equal((await links.find(NAME))?.pushed, true);
  }
});
