import { digestOf } from '@sepia/base/digest';
import { until } from '@sepia/test-support/until';
import t from 'tap';
import { MemoryBlob } from '../../src/bodies/memory-blob.ts';
import { readBuffers } from '../../src/bodies/read-buffers.ts';
import { sendBody } from '../../src/bodies/send-body.ts';
import { FakeBlob } from '../support/fake-blob.ts';

const READERS = 60;
/** Writes that a socket takes at once: more than make a reader quick. */
const QUICK = 10;
const BYTES = Buffer.alloc(2 * 1024 * 1024, 'sepia');
const BLOB = new MemoryBlob(digestOf(BYTES), BYTES);

t.test('a process lends few large buffers, also where many who were quick go on at once', async (t) => {
  const gone = new AbortController();
  let waiting: (() => void)[] = [];
  const bodies = Array.from({ length: READERS }, () => {
    let writes = 0;
    const sink = {
      begin: () => undefined,
      write: async () => {
        writes += 1;
        if (writes > QUICK) await new Promise<void>((resolve) => waiting.push(resolve));
      },
    };
    const range = { start: 0, end: BYTES.length - 1, withhold: false };
    const limits = { firstPieceMs: 60_000, stallMs: 60_000 };
    return sendBody(BLOB, { parts: [{ range, head: '' }], tail: '' }, sink, limits, gone.signal);
  });
  await until(() => waiting.length === READERS, 'all wait for their sockets');
  const all = waiting;
  waiting = [];
  for (const go of all) go();
  await until(() => waiting.length === READERS, 'all wait again');
  t.ok(readBuffers.lent.large <= 24, `${readBuffers.lent.large} large ones`);
  t.ok(readBuffers.lent.usual <= 128, `${readBuffers.lent.usual} usual ones`);
  gone.abort(new Error('the clients are gone'));
  const ending = setInterval(() => {
    for (const go of waiting.splice(0)) go();
  }, 10);
  await Promise.allSettled(bodies);
  clearInterval(ending);
  const { lent } = readBuffers;
  await until(() => lent.large + lent.usual + lent.small === 0, 'all are given back');
});

/** A blob on a disk that answers out of order: of reads that are under way the last one first. */
class Shuffled extends FakeBlob {
  readonly isWholeHere: boolean;
  /** Most reads that were under way at once. */
  most = 0;
  #waiting: (() => void)[] = [];

  constructor(sizeBytes: number, isWholeHere: boolean) {
    super(sizeBytes, 'shuffled');
    this.isWholeHere = isWholeHere;
    this.land(0, 1, 2);
    this.finish();
  }

  override async read(offset: number, into: Uint8Array): Promise<void> {
    await new Promise<void>((resolve) => {
      this.#waiting.push(resolve);
      this.most = Math.max(this.most, this.#waiting.length);
      setImmediate(() => this.#waiting.pop()?.());
    });
    await super.read(offset, into);
  }
}

for (const [isWholeHere, most] of [
  [true, 3],
  [false, 1],
] as const)
  t.test(`to who is quick ${most} windows are read ahead, sent in their order`, async (t) => {
    // Who is quick is so on a busy machine, too.
    t.intercept(performance, 'now', { value: () => 0 });
    const blob = new Shuffled(3 * 1024 * 1024 - 5, isWholeHere);
    const got: Buffer[] = [];
    const sink = {
      begin: () => undefined,
      write: async (bytes: Uint8Array) => {
        got.push(Buffer.from(bytes));
        for (let turn = 0; turn < 3; turn++) await new Promise((resolve) => setImmediate(resolve));
      },
    };
    const range = { start: 7, end: blob.sizeBytes - 1, withhold: false };
    const limits = { firstPieceMs: 60_000, stallMs: 60_000 };
    await sendBody(
      blob,
      { parts: [{ range, head: '' }], tail: '' },
      sink,
      limits,
      new AbortController().signal,
    );
    t.ok(Buffer.concat(got).equals(blob.bytes.subarray(7)));
    t.equal(blob.most, most);
    t.equal(readBuffers.lent.large + readBuffers.lent.usual, 0, 'all are given back');
  });

for (const givesUp of [true, false])
  t.test(
    `a late piece of a blob that ${givesUp ? 'gives up by itself is waited for' : 'does not is not'}`,
    async (t) => {
      const blob = Object.assign(new FakeBlob(2 * 1024 * 1024, 'late'), { givesUp });
      blob.land(0);
      let got = 0;
      const sink = {
        begin: () => undefined,
        write: async (bytes: Uint8Array) => {
          got += bytes.length;
          if (got === 1024 * 1024) setTimeout(() => blob.land(1), 1_000);
        },
      };
      const range = { start: 0, end: blob.sizeBytes - 1, withhold: false };
      const limits = { firstPieceMs: 60_000, stallMs: 300 };
      const sending = sendBody(
        blob,
        { parts: [{ range, head: '' }], tail: '' },
        sink,
        limits,
        new AbortController().signal,
      );
      if (givesUp) await sending;
      else await t.rejects(sending, { code: 'NO_PEERS' });
      t.equal(got, givesUp ? blob.sizeBytes : 1024 * 1024);
    },
  );
