import { admitEpoch, begin, isQuorum, ungenerated } from '../../src/core/standing.ts';
import { EMPTY_ACCEPTOR } from '../../src/register/register.ts';
import type { Member, Message } from './member-steps.ts';
import { type Action, keep, type ModelState, send } from './model-state.ts';
import type { Rules, Scope } from './scope.ts';

/** Disks lost or set back, restarts, repair, news of an epoch. */
export function faultActions(state: ModelState, scope: Scope, rules: Rules): Action[] {
  const out: Action[] = [];
  for (const [id, member] of state.members) {
    const used = state.used;
    const isOwed = [...state.members.values()].some(({ standing }) => !standing.settled);
    const { standing } = member;
    if (
      used.wipes < scope.wipes &&
      (!isOwed || scope.overlap) &&
      (scope.wipeOnly ?? scope.members).includes(id)
    )
      out.push([
        `${id} loses its disk`,
        () => {
          used.wipes++;
          fresh(state, rules, id, undefined);
        },
        0.3,
      ]);
    const snapshot = state.snapshots.get(id);
    if (used.snapshots < scope.snapshots && standing.settled && member.sequence > (snapshot?.sequence ?? -1))
      out.push([
        `a snapshot of ${id} is taken`,
        () => {
          used.snapshots++;
          state.snapshots.set(id, { ...member });
        },
        0.3,
      ]);
    if (
      used.setBacks < scope.setBacks &&
      !isOwed &&
      snapshot !== undefined &&
      snapshot.sequence < member.sequence &&
      snapshot.standing.generation === standing.generation
    )
      out.push([
        `${id} is set back`,
        () => {
          used.setBacks++;
          fresh(state, rules, id, snapshot);
        },
        0.5,
      ]);
    if (used.restarts < scope.restarts)
      out.push([
        `${id} is killed and starts`,
        () => {
          used.restarts++;
          fresh(state, rules, id, member);
        },
        0.2,
      ]);
    if (scope.repairs && standing.settled && member.register.accepted.counter > 0) {
      const offer: Message = { type: 'offer', from: member.register, epoch: standing.epoch };
      if (!state.net.has(JSON.stringify(offer)))
        out.push([`${id} offers its record`, () => send(state, offer), 0.3]);
    }
    if (standing.epoch < state.ring.epoch && standing.settled)
      out.push([
        `${id} learns epoch ${standing.epoch + 1}`,
        () => keep(member, admitEpoch(standing, standing.epoch + 1)!, member.register),
        0.3,
      ]);
  }
  return out;
}

/** A start: with what is in the folder, or with an empty one. */
function fresh(state: ModelState, rules: Rules, id: string, folder: Member | undefined): void {
  const generation = state.generations.get(id)! + 1;
  state.generations.set(id, generation);
  const before = folder?.standing ?? ungenerated(id);
  state.members.set(id, {
    standing:
      rules.keepsGeneration && folder !== undefined
        ? before
        : begin(before, generation, folder !== undefined && (before.kept || before.settled)),
    register: folder?.register ?? EMPTY_ACCEPTOR,
    sequence: 0,
  });
  if (!(rules.keepsGeneration && folder !== undefined)) send(state, { type: 'wanted', id, generation });
}

/** A change of the ring begins, lists the keys, ends. */
export function ringActions(state: ModelState, scope: Scope, rules: Rules): Action[] {
  const out: Action[] = [];
  const ring = state.ring;
  if (ring.epoch % 2 === 0) {
    if (ring.epoch < scope.epochs.length - 1)
      out.push([
        `change ${ring.epoch + 1} begins`,
        () => {
          state.ring = { epoch: ring.epoch + 1, listed: false, needed: false, rewritten: false };
        },
        0.3,
      ]);
    return out;
  }
  const old = scope.epochs[ring.epoch]![0]!;
  if (!ring.listed)
    for (const quorum of scope.subsets(old)) {
      if (!isQuorum(quorum, [old])) continue;
      const members = quorum.map((id) => state.members.get(id)!);
      const isThere = members.every(
        ({ standing }) => standing.settled && (rules.listsAtAnyEpoch || standing.epoch >= ring.epoch),
      );
      if (!isThere) continue;
      const needed = members.some(
        ({ register }) =>
          register.accepted.counter > 0 || (!rules.missesPromised && register.promised.counter > 0),
      );
      out.push([
        `the keys of ${quorum} are listed`,
        () => {
          state.ring = { ...ring, listed: true, needed };
        },
        0.5,
      ]);
    }
  if (rules.skipsRewrite || (ring.listed && (!ring.needed || ring.rewritten)))
    out.push([
      `change ${ring.epoch} is done`,
      () => {
        state.ring = { ...ring, epoch: ring.epoch + 1 };
      },
      1,
    ]);
  return out;
}
