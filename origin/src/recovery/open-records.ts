import { randomBytes } from 'node:crypto';
import { rename } from 'node:fs/promises';
import { join } from 'node:path';
import { CodedError, isCoded } from '@sepia/base/errors';
import type { Logger } from '@sepia/base/log';
import type { Cluster } from '@sepia/cluster/cluster';
import { handEdits } from '@sepia/cluster/membership';
import { RecordStore } from '@sepia/records/store/record-store';
import { LevelTable } from '@sepia/records/table/level-table';
import { DataFolder } from '@sepia/store/data-folder';
import { OwnStanding } from '../records/own-standing.ts';
import { RecordDigests } from './record-digests.ts';

interface OpenRecordsDeps {
  readonly cluster: Cluster;
  readonly selfId: string;
  readonly log: Logger;
  readonly nowMs: () => number;
}

/** The folder of an origin with its records, read through once. */
export interface OpenedRecords {
  readonly folder: DataFolder;
  readonly records: RecordStore;
  readonly standing: OwnStanding;
  readonly digests: RecordDigests;
}

/**
 * Opens data folder and records. A database that is damaged is set aside where others can hand its records over (or
 * the operator accepts the loss); an origin that is alone does not start then. @throws as `DataFolder.open`, `DISK_CORRUPT`
 */
export async function openRecords(
  deps: OpenRecordsDeps,
  options: { readonly dir: string; readonly acceptLoss: boolean },
): Promise<OpenedRecords> {
  const { cluster, selfId, log } = deps;
  const mayReplace = cluster.members('origin').length > 1 || options.acceptLoss;
  for (let databaseLost = false; ; databaseLost = true) {
    const folder = await DataFolder.open(
      { log },
      { dir: options.dir, id: selfId, role: 'origin', replacesDatabase: mayReplace },
    );
    try {
      const records = new RecordStore({ table: new LevelTable({ db: folder.db }) });
      await records.floors.load();
      const standing = await OwnStanding.open({
        ...deps,
        folder,
        databaseLost: databaseLost || folder.databaseLost,
      });
      await readMembership(cluster, standing, options);
      const isAlone = cluster.owningIds.length === 1 && cluster.owningIds[0] === selfId;
      if (isAlone && standing.membership !== undefined && folder.databaseLost && !options.acceptLoss)
        throw new CodedError('DISK_CORRUPT', { detail: { dir: options.dir } });
      const members = {
        selfId,
        get ids() {
          return cluster.owningIds;
        },
        shard: (key: string) => cluster.shard(key),
      };
      const digests = new RecordDigests({ db: folder.db, records, members });
      if (!isAlone) await digests.scan();
      if (options.acceptLoss && !isAlone)
        log.warn('counts with the records that are here, by the word of the operator');
      if ((isAlone || options.acceptLoss) && !standing.isSettled) await standing.settle();
      if (isAlone && standing.membership === undefined) await readMembership(cluster, standing, options);
      return { folder, records, standing, digests };
    } catch (error) {
      await folder.close();
      if (!isDamage(error) || databaseLost || !mayReplace) throw error;
      const aside = join(folder.dir, `db.damaged-${randomBytes(4).toString('hex')}`);
      log.error({ err: error, aside }, 'records are damaged: they are set aside');
      await rename(join(folder.dir, 'db'), aside);
    }
  }
}

/**
 * The membership as it was agreed last, if it is known here; a folder of a version without memberships has that of the
 * document. @throws {CodedError} `CONFIG_INVALID` where the document was changed by hand so that content would be lost
 */
async function readMembership(
  cluster: Cluster,
  standing: OwnStanding,
  options: { readonly acceptLoss: boolean },
): Promise<void> {
  const file = cluster.file.members.filter(({ role }) => role === 'origin');
  const { membership } = standing;
  if (membership !== undefined) {
    const edits = handEdits(membership, standing.file ?? [], file);
    if (edits.length > 0 && !options.acceptLoss)
      throw new CodedError('CONFIG_INVALID', {
        message: `members: the origins of the cluster document were changed by hand: ${edits.join('; ')}. Put it back; the ring is changed with "sepia ring add", "drain" and "remove". If it was removed with "sepia ring" meanwhile, start once with the former document`,
      });
    await standing.follow(membership, file);
    cluster.follow(membership);
  } else if (standing.firstStart === 'member' && (standing.standing.kept || standing.standing.settled))
    await standing.follow(cluster.membership, file);
}

/** What the database says of blocks that do not read, and we of records that do not. */
export function isDamage(error: unknown): boolean {
  return isCoded(error, 'DISK_CORRUPT') || (error as { code?: unknown } | null)?.code === 'LEVEL_CORRUPTION';
}
