import { digestOf } from '@sepia/base/digest';
import { until } from '@sepia/test-support/until';
import t from 'tap';
import { MemoryBlob } from '../../src/bodies/memory-blob.ts';
import { readBuffers } from '../../src/bodies/read-buffers.ts';
import { sendBody } from '../../src/bodies/send-body.ts';

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
