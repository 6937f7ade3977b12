import { isMoving } from '@sepia/cluster/membership';
import { NO_FLOOR } from '../../src/core/floor.ts';
import { majorityOf } from '../../src/core/majority.ts';
import { begin, grant, leave, takeOver, ungenerated } from '../../src/core/standing.ts';
import { senderOf } from './member-steps.ts';
import type { Action } from './model-state.ts';
import { fresh, type Merge, takeFrom } from './set-faults.ts';
import { type Owner, ringOf, type SetRules, type SetState, setsAt } from './set-state.ts';

/**
 * Ring changes, one after another: decided, followed by each owner when it hears of it, taken part in (new owners count
 * beside the old ones, and take over what those have), ended. Who was taken out, and comes back, has its old disk.
 */
export function ringActions(state: SetState, rules: SetRules, merge: Merge): Action[] {
  const out: Action[] = [];
  if (state.rings.length === 1) return out;
  const { epoch } = state;
  if (!isMoving(state) && epoch / 2 + 1 < state.rings.length)
    out.push([
      `a ring change begins: ${state.rings[epoch / 2 + 1]!.join(' ')}`,
      () => beginChange(state),
      0.3,
    ]);
  for (const [id, owner] of state.owners)
    if (owner.epoch < epoch) {
      const run = (): void => {
        follow(owner, epoch);
        // Out of the ring it hears of nothing any more.
        if (!ringOf(state).includes(id)) owner.standing = leave(owner.standing);
      };
      out.push([`${id} follows ${epoch}`, run, 0.5]);
    }
  if (!isMoving(state)) return out;
  const [old = [], now = []] = setsAt(state, epoch);
  for (const id of now) {
    const owner = state.owners.get(id)!;
    for (const from of old) out.push(...asks(state, id, owner, from, old, rules, merge));
  }
  const isDone = now.every((id) => {
    const { standing, pulled } = state.owners.get(id)!;
    // One of the old owners may be away.
    return standing.settled && pulled.length >= old.filter((one) => one !== id).length - 1;
  });
  if (isDone || rules.endsEarly) out.push([`the change ${epoch} ends`, () => void state.epoch++, 1]);
  return out;
}

/** Takes part in a membership from here on. */
export function follow(owner: Owner, epoch: number): void {
  if (epoch <= owner.epoch) return;
  owner.epoch = epoch;
  owner.pulled = [];
}

function beginChange(state: SetState): void {
  state.epoch++;
  for (const id of setsAt(state, state.epoch)[1]!.concat(state.rings[(state.epoch + 1) / 2]!)) {
    const owner = state.owners.get(id);
    if (owner === undefined) state.owners.set(id, newcomer(state, id));
    else if (!state.rings[(state.epoch - 1) / 2]!.includes(id) && owner.epoch < state.epoch)
      fresh(state, id, { ...owner, standing: leave(owner.standing), epoch: state.epoch });
  }
}

/** Its empty folder holds all that it ever promised. */
function newcomer(state: SetState, id: string): Owner {
  state.generations.set(id, 1);
  return {
    standing: begin(ungenerated(id), 1, true),
    entry: undefined,
    floor: NO_FLOOR,
    pending: undefined,
    lacking: [],
    isIn: true,
    epoch: state.epoch,
    pulled: [],
    noted: [],
  };
}

/** What a new owner has of an old one: that it is known there, then what is there. */
function asks(
  state: SetState,
  id: string,
  owner: Owner,
  from: string,
  old: readonly string[],
  rules: SetRules,
  merge: Merge,
): Action[] {
  const source = state.owners.get(from)!;
  if (from === id || owner.epoch !== state.epoch || source.epoch < state.epoch) return [];
  const name = `${id}${owner.standing.generation}`;
  const { noted } = owner;
  if (!owner.standing.settled && noted !== undefined && !noted.includes(from)) {
    const granted = grant(source.standing, owner.standing);
    if (granted.type !== 'granted') return [];
    const note = (): void => {
      source.standing = granted.next;
      owner.noted = [...noted, from];
      const enough = old.length - majorityOf(old.length) + 1;
      const sender = { ...senderOf(source.standing), epoch: 0 };
      const { settled: _, ...standing } = takeOver(owner.standing, sender, []);
      owner.standing = { ...standing, settled: owner.noted.length >= enough };
    };
    return [[`${from} knows ${name}, which is new`, note, 1]];
  }
  if (!owner.standing.settled || !source.standing.settled || owner.pulled.includes(from)) return [];
  const pull = (): void => {
    const { entry } = owner;
    takeFrom(owner, source, source.floor, rules, merge);
    if (rules.takesFloorFirst) owner.entry = entry;
    owner.pulled = [...owner.pulled, from];
  };
  return [[`${name} takes over what ${from} has, and its floor`, pull, 1]];
}
