import { Readable } from 'node:stream';
import { delay } from '@sepia/base/lifecycle';
import { VirtualTime } from '@sepia/test-support/virtual-time';
import t, { type Test } from 'tap';
import { flowing } from '../../src/bodies/flowing.ts';
import type { Answer } from '../../src/exchange.ts';
import { failureOf } from '../../src/failure.ts';
import { failure, readAll } from '../client-fixture.ts';

const HOST = 'registry.example';

function onVirtualTime(t: Test): VirtualTime {
  const time = new VirtualTime().install();
  t.teardown(() => time.uninstall());
  return time;
}

/** So many single bytes, each after a second. */
async function* drops(count: number): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < count; at++) {
    await delay(1_000);
    yield Buffer.from(' ');
  }
}

t.test('a body of single bytes is cut', async (t) => {
  const time = onVirtualTime(t);
  const read = readAll(flowing(HOST, drops(1_000_000), { peer: 'target' }));
  const error = await time.settle(failure(read, 'BACKEND_DOWN'));
  t.match(error, {
    message: 'target registry.example: the body only trickles',
    detail: { reason: 'trickles' },
  });
  t.equal(time.elapsedMs, 6_000);
});

t.test('the last byte of what was announced counts, however slow', async (t) => {
  const time = onVirtualTime(t);
  const read = readAll(flowing(HOST, drops(6), { expectedBytes: 6 }));
  t.equal((await time.settle(read)).length, 6);
});

t.test('the time that a reader takes is its own', async (t) => {
  const time = onVirtualTime(t);
  const read = async (): Promise<number> => {
    let found = 0;
    for await (const chunk of flowing(HOST, drops(5))) {
      found += chunk.length;
      await delay(60_000);
    }
    return found;
  };
  t.equal(await time.settle(read()), 5);
});

t.test('why an answer is an error is not waited for without end', async (t) => {
  const time = onVirtualTime(t);
  const body = Readable.from(drops(1_000_000));
  const headers = { 'content-type': 'application/json', 'content-length': '1000000' };
  const answer = {
    url: new URL(`http://${HOST}/v2/`),
    method: 'GET',
    status: 500,
    headers,
    body,
  } as unknown as Answer;
  const subject = { upstream: 'up', repository: 'team/app', unknown: 'BLOB_UNKNOWN' } as const;
  const error = await time.settle(failureOf(answer, subject, { nowMs: 0, foreign: false }));
  t.match(error, { code: 'BACKEND_DOWN', detail: { status: 500 } });
  t.equal(time.elapsedMs, 5_000);
});
