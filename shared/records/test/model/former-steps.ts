import { EMPTY_ACCEPTOR, isCovered } from '../../src/register/register.ts';
import { type Action, keep, type ModelState } from './model-state.ts';
import type { Rules, Scope } from './scope.ts';

/**
 * Who owns the key no longer asks its owners, one after another and whenever chance has it, whether they cover what it
 * has, and drops that when all do. Between the answers and the drop anything may happen.
 */
export function formerActions(state: ModelState, scope: Scope, rules: Rules): Action[] {
  const out: Action[] = [];
  for (const [id, member] of state.members) {
    const { standing, register } = member;
    const { epoch } = standing;
    const sets = scope.sets(epoch);
    const owners = rules.dropsInChange ? sets.at(-1)! : sets.flat();
    const isFormer = standing.settled && !owners.includes(id) && (sets.length === 1 || rules.dropsInChange);
    const asked = state.asked.get(id);
    if (isFormer && register !== EMPTY_ACCEPTOR && (asked?.epoch !== epoch || asked.register !== register))
      out.push([`${id} asks the owners`, () => state.asked.set(id, { epoch, register, covered: [] }), 1]);
    if (asked === undefined) continue;
    const current = scope.sets(asked.epoch).at(-1)!;
    for (const owner of current) {
      const { standing: its, register: own } = state.members.get(owner)!;
      if (asked.covered.includes(owner) || !its.settled || its.epoch !== asked.epoch) continue;
      if (!isCovered(own, asked.register)) continue;
      const covered = [...asked.covered, owner];
      out.push([`${owner} covers what ${id} has`, () => state.asked.set(id, { ...asked, covered }), 1]);
    }
    if (asked.covered.length < current.length) continue;
    const isStill = isFormer && asked.epoch === epoch && asked.register === register;
    if (isStill || rules.dropsBlindly)
      out.push([
        `${id} drops what it has`,
        () => {
          state.asked.delete(id);
          keep(member, standing, EMPTY_ACCEPTOR);
        },
        1,
      ]);
  }
  return out;
}
