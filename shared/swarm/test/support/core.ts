import { Bitfield } from '@sepia/base/bitfield';
import { Asking } from '../../src/core/asking.ts';
import { Bans } from '../../src/core/bans.ts';
import type { CoreInit } from '../../src/core/core-init.ts';
import { Dialling } from '../../src/core/dialling.ts';
import type { SwarmEffect, SwarmEvent } from '../../src/core/events.ts';
import { CORE_LIMITS } from '../../src/core/limits.ts';
import { Link } from '../../src/core/link.ts';
import { LinkTable } from '../../src/core/link-table.ts';
import { PieceTable } from '../../src/core/pieces.ts';
import { Chance } from '../../src/core/random.ts';
import { Readers } from '../../src/core/readers.ts';
import { SwarmCore } from '../../src/core/swarm-core.ts';
import { ZoneMeter } from '../../src/core/zone-meter.ts';

/** Pieces of the blob in all tests of the core. */
export const PIECES = 40;

/** A core with a hand on its clock. */
export function start(change: Partial<CoreInit> = {}) {
  const core = new SwarmCore({
    peerId: 'm'.repeat(40),
    zone: 'z1',
    pieceCount: PIECES,
    have: new Bitfield(PIECES),
    knows: () => true,
    leech: true,
    origin: false,
    seed: 5,
    nowMs: 0,
    ...change,
  });
  let nowMs = 0;
  const tell = (event: SwarmEvent, atMs = nowMs): SwarmEffect[] => {
    nowMs = atMs;
    const effects: SwarmEffect[] = [];
    core.handle(event, nowMs, (effect) => effects.push(effect));
    return effects;
  };
  const wire = (
    peerId: string,
    has: Iterable<number>,
    more: { origin?: boolean; zone?: string; dialled?: boolean; isStranger?: boolean } = {},
  ) => {
    const link = core.drawLink();
    const up = tell({ type: 'wireUp', link, peerId, origin: false, zone: 'z1', dialled: true, ...more });
    return { link, effects: [...up, ...tell({ type: 'bitfield', link, indexes: has })] };
  };
  return { core, tell, wire };
}

/** A link of a blob of 8 pieces: to a member that has none of them, but for what `over` says. */
export function makeLink(over: Partial<ConstructorParameters<typeof Link>[0]> = {}): Link {
  return new Link({
    id: 1,
    kind: 'wire',
    peerId: 'p1',
    origin: false,
    zone: '',
    dialled: true,
    nowMs: 0,
    pieceCount: 8,
    ...over,
  });
}

/** The rules of whom to ask, in a member of zone `a` that wants all pieces: nothing is on its way, nobody reads. */
export function makeAsking(pieceCount: number, { farShare = 1, wireByteMs = 0 } = {}) {
  const limits = { ...CORE_LIMITS, farShare };
  const [chance, links, readers] = [new Chance(1), new LinkTable(), new Readers(() => true)];
  const have = new Bitfield(pieceCount);
  const pieces = new PieceTable({ pieceCount, have, knows: () => true, covered: () => true });
  const dialling = new Dialling({ limits, chance, ownId: 'f'.repeat(40), zone: 'a', bans: new Bans() });
  const asking = new Asking({
    ...{ limits, zone: 'a', origin: false, links, pieces, readers, dialling },
    zones: new ZoneMeter(farShare),
    wireByteMs: () => wireByteMs,
  });
  return { limits, chance, links, readers, pieces, dialling, asking };
}

export const all = (): number[] => Array.from({ length: PIECES }, (_, index) => index);
export const of = <T extends SwarmEffect['type']>(effects: readonly SwarmEffect[], type: T) =>
  effects.filter((effect): effect is Extract<SwarmEffect, { type: T }> => effect.type === type);
