import { CodedError } from '@sepia/base/errors';
import { bdecode } from '@sepia/test-support/clients/bdecode';
import { fc } from '@sepia/test-support/property';
import t from 'tap';
import {
  namedBlob,
  parseAnnounce,
  parseBinaryQuery,
  parseScrape,
} from '../../../src/strangers/core/announce-query.ts';
import { announceAnswer, failureAnswer, scrapeAnswer } from '../../../src/strangers/core/tracker-answers.ts';

const HASH = Buffer.from('00ff2b25263d3a7e80c3a9102030405060708090', 'hex');
const escaped = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex').replace(/../g, '%$&');
const QUERY = `info_hash=${escaped(HASH)}&peer_id=-AR1360-abcdefghijkl&port=6881&left=10&event=started`;
const COUNTS = { complete: 2, incomplete: 1, downloaded: 5 };

t.test('what a client says of itself', async (t) => {
  const asked = parseAnnounce(parseBinaryQuery(QUERY));
  t.match(asked, { infoHash: HASH.toString('hex'), port: 6881, left: 10, event: 'started', compact: true });
  t.equal(asked.numwant, 50);
  t.equal(parseAnnounce(parseBinaryQuery(`${QUERY}&numwant=-1`)).numwant, 50, 'as many as there are');
  t.equal(parseAnnounce(parseBinaryQuery(`${QUERY}&numwant=5&compact=0`)).compact, false);
  for (const [said, noPeerId] of [
    ['', false],
    ['&no_peer_id=0', false],
    ['&no_peer_id=1', true],
  ] as const)
    t.equal(parseAnnounce(parseBinaryQuery(`${QUERY}&compact=0${said}`)).noPeerId, noPeerId, said);
  t.equal(parseAnnounce(parseBinaryQuery(QUERY.replace('started', 'paused'))).event, undefined);
  const terse = parseAnnounce(parseBinaryQuery(QUERY.replace('&left=10&event=started', '')));
  t.match(terse, { left: undefined, event: undefined }, 'who does not say what it lacks may lack something');
  t.equal(parseAnnounce(parseBinaryQuery(QUERY.replace('left=10', 'left=-1'))).left, undefined);
  t.equal(parseAnnounce(parseBinaryQuery(QUERY.replace('left=10', 'left=0'))).left, 0);
  t.same(parseScrape(parseBinaryQuery(`info_hash=${escaped(HASH)}&info_hash=${escaped(HASH)}`)).length, 2);
  const named = parseBinaryQuery(`digest=sha256%3Aab&upstream=local&repository=team%2Fapp&${QUERY}`);
  t.same(namedBlob(named), { digest: 'sha256:ab', upstream: 'local', repository: 'team/app' });
  t.equal(namedBlob(parseBinaryQuery(QUERY)), undefined);
});

t.test('a client without a port that others may be sent to is answered all the same', async (t) => {
  const portOf = (port: string): number | undefined =>
    parseAnnounce(parseBinaryQuery(QUERY.replace('port=6881', `port=${port}`))).port;
  for (const port of ['0', '1', '80', '1023', '65536', '70000']) t.equal(portOf(port), undefined, port);
  for (const port of ['1024', '65535']) t.equal(portOf(port), Number(port), port);
});

t.test('every byte of an infohash arrives, however it is escaped', async (t) => {
  const hash = fc.uint8Array({ minLength: 20, maxLength: 20 });
  fc.assert(
    fc.property(hash, fc.boolean(), (bytes, lower) => {
      const text = lower ? escaped(bytes) : escaped(bytes).toUpperCase();
      const plain = text.replace(/%(4[1-9a-f]|5[0-9a])/gi, (_all, hex: string) =>
        String.fromCharCode(Number.parseInt(hex, 16)),
      );
      return parseScrape(parseBinaryQuery(`info_hash=${plain}`))[0] === Buffer.from(bytes).toString('hex');
    }),
  );
  t.pass('all 256');
});

