import { Bitfield } from '@sepia/base/bitfield';
import t from 'tap';
import { Asking } from '../../src/core/asking.ts';
import { Bans } from '../../src/core/bans.ts';
import { Dialling } from '../../src/core/dialling.ts';
import type { SwarmEffect } from '../../src/core/events.ts';
import { Fetching } from '../../src/core/fetching.ts';
import { CORE_LIMITS } from '../../src/core/limits.ts';
import type { Link } from '../../src/core/link.ts';
import { LinkTable } from '../../src/core/link-table.ts';
import { type PickView, pickPiece } from '../../src/core/picker.ts';
import { PieceTable } from '../../src/core/pieces.ts';
import { Chance } from '../../src/core/random.ts';
import { Rate } from '../../src/core/rate.ts';
import { Readers } from '../../src/core/readers.ts';
import { ZoneMeter } from '../../src/core/zone-meter.ts';
import { makeLink } from '../support/core.ts';

const PIECES = 4;

function peer(id: number, has: readonly number[]): Link {
  const link = makeLink({ id, peerId: String(id).padStart(40, '0'), zone: 'a', pieceCount: PIECES });
  for (const index of has) link.has.add(index);
  return link;
}

t.test('a piece that is asked of links that are gone gets another source', async (t) => {
  const [chance, links, readers] = [new Chance(1), new LinkTable(), new Readers(() => true)];
  const pieces = new PieceTable({
    pieceCount: PIECES,
    have: new Bitfield(PIECES),
    knows: () => true,
    covered: () => true,
  });
  const dialling = new Dialling({
    limits: CORE_LIMITS,
    chance,
    ownId: 'f'.repeat(40),
    zone: 'a',
    bans: new Bans(),
  });
  const common = { limits: CORE_LIMITS, links, pieces, readers };
  const asking = new Asking({
    ...common,
    zone: 'a',
    origin: false,
    dialling,
    zones: new ZoneMeter(1),
    wireByteMs: () => 0,
  });
  const fetching = new Fetching({ ...common, chance, asking, rate: new Rate(0) });
  links.set(2, peer(2, [0]));
  pieces.begin(1, 0);
  const told: SwarmEffect[] = [];
  fetching.hedge(0, (effect) => void told.push(effect));
  t.same(told, [{ type: 'fetch', link: 2, index: 0 }]);
  fetching.hedge(0, (effect) => void told.push(effect));
  t.equal(told.length, 1, 'and no third');
});

t.test('a suggestion is taken first, and forgotten once the piece is no longer wanted', async (t) => {
  const link = peer(1, [0, 1, 2, 3]);
  link.suggested.add(0).add(2);
  const view: PickView = {
    limits: CORE_LIMITS,
    chance: new Chance(1),
    wanted: [1, 2, 3],
    isWanted: (index) => index !== 0,
    rarity: (index) => index,
    isAlone: false,
    isReading: false,
    readers: [],
    mayAsk: () => true,
    mayAskNothing: () => false,
  };
  t.equal(pickPiece(view, link), 2);
  t.same([...link.suggested], [2], 'whoever asks for it takes it out');
  link.suggested.clear();
  t.equal(pickPiece(view, link), 1, 'else the rarest');
});
