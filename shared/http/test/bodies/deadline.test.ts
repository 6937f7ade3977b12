import { isCoded } from '@sepia/base/errors';
import { PIECE_BYTES } from '@sepia/metainfo/tree';
import { VirtualTime } from '@sepia/test-support/virtual-time';
import t, { type Test } from 'tap';
import { Deadline } from '../../src/bodies/deadline.ts';
import { sendBody } from '../../src/bodies/send-body.ts';
import { FakeBlob } from '../support/fake-blob.ts';

/** As at a proxy: the first bytes may take much longer than any later ones. */
const LIMITS = { firstPieceMs: 15 * 60_000, stallMs: 30_000 };
const never = new Promise<never>(() => {});
const stays = new AbortController().signal;

function onVirtualTime(t: Test): VirtualTime {
  const time = new VirtualTime().install();
  t.teardown(() => time.uninstall());
  return time;
}

async function later<T>(ms: number, value: T): Promise<T> {
  return await new Promise((resolve) => setTimeout(() => resolve(value), ms));
}

t.test('each wait has its own time, shorter or longer than those before it', async (t) => {
  const time = onVirtualTime(t);
  const deadline = new Deadline(stays);
  t.equal(await time.settle(deadline.run(LIMITS.firstPieceMs, later(400_000, 'first'))), 'first');
  t.equal(await time.settle(deadline.run(LIMITS.stallMs, later(29_999, 'next'))), 'next');
  t.equal(await time.settle(deadline.run(LIMITS.firstPieceMs, later(500_000, 'longer'))), 'longer');
  await time.pass(100_000);
  const sinceMs = time.elapsedMs;
  const late = { code: 'NO_PEERS', message: 'no verified progress within 30 s' };
  await t.rejects(time.settle(deadline.run(LIMITS.stallMs, never)), late);
  t.equal(time.elapsedMs - sinceMs, LIMITS.stallMs);
  deadline.end();
});

t.test('a client that is waited for costs no time', async (t) => {
  const time = onVirtualTime(t);
  const deadline = new Deadline(stays);
  for (let turn = 0; turn < 5; turn++) {
    t.equal(await time.settle(deadline.run(LIMITS.stallMs, later(20_000, turn))), turn);
    await time.pass(70_000);
  }
  t.notOk(deadline.signal.aborted);
  deadline.end();
});

t.test(
  'a body whose last piece nobody vouches for any more is cut after the later, shorter wait',
  async (t) => {
    const time = onVirtualTime(t);
    const blob = new FakeBlob(2 * PIECE_BYTES, 'withheld');
    blob.land(0, 1);
    const range = { start: 0, end: blob.sizeBytes - 1, withhold: true };
    let sent = 0;
    let sentMs = 0;
    const sink = {
      begin: () => undefined,
      write: async (bytes: Uint8Array) => {
        await Promise.resolve();
        sent += bytes.length;
        sentMs = time.elapsedMs;
      },
    };
    const body = sendBody(blob, { parts: [{ range, head: '' }], tail: '' }, sink, LIMITS, stays);
    const error: unknown = await time.settle(body.catch((cause: unknown) => cause));
    t.ok(isCoded(error, 'NO_PEERS'), String(error));
    t.ok(sent > 0 && sent < blob.sizeBytes, `${sent}`);
    t.equal(time.elapsedMs - sentMs, LIMITS.stallMs);
  },
);
