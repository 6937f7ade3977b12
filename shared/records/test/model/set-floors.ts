import { isMoving } from '@sepia/cluster/membership';
import { higherFloor, mayGo } from '../../src/core/floor.ts';
import { canonicalJson } from '../../src/core/join.ts';
import { majorityOf } from '../../src/core/majority.ts';
import { counted } from '../../src/core/standing.ts';
import { senderOf } from './member-steps.ts';
import type { Action } from './model-state.ts';
import { type Merge, takeFrom } from './set-faults.ts';
import { type Owner, type Round, ringOf, type SetRules, type SetState } from './set-state.ts';

/** A floor that is later than what writers with slow clocks say. */
const AHEAD = 2;

/**
 * A floor is looked for: each owner promises to refuse older writes and tells what it has up to there; if all told the
 * same, each may agree, whenever that reaches it. Tombstones below an agreed floor go, at each owner by itself. Owners take
 * floors over from each other, after what is above them.
 */
export function floorActions(state: SetState, rounds: number, rules: SetRules, merge: Merge): Action[] {
  const out: Action[] = [];
  const ring = ringOf(state);
  // Who was taken out of the ring, and does not know, may still be told of a floor.
  for (const id of new Set([...ring, ...(state.round?.ring ?? [])])) {
    const owner = state.owners.get(id)!;
    const { entry, floor, standing } = owner;
    if (!standing.settled) continue;
    const name = `${id}${standing.generation}`;
    // The clocks of other entries of the shard are as good as any.
    for (const atMs of [entry?.atMs ?? 0, state.now + AHEAD])
      if (state.used.rounds < rounds && atMs > floor.agreedMs && !isMoving(state))
        out.push([
          `a floor at ${atMs} is looked for`,
          () => begin(state, { atMs, epoch: state.epoch, ring, told: [] }),
          0.2,
        ]);
    if (entry !== undefined && mayGo(entry, floor))
      out.push([
        `${name} drops deleted@${entry.atMs}`,
        () => {
          owner.entry = undefined;
        },
        0.7,
      ]);
    out.push(...adoptions(state, ring, id, owner, rules, merge));
    if (state.round !== undefined) out.push(...steps(state, state.round, id, owner, rules));
  }
  return out;
}

function begin(state: SetState, round: Round): void {
  state.used.rounds++;
  state.round = round;
}

function steps(state: SetState, round: Round, id: string, owner: Owner, rules: SetRules): Action[] {
  const { atMs, epoch, ring, told } = round;
  const sender = senderOf(owner.standing);
  const name = `${id}${sender.generation}`;
  if (!ring.includes(id) || owner.epoch > epoch) return [];
  const mine = told.find((one) => one.sender.id === id);
  if (mine === undefined) {
    const tell = (): void => {
      owner.floor = { ...owner.floor, promisedMs: Math.max(owner.floor.promisedMs, atMs) };
      owner.epoch = Math.max(owner.epoch, epoch);
      const { entry } = owner;
      const text = entry === undefined || entry.atMs > atMs ? '' : canonicalJson(entry);
      state.round = { ...round, told: [...told, { sender, text }] };
    };
    return [[`${name} promises ${atMs} and tells what it has`, tell, 1]];
  }
  const needed = rules.majorityConfirms ? majorityOf(ring.length) : ring.length;
  const isSame = told.every(({ text }) => text === mine.text);
  const isStill = rules.confirmationOutlives || mine.sender.generation === sender.generation;
  const isRing = String(ringOf(state, epoch)) === String(ring);
  if (counted(told).length < needed || !isSame || !isStill || !isRing) return [];
  if (owner.floor.agreedMs >= atMs) return [];
  const agree = (): void => {
    owner.floor = higherFloor(owner.floor, { promisedMs: atMs, agreedMs: atMs });
  };
  return [[`${name} agrees on ${atMs}`, agree, 1]];
}

/** In two steps: the floor is read first, so that what is read after it is at least as new. */
function adoptions(
  state: SetState,
  ring: readonly string[],
  id: string,
  owner: Owner,
  rules: SetRules,
  merge: Merge,
): Action[] {
  const out: Action[] = [];
  const name = `${id}${owner.standing.generation}`;
  for (const from of ring) {
    const source = state.owners.get(from)!;
    if (from === id || !source.standing.settled || source.floor.agreedMs <= owner.floor.agreedMs) continue;
    const { generation } = source.standing;
    const { floor } = source;
    const read = (): void => {
      owner.pending = { from, generation, floor };
    };
    out.push([`${name} reads the floor of ${from}`, read, 0.3]);
  }
  const { pending } = owner;
  const source = pending && state.owners.get(pending.from);
  if (pending === undefined || source?.standing.generation !== pending.generation) return out;
  if (!source.standing.settled || !ring.includes(pending.from)) return out;
  const take = (): void => {
    takeFrom(owner, source, pending.floor, rules, merge);
    owner.pending = undefined;
  };
  out.push([`${name} takes what ${pending.from} has, and its floor`, take, 0.7]);
  return out;
}
