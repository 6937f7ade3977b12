import { askAll } from '@sepia/base/async/ask-many';
import { CodedError, isCoded } from '@sepia/base/errors';
import { H_EPOCH } from '@sepia/cluster/api/headers';
import { ORIGIN_RECORDS } from '@sepia/cluster/api/origin';
import { to } from '@sepia/cluster/api/route';
import { shardKey } from '@sepia/cluster/cluster';
import { type RecordSpace, shardOfRecord } from '@sepia/records/core/record-space';
import { isQuorum } from '@sepia/records/core/standing';
import { clockFault, type DumpedRecord } from '@sepia/records/store/record-dump';
import { RESTORE_MS } from '../deadlines.ts';
import type { Operator } from '../operator/operator.ts';
import { type BackupHead, readFrames } from './backup-file.ts';

/** Memberships of the ring that a restore may see. */
const MAX_EPOCHS = 5;

/** What was put in: records by key space, those too that were there already. */
export interface RestoreResult {
  readonly head: BackupHead;
  readonly counts: Readonly<Record<string, number>>;
  /** Records of upstreams that this cluster does not have. */
  readonly left: number;
}

/**
 * Puts the records of a backup into a cluster, whatever its members are: sets merge by their clocks, tags by
 * compare-and-set, so nothing later is overwritten and doing it again changes nothing. The whole file is checked first.
 * @throws {CodedError} `DISK_CORRUPT` that names the offset, `QUORUM_LOST`
 */
export async function restore(
  operator: Operator,
  file: string,
  onProgress: (space: RecordSpace, count: number) => void,
): Promise<RestoreResult> {
  checkWhole(file);
  await operator.follow();
  const counts: Record<string, number> = {};
  let head: BackupHead | undefined;
  let left = 0;
  for (const { frame } of readFrames(file)) {
    if (frame.type === 'head') head = frame;
    if (frame.type !== 'records') continue;
    const { space } = frame;
    const known = await putKnown(operator, space, frame.entries as DumpedRecord[]);
    left += frame.entries.length - known;
    counts[space] = (counts[space] ?? 0) + known;
    onProgress(space, counts[space]);
  }
  return { head: head!, counts, left };
}

/** Every frame, and the clock of every record. @throws `DISK_CORRUPT`, `REQUEST_INVALID` that names record and offset */
export function checkWhole(file: string): void {
  for (const { frame, offset } of readFrames(file)) {
    if (frame.type !== 'records') continue;
    for (const record of frame.entries as DumpedRecord[]) {
      const fault = clockFault(frame.space, record, Date.now());
      if (fault !== undefined)
        throw new CodedError('REQUEST_INVALID', { message: `${file}: the part at byte ${offset}: ${fault}` });
    }
  }
}

/** Puts those records of a space into a cluster whose upstream it has; returns how many. @throws `QUORUM_LOST` */
export async function putKnown(
  operator: Operator,
  space: RecordSpace,
  records: readonly DumpedRecord[],
): Promise<number> {
  const known = records.filter((record) => isKnown(operator, space, record));
  await (space === 'r1' ? putTags(operator, known) : putRecords(operator, space, known));
  return known.length;
}

function isKnown(operator: Operator, space: RecordSpace, { key }: DumpedRecord): boolean {
  const shard = shardOfRecord(space, key);
  return shard !== undefined && operator.cluster.upstreams.some((one) => one.name === shard.upstream);
}

/** Begun anew where too few took the records because the ring changed meanwhile. */
async function putRecords(
  operator: Operator,
  space: RecordSpace,
  records: readonly DumpedRecord[],
): Promise<void> {
  for (let tries = 1; ; tries++) {
    const { epoch } = operator.cluster;
    try {
      return await putOnce(operator, space, records);
    } catch (error) {
      if (!isCoded(error, 'QUORUM_LOST') || tries >= MAX_EPOCHS) throw error;
      await operator.follow(true);
      if (operator.cluster.epoch === epoch) throw error;
    }
  }
}

/**
 * Every owner of a record's repository gets it; a majority must have taken it under one epoch, in a ring change one of
 * the old and one of the new owners. @throws `QUORUM_LOST`
 */
async function putOnce(
  operator: Operator,
  space: RecordSpace,
  records: readonly DumpedRecord[],
): Promise<void> {
  const { epoch } = operator.cluster;
  const byOwner = new Map<string, DumpedRecord[]>();
  for (const record of records)
    for (const id of new Set(ownersOf(operator, space, record).flat()))
      byOwner.set(id, [...(byOwner.get(id) ?? []), record]);
  const said = await askAll([...byOwner], async ([id, entries]) => {
    await operator.ask(id, {
      ...to(ORIGIN_RECORDS.restore),
      json: { space, entries },
      headers: { [H_EPOCH]: String(epoch) },
      headersTimeoutMs: RESTORE_MS,
    });
  });
  const takers = new Map<DumpedRecord, string[]>();
  for (const { type, by } of said)
    if (type === 'answer')
      for (const record of by[1]) takers.set(record, [...(takers.get(record) ?? []), by[0]]);
  const failed = said.find((one) => one.type !== 'answer');
  const isTaken = (one: DumpedRecord): boolean =>
    isQuorum(takers.get(one) ?? [], ownersOf(operator, space, one));
  if (failed === undefined || records.every(isTaken)) return;
  throw new CodedError('QUORUM_LOST', {
    message: `too few origins take the records (${failed.by[0]}: ${(failed.error as Error).message})`,
    cause: failed.error,
  });
}

/** One origin of each repository's owners sets its tags. */
async function putTags(operator: Operator, records: readonly DumpedRecord[]): Promise<void> {
  const byShard = new Map<string, DumpedRecord[]>();
  for (const record of records) {
    const { upstream, repository } = shardOfRecord('r1', record.key)!;
    const shard = shardKey(upstream, repository);
    byShard.set(shard, [...(byShard.get(shard) ?? []), record]);
  }
  for (const entries of byShard.values()) {
    const { upstream, repository } = shardOfRecord('r1', entries[0]!.key)!;
    await operator.askOwner(
      { upstream, repository: repository as never },
      { ...to(ORIGIN_RECORDS.restore), json: { space: 'r1', entries }, headersTimeoutMs: RESTORE_MS },
    );
  }
}

function ownersOf(
  operator: Operator,
  space: RecordSpace,
  { key }: DumpedRecord,
): readonly (readonly string[])[] {
  const { upstream, repository } = shardOfRecord(space, key)!;
  return operator.cluster.shard(shardKey(upstream, repository)).sets;
}
