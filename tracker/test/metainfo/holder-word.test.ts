import { digestOf } from '@sepia/base/digest';
import { CodedError } from '@sepia/base/errors';
import { parseRepositoryName } from '@sepia/base/names/repository';
import type { Cluster } from '@sepia/cluster/cluster';
import type { InternalClient, InternalRequest } from '@sepia/http/client';
import { firstAttempt, Metainfo } from '@sepia/metainfo/metainfo';
import { VirtualTime } from '@sepia/test-support/virtual-time';
import t, { type Test } from 'tap';
import { askHolder, type HolderWord } from '../../src/metainfo/holder-word.ts';
import { Origins } from '../../src/metainfo/origins.ts';

const DIGEST = digestOf(Buffer.from('x'));
const NAME = { digest: DIGEST, upstream: 'local', repository: parseRepositoryName('a') };
const KNOWN = Metainfo.final(DIGEST, 2 ** 20, Buffer.alloc(32, 1));
const OPEN = Metainfo.open(DIGEST, 2 ** 20, firstAttempt(DIGEST));
const SIGNAL = new AbortController().signal;
const HOUR_MS = 3_600_000;
const SAME = { status: 304, bytes: Buffer.alloc(0) };

/** What somebody says, and after how many ms. */
interface Saying {
  readonly ms: number;
  readonly says: unknown;
}

interface Played {
  readonly word: HolderWord;
  readonly elapsedMs: number;
  /** Who was asked: for its word, or what it has. */
  readonly asked: readonly string[];
  readonly origins: Origins;
}

/** Asks the holder a for its word; `where` tells what each has, `{ms, state}`. */
async function play(
  t: Test,
  isAwaited: boolean,
  word: Saying,
  where: Readonly<Record<'a' | 'b' | 'c', Saying>>,
): Promise<Played> {
  const time = new VirtualTime().install();
  t.teardown(() => time.uninstall());
  const asked: string[] = [];
  const saying = async ({ ms, says }: Saying, { headersTimeoutMs, signal }: InternalRequest) =>
    await new Promise((resolve, reject) => {
      const end = (): void => (says instanceof Error ? reject(says) : resolve(says));
      setTimeout(end, ms);
      setTimeout(() => reject(new CodedError('PEER_HTTP')), headersTimeoutMs);
      signal?.addEventListener('abort', () => reject(signal.reason), { once: true });
    });
  const origins = new Origins({
    cluster: {
      origins: () => ({ owners: ['a', 'b', 'c'], standIns: [] }),
      member: (id: string) => ({ urls: [`http://${id}`] }),
    } as unknown as Cluster,
    client: {
      bytes: async (call: InternalRequest) => {
        asked.push(`word ${call.to}`);
        return await saying(word, call);
      },
      json: async (call: InternalRequest) => {
        asked.push(`where ${call.to}`);
        return await saying(where[call.to as 'a'], call);
      },
    } as unknown as InternalClient,
  });
  const holding = { name: NAME, known: KNOWN, holderId: 'a', isAwaited };
  const told = await time.settle(askHolder(origins, holding, SIGNAL));
  const { elapsedMs } = time;
  time.uninstall();
  return { word: told, elapsedMs, asked, origins };
}

const has = (ms: number): Saying => ({ ms, says: { state: 'final', linked: true, sizeBytes: 2 ** 20 } });
const none = (ms: number): Saying => ({ ms, says: { state: 'none', linked: false } });
const hangs: Saying = { ms: HOUR_MS, says: SAME };
const statesOf = (word: HolderWord): string =>
  word.type === 'no' ? '' : word.answers.map(({ originId, state }) => `${originId} ${state}`).join(', ');

t.test('who waits, waits for the word of the holder and for nobody else', async (t) => {
  const where = { a: hangs, b: has(5), c: hangs };
  const { word, elapsedMs, asked } = await play(t, true, { ms: 20, says: SAME }, where);
  t.match(word, { type: 'yes', metainfo: KNOWN });
  t.equal(statesOf(word), 'a final, b final, c silent');
  t.equal(elapsedMs, 20);
  t.same(asked, ['word a', 'where b', 'where c'], 'one call to each');
});

