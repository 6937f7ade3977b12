import { Bitfield } from '@sepia/base/bitfield';
import t from 'tap';
import { PieceTable } from '../../src/core/pieces.ts';
import { StrangerSlots } from '../../src/core/strangers/stranger-slots.ts';
import { makeLink } from '../support/core.ts';

t.test('a piece is wanted again only when nobody is asked for it any more', async (t) => {
  const have = new Bitfield(4);
  const pieces = new PieceTable({ pieceCount: 4, have, knows: () => true, covered: () => true });
  pieces.begin(1, 0);
  pieces.begin(2, 0);
  pieces.release(1, 0);
  t.strictSame(pieces.inFlight.get(0), [2]);
  t.notOk(pieces.wanted.has(0));
  pieces.release(2, 0);
  t.notOk(pieces.inFlight.has(0));
  t.ok(pieces.wanted.has(0));
});

t.test('a refusal is of one piece, and for a while', async (t) => {
  const link = makeLink();
  for (const index of [0, 1]) link.has.add(index);
  link.refuse(0, 500);
  t.notOk(link.canServe(0, 499));
  t.ok(link.canServe(1, 499));
  t.ok(link.canServe(0, 500));
});

t.test('strangers that ask are counted once each, until they leave', async (t) => {
  const slots = new StrangerSlots<string>({ slots: 1, holdMs: 1_000 });
  for (const who of ['a', 'b', 'a']) slots.ask(who, 0);
  t.equal(slots.size, 2, 'with a slot or without');
  slots.leave('a');
  t.equal(slots.size, 1);
});

t.test('who has a piece is known of as many wires as there are', async (t) => {
  const pieces = new PieceTable({
    ...{ pieceCount: 3, have: new Bitfield(3) },
    ...{ knows: () => true, covered: () => true },
  });
  const links = Array.from({ length: 70 }, (_, seat) => {
    const link = makeLink({ id: seat + 1 });
    link.seat = seat;
    return link;
  });
  for (const link of links)
    for (const index of [0, 1, 2])
      if ((link.seat + index) % 3 === 0) {
        link.has.add(index);
        pieces.gained(link, index);
      }
  for (const link of links)
    for (const index of [0, 1, 2]) t.equal(pieces.isWith(link.seat, index), (link.seat + index) % 3 === 0);
  pieces.lost(links[66]!);
  t.notOk(pieces.isWith(links[66]!.seat, 0));
  t.ok(pieces.isWith(links[63]!.seat, 0), 'the others have what they had');
  t.equal(pieces.rarity(0), 23);
});
