import { fc } from '@sepia/test-support/property';
import t from 'tap';
import { CORE_LIMITS } from '../../src/core/limits.ts';
import { all, of, PIECES, start } from '../support/core.ts';

const { loneWindow, readerMovesMs } = CORE_LIMITS;

/** A member whose only source is an origin; what is asked for arrives when `bring` is called. */
function lone(seed: number) {
  const { core, tell, wire } = start({
    seed,
    limits: { depthMin: 40, depthMax: 40, inFlightMin: 40, inFlight: 40 },
  });
  const asked: number[] = [];
  const open: number[] = [];
  const note = (effects: ReturnType<typeof tell>): number[] => {
    const fetched = of(effects, 'fetch').map(({ index }) => index);
    asked.push(...fetched);
    open.push(...fetched);
    return fetched;
  };
  note(tell({ type: 'reader', reader: 0, index: 0 }));
  const { link, effects } = wire('origin', all(), { origin: true });
  note(effects);
  const bring = (atMs: number): number[] => {
    const index = open.shift();
    if (index === undefined) return [];
    const come = note(tell({ type: 'fetched', link, index, good: true }, atMs));
    return [...come, ...note(tell({ type: 'written', index, ok: true }, atMs))];
  };
  const read = (index: number, atMs: number): number[] =>
    note(tell({ type: 'reader', reader: 0, index }, atMs));
  const tick = (atMs: number): number[] => note(tell({ type: 'timer', key: 'tick' }, atMs));
  return { core, asked, bring, read, tick };
}

t.test('who is alone stays near a reader that moves, and runs ahead of one that stands', async (t) => {
  const { core, asked, bring, read, tick } = lone(5);
  while (bring(10).length > 0);
  t.strictSame(asked, all().slice(0, loneWindow), 'in order, no further than the window');
  t.strictSame(read(3, 20), [loneWindow, loneWindow + 1, loneWindow + 2]);
  t.ok(tick(20 + readerMovesMs + 1).includes(PIECES - 1), 'its client is slow: the rest comes without it');
  for (let i = 0; i < PIECES; i++) bring(300);
  t.ok(core.have.complete);
});

t.test(
  'a stranger that had nothing within the window of who is alone is asked once the reader comes to it',
  async (t) => {
    const { tell, wire } = start({ limits: { strangerDepth: 4 } });
    tell({ type: 'reader', reader: 0, index: 0 });
    const far = loneWindow + 2;
    const { link } = wire('stranger 10.0.0.9:1', [far], { isStranger: true });
    t.strictSame(of(tell({ type: 'choked', link, on: false }), 'fetch'), [], 'it has nothing near');
    const fetched = of(tell({ type: 'reader', reader: 0, index: 5 }, 10), 'fetch');
    t.strictSame(
      fetched.map(({ index }) => index),
      [far],
    );
  },
);

t.test('with company nobody waits for a reader', async (t) => {
  const { tell, wire } = start({ limits: { depthMin: 40, depthMax: 40, inFlightMin: 40, inFlight: 40 } });
  tell({ type: 'reader', reader: 0, index: 0 });
  wire('peer', []);
  const fetched = of(wire('other', all()).effects, 'fetch').map(({ index }) => index);
  t.ok(
    fetched.some((index) => index >= loneWindow),
    fetched.join(),
  );
});

t.test(
  'however a reader moves, nothing is asked for beyond its window, and all comes in the end',
  async () => {
    const steps = fc.array(fc.oneof(fc.constant('bring' as const), fc.nat(4)), { maxLength: 80 });
    fc.assert(
      fc.property(fc.nat(), steps, (seed, moves) => {
        const { core, bring, read, tick } = lone(seed);
        let atMs = 0;
        let at = 0;
        for (const move of moves) {
          atMs += 1;
          if (move !== 'bring') at = Math.min(PIECES - 1, at + move);
          const come = move === 'bring' ? bring(atMs) : read(at, atMs);
          if (come.some((index) => index < at || index >= at + loneWindow)) return false;
        }
        for (let i = 0; i < 3 * PIECES && !core.have.complete; i++) {
          atMs += readerMovesMs;
          tick(atMs);
          bring(atMs);
        }
        return core.have.complete;
      }),
    );
  },
);