t.test('where nobody waits, all others that have it are known too, but for one that hangs', async (t) => {
  const slow = await play(t, false, { ms: 20, says: SAME }, { a: hangs, b: has(100), c: has(120) });
  t.equal(statesOf(slow.word), 'a final, b final, c final');
  t.equal(slow.elapsedMs, 120);
  const hung = await play(t, false, { ms: 20, says: SAME }, { a: hangs, b: has(100), c: hangs });
  t.equal(statesOf(hung.word), 'a final, b final, c silent');
  t.equal(hung.elapsedMs, 170);
});

t.test('other bytes of it are told as they are', async (t) => {
  const other = Metainfo.final(DIGEST, 2 ** 20, Buffer.alloc(32, 2));
  const says = { status: 200, bytes: other.encode() };
  const { word } = await play(t, true, { ms: 1, says }, { a: hangs, b: hangs, c: hangs });
  t.equal(word.type === 'yes' && word.metainfo.etag, other.etag);
});

t.test('what is no yes is a no at once, whatever others have', async (t) => {
  const open = { status: 200, bytes: OPEN.encode() };
  for (const says of [new CodedError('BLOB_UNKNOWN'), new CodedError('QUORUM_LOST'), open]) {
    const { word, elapsedMs } = await play(t, true, { ms: 20, says }, { a: hangs, b: has(5), c: hangs });
    t.equal(word.type, 'no');
    t.equal(elapsedMs, 20);
  }
});

t.test('a holder that is gone is passed over for the first that has the blob', async (t) => {
  const gone = { ms: 1, says: new CodedError('PEER_HTTP') };
  const other = await play(t, true, gone, { a: gone, b: none(5), c: has(30) });
  t.equal(statesOf(other.word), 'a silent, b none, c final');
  t.equal(other.elapsedMs, 30);
  const nobody = await play(t, true, gone, { a: gone, b: none(5), c: none(30) });
  t.equal(statesOf(nobody.word), 'a silent, b none, c none');
});

t.test(
  'one that hangs is passed over soon where another has it, else once it says nothing at all',
  async (t) => {
    const other = await play(t, true, hangs, { a: hangs, b: has(5), c: hangs });
    t.equal(statesOf(other.word), 'a silent, b final, c silent');
    t.equal(other.elapsedMs, 150);
    const alone = await play(t, true, hangs, { a: hangs, b: none(5), c: none(5) });
    t.equal(statesOf(alone.word), 'a silent, b none, c none');
    t.equal(alone.elapsedMs, 1_050);
  },
);

t.test('one that has it no more, and thinks, is no holder', async (t) => {
  const open = { ms: 5, says: { state: 'open', linked: true } };
  for (const a of [none(5), open]) {
    const { word, elapsedMs } = await play(t, true, hangs, { a, b: none(5), c: none(5) });
    t.equal(word.type, 'no');
    t.equal(elapsedMs, 155);
  }
});

t.test('where all are slow the holder may be', async (t) => {
  const { word } = await play(t, true, { ms: 700, says: SAME }, { a: has(90), b: has(90), c: hangs });
  t.equal(statesOf(word), 'a final, b final, c silent');
});

t.test('one that thinks is waited for, and never taken for silent where no other has it', async (t) => {
  const where = { a: has(5), b: none(5), c: none(5) };
  const late = await play(t, true, { ms: 3_000, says: SAME }, where);
  t.equal(late.word.type, 'yes');
  t.same(late.asked, ['word a', 'where b', 'where c', 'where a']);
  const never = await play(t, true, hangs, where);
  t.same(never.word, { type: 'no' });
});

t.test('after a round without any answer the next waits longer', async (t) => {
  const { word, origins } = await play(t, true, hangs, { a: hangs, b: hangs, c: hangs });
  t.equal(statesOf(word), 'a silent, b silent, c silent');
  t.equal(origins.pace.timeoutMs(900, 4_000), 1_800);
});

t.test('a bug is thrown', async (t) => {
  const bug = { ms: 1, says: new TypeError('wrong code') };
  await t.rejects(play(t, true, bug, { a: hangs, b: hangs, c: hangs }), TypeError);
});
