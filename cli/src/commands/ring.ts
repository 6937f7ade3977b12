import { CodedError } from '@sepia/base/errors';
import { delay } from '@sepia/base/lifecycle';
import { ORIGIN_RING, type RingStatus } from '@sepia/cluster/api/ring';
import { to } from '@sepia/cluster/api/route';
import type { Member } from '@sepia/cluster/document';
import { isMoving, type Membership, type RingChange } from '@sepia/cluster/membership';
import { type Command, InvalidArgumentError } from 'commander';
import { CHANGE_MS, LOOK_EVERY_MS } from '../deadlines.ts';
import { Operator, type OperatorFlags, operatorOptions } from '../operator/operator.ts';
import { type RingView, ringText } from '../operator/ring-view.ts';

interface ChangeFlags extends OperatorFlags {
  readonly wait: boolean;
}

interface AddFlags extends ChangeFlags {
  readonly url?: string;
  readonly peer: string[];
  readonly zone?: string;
  readonly weight?: number;
}

/** `sepia ring`. */
export function addRing(program: Command): void {
  const ring = program
    .command('ring')
    .description('the origins that keep content: list, add, drain and remove them');
  operatorOptions(ring.command('status'))
    .description(
      'members of the ring, and how far a change is; exit 0 only if none is under way, nothing is owed and no origin is of another ring',
    )
    .option('--json', 'print JSON', false)
    .action(async (flags: OperatorFlags & { json: boolean }) => {
      await using operator = Operator.open(flags);
      const view = await viewOf(operator);
      process.stdout.write(flags.json ? `${JSON.stringify(view)}\n` : ringText(view));
      process.exitCode = isQuiet(view) ? 0 : 1;
    });
  changeOptions(ring.command('add <id...>'))
    .description('add origins that run already; addresses from the cluster document, or --url for one')
    .option('--url <url>', 'address of its HTTP listener')
    .option('--peer <host:port>', 'address of a swarm port; may be given several times', collect, [])
    .option('--zone <name>', 'its zone')
    .option('--weight <number>', 'its share, compared with the others', weight)
    .action(async (ids: string[], flags: AddFlags) => {
      await using operator = Operator.open(flags);
      await change(
        operator,
        { action: 'add', members: ids.map((id) => memberOf(operator, id, ids, flags)) },
        flags,
      );
    });
  changeOptions(ring.command('drain <id...>'))
    .description('move what origins keep to the others; they go on running until it is done')
    .action(async (ids: string[], flags: ChangeFlags) => {
      await using operator = Operator.open(flags);
      await change(operator, { action: 'drain', ids }, flags);
    });
  changeOptions(ring.command('remove <id...>'))
    .description(
      'take drained origins out of the ring, once others confirmed all that they kept; then they may be stopped for ever',
    )
    .action(async (ids: string[], flags: ChangeFlags) => {
      await using operator = Operator.open(flags);
      await change(operator, { action: 'remove', ids }, flags);
    });
}

function changeOptions(command: Command): Command {
  return operatorOptions(command).option('--no-wait', 'return as soon as the change has begun');
}

async function change(operator: Operator, what: RingChange, flags: ChangeFlags): Promise<void> {
  await operator.follow();
  if (what.action === 'remove' && flags.wait) await untilConfirmed(operator, what.ids);
  const { epoch } = operator.cluster;
  const call = { ...to(ORIGIN_RING.change), json: { epoch, ...what }, headersTimeoutMs: CHANGE_MS };
  const begun = await operator.askAny<Membership>(call);
  process.stdout.write(`Ring change begun (epoch ${begun.epoch}): ${begun.change}\n`);
  if (!flags.wait) return;
  let shown = '';
  for (;;) {
    const view = await viewOf(operator);
    const line = progressLine(view);
    if (line !== shown) process.stdout.write(`${line}\n`);
    shown = line;
    if (view.membership.epoch > begun.epoch) return;
    await delay(LOOK_EVERY_MS);
  }
}

/** Waits until the drained origins that answer have no blob left that its new owners still have to confirm. */
async function untilConfirmed(operator: Operator, ids: readonly string[]): Promise<void> {
  let shown = '';
  for (;;) {
    const { membership, statuses } = await viewOf(operator);
    const isDrained = (id: string): boolean =>
      membership.origins.some((one) => one.id === id && one.state === 'draining');
    const waiting = statuses.filter(
      ({ id, leftovers, copiesOwed }) =>
        ids.includes(id) && isDrained(id) && (leftovers !== 0 || copiesOwed > 0),
    );
    if (waiting.length === 0) return;
    const line = waiting
      .map(
        ({ id, leftovers = '?', copiesOwed }) => `${id} ${leftovers} blobs to confirm, ${copiesOwed} to send`,
      )
      .join(', ');
    if (line !== shown) process.stdout.write(`Waiting: ${line}\n`);
    shown = line;
    await delay(LOOK_EVERY_MS);
  }
}

async function viewOf(operator: Operator): Promise<RingView> {
  await operator.follow(true);
  const answers = await operator.askAll<RingStatus>(to(ORIGIN_RING.status));
  const statuses = answers.flatMap(({ answer }) => (answer === undefined ? [] : [answer]));
  if (statuses.length === 0) throw answers[0]?.error ?? new CodedError('NO_PEERS');
  return { membership: operator.cluster.membership, statuses, otherRings: operator.otherRings };
}

function isQuiet({ membership, statuses, otherRings }: RingView): boolean {
  const owing = membership.origins.filter(({ state }) => state !== 'draining');
  return (
    !isMoving(membership) &&
    otherRings.length === 0 &&
    owing.every(({ id }) => {
      const one = statuses.find((status) => status.id === id);
      return one?.isSettled === true && one.blobsOwed === 0 && one.copiesOwed === 0;
    })
  );
}

function progressLine({ membership, statuses }: RingView): string {
  if (!isMoving(membership)) return `Done (epoch ${membership.epoch}).`;
  const parts = statuses.map(
    ({ id, isDone, share }) => `${id} ${isDone ? 'done' : `${Math.round(share * 100)} %`}`,
  );
  return parts.join(', ');
}

/** @throws {CodedError} `REQUEST_INVALID` that says what is missing */
function memberOf(operator: Operator, id: string, ids: readonly string[], flags: AddFlags): Member {
  const known = operator.cluster.file.members.find((one) => one.id === id && one.role === 'origin');
  if (flags.url !== undefined && ids.length > 1)
    throw new CodedError('REQUEST_INVALID', { message: 'ring add: --url is for one origin' });
  const urls = flags.url === undefined ? (known?.urls ?? []) : [flags.url];
  if (urls.length === 0)
    throw new CodedError('REQUEST_INVALID', {
      message: `ring add: ${id} is not in the cluster document; give --url and --peer`,
    });
  const zone = flags.zone ?? known?.zone;
  return {
    id,
    role: 'origin',
    urls,
    peers: flags.peer.length > 0 ? flags.peer : (known?.peers ?? []),
    weight: flags.weight ?? known?.weight ?? 1,
    state: 'active',
    ...(zone === undefined ? {} : { zone }),
  };
}

function collect(value: string, before: string[]): string[] {
  return [...before, value];
}

function weight(text: string): number {
  const value = Number(text);
  if (value > 0 && value <= 1000) return value;
  throw new InvalidArgumentError('is not a number above 0 and up to 1000');
}
