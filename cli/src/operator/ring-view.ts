import type { RingStatus } from '@sepia/cluster/api/ring';
import { isMoving, type Membership, ringInWords, type ToldRing } from '@sepia/cluster/membership';
import Table from 'cli-table3';
import { barText } from '../terminal/format.ts';

/** The ring as an operator sees it. */
export interface RingView {
  readonly membership: Membership;
  /** Of those that answer. */
  readonly statuses: readonly RingStatus[];
  /** Origins of another ring than the one that most of them name. */
  readonly otherRings: readonly ToldRing[];
}

/** With its percentage as wide as the title above it. */
const BAR_CELLS = 12;

/** Table of the members, with a bar for each part of a change under way. */
export function ringText({ membership, statuses, otherRings }: RingView): string {
  const { epoch, origins, before = [], change } = membership;
  // Who waits for no change is shown no part of one.
  const part = isMoving(membership) ? (['part of the change'] as const) : [];
  const table = new Table({
    head: ['origin', 'state', 'epoch', ...part, 'blobs to get', 'copies to send', 'doing'],
    colAligns: ['left', 'left', 'right', ...part.map(() => 'left' as const), 'right', 'right', 'left'],
    style: { head: [], border: [], compact: true },
  });
  const leaving = before.filter(({ id }) => !origins.some((one) => one.id === id));
  for (const { id, state } of [...origins, ...leaving]) {
    const one = statuses.find((status) => status.id === id);
    const shown = stateText(membership, id, state);
    if (one === undefined) table.push([id, shown, '', ...part.map(() => ''), '', '', 'does not answer']);
    else {
      const doing = one.isSettled ? (one.doing ?? restText(shown, one)) : 'waits for records';
      const moved = part.map(() => partText(one));
      table.push([id, shown, one.epoch, ...moved, one.blobsOwed, one.copiesOwed, doing]);
    }
  }
  const what = isMoving(membership) ? `a change is under way: ${change}` : 'no change is under way';
  const others = otherRings.map(
    (one) =>
      `${one.by} is of another ring (epoch ${one.membership.epoch}: ${ringInWords(one.membership)}).\n`,
  );
  return `${table.toString()}\nEpoch ${epoch}; ${what}.\n${others.join('')}`;
}

function stateText({ epoch, before = [], origins }: Membership, id: string, state: string): string {
  const isIn = (members: Membership['origins']): boolean =>
    members.some((one) => one.id === id && one.state !== 'draining');
  if (epoch % 2 === 0) return state === 'draining' ? 'drained' : 'active';
  if (isIn(before) && isIn(origins)) return 'active';
  if (isIn(origins)) return 'joining';
  return isIn(before) ? 'draining' : 'drained';
}

function restText(state: string, { leftovers }: RingStatus): string {
  if (leftovers === undefined) return state === 'drained' ? 'looks through what moved away' : '';
  if (leftovers > 0) return `${leftovers} blobs that moved away, not confirmed yet`;
  return state === 'drained' ? 'keeps nothing; may be removed' : '';
}

function partText({ isDone, share }: RingStatus): string {
  return isDone ? 'done' : `${barText(share, BAR_CELLS)} ${Math.round(share * 100)} %`;
}
