import { buriedAt } from '../../src/core/floor.ts';
import type { Entry, Join } from '../../src/core/join.ts';
import { inTheWay, taken } from '../../src/core/set-protocol.ts';
import { senderOf } from './member-steps.ts';
import type { Action } from './model-state.ts';
import { type Owner, ringOf, type SetMessage, type SetRules, type SetState, sendSet } from './set-state.ts';

/** A garbage collection takes what an owner has, at its clock: what is written again meanwhile stays. */
export function burialActions(
  state: SetState,
  most: number,
  rules: SetRules,
  how: { readonly join: Join; readonly byField: boolean },
): Action[] {
  const out: Action[] = [];
  for (const id of ringOf(state)) {
    const { entry, standing } = state.owners.get(id)!;
    if (state.used.buries >= most || !standing.settled || entry?.value === undefined) continue;
    const { atMs } = entry;
    out.push([`what ${id}${standing.generation} has is collected at ${atMs}`, () => begin(state, atMs), 0.2]);
  }
  for (const message of state.net.values())
    if (message.type === 'bury') out.push(...deliveries(state, message, rules, how));
  return out;
}

function begin(state: SetState, atMs: number): void {
  const { epoch } = state;
  const begun = { begunAt: state.now++, endedAt: 0, isOpen: true, isDone: false };
  state.used.buries++;
  state.writes.push({ kind: 'delete', isBurial: true, skew: 0, tries: 1, atMs, epoch, ...begun });
  sendSet(state, { type: 'bury', write: state.writes.length - 1, atMs, epoch });
}

function deliveries(
  state: SetState,
  { write, atMs, epoch }: Extract<SetMessage, { type: 'bury' }>,
  rules: SetRules,
  { join, byField }: { readonly join: Join; readonly byField: boolean },
): Action[] {
  const out: Action[] = [];
  for (const id of ringOf(state, epoch)) {
    const owner = state.owners.get(id)!;
    if (!owner.standing.settled || owner.epoch > epoch) continue;
    const graveMs = clockFor(owner, atMs, rules);
    if (graveMs === undefined) continue;
    const grave: Entry = { atMs: graveMs };
    const next = taken(owner.entry, grave, join);
    const isGone = inTheWay(grave, next ?? owner.entry, byField) === undefined;
    const ack = { type: 'ack', write, atMs, epoch, sender: senderOf(owner.standing) } as const;
    if (next === undefined && (!isGone || state.net.has(JSON.stringify(ack)))) continue;
    const run = (): void => {
      if (next !== undefined) owner.entry = next;
      if (isGone) sendSet(state, ack);
    };
    out.push([`${id}${owner.standing.generation} collects what is of ${atMs}`, run, 1]);
  }
  return out;
}

function clockFor({ entry, floor }: Owner, atMs: number, rules: SetRules): number | undefined {
  if (rules.buriesBelow) return atMs;
  return buriedAt(floor, entry, atMs);
}
