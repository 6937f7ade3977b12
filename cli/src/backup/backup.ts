import { existsSync, renameSync } from 'node:fs';
import { CodedError, isCoded } from '@sepia/base/errors';
import { ORIGIN_RECORDS } from '@sepia/cluster/api/origin';
import { to } from '@sepia/cluster/api/route';
import { RECORD_SPACES, type RecordSpace, shardOfRecord } from '@sepia/records/core/record-space';
import { type DumpedRecord, type DumpPage, laterRecord } from '@sepia/records/store/record-dump';
import { RESUME_MS } from '../deadlines.ts';
import type { Operator } from '../operator/operator.ts';
import { syncFolderOf } from '../up/files.ts';
import { type BackupHead, BackupWriter, readFrames } from './backup-file.ts';

const FRAME_RECORDS = 500;
const FRAME_BYTES = 1024 * 1024;

/** What is in the file: records by key space. */
export interface BackupResult {
  readonly counts: Readonly<Record<string, number>>;
  /** Origins that did not answer; so few that every acknowledged record is there all the same. */
  readonly missing: readonly string[];
  readonly isResumed: boolean;
}

/**
 * Writes all records of a cluster to `file`, which appears when it is whole and stays from then on. A run that was cut left `file.partial`;
 * the next goes on behind its last sound part, if that is no older than {@link RESUME_MS} and of the same upstreams.
 * Memory: one page an origin.
 * @throws {CodedError} `QUORUM_LOST` if so many origins are silent that an acknowledged record could be missing
 */
export async function backup(
  operator: Operator,
  file: string,
  onProgress: (space: RecordSpace, count: number) => void,
): Promise<BackupResult> {
  const partial = `${file}.partial`;
  const { ids, missing } = await answering(operator);
  const upstreams = operator.cluster.upstreams.map((one) => one.name);
  const begun = existsSync(partial) ? soundPart(partial, upstreams) : undefined;
  const writer =
    begun === undefined ? BackupWriter.create(partial) : BackupWriter.resume(partial, begun.offset);
  const counts: Record<string, number> = { ...begun?.counts };
  let n = begun?.frames ?? 0;
  try {
    if (begun === undefined)
      writer.write({
        type: 'head',
        version: 1,
        createdAtMs: Date.now(),
        clusterVersion: operator.cluster.version,
        upstreams,
      });
    for (const space of RECORD_SPACES) {
      if (begun?.done.has(space) === true) continue;
      const after = begun?.space === space ? begun.after : undefined;
      let entries: DumpedRecord[] = [];
      let bytes = 0;
      const put = (last: boolean): void => {
        writer.write({ type: 'records', n: n++, space, entries, last });
        counts[space] = (counts[space] ?? 0) + entries.length;
        onProgress(space, counts[space]);
        entries = [];
        bytes = 0;
      };
      for await (const record of mergedRecords(operator, ids, space, after)) {
        if (shardOfRecord(space, record.key) === undefined) continue;
        entries.push(record);
        bytes += JSON.stringify(record).length;
        if (entries.length >= FRAME_RECORDS || bytes >= FRAME_BYTES) put(false);
      }
      put(true);
    }
    writer.write({ type: 'end', n, counts });
  } finally {
    writer.close();
  }
  renameSync(partial, file);
  syncFolderOf(file);
  return { counts, missing, isResumed: begun !== undefined };
}

/** Which origins answer. An acknowledged record is on W of them: fewer than that may be silent. */
export async function answering(operator: Operator): Promise<{ ids: string[]; missing: string[] }> {
  const answers = await operator.askAll<DumpPage>(to(ORIGIN_RECORDS.backup, { space: 'n1', limit: 1 }));
  const ids = answers.filter((one) => one.error === undefined).map((one) => one.id);
  const missing = answers.filter((one) => one.error !== undefined).map((one) => one.id);
  const { writeQuorum } = operator.cluster.origins('any');
  if (missing.length >= writeQuorum || ids.length === 0)
    throw new CodedError('QUORUM_LOST', {
      message: `no answer from ${missing.join(', ')}: records that only they have would be missing; nothing was written`,
      detail: { missing },
      cause: answers.find((one) => one.error !== undefined)?.error,
    });
  return { ids, missing };
}

/** Records of a space of all origins in the order of their keys, of each key the one that counts. */
export async function* mergedRecords(
  operator: Operator,
  ids: readonly string[],
  space: RecordSpace,
  after?: string,
): AsyncGenerator<DumpedRecord> {
  const readers = ids.map((id) => pages(operator, id, space, after));
  const heads = await Promise.all(readers.map(async (reader) => (await reader.next()).value ?? undefined));
  for (;;) {
    let key: string | undefined;
    for (const head of heads)
      if (head !== undefined && (key === undefined || isBefore(head.key, key))) key = head.key;
    if (key === undefined) return;
    let stored: unknown;
    for (const [index, head] of heads.entries()) {
      if (head?.key !== key) continue;
      stored = stored === undefined ? head.stored : laterRecord(space, stored, head.stored);
      heads[index] = (await readers[index]!.next()).value ?? undefined;
    }
    yield { key, stored };
  }
}

async function* pages(
  operator: Operator,
  id: string,
  space: RecordSpace,
  from: string | undefined,
): AsyncGenerator<DumpedRecord, undefined> {
  let after = from;
  for (;;) {
    const behind = after === undefined ? undefined : Buffer.from(after).toString('base64url');
    const page = await operator.ask<DumpPage>(id, to(ORIGIN_RECORDS.backup, { space, after: behind }));
    yield* page.entries;
    if (!page.more || page.entries.length === 0) return undefined;
    after = page.entries.at(-1)!.key;
  }
}

/** Databases order keys by their bytes. */
function isBefore(a: string, b: string): boolean {
  return Buffer.compare(Buffer.from(a), Buffer.from(b)) < 0;
}

interface SoundPart {
  offset: number;
  frames: number;
  space: RecordSpace | undefined;
  after: string | undefined;
  readonly done: Set<RecordSpace>;
  readonly counts: Record<string, number>;
}

/** Where a backup that was cut can go on; undefined if nothing of it is of use: its records are of another day or cluster. */
function soundPart(partial: string, upstreams: readonly string[]): SoundPart | undefined {
  const part: SoundPart = {
    offset: 0,
    frames: 0,
    space: undefined,
    after: undefined,
    done: new Set(),
    counts: {},
  };
  try {
    for (const { frame, endOffset } of readFrames(partial)) {
      if (frame.type === 'end') break;
      if (frame.type === 'head' && !isOfNow(frame, upstreams)) return undefined;
      part.offset = endOffset;
      if (frame.type === 'head') continue;
      part.frames += 1;
      part.space = frame.space;
      part.after = frame.entries.at(-1)?.key ?? part.after;
      if (frame.last) {
        part.done.add(frame.space);
        part.after = undefined;
      }
      part.counts[frame.space] = (part.counts[frame.space] ?? 0) + frame.entries.length;
    }
  } catch (error) {
    if (!isCoded(error)) throw error;
  }
  return part.offset === 0 ? undefined : part;
}

function isOfNow(head: BackupHead, upstreams: readonly string[]): boolean {
  return Math.abs(Date.now() - head.createdAtMs) <= RESUME_MS && head.upstreams.join() === upstreams.join();
}
