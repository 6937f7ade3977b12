import { createHash } from 'node:crypto';
import { answersOf, askAll } from '@sepia/base/async/ask-many';
import { CodedError } from '@sepia/base/errors';
import { ORIGIN_FLOORS } from '@sepia/cluster/api/origin';
import { to } from '@sepia/cluster/api/route';
import { shardKey } from '@sepia/cluster/cluster';
import { isMoving } from '@sepia/cluster/membership';
import { toldBy } from '@sepia/cluster/message';
import { mayGo } from '@sepia/records/core/floor';
import { canonicalJson } from '@sepia/records/core/join';
import { counted, type Sender } from '@sepia/records/core/standing';
import type { RecordSet } from '@sepia/records/set/record-set';
import { FLOORED_SPACES } from '@sepia/records/store/floors';
import type { RecordStore } from '@sepia/records/store/record-store';
import type { Members } from '../cluster/members.ts';
import { FLOOR_MS } from '../deadlines/members.ts';
import { askMember } from '../records/ask-owners.ts';
import type { ShardName } from '../records/own-records.ts';
import type { OwnStanding } from '../records/own-standing.ts';
import { restOf, setOf } from './floor-pages.ts';
import { PROMISED } from './messages.ts';

/** Tombstones that are taken off the disk in one step. */
const DROP_BATCH = 500;

interface FloorRoundsDeps {
  readonly members: Pick<Members, 'selfId' | 'epoch' | 'news' | 'isSuspect' | 'shard' | 'counted'>;
  readonly standing: Pick<OwnStanding, 'require' | 'standing' | 'sender' | 'within'>;
  readonly records: RecordStore;
  readonly dateMs: () => number;
  /** So many tombstones are off the disk. */
  readonly onDropped: (count: number) => void;
}

/**
 * Looks, together with all other owners of a repository, for a floor: each promises to refuse older writes and then tells a
 * digest of what it has up to there. If all digests are the same, each agrees to the floor and drops its tombstones below.
 * ADR 0072.
 */
export class FloorRounds {
  readonly #deps: FloorRoundsDeps;

  constructor(deps: FloorRoundsDeps) {
    this.#deps = deps;
  }