t.test('what is no announce is refused by name', async (t) => {
  const wrong: [string, RegExp][] = [
    ['', /port is missing/],
    [QUERY.replace('port=6881', 'port='), /port is missing/],
    [QUERY.replace('port=6881', 'port=x'), /port is not a number/],
    [QUERY.replace('%00', ''), /info_hash must have 20 bytes/],
    [`${QUERY}&left=1.5`.replace('left=10&', ''), /left is not a number/],
    [`a=${'b'.repeat(5_000)}`, /too long/],
    ['a&'.repeat(100), /too many keys/],
    ['info_hash=\u00e9', /escaped/],
  ];
  for (const [query, message] of wrong)
    t.throws(() => parseAnnounce(parseBinaryQuery(query)), { code: 'REQUEST_INVALID', message }, query);
  const one = `info_hash=${escaped(HASH)}`;
  const scraped = (count: number) => new Map([['info_hash', Array<string>(count).fill('x'.repeat(20))]]);
  t.equal(parseScrape(scraped(32)).length, 32);
  t.throws(() => parseScrape(scraped(33)), { code: 'REQUEST_INVALID', message: /at most 32 info_hash/ });
  t.throws(() => parseAnnounce(parseBinaryQuery(`${one}&port=6881`)), { message: /peer_id must have 20/ });
});

t.test('no query throws anything else', async (t) => {
  const check = (query: string): boolean => {
    for (const parse of [parseAnnounce, parseScrape, namedBlob]) {
      try {
        parse(parseBinaryQuery(query));
      } catch (error) {
        if (!(error instanceof CodedError) || error.code !== 'REQUEST_INVALID') return false;
      }
    }
    return true;
  };
  const part = fc.constantFrom(
    'info_hash',
    'peer_id',
    'port',
    'left',
    '=',
    '&',
    '%',
    '%4',
    '%zz',
    '+',
    '-1',
    '99',
  );
  fc.assert(fc.property(fc.string(), check));
  fc.assert(fc.property(fc.array(part, { maxLength: 40 }), (parts) => check(parts.join(''))));
  t.pass('coded errors alone');
});

t.test('answers are bencode that a client reads', async (t) => {
  const peers = [
    { host: '192.0.2.7', port: 6881 },
    { host: '2001:db8::1', port: 51413 },
  ];
  const read = (bytes: Uint8Array) => bdecode(Buffer.from(bytes)).value;
  const compact = read(announceAnswer({ intervalMs: 60_000, counts: COUNTS, peers, compact: true }));
  t.match(compact, { complete: 2, incomplete: 1, interval: 60, 'min interval': 30 });
  t.same((compact as Record<string, Buffer>)['peers'], Buffer.from('c00002071ae1', 'hex'));
  t.equal((compact as Record<string, Buffer>)['peers6']?.length, 18);
  const four = announceAnswer({ intervalMs: 1, counts: COUNTS, peers: peers.slice(0, 1), compact: true });
  t.equal(
    (read(four) as Record<string, unknown>)['peers6'],
    undefined,
    'no key of IPv6 without a peer there',
  );
  const named = [{ host: 'node.example', port: 6881 }];
  const none = read(announceAnswer({ intervalMs: 1, counts: COUNTS, peers: named, compact: true }));
  t.equal((none as Record<string, Buffer>)['peers']?.length, 0, 'a name has no compact form');
  const long = read(announceAnswer({ intervalMs: 60_000, counts: COUNTS, peers, compact: false }));
  t.equal(((long as Record<string, unknown[]>)['peers'] ?? []).length, 2);
  const peerId = Buffer.from('-AR1360-abcdefghijkl');
  const known = [{ host: '192.0.2.7', port: 6881, peerId: peerId.toString('hex') }, ...named];
  const listOf = (noPeerId: boolean): unknown =>
    (
      read(announceAnswer({ intervalMs: 1, counts: COUNTS, peers: known, compact: false, noPeerId })) as {
        peers: unknown;
      }
    ).peers;
  const plain = known.map(({ host, port }) => ({ ip: Buffer.from(host), port }));
  t.same(listOf(false), [{ ...plain[0], 'peer id': peerId }, plain[1]], 'with ids where they are known');
  t.same(listOf(true), plain);
  t.same(read(failureAnswer('no')), { 'failure reason': Buffer.from('no') });
  const scraped = read(scrapeAnswer(new Map([[HASH.toString('hex'), COUNTS]]))) as Record<string, object>;
  t.same(scraped['files'], { [HASH.toString('latin1')]: COUNTS });
});

t.test('a scrape of several answers with keys in the order that bencode asks for', async (t) => {
  const [low, high] = [HASH.toString('hex'), 'ff'.repeat(20)];
  for (const order of [
    [low, high],
    [high, low],
  ]) {
    const bytes = Buffer.from(scrapeAnswer(new Map(order.map((hash) => [hash, COUNTS]))));
    const [at, after] = [low, high].map((hash) => bytes.indexOf(Buffer.from(hash, 'hex')));
    t.ok(at! > 0 && at! < after!, order.join());
  }
});
