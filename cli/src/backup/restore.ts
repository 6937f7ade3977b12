import { askAll } from '@sepia/base/async/ask-many';
import { CodedError } from '@sepia/base/errors';
import { ORIGIN_RECORDS } from '@sepia/cluster/api/origin';
import { to } from '@sepia/cluster/api/route';
import { shardKey } from '@sepia/cluster/cluster';
import {
  clockFault,
  type DumpedRecord,
  type RecordSpace,
  shardOfRecord,
} from '@sepia/records/store/record-dump';
import type { Operator } from '../operator/operator.ts';
import { type BackupHead, readFrames } from './backup-file.ts';

const RESTORE_MS = 120_000;

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
  const counts: Record<string, number> = {};
  let head: BackupHead | undefined;
  let left = 0;
  for (const { frame } of readFrames(file)) {
    if (frame.type === 'head') head = frame;
    if (frame.type !== 'records') continue;
    const { space } = frame;
    const known = (frame.entries as DumpedRecord[]).filter((record) => isKnown(operator, space, record));
    left += frame.entries.length - known.length;
    await (space === 'r1' ? putTags(operator, known) : putRecords(operator, space, known));
    counts[space] = (counts[space] ?? 0) + known.length;
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

function isKnown(operator: Operator, space: RecordSpace, { key }: DumpedRecord): boolean {
  const shard = shardOfRecord(space, key);
  return shard !== undefined && operator.cluster.upstreams.some((one) => one.name === shard.upstream);
}

/** Every owner of a record's repository gets it; W of them must have taken it. */
async function putRecords(
  operator: Operator,
  space: RecordSpace,
  records: readonly DumpedRecord[],
): Promise<void> {
  const byOwner = new Map<string, DumpedRecord[]>();
  const needed = new Map<DumpedRecord, { left: number; lost: number }>();
  for (const record of records) {
    const { owners, writeQuorum } = ownership(operator, space, record);
    needed.set(record, { left: writeQuorum, lost: owners.length - writeQuorum });
    for (const id of owners) byOwner.set(id, [...(byOwner.get(id) ?? []), record]);
  }
  const said = await askAll([...byOwner], async ([id, entries]) => {
    await operator.ask(id, {
      ...to(ORIGIN_RECORDS.restore),
      json: { space, entries },
      headersTimeoutMs: RESTORE_MS,
    });
  });
  for (const one of said) {
    if (one.type === 'answer') continue;
    const [id, entries] = one.by;
    if (entries.some((record) => --needed.get(record)!.lost < 0))
      throw new CodedError('QUORUM_LOST', {
        message: `too few origins take the records (${id}: ${(one.error as Error).message})`,
        cause: one.error,
      });
  }
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

function ownership(
  operator: Operator,
  space: RecordSpace,
  { key }: DumpedRecord,
): ReturnType<Operator['cluster']['origins']> {
  const { upstream, repository } = shardOfRecord(space, key)!;
  return operator.cluster.origins(shardKey(upstream, repository));
}
