import { fc } from '@sepia/test-support/property';
import t from 'tap';
import type { SwarmEffect } from '../../src/core/events.ts';
import { all, of, PIECES, start } from '../support/core.ts';

const fetched = (effects: readonly SwarmEffect[]): number[] =>
  of(effects, 'fetch')
    .map((fetch) => fetch.index)
    .sort((a, b) => a - b);

t.test('without a reader nothing is fetched, nobody dialled, no timer set', async (t) => {
  const { tell, wire } = start({ wantAll: false });
  const effects = [
    ...tell({
      type: 'peers',
      peers: [{ peerId: 'b'.repeat(40), addresses: ['127.0.0.1:1'], origin: false, zone: 'z1' }],
    }),
    ...wire('a', all()).effects,
  ];
  t.strictSame(
    effects.filter((one) => one.type === 'fetch' || one.type === 'dial' || one.type === 'setTimer'),
    [],
  );
});

t.test('a reader fetches what it covers and nothing else', async (t) => {
  const { tell, wire } = start({ wantAll: false });
  for (const peer of ['a', 'b', 'c']) wire(peer, all());
  t.strictSame(fetched(tell({ type: 'reader', reader: 0, index: 7, last: 9 })), [7, 8, 9]);
  t.strictSame(fetched(tell({ type: 'reader', reader: 1, index: 20, last: 20 })), [20]);
});

t.test('what a closed reader wanted is not asked for any more', async (t) => {
  const { core, tell } = start({ wantAll: false });
  tell({ type: 'reader', reader: 0, index: 3, last: 30 });
  tell({ type: 'reader', reader: 1, index: 8, last: 8 });
  tell({ type: 'readerClosed', reader: 0 });
  const link = core.drawLink();
  tell({ type: 'wireUp', link, peerId: 'a', origin: false, zone: 'z1', dialled: true });
  t.strictSame(fetched(tell({ type: 'bitfield', link, indexes: all() })), [8]);
});

t.test('wantAll takes the rest as well', async (t) => {
  const { tell, wire } = start({ wantAll: false });
  for (const peer of ['a', 'b', 'c']) wire(peer, all());
  tell({ type: 'reader', reader: 0, index: 3, last: 3 });
  t.ok(fetched(tell({ type: 'wantAll' })).length > 1);
});

t.test('whatever readers do, no piece is ever asked for that none of them covered', async () => {
  const step = fc.oneof(
    fc.record({
      type: fc.constant('open' as const),
      reader: fc.nat(4),
      index: fc.nat(PIECES - 1),
      span: fc.nat(5),
    }),
    fc.record({ type: fc.constant('move' as const), reader: fc.nat(4), by: fc.nat(3) }),
    fc.record({ type: fc.constant('close' as const), reader: fc.nat(4) }),
    fc.record({ type: fc.constant('land' as const) }),
    fc.record({ type: fc.constant('tick' as const) }),
  );
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
      const { tell, wire } = start({ wantAll: false });
      const a = wire('a', all());
      wire('b', all());
      const covered = new Set<number>();
      const open = new Map<number, { index: number; last: number }>();
      const flying: number[] = [];
      let nowMs = 0;
      const see = (effects: readonly SwarmEffect[]): boolean => {
        const indexes = fetched(effects);
        flying.push(...indexes);
        return indexes.every((index) => covered.has(index));
      };
      const run = (one: (typeof steps)[number]): readonly SwarmEffect[] => {
        if (one.type === 'open' && !open.has(one.reader)) {
          const last = Math.min(PIECES - 1, one.index + one.span);
          open.set(one.reader, { index: one.index, last });
          for (let index = one.index; index <= last; index++) covered.add(index);
          return tell({ type: 'reader', reader: one.reader, index: one.index, last });
        }
        if (one.type === 'move') {
          const reader = open.get(one.reader);
          if (reader === undefined) return [];
          reader.index = Math.min(reader.last, reader.index + one.by);
          return tell({ type: 'reader', reader: one.reader, index: reader.index });
        }
        if (one.type === 'close' && open.delete(one.reader))
          return tell({ type: 'readerClosed', reader: one.reader });
        if (one.type === 'land') {
          const index = flying.shift();
          if (index === undefined) return [];
          return [
            ...tell({ type: 'fetched', link: a.link, index, good: true }),
            ...tell({ type: 'written', index, ok: true }),
          ];
        }
        nowMs += 250;
        return one.type === 'tick' ? tell({ type: 'timer', key: 'tick' }, nowMs) : [];
      };
      return steps.every((one) => see(run(one)));
    }),
    { numRuns: 300 },
  );
});
