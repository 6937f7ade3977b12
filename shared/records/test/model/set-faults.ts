import { type Floor, higherFloor, isGoneBy, NO_FLOOR, type Told } from '../../src/core/floor.ts';
import type { Entry } from '../../src/core/join.ts';
import { majorityOf } from '../../src/core/majority.ts';
import { isAlone, isWitness } from '../../src/core/set-protocol.ts';
import { begin, grant, leave, takeOver, ungenerated } from '../../src/core/standing.ts';
import { senderOf } from './member-steps.ts';
import type { Action } from './model-state.ts';
import {
  isOwed,
  type Owner,
  ringOf,
  type SetRules,
  type SetScope,
  type SetState,
  sendSet,
  setsAt,
} from './set-state.ts';

/** What an owner has once it took over what another one has. */
export type Merge = (
  own: Told,
  theirs: { readonly entry: Entry; readonly agreedMs: number },
) => Entry | undefined;

/** Disks lost or set back, kills, an owner that leaves and comes back; handover and repair after them. */
export function setFaults(state: SetState, scope: SetScope, rules: SetRules, merge: Merge): Action[] {
  const out: Action[] = [];
  const ring = ringOf(state);
  for (const id of ring) {
    const owner = state.owners.get(id)!;
    const { standing, entry } = owner;
    const name = `${id}${standing.generation}`;
    const snapshot = state.snapshots.get(id);
    if (state.used.faults < (scope.wipes ?? 0))
      out.push([`${name} loses its disk`, () => fault(state, id, undefined), 0.2]);
    if (snapshot === undefined && standing.settled && (scope.setBacks ?? 0) > 0)
      out.push([`a snapshot of ${name} is taken`, () => void state.snapshots.set(id, { ...owner }), 0.15]);
    if (
      state.used.faults < (scope.setBacks ?? 0) &&
      snapshot?.standing.generation === standing.generation &&
      snapshot.entry !== entry
    )
      out.push([`${name} is set back`, () => fault(state, id, snapshot), 0.5]);
    if (state.used.kills < (scope.kills ?? 0))
      out.push([
        `${name} is killed and starts`,
        () => {
          state.used.kills++;
          fresh(state, id, owner);
        },
        0.2,
      ]);
    if (entry !== undefined && (standing.settled || rules.repairsFromAnyone)) {
      const offer = { type: 'offer', entry, agreedMs: owner.floor.agreedMs } as const;
      if (!state.net.has(JSON.stringify(offer)))
        out.push([`${name} has its record for repair`, () => sendSet(state, offer), 0.3]);
    }
    if (!standing.settled && owner.noted === undefined) out.push(...handovers(state, rules, ring, id, merge));
  }
  if (scope.rejoins === true) out.push(...rejoins(state));
  return out;
}

function fault(state: SetState, id: string, folder: Owner | undefined): void {
  state.used.faults++;
  fresh(state, id, folder);
}

/** A start: with what is in the folder, or with an empty one. */
export function fresh(state: SetState, id: string, folder: Owner | undefined): void {
  const generation = state.generations.get(id)! + 1;
  state.generations.set(id, generation);
  const before = folder?.standing ?? { ...ungenerated(id), kept: false };
  const kept = folder !== undefined && (before.kept || before.settled);
  const standing = begin(before, generation, kept);
  state.owners.set(id, {
    standing,
    entry: folder?.entry,
    floor: folder?.floor ?? NO_FLOOR,
    pending: undefined,
    lacking: [],
    isIn: true,
    epoch: folder?.epoch ?? 0,
    pulled: [],
    noted: undefined,
  });
}