  /**
   * As an owner: refuses older writes from now on, and returns a digest of the records up to `atMs`. @throws `CONFLICT`,
   * `RECORDS_PENDING`
   */
  async promise(shard: ShardName, atMs: number): Promise<{ readonly digest: string }> {
    const { records, dateMs } = this.#deps;
    this.#requireOwner(shard);
    if (atMs > dateMs())
      throw new CodedError('REQUEST_INVALID', { message: 'atMs: a floor is never ahead of the clock' });
    await records.floors.promise([shard.upstream, shard.repository], atMs);
    await this.drop(shard);
    return { digest: await this.#digest(shard, atMs) };
  }

  /**
   * As an owner: agrees to a floor, because all digests were the same. `generation`: of this origin when it told its digest.
   * @throws `CONFLICT`, `RECORDS_PENDING`
   */
  async agree(shard: ShardName, atMs: number, generation: number): Promise<void> {
    const { floors } = this.#deps.records;
    this.#requireOwner(shard);
    const key = [shard.upstream, shard.repository];
    if (this.#deps.standing.standing.generation !== generation || floors.of(key).promisedMs < atMs)
      throw new CodedError('CONFLICT', { message: 'what was told here is of before a start' });
    await floors.agree(key, atMs);
    await this.drop(shard);
  }

  /** Takes the tombstones of a repository off the disk that its agreed floor covers. */
  async drop(shard: ShardName): Promise<void> {
    await dropCovered(this.#deps, shard);
  }

  /**
   * True if all owners had the same records up to `atMs` and were told so; an owner that did not hear of it takes the floor
   * over from another one.
   */
  async seek(shard: ShardName, atMs: number, signal: AbortSignal): Promise<boolean> {
    const { members, standing } = this.#deps;
    const { epoch, sets } = this.#requireOwner(shard);
    const ids = [...new Set(sets.flat())];
    const told = await askAll(
      ids,
      async (id, over) => {
        const said = await askMember<unknown>(
          { members, standing },
          id,
          { epoch, signal: over },
          {
            own: async () => await this.promise(shard, atMs),
            other: async (_, under) =>
              await members.counted(id, {
                ...to(ORIGIN_FLOORS.promise, { ...shard }),
                json: { atMs, epoch },
                headersTimeoutMs: FLOOR_MS,
                ...under,
              }),
          },
        );
        return { sender: said.sender, digest: toldBy(`origin ${id}`, PROMISED, said.answer).digest };
      },
      { signal },
    );
    const all = answersOf(told);
    if (!isAgreed(ids, all) || members.epoch !== epoch) return false;
    await askAll(
      all,
      async ({ sender: { id, generation } }, over) => {
        const json = { atMs, epoch, generation };
        if (id === members.selfId)
          return await standing.within(epoch, async () => await this.agree(shard, atMs, generation));
        const call = { ...to(ORIGIN_FLOORS.agree, { ...shard }), json, epoch, headersTimeoutMs: FLOOR_MS };
        await members.counted(id, { ...call, signal: over });
      },
      { signal },
    );
    return true;
  }

  /** One set of owners decides, and this origin is one of them that counts. @throws `CONFLICT`, `RECORDS_PENDING` */
  #requireOwner({ upstream, repository }: ShardName): ReturnType<Members['shard']> {
    const { members, standing } = this.#deps;
    const owners = members.shard(shardKey(upstream, repository));
    standing.require(owners);
    const [ids = [], ...others] = owners.sets;
    const isSole = others.length === 0 && !isMoving(owners) && standing.standing.epoch === owners.epoch;
    if (isSole && ids.includes(members.selfId)) return owners;
    throw new CodedError('CONFLICT', { message: 'a floor is agreed on by the owners of one membership' });
  }

  async #digest({ upstream, repository }: ShardName, atMs: number): Promise<string> {
    const hash = createHash('sha256');
    for (const space of FLOORED_SPACES) {
      const set = setOf(this.#deps.records, space) as RecordSet<unknown>;
      for await (const { key, ...entry } of set.entries([upstream, repository]))
        if (entry.atMs <= atMs) hash.update(`${space}\0${restOf(key)}\0${canonicalJson(entry)}\n`);
    }
    return hash.digest('hex');
  }
}

/** Takes the tombstones of a repository away that its agreed floor covers. */
async function dropCovered(
  { records, onDropped }: Pick<FloorRoundsDeps, 'records' | 'onDropped'>,
  { upstream, repository }: ShardName,
): Promise<void> {
  const key = [upstream, repository];
  if (records.floors.of(key).agreedMs === 0) return;
  for (const space of FLOORED_SPACES) {
    const set = setOf(records, space) as RecordSet<unknown>;
    let gone: (readonly string[])[] = [];
    const dropGone = async (): Promise<void> => {
      onDropped(await set.dropAll(gone, mayGo));
      gone = [];
    };
    for await (const one of set.tombstones(key)) {
      if (one === undefined || !mayGo(one, records.floors.of(key))) continue;
      gone.push(one.key);
      if (gone.length >= DROP_BATCH) await dropGone();
    }
    if (gone.length > 0) await dropGone();
  }
}

/**
 * As {@link FloorRounds} of a shared table: what is in it, all have. A floor is one record there, which each change looks
 * at in the moment in which it reads what it is about.
 */
export function sharedFloorRounds(
  deps: Pick<FloorRoundsDeps, 'records' | 'onDropped'>,
): Pick<FloorRounds, 'seek' | 'drop'> {
  const drop = async (shard: ShardName): Promise<void> => await dropCovered(deps, shard);
  return {
    seek: async (shard, atMs) => {
      await deps.records.floors.agree([shard.upstream, shard.repository], atMs);
      await drop(shard);
      return true;
    },
    drop,
  };
}

/** All owners told, their answers count together, and say the same. */
function isAgreed(
  ids: readonly string[],
  told: readonly { readonly sender: Sender; readonly digest: string }[],
): boolean {
  const good = counted(told);
  return good.length === ids.length && good.every(({ digest }) => digest === good[0]?.digest);
}
