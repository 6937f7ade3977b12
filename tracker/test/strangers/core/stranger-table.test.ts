import { seeded } from '@sepia/test-support/seeded';
import t from 'tap';
import { StrangerTable } from '../../../src/strangers/core/stranger-table.ts';

const HASH = 'ab'.repeat(20);
const peer = (host: string, port: number, complete = false) => ({ host, port, complete, peerId: '00' });

t.test('who announced itself is told to the others, until it is silent or says goodbye', async (t) => {
  const table = new StrangerTable(seeded(1));
  table.announce(HASH, peer('192.0.2.1', 5_000), 'started', 0, 1_000);
  table.announce(HASH, peer('192.0.2.2', 5_000, true), undefined, 0, 2_000);
  t.same(table.peers(HASH, 10, { host: '192.0.2.1', port: 5_000 }), [
    { host: '192.0.2.2', port: 5_000, peerId: '00' },
  ]);
  t.same(table.leechers(HASH, 10), [{ host: '192.0.2.1', port: 5_000 }]);
  t.same(table.counts(HASH), { complete: 1, incomplete: 1, downloaded: 0 });
  table.announce(HASH, peer('192.0.2.1', 5_000, true), 'completed', 500, 1_000);
  t.same(table.counts(HASH), { complete: 2, incomplete: 0, downloaded: 1 });
  table.announce(HASH, peer('192.0.2.1', 5_000, true), 'stopped', 600, 1_000);
  t.equal(table.peers(HASH, 10).length, 1);
  table.expire(1_999);
  t.ok(table.isLive(HASH));
  table.expire(2_000);
  t.notOk(table.isLive(HASH));
});

t.test('one host, one swarm, all swarms have limits', async (t) => {
  const table = new StrangerTable(seeded(1));
  for (let port = 2_000; port < 2_100; port++)
    table.announce(HASH, peer('192.0.2.1', port), 'started', 0, 1e6);
  t.equal(table.counts(HASH).incomplete, 16, 'of one host');
  for (let at = 0; at < 1_000; at++)
    table.announce(HASH, peer(`10.0.${at >> 8}.${at & 255}`, 2_000), 'started', 0, 1e6);
  t.equal(table.counts(HASH).incomplete, 200, 'of one swarm');
  let live = 0;
  for (let at = 0; at < 3_000; at++) {
    const other = at.toString(16).padStart(40, '0');
    table.announce(other, peer('192.0.2.1', 2_000), 'started', 0, 1e6);
    if (table.isLive(other)) live += 1;
  }
  t.equal(live, 1_999);
});

t.test('a swarm that nobody is in is forgotten, one that somebody completed not at once', async (t) => {
  const table = new StrangerTable(seeded(1));
  const [one, other] = [peer('192.0.2.1', 5_000), peer('192.0.2.2', 5_000)];
  table.announce(HASH, one, 'completed', 0, 1_000);
  table.announce(HASH, other, 'started', 0, 1_000);
  for (const who of [one, other]) table.announce(HASH, who, 'stopped', 1, 1_000);
  t.same(table.counts(HASH), { complete: 0, incomplete: 0, downloaded: 1 }, 'a scrape still tells of it');
  table.announce(HASH, one, 'started', 2, 1_000);
  table.forget(HASH);
  t.same(table.counts(HASH), { complete: 0, incomplete: 0, downloaded: 0 });
  const full = new StrangerTable(seeded(1));
  for (let at = 0; at < 3_000; at++) {
    const passing = at.toString(16).padStart(40, '0');
    full.announce(passing, one, 'started', 0, 1e6);
    full.announce(passing, one, 'stopped', 0, 1e6);
  }
  full.announce(HASH, one, 'started', 0, 1e6);
  t.ok(full.isLive(HASH), 'who said goodbye takes no room');
});

t.test('of a swarm that is not known nothing is said, and nothing of a peer that is not in it', async (t) => {
  const table = new StrangerTable(seeded(1));
  const here = { host: '192.0.2.1', port: 5_000 };
  t.same([table.peers(HASH, 10), table.leechers(HASH, 10)], [[], []]);
  t.same(table.counts(HASH), { complete: 0, incomplete: 0, downloaded: 0 });
  t.notOk(table.isLive(HASH));
  t.notOk(table.has(HASH, here));
  table.announce(HASH, peer(here.host, here.port), 'started', 0, 1_000);
  t.ok(table.has(HASH, here));
  t.notOk(table.has(HASH, { ...here, port: 5_001 }), 'the same host at another port is another');
});

t.test('leechers that came last are told first, the others by lot', async (t) => {
  const table = new StrangerTable(seeded(1));
  for (let at = 0; at < 100; at++)
    table.announce(HASH, peer(`10.0.0.${at}`, 5_000, at === 99), 'started', 0, 1e6);
  const told = () => table.leechers(HASH, 10).map(({ host }) => Number(host.split('.')[3]));
  const first = told();
  t.same(first.slice(0, 5), [98, 97, 96, 95, 94]);
  t.equal(new Set(first).size, 10, 'nobody twice');
  const seen = new Set(Array.from({ length: 200 }, told).flat());
  t.equal(seen.size, 99, 'each of them some time');
  table.announce(HASH, peer('10.0.0.3', 5_000), undefined, 1, 1e6);
  t.equal(told()[0], 98, 'who goes on is not new');
  table.announce(HASH, peer('10.0.0.3', 5_000), 'started', 2, 1e6);
  t.equal(told()[0], 3, 'who starts again is');
  t.equal(table.leechers(HASH, 1).length, 1);
});