/** Each other owner that may hand over to `id`; one that has no folder of its own does not. */
function handovers(
  state: SetState,
  rules: SetRules,
  ring: readonly string[],
  id: string,
  merge: Merge,
): Action[] {
  const out: Action[] = [];
  const asker = state.owners.get(id)!;
  for (const from of ring) {
    const source = state.owners.get(from)!;
    if (from === id || asker.standing.handed.includes(from)) continue;
    const granted = grant(source.standing, asker.standing);
    if (granted.type !== 'granted') continue;
    const run = (): void => {
      const isBelieved = rules.believesAnyone || isWitness(source.standing);
      source.standing = granted.next;
      takeFrom(asker, source, source.floor, rules, merge);
      if (source.entry === undefined && isBelieved) asker.lacking = [...asker.lacking, from];
      if (!rules.keepsAlone && isAlone(ring, id, (other) => asker.lacking.includes(other)))
        asker.entry = undefined;
      const sender = { ...senderOf(source.standing), epoch: 0 };
      asker.standing = takeOver(asker.standing, sender, setsAt(state, state.epoch));
    };
    out.push([`${from} hands over to ${id}${asker.standing.generation}`, run, 1]);
  }
  return out;
}

/** All that a source has, then its floor as it was before that was read. */
export function takeFrom(
  own: Owner,
  source: Pick<Owner, 'entry' | 'floor'>,
  floor: Floor,
  rules: SetRules,
  merge: Merge,
): void {
  const told = { entry: own.entry, agreedMs: own.floor.agreedMs };
  const { entry } = source;
  if (entry !== undefined) own.entry = merge(told, { entry, agreedMs: source.floor.agreedMs });
  else if (!rules.ignoresHigherFloor && isGoneBy(told, { entry, agreedMs: floor.agreedMs }))
    own.entry = undefined;
  own.floor = higherFloor(own.floor, floor);
}

function rejoins(state: SetState): Action[] {
  const { used } = state;
  const owner = state.owners.get('C')!;
  if (used.rejoin === 'not' && !isOwed(state))
    return [
      [
        'C is down and removed from the ring',
        () => {
          used.rejoin = 'out';
          owner.isIn = false;
        },
        0.3,
      ],
    ];
  if (used.rejoin !== 'out') return [];
  const add = (): void => {
    used.rejoin = 'in';
    fresh(state, 'C', { ...owner, standing: leave(owner.standing) });
  };
  return [['C is added again', add, 0.3]];
}

/** Owners confirm tombstones; what all confirmed goes. */
export function tombstoneActions(state: SetState, rules: SetRules): Action[] {
  const out: Action[] = [];
  const ring = ringOf(state);
  for (const id of ring) {
    const owner = state.owners.get(id)!;
    const { generation, settled } = owner.standing;
    if (!settled || owner.entry === undefined || owner.entry.value !== undefined) continue;
    const { atMs } = owner.entry;
    const confirmed = state.confirmed.get(atMs) ?? [];
    if (!confirmed.some((one) => one.id === id && one.generation === generation))
      out.push([
        `${id}${generation} confirms deleted@${atMs}`,
        () => void state.confirmed.set(atMs, [...confirmed, { id, generation }]),
        0.5,
      ]);
    if (state.gone.has(atMs))
      out.push([
        `${id}${generation} drops deleted@${atMs}`,
        () => {
          owner.entry = undefined;
        },
        0.7,
      ]);
  }
  for (const [atMs, confirmed] of state.confirmed) {
    if (state.gone.has(atMs) || (!rules.dropsInHandover && isOwed(state))) continue;
    const sure = ring.filter((id) =>
      confirmed.some(
        (one) =>
          one.id === id &&
          (rules.confirmationOutlives || one.generation === state.owners.get(id)!.standing.generation),
      ),
    );
    if (sure.length < (rules.majorityConfirms ? majorityOf(ring.length) : ring.length)) continue;
    out.push([`deleted@${atMs} may go: ${sure.join(' ')} confirmed`, () => go(state, rules, atMs), 1]);
  }
  return out;
}

/** What is older has no message under way any more, unless an experiment says so. */
function go(state: SetState, rules: SetRules, atMs: number): void {
  state.gone.add(atMs);
  if (rules.messagesOutlive) return;
  for (const [key, message] of state.net)
    if ((message.type === 'put' || message.type === 'offer') && message.entry.atMs <= atMs)
      state.net.delete(key);
  for (const write of state.writes) if (write.atMs <= atMs) write.isOpen = false;
}
