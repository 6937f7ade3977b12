import { setImmediate } from 'node:timers/promises';
import { digestOf } from '@sepia/base/digest';
import { CodedError } from '@sepia/base/errors';
import { silentLogger } from '@sepia/base/log';
import type { BlobName } from '@sepia/base/names/blob-name';
import { parseRepositoryName } from '@sepia/base/names/repository';
import { infoHashOf } from '@sepia/metainfo/torrent';
import t from 'tap';
import { StrangerTable } from '../../src/strangers/core/stranger-table.ts';
import { PeerPlaces } from '../../src/strangers/peer-places.ts';
import { StrangerDesk } from '../../src/strangers/stranger-desk.ts';

const NEVER = new AbortController().signal;
const DIGEST = digestOf(Buffer.from('shared by two repositories'));
const FACTS = { digest: DIGEST, sizeBytes: 26, pieces: Buffer.alloc(20) };

function named(repository: string): BlobName {
  return { upstream: 'up', repository: parseRepositoryName(repository), digest: DIGEST };
}

t.test('a torrent that is open by another link since stays when the former link is refused', async (t) => {
  const asked = Promise.withResolvers<void>();
  const refusal = Promise.withResolvers<never>();
  const origins = {
    facts: async () => FACTS,
    open: async ({ repository }: BlobName): Promise<string[]> => {
      if (repository === 'team/open') return ['origin-1'];
      asked.resolve();
      return await refusal.promise;
    },
  };
  const desk = new StrangerDesk({
    origins: origins as never,
    table: { handout: () => [] } as never,
    strangers: new StrangerTable(() => 0),
    places: { of: async () => ({ host: '10.0.0.1', port: 7 }) } as never,
    originAddresses: () => ['origin-1:7'],
    ...{ log: silentLogger(), nowMs: () => 1e6, intervalMs: 60_000 },
  });
  const announce = {
    ...{ infoHash: infoHashOf(FACTS), peerId: 'p'.repeat(40), port: 9, left: 26, numwant: 5 },
    event: undefined,
  } as unknown as Parameters<StrangerDesk['announce']>[0];
  await desk.torrent(named('team/closed'), NEVER);
  const first = desk.announce(announce, undefined, '10.0.0.2', NEVER);
  await asked.promise;
  await desk.torrent(named('team/open'), NEVER);
  refusal.reject(new CodedError('AUTH_DENIED'));
  await t.rejects(first, { code: 'AUTH_DENIED' });
  const { peers } = await desk.announce(announce, undefined, '10.0.0.3', NEVER);
  t.same(peers, [{ host: '10.0.0.1', port: 7 }]);
});

t.test(
  'origins hear soon of a leecher that comes or starts again, and not of one that goes on',
  async (t) => {
    let nowMs = 1e6;
    const asked: (readonly string[])[] = [];
    const origins = {
      facts: async () => FACTS,
      open: async (
        ...[, , , addresses]: [BlobName, string, number, readonly string[]]
      ): Promise<string[]> => {
        asked.push(addresses);
        return ['origin-1'];
      },
    };
    const desk = new StrangerDesk({
      origins: origins as never,
      table: { handout: () => [] } as never,
      strangers: new StrangerTable(() => 0),
      places: { of: async () => ({ host: '10.0.0.1', port: 7 }) } as never,
      originAddresses: () => ['origin-1:7'],
      ...{ log: silentLogger(), nowMs: () => nowMs, intervalMs: 60_000 },
    });
    await desk.torrent(named('team/open'), NEVER);
    const comes = async (event: 'started' | undefined) => {
      const announce = {
        infoHash: infoHashOf(FACTS),
        peerId: 'p'.repeat(40),
        port: 9,
        left: 26,
        numwant: 5,
        event,
      };
      await desk.announce(announce as never, undefined, '10.0.0.2', NEVER);
      asked.length = 0;
      nowMs += 3_001;
      desk.tick();
      await setImmediate();
      return asked;
    };
    const told = [['10.0.0.2:9']];
    t.same(await comes('started'), told);
    t.same(await comes(undefined), []);
    t.same(await comes('started'), told);
  },
);

t.test('a member is told by all its addresses, after the first ones of all', async (t) => {
  const origins = { facts: async () => FACTS, open: async () => ['origin-1', 'origin-2'] };
  const desk = new StrangerDesk({
    origins: origins as never,
    table: { handout: () => [] } as never,
    strangers: new StrangerTable(() => 0),
    places: new PeerPlaces(() => 0),
    originAddresses: (id) => (id === 'origin-1' ? ['10.0.0.1:7', '[2001:db8::1]:7'] : ['10.0.0.2:7']),
    ...{ log: silentLogger(), nowMs: () => 1e6, intervalMs: 60_000 },
  });
  await desk.torrent(named('team/open'), NEVER);
  const announce = { infoHash: infoHashOf(FACTS), peerId: 'p'.repeat(40), port: 9, left: 26 };
  const told = async (numwant: number) => {
    const asked = { ...announce, numwant, event: undefined } as never;
    const { peers } = await desk.announce(asked, undefined, '10.0.0.9', NEVER);
    return peers.map(({ host }) => host);
  };
  t.same(await told(5), ['10.0.0.1', '10.0.0.2', '2001:db8::1']);
  t.same(await told(2), ['10.0.0.1', '10.0.0.2']);
});
