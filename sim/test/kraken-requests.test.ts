import { Chance } from '@sepia/swarm/core/random';
import { fc } from '@sepia/test-support/property';
import t from 'tap';
import { KRAKEN_LIMITS } from '../src/kraken/kraken-limits.ts';
import { choosePieces } from '../src/kraken/kraken-requests.ts';

const PIECE = fc.record({
  here: fc.boolean(),
  there: fc.boolean(),
  asked: fc.boolean(),
  askedHere: fc.boolean(),
  rarity: fc.integer({ min: -2, max: 4 }),
});

t.test(
  'pieces are chosen that the peer has, once each; rarest first is just that, ties by index',
  async (t) => {
    const run = (policy: 'default' | 'rarest_first') =>
      fc.property(
        fc.array(PIECE, { maxLength: 40 }),
        fc.integer({ min: 1, max: 5 }),
        fc.integer(),
        (all, room, seed) => {
          const missing = all.filter(({ here }) => !here).length;
          const chosen = choosePieces(
            {
              missing,
              have: Uint8Array.from(all, ({ here }) => Number(here)),
              there: Uint8Array.from(all, ({ there }) => Number(there)),
              asked: Uint8Array.from(all, ({ asked, askedHere }) => Number(asked) + Number(askedHere)),
              isAskedHere: (index) => all[index]!.askedHere,
              rarity: (index) => all[index]!.rarity,
            },
            room,
            policy,
            new Chance(seed),
          );
          const isEndgame = missing <= KRAKEN_LIMITS.endgamePieces;
          const may = all.flatMap(({ here, there, asked, askedHere }, index) =>
            !here && there && !askedHere && (isEndgame || !asked) ? [index] : [],
          );
          const best = [...may].sort((a, b) => all[a]!.rarity - all[b]!.rarity || a - b).slice(0, room);
          return policy === 'rarest_first'
            ? chosen.join() === best.join()
            : chosen.length === best.length &&
                new Set(chosen).size === chosen.length &&
                chosen.every((index) => may.includes(index));
        },
      );
    fc.assert(run('rarest_first'));
    fc.assert(run('default'));
    t.pass('held');
  },
);
