import { SEED } from '@sepia/test-support/seeded';
import t from 'tap';
import { simulate } from '../src/index.ts';

t.test('20 nodes, one warm origin: bounded copies, near the limit of the line', async (t) => {
  const result = simulate({ nodes: 20, pieces: 64, seed: 1 });
  t.equal(result.finishedMs.size, 20);
  t.ok(result.originCopies <= 3, `origin gave ${result.originCopies} copies`);
  t.ok(result.duplicates <= 0.05 * 20 * 64, `${result.duplicates} duplicates`);
  const limitMs = (64 * 2 ** 20 * 1000) / 12.5e6;
  t.ok(result.lastMs <= 1.6 * limitMs, `last ${result.lastMs} ms, limit ${limitMs} ms`);
  t.comment(JSON.stringify({ ...result, finishedMs: undefined, limitMs }));
});

t.test(
  '50 nodes, a cold blob, the leader dies, a liar, a stopped peer: all finish, twice the same',
  async (t) => {
    const options = {
      nodes: 50,
      origins: 2,
      pieces: 64,
      landEveryMs: 80,
      fullOrigins: [1],
      seed: 7,
      faults: [
        { kind: 'kill', node: 'o0', atMs: 3_000 },
        { kind: 'corrupt', node: 'a3', atMs: 1_000 },
        { kind: 'stop', node: 'a5', atMs: 2_000 },
      ],
    } as const;
    const result = simulate(options);
    t.equal(result.finishedMs.size, 49);
    t.ok(result.originCopies <= 7, `origins gave ${result.originCopies} copies`);
    t.ok(result.badPieces <= 49 * 8, `${result.badPieces} bad pieces`);
    t.ok(result.duplicates <= 0.1 * 50 * 64, `${result.duplicates} duplicates`);
    t.equal(simulate(options).traceHash, result.traceHash);
    t.not(simulate({ ...options, seed: 8 }).traceHash, result.traceHash);
    t.comment(JSON.stringify({ ...result, finishedMs: undefined }));
  },
);

t.test(
  'few peers: short queues, so that no stream is silent for long and next to nothing comes twice',
  async (t) => {
    const first = 2 * SEED;
    for (let seed = first; seed < first + 2; seed++) {
      const result = simulate({ nodes: 8, pieces: 256, originRateBytesPerSec: 50e6, seed });
      const limitMs = (256 * 2 ** 20 * 1000) / 12.5e6;
      t.ok(result.readerWaitMs <= 2_500, `a stream was silent for ${result.readerWaitMs} ms`);
      t.ok(result.duplicates <= 0.004 * 8 * 256, `${result.duplicates} pieces came twice`);
      t.ok(result.lastMs <= 1.06 * limitMs, `last ${result.lastMs} ms, limit ${limitMs} ms`);
      t.ok(result.originCopies <= 1.1, `origin gave ${result.originCopies} copies`);
      t.comment(`seed ${seed}: half of a stream after ${result.readerHalfShare.toFixed(2)} of the time`);
    }
  },
);

t.test('a stream is measured in its own time, whenever its member starts', async (t) => {
  const pieces = 64;
  const { streams, finishedMs, readerHalfShare } = simulate({ nodes: 4, pieces, startMs: 8_000, seed: 3 });
  t.equal(streams.size, 4);
  // The way down of the first block runs beside its way up.
  const limitMs = (0.99 * pieces * 2 ** 20 * 1000) / 12.5e6;
  for (const [name, { halfMs, tookMs, waitMs }] of streams) {
    t.ok(tookMs <= finishedMs.get(name)!, 'from when it opened');
    t.ok(tookMs >= limitMs, `${name} took ${tookMs} ms, its line ${limitMs} ms`);
    t.ok(halfMs >= limitMs / 2 && halfMs <= tookMs, `half after ${halfMs} ms`);
    t.ok(waitMs > 0 && waitMs <= tookMs, `it stood for ${waitMs} ms`);
  }
  const shares = [...streams.values()].map(({ halfMs, tookMs }) => halfMs / tookMs);
  t.equal(readerHalfShare, Math.max(...shares));
  const startsMs = [...streams].map(([name, { tookMs }]) => finishedMs.get(name)! - tookMs);
  t.ok(Math.max(...startsMs) > 1_000, 'some started late, and had nothing before');
});

t.test('more members than one keeps in mind: nobody is left out', async (t) => {
  const result = simulate({
    nodes: 500,
    origins: 3,
    pieces: 8,
    rateBytesPerSec: 125e6,
    originRateBytesPerSec: 125e6,
    landEveryMs: 8,
    seed: 1,
  });
  t.equal(result.finishedMs.size, 500);
  t.ok(result.lastMs <= 2_000, `last ${result.lastMs} ms of virtual time`);
  t.ok(result.originCopies <= 3, `origins gave ${result.originCopies} copies`);
});
